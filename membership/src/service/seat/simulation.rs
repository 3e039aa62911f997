//! Claimants against a list of anchors that grows and shrinks, over a wire that loses answers: no key ever has two
//! holders. The chain of lists, what each anchor knows of it, its ledger and its seat are modelled; who gets a key and
//! what is copied is decided by the real rules.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::joined;
use crate::claim::{Granted, grant};
use crate::id::NodeId;
use crate::store::ClaimRow;

const HOSTS: usize = 6;
const CLAIMANTS: usize = 3;
const KEYS: usize = 2;

#[derive(Debug, Clone, Default)]
struct Anchor {
    /// How many lists it knows of.
    knows: usize,
    /// The list it is seated for.
    seated: Option<usize>,
    ledger: BTreeMap<String, NodeId>,
}

/// Acknowledgements that a claimant holds: key → (list, anchor).
type Words = BTreeMap<String, BTreeSet<(usize, usize)>>;

struct World {
    lists: Vec<BTreeSet<usize>>,
    anchors: Vec<Anchor>,
    words: Vec<Words>,
    rng: StdRng,
}

fn claimant(n: usize) -> NodeId {
    NodeId::of_key(&[u8::try_from(n).unwrap(); 32])
}

impl World {
    fn new(seed: u64) -> Self {
        let mut anchors = vec![Anchor::default(); HOSTS];
        for anchor in &mut anchors {
            anchor.knows = 1;
        }
        anchors[0].seated = Some(0);
        Self {
            lists: vec![BTreeSet::from([0])],
            anchors,
            words: vec![Words::new(); CLAIMANTS],
            rng: StdRng::seed_from_u64(seed),
        }
    }

    fn majority(&self, list: usize) -> usize {
        self.lists[list].len() / 2 + 1
    }

    fn step(&mut self) {
        let at = self.rng.random_range(0..HOSTS);
        match self.rng.random_range(0..20) {
            0 => self.change(),
            1..4 => self.anchors[at].knows = (self.anchors[at].knows + 1).min(self.lists.len()),
            4..7 => self.take(at),
            7 => self.give_back(),
            _ => self.claim(at),
        }
    }

    /// A majority of the current list seals the next one; who is not seated does not.
    fn change(&mut self) {
        let current = self.lists.len() - 1;
        let mut next = self.lists[current].clone();
        let host = self.rng.random_range(0..HOSTS);
        if !next.insert(host) {
            next.remove(&host);
        }
        let ready = |anchor: &Anchor| anchor.knows == self.lists.len() && anchor.seated == Some(current);
        let sealing: Vec<usize> = self.lists[current]
            .iter()
            .copied()
            .filter(|at| ready(&self.anchors[*at]))
            .collect();
        if next.is_empty() || sealing.len() < self.majority(current) {
            return;
        }
        self.lists.push(next);
        // The proposer knows it at once.
        self.anchors[sealing[0]].knows = self.lists.len();
    }

    fn take(&mut self, at: usize) {
        let lists = self.anchors[at].knows;
        for list in 1..lists {
            if !self.lists[list].contains(&at) || self.anchors[at].seated >= Some(list) {
                continue;
            }
            let before: Vec<usize> = self.lists[list - 1].iter().copied().collect();
            let mut ledgers = Vec::new();
            for giver in &before {
                let theirs = &self.anchors[*giver];
                let lost = *giver != at && self.rng.random_bool(0.3);
                // It knows that another list took the place of the one asked for, and was seated for that one.
                if !lost && theirs.knows > list && theirs.seated >= Some(list - 1) {
                    let row = |(key, holder): (&String, &NodeId)| ClaimRow {
                        scope: String::new(),
                        key: key.clone(),
                        holder: *holder,
                    };
                    ledgers.push(theirs.ledger.iter().map(row).collect());
                }
            }
            if let Some(rows) = joined(ledgers, before.len()) {
                let anchor = &mut self.anchors[at];
                anchor.ledger = rows.into_iter().map(|row| (row.key, row.holder)).collect();
                anchor.seated = Some(list);
            }
        }
    }

    /// One claimant asks one anchor for one key; the answer may be lost.
    fn claim(&mut self, at: usize) {
        let who = self.rng.random_range(0..CLAIMANTS);
        let key = self.rng.random_range(0..KEYS).to_string();
        let current = self.anchors[at].knows - 1;
        let anchor = &mut self.anchors[at];
        if !self.lists[current].contains(&at) || anchor.seated != Some(current) {
            return;
        }
        match grant(anchor.ledger.get(&key).copied(), claimant(who)) {
            Granted::Held(_) => return,
            Granted::First | Granted::Again => drop(anchor.ledger.insert(key.clone(), claimant(who))),
        }
        if self.rng.random_bool(0.8) {
            self.words[who].entry(key).or_default().insert((current, at));
        }
    }

    /// A claimant without a majority gives up; what it has of words it forgets first.
    fn give_back(&mut self) {
        let who = self.rng.random_range(0..CLAIMANTS);
        let key = self.rng.random_range(0..KEYS).to_string();
        if self.holds(who, &key) {
            return;
        }
        self.words[who].remove(&key);
        for anchor in &mut self.anchors {
            if self.rng.random_bool(0.5) && anchor.ledger.get(&key) == Some(&claimant(who)) {
                anchor.ledger.remove(&key);
            }
        }
    }

    /// Words of one list count together, and only those.
    fn holds(&self, who: usize, key: &str) -> bool {
        let words = self.words[who].get(key);
        (0..self.lists.len()).any(|list| {
            let given = words
                .into_iter()
                .flatten()
                .filter(|(of, at)| *of == list && self.lists[list].contains(at));
            given.count() >= self.majority(list)
        })
    }
}

#[test]
fn no_key_has_two_holders_however_the_list_changes() {
    let (mut held, mut changes) = (0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
            for key in 0..KEYS {
                let holders = (0..CLAIMANTS).filter(|who| world.holds(*who, &key.to_string())).count();
                assert!(
                    holders <= 1,
                    "seed {seed}: {holders} holders after {} lists",
                    world.lists.len()
                );
            }
        }
        held += (0..CLAIMANTS).filter(|who| world.holds(*who, "0")).count();
        changes += world.lists.len() - 1;
    }
    assert!(
        held > 100 && changes > 2_000,
        "it is no empty world: {held} held, {changes} changes"
    );
}
