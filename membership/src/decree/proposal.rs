//! The proposer's side: one try, under one ballot, to have one version decided. What is decided may be another one's
//! decree: the caller looks, and tries again for the version after it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answer, Ballot, Decree, Request, Seal, Sealed, Standing};
use crate::id::NodeId;

/// What follows from an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// Ask all anchors this.
    Ask(Request),
    /// Send this anchor what is decided above this version, then ask it again.
    Teach(NodeId, u64),
    /// Others decided more than the proposer knows: take these up and start again.
    Learned(Vec<Sealed>),
    /// Somebody else proposes under a higher ballot: wait a moment of random length, then try above it.
    Outbid(Ballot),
    /// A majority sealed this.
    Decided(Sealed),
    /// So many refused that no majority is left; the words of one.
    Refused(String),
}

#[derive(Debug)]
enum Phase {
    Preparing(BTreeMap<NodeId, Option<(Ballot, Decree)>>),
    Accepting(Decree, BTreeMap<NodeId, Seal>),
}

/// One try.
#[derive(Debug)]
pub struct Proposal {
    standing: Standing,
    wanted: Decree,
    ballot: Ballot,
    phase: Phase,
    refused: BTreeSet<NodeId>,
}

impl Proposal {
    /// Begins a try; the request is for all anchors of `standing`, of which the proposer is one. A ballot must not be used
    /// twice by one proposer for one version.
    #[must_use]
    pub fn new(standing: Standing, wanted: Decree, ballot: Ballot) -> (Self, Request) {
        let version = wanted.version;
        let proposal = Self {
            standing,
            wanted,
            ballot,
            phase: Phase::Preparing(BTreeMap::new()),
            refused: BTreeSet::new(),
        };
        (proposal, Request::Prepare { version, ballot })
    }

    /// How many answered in a way that helps.
    #[must_use]
    pub fn agreed(&self) -> usize {
        match &self.phase {
            Phase::Preparing(promised) => promised.len(),
            Phase::Accepting(_, seals) => seals.len(),
        }
    }

    /// What is to be asked of one whose answer was lost, or who was taught.
    #[must_use]
    pub fn request(&self) -> Request {
        let ballot = self.ballot;
        match &self.phase {
            Phase::Preparing(_) => Request::Prepare {
                version: self.wanted.version,
                ballot,
            },
            Phase::Accepting(decree, _) => Request::Accept {
                ballot,
                decree: decree.clone(),
            },
        }
    }

    /// Takes an answer of an anchor. The same one twice counts once; one that belongs to another try counts nothing.
    pub fn hear(&mut self, from: NodeId, answer: Answer) -> Step {
        if self.standing.seat(from).is_none() {
            return Step::Wait;
        }
        match answer {
            Answer::Promised { ballot, accepted } if ballot == self.ballot => self.promised(from, accepted),
            Answer::Sealed { ballot, seal } if ballot == self.ballot => self.sealed(from, seal),
            Answer::Outbid(ballot) if ballot > self.ballot => Step::Outbid(ballot),
            Answer::Behind(version) if version < self.standing.version() => Step::Teach(from, version),
            Answer::Further(steps) if !steps.is_empty() => Step::Learned(steps),
            Answer::Refused(why) => self.refused(from, why),
            Answer::Promised { .. }
            | Answer::Sealed { .. }
            | Answer::Outbid(_)
            | Answer::Behind(_)
            | Answer::Further(_)
            | Answer::Learned => Step::Wait,
        }
    }

    fn promised(&mut self, from: NodeId, accepted: Option<(Ballot, Decree)>) -> Step {
        let Phase::Preparing(promised) = &mut self.phase else {
            return Step::Wait;
        };
        promised.insert(from, accepted);
        if promised.len() < self.standing.majority() {
            return Step::Wait;
        }
        let before = promised.values().flatten().max_by_key(|(ballot, _)| *ballot);
        // What no anchor of this version could have accepted is not taken up.
        let before = before.filter(|(_, decree)| self.standing.after(decree).is_ok());
        let decree = before.map_or_else(|| self.wanted.clone(), |(_, decree)| decree.clone());
        self.phase = Phase::Accepting(decree, BTreeMap::new());
        Step::Ask(self.request())
    }

    fn sealed(&mut self, from: NodeId, seal: Seal) -> Step {
        let Phase::Accepting(decree, seals) = &mut self.phase else {
            return Step::Wait;
        };
        if seal.anchor != from || !self.standing.is_sealed(&seal, self.ballot, decree) {
            return Step::Wait;
        }
        seals.insert(from, seal);
        if seals.len() < self.standing.majority() {
            return Step::Wait;
        }
        Step::Decided(Sealed {
            decree: decree.clone(),
            ballot: self.ballot,
            seals: seals.values().cloned().collect(),
        })
    }

    fn refused(&mut self, from: NodeId, why: String) -> Step {
        self.refused.insert(from);
        if self.standing.seats().len() - self.refused.len() < self.standing.majority() {
            Step::Refused(why)
        } else {
            Step::Wait
        }
    }
}
