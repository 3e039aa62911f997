//! Filling a scope that lacks more than fits one answer, from all peers that differ at once: each is asked for some buckets,
//! that is for the objects whose keys, and the facts of the origins whose names, hash into them. A peer that is done gets the
//! next ones; once all are given out, those of the slowest are asked for again from who is idle. What is behind all buckets is
//! one plain pull, which finds little left.
//!
//! A pull of some buckets needs no message of its own. It claims to hold everything elsewhere: sums that match nothing and
//! are not listed, and heads above all that there can be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::answer;
use crate::id::{NodeId, Scope};
use crate::record::Digest;
use crate::replica::Replica;
use crate::wire::{Have, Listed, Short, short};

/// Buckets of the first pulls; then as many as an answer holds.
const FIRST: usize = 8;
/// Most at once, so that there are some for every peer.
const MOST: usize = 32;

/// Buckets that are pulled together.
pub(super) type Window = BTreeSet<u8>;

/// What is left to be pulled of one scope.
#[derive(Debug)]
pub(super) struct Fill {
    left: VecDeque<u8>,
    /// How many buckets are asked for at once.
    width: usize,
    /// Who was asked for what, the longest under way first.
    out: Vec<(NodeId, Window)>,
}

impl Default for Fill {
    fn default() -> Self {
        Self {
            left: (0..=u8::MAX).collect(),
            width: FIRST,
            out: Vec::new(),
        }
    }
}

impl Fill {
    /// What to ask this peer for; nothing if all is there.
    pub(super) fn next(&mut self, peer: NodeId) -> Option<Window> {
        let count = self.width.min(self.left.len());
        let mut window: Window = self.left.drain(..count).collect();
        if window.is_empty() {
            window = self.out.first().map(|(_, window)| window.clone())?;
            // Whoever is slow is not asked for by everybody at once.
            let slow = self.out.remove(0);
            self.out.push(slow);
        }
        self.out.push((peer, window.clone()));
        Some(window)
    }

    /// A peer answered for these buckets.
    pub(super) fn done(&mut self, peer: NodeId, window: &Window, more: bool, bytes: usize) {
        self.out.retain(|(asked, of)| *asked != peer && (more || of != window));
        if more {
            self.width = (self.width / 2).max(1);
            self.left.extend(window);
        } else if bytes < super::ANSWER_BYTES_MAX / 2 {
            self.width = (self.width * 2).min(MOST);
        }
    }

    /// A peer does not answer.
    pub(super) fn give_back(&mut self, peer: NodeId) {
        let (lost, out) = std::mem::take(&mut self.out)
            .into_iter()
            .partition(|(asked, _)| *asked == peer);
        self.out = out;
        let lost: Vec<(NodeId, Window)> = lost;
        for (_, window) in lost {
            if !self.out.iter().any(|(_, other)| *other == window) {
                self.left.extend(window);
            }
        }
    }
}

/// The bucket of an origin's facts.
fn bucket_of(origin: NodeId) -> u8 {
    Digest::of(&[origin.as_str().as_bytes()]).0[0]
}

/// What a pull of some buckets claims to hold.
pub(super) struct Claims {
    pub(super) vector: Vec<Have>,
    pub(super) sums: Vec<(u8, Short)>,
    pub(super) listed: Vec<Listed>,
}

/// What is held in a window, and everything elsewhere.
pub(super) fn claims(held: &Replica, scope: &Scope, window: &Window, vector: Vec<Have>, known: &Replica) -> Claims {
    let (listed, _) = answer::lists(held, scope, Some(window));
    let there: BTreeMap<u8, Short> = answer::sums(held, scope).into_iter().collect();
    let nothing_like_it = short(&Digest::of(&[b"not asked for"]));
    let sum = |bucket: u8| {
        let claimed = if window.contains(&bucket) {
            there.get(&bucket).copied()
        } else {
            Some(nothing_like_it)
        };
        Some((bucket, claimed?))
    };
    let mut vector: Vec<_> = vector
        .into_iter()
        .filter(|have| window.contains(&bucket_of(have.origin)))
        .collect();
    let elsewhere = known
        .keyring()
        .nodes()
        .filter(|node| !window.contains(&bucket_of(*node)));
    vector.extend(elsewhere.map(everything_of));
    Claims {
        vector,
        sums: (0..=u8::MAX).filter_map(sum).collect(),
        listed,
    }
}

/// A head above all that there can be.
pub(super) fn everything_of(origin: NodeId) -> Have {
    Have {
        origin,
        epoch: u64::MAX,
        seq: u64::MAX,
        head: Digest([u8::MAX; 32]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Host;
    use crate::signed::Signer;

    #[test]
    fn each_bucket_is_asked_for_until_somebody_answers() {
        let [a, b] = [Host::new(1).id(), Host::new(2).id()];
        let mut fill = Fill::default();
        let first = fill.next(a).unwrap();
        let mut seen = Window::new();
        // One peer never answers, the other one does it all.
        while let Some(window) = fill.next(b) {
            seen.extend(&window);
            fill.done(b, &window, false, 100);
        }
        assert!(seen.len() == 256 && seen.is_superset(&first));
    }

    #[test]
    fn what_was_cut_or_lost_is_asked_for_again() {
        let [a, b] = [Host::new(1).id(), Host::new(2).id()];
        let mut fill = Fill::default();
        let cut = fill.next(a).unwrap();
        fill.done(a, &cut, true, 1 << 21);
        let lost = fill.next(b).unwrap();
        assert!(lost.len() < cut.len());
        fill.give_back(b);
        let mut seen = Window::new();
        while let Some(window) = fill.next(a) {
            seen.extend(&window);
            fill.done(a, &window, false, 1 << 21);
        }
        assert!(seen.len() == 256);
    }
}
