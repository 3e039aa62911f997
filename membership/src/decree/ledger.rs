//! An anchor's side: what it promised and accepted for the next version. It must be on disk before the answer leaves the
//! node; an anchor that forgot it could seal two decrees for one version.

use serde::{Deserialize, Serialize};

use super::{Ballot, Chain, Decree, Seal, Sealed};
use crate::id::NodeId;
use crate::signed::Signer;

/// What a proposer asks of an anchor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Promise to accept nothing below this ballot for this version, and say what was accepted.
    Prepare {
        /// The version that is to be decided.
        version: u64,
        /// The proposer's ballot.
        ballot: Ballot,
    },
    /// Accept this decree under this ballot.
    Accept {
        /// The proposer's ballot.
        ballot: Ballot,
        /// What is proposed.
        decree: Decree,
    },
    /// Take note of what was decided.
    Learn(Vec<Sealed>),
}

impl Request {
    /// Which version it is about; `None` for what was decided.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        match self {
            Self::Prepare { version, .. } => Some(*version),
            Self::Accept { decree, .. } => Some(decree.version),
            Self::Learn(_) => None,
        }
    }
}

/// What an anchor says to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// It promises, and accepted this before.
    Promised {
        /// The ballot that it promises for.
        ballot: Ballot,
        /// What it accepted for this version, under the highest ballot.
        accepted: Option<(Ballot, Decree)>,
    },
    /// It accepted.
    Sealed {
        /// Under this ballot.
        ballot: Ballot,
        /// Its word.
        seal: Seal,
    },
    /// It promised to a higher ballot.
    Outbid(Ballot),
    /// It holds this version only: teach it, then ask again.
    Behind(u64),
    /// The asker is behind: these follow.
    Further(Vec<Sealed>),
    /// It took note.
    Learned,
    /// It does not do that.
    Refused(String),
}

/// An anchor's state for one version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    version: u64,
    promised: Option<Ballot>,
    accepted: Option<(Ballot, Decree)>,
}

impl Ledger {
    /// Answers a request of `asker`. If the ledger is another one afterwards, it must be on disk before the answer is sent.
    /// `Learn` is the caller's.
    pub fn answer(&mut self, chain: &Chain, signer: &dyn Signer, asker: NodeId, request: &Request) -> Answer {
        let now = chain.now();
        let Some(version) = request.version() else {
            return Answer::Learned;
        };
        if version <= now.version() {
            return Answer::Further(chain.since(version.saturating_sub(1)));
        }
        // A ledger that is further than the chain is of an anchor whose disk kept the one and not the other.
        let next = now.version().saturating_add(1);
        if version > next || self.version > next {
            return Answer::Behind(now.version());
        }
        for (node, whose) in [(signer.id(), "this node"), (asker, "the proposer")] {
            if now.seat(node).is_none() {
                return Answer::Refused(format!("{whose} is no anchor in version {}", now.version()));
            }
        }
        if self.version < version {
            *self = Self {
                version,
                ..Self::default()
            };
        }
        match request {
            Request::Prepare { ballot, .. } => self.promise(*ballot, asker),
            Request::Accept { ballot, decree } => self.accept(chain, signer, *ballot, asker, decree),
            Request::Learn(_) => Answer::Learned,
        }
    }

    fn promise(&mut self, ballot: Ballot, asker: NodeId) -> Answer {
        if ballot.by != asker {
            return Answer::Refused("the ballot is another node's".to_owned());
        }
        match self.promised {
            Some(promised) if promised > ballot => Answer::Outbid(promised),
            _ => {
                self.promised = Some(ballot);
                Answer::Promised {
                    ballot,
                    accepted: self.accepted.clone(),
                }
            }
        }
    }

    fn accept(&mut self, chain: &Chain, signer: &dyn Signer, ballot: Ballot, asker: NodeId, decree: &Decree) -> Answer {
        if ballot.by != asker {
            return Answer::Refused("the ballot is another node's".to_owned());
        }
        if let Err(illegal) = chain.now().after(decree) {
            return Answer::Refused(illegal.to_string());
        }
        match (self.promised, &self.accepted) {
            (Some(promised), _) if promised > ballot => Answer::Outbid(promised),
            // One ballot has one decree: a proposer that says two things under one is not followed.
            (_, Some((same, other))) if *same == ballot && other != decree => Answer::Outbid(ballot),
            _ => {
                self.promised = Some(ballot);
                self.accepted = Some((ballot, decree.clone()));
                Answer::Sealed {
                    ballot,
                    seal: Seal::sign(signer, ballot, decree),
                }
            }
        }
    }
}
