//! Finding and closing differences with one peer: root of roots, roots, then scope by scope, `System` first, a pull and
//! its answer. One pull per peer is under way at a time; a lost frame costs its deadline, never a wrong merge.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rand::seq::IteratorRandom;
use rand::{Rng, RngCore};

use super::{ANSWER_BYTES_MAX, Effect, Sync, answer};
use crate::author::SET_BYTES_MAX;
use crate::id::{NodeId, Scope};
use crate::record::Digest;
use crate::wire::{Item, Message, Part, Pull};

/// Between two repairs: at least this, and at most twice.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long nothing of an answer may come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often one pull may be asked for detail before it makes do with a part.
const DETAILS_MAX: u8 = 4;
/// Most scopes waiting for a pull from one peer; a later repair sees the rest.
const QUEUE_MAX: usize = 10_000;

/// What is under way with a connected peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    asked: Option<Asked>,
    queue: VecDeque<Want>,
    /// The scopes in the queue.
    queued: BTreeSet<Scope>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Want {
    scope: Scope,
    back: bool,
}

/// A pull that waits for its answer.
#[derive(Debug)]
struct Asked {
    id: u64,
    want: Want,
    partial: bool,
    details: u8,
    deadline: Duration,
    next: u32,
    bytes: usize,
    items: Vec<Item>,
}

impl Sync {
    pub(super) fn peer_up(&mut self, peer: NodeId) {
        self.peers.insert(peer, Peer::default());
        self.greet(peer);
    }

    fn greet(&mut self, peer: NodeId) {
        self.send(
            peer,
            &Message::Hello {
                root: self.replica.root_of_roots(),
            },
        );
    }

    pub(super) fn tick(&mut self, now: Duration, rng: &mut dyn RngCore) {
        for peer in self.peers.values_mut() {
            if peer.asked.as_ref().is_some_and(|asked| asked.deadline <= now) {
                *peer = Peer::default();
                self.effects.push(Effect::Count("pulls_timed_out", 1));
            }
        }
        if now < self.next_repair {
            return;
        }
        self.next_repair = now + INTERVAL.mul_f64(rng.random_range(1.0..2.0));
        let idle = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.asked.is_none())
            .map(|(&id, _)| id);
        if let Some(peer) = idle.choose(rng) {
            self.greet(peer);
        }
    }

    pub(super) fn hello(&mut self, from: NodeId, root: Digest) {
        if root == self.replica.root_of_roots() {
            self.met = true;
        } else {
            for roots in answer::roots(&self.replica) {
                self.send(from, &roots);
            }
        }
    }

    pub(super) fn roots(&mut self, from: NodeId, roots: Vec<(Scope, Digest)>, now: Duration) {
        for (scope, root) in roots {
            if self.replica.root(&scope) != root {
                self.want(from, scope, true, now);
            }
        }
        self.notice_met(from);
    }

    /// Nothing is under way with a peer that told its roots.
    fn notice_met(&mut self, peer: NodeId) {
        self.met |= self.peers.get(&peer).is_some_and(|peer| peer.asked.is_none());
    }

    /// Pulls a scope from a peer, once what is under way with it is done.
    pub(super) fn want(&mut self, from: NodeId, scope: Scope, back: bool, now: Duration) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.queue.len() < QUEUE_MAX && peer.queued.insert(scope.clone()) {
            peer.queue.push_back(Want { scope, back });
        }
        self.ask_next(from, now);
    }

    fn ask_next(&mut self, from: NodeId, now: Duration) {
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.asked.is_none()) else {
            return;
        };
        if let Some(want) = peer.queue.pop_front() {
            peer.queued.remove(&want.scope);
            self.ask(from, want, None, 0, now);
        }
    }

    fn ask(&mut self, from: NodeId, want: Want, buckets: Option<&BTreeSet<u8>>, details: u8, now: Duration) {
        let Want { scope, back } = want.clone();
        let (listed, cut) = answer::lists(&self.replica, &scope, buckets);
        let partial = cut || details >= DETAILS_MAX;
        let vector = answer::vector(&self.replica, &scope, |origin| {
            self.whole.contains(&(scope.clone(), origin))
        });
        let sums = answer::sums(&self.replica, &scope);
        self.next_id += 1;
        let id = self.next_id;
        self.send(
            from,
            &Message::Pull(Pull {
                id,
                scope,
                vector,
                sums,
                listed,
                partial,
                back,
            }),
        );
        let asked = Asked {
            id,
            want,
            partial,
            details,
            deadline: now + PATIENCE,
            next: 0,
            bytes: 0,
            items: Vec::new(),
        };
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.asked = Some(asked);
        }
    }

    pub(super) fn pull(&mut self, from: NodeId, pull: &Pull, now: Duration) {
        let unlisted = answer::unlisted(&self.replica, pull);
        if unlisted.is_empty() || pull.partial {
            let (items, more) = answer::items(&self.replica, pull);
            for part in answer::parts(pull.id, items, more) {
                self.send(from, &part);
            }
        } else {
            let listed = pull.listed.iter().map(|listed| listed.bucket);
            let buckets: BTreeSet<u8> = unlisted.into_iter().chain(listed).collect();
            let buckets = buckets.into_iter().collect();
            self.send(from, &Message::Detail { id: pull.id, buckets });
        }
        let differs = answer::lacks_facts(&self.replica, pull) || !answer::differing(&self.replica, pull).is_empty();
        if pull.back && differs {
            self.want(from, pull.scope.clone(), false, now);
        }
    }

    pub(super) fn detail(&mut self, from: NodeId, id: u64, buckets: &[u8], now: Duration) {
        let asked = self
            .peers
            .get_mut(&from)
            .and_then(|peer| peer.asked.take_if(|asked| asked.id == id));
        if let Some(Asked { want, details, .. }) = asked {
            let buckets = buckets.iter().copied().collect();
            self.ask(from, want, Some(&buckets), details.saturating_add(1), now);
        }
    }

    pub(super) fn part(&mut self, from: NodeId, part: Part, now: Duration) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let Some(asked) = peer
            .asked
            .as_mut()
            .filter(|asked| asked.id == part.id && asked.next == part.index)
        else {
            return;
        };
        asked.next += 1;
        asked.deadline = now + PATIENCE;
        asked.bytes += part.items.iter().map(Item::len).sum::<usize>();
        if asked.bytes > ANSWER_BYTES_MAX + SET_BYTES_MAX {
            *peer = Peer::default();
            return self.bad_frame(from, "an answer is too large".to_owned());
        }
        asked.items.extend(part.items);
        if part.last
            && let Some(asked) = peer.asked.take()
        {
            self.answered(from, asked, part.more, now);
        }
    }

    fn answered(&mut self, from: NodeId, asked: Asked, more: bool, now: Duration) {
        let Asked {
            want, partial, items, ..
        } = asked;
        let taken = self.take_answer(from, &want.scope, items);
        let again = taken.again || (taken.changed && (more || partial));
        if again {
            self.want(from, want.scope, want.back, now);
        }
        self.ask_next(from, now);
        self.notice_met(from);
    }
}
