//! Finding and closing differences with one peer: root of roots, roots, then scope by scope, `System` first, a pull and
//! its answer. One pull per peer is under way at a time; a lost frame costs its deadline, never a wrong merge. What several
//! peers could send is asked of one of them; a scope with much to send is shared out among all (see `fill`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::seq::IteratorRandom;
use rand::{Rng, RngCore};

use super::fill::{self, Claims, Fill, Window};
use super::{ANSWER_BYTES_MAX, Effect, Sync, answer};
use crate::author::SET_BYTES_MAX;
use crate::id::{NodeId, Scope};
use crate::record::Digest;
use crate::wire::{Item, Message, Part, Pull};

/// Between two repairs: at least this, and at most twice.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long nothing of an answer may come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an answer may take in all.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// How long one peer is given to send what another one could send too.
const HEDGE: Duration = Duration::from_secs(1);
/// How often one pull may be asked for detail before it makes do with a part.
const DETAILS_MAX: u8 = 4;
/// Most scopes waiting for a pull from one peer; a later repair sees the rest.
const QUEUE_MAX: usize = 10_000;
/// Most bytes of answers that are not whole yet, of all peers together: beyond, no further ones are asked for.
const HELD_MAX: usize = 64 * 1024 * 1024;

/// What is under way with a connected peer.
#[derive(Debug, Default)]
pub(super) struct Peer {
    /// Since when it is connected.
    pub(super) up: Duration,
    asked: Option<Asked>,
    queue: VecDeque<Want>,
    /// The scopes in the queue.
    queued: BTreeSet<Scope>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Want {
    scope: Scope,
    back: bool,
    /// The root that the peer told. Who has it by then need not ask.
    told: Option<Digest>,
}

/// A pull that waits for its answer.
#[derive(Debug)]
struct Asked {
    id: u64,
    want: Want,
    /// Of some buckets only.
    window: Option<Window>,
    /// All facts of these were asked for.
    whole: BTreeSet<NodeId>,
    partial: bool,
    details: u8,
    since: Duration,
    deadline: Duration,
    next: u32,
    bytes: usize,
    items: Vec<Item>,
}

/// How to ask for a scope.
#[derive(Debug, Default)]
struct How {
    /// List these.
    buckets: Option<BTreeSet<u8>>,
    details: u8,
    window: Option<Window>,
}

/// Whose turn it is to send a scope.
enum Turn {
    /// Nobody's: it is there.
    Over,
    /// Another peer's, for now.
    Others,
    /// This peer's.
    This(Option<Window>),
}

impl Peer {
    fn up(now: Duration) -> Self {
        Self {
            up: now,
            ..Self::default()
        }
    }

    fn is_idle(&self) -> bool {
        self.asked.is_none() && self.queue.is_empty()
    }
}

impl Sync {
    pub(super) fn peer_up(&mut self, peer: NodeId, now: Duration) {
        self.peers.insert(peer, Peer::up(now));
        self.give_back(peer);
        self.greet(peer);
    }

    pub(super) fn peer_down(&mut self, peer: NodeId, now: Duration) {
        self.peers.remove(&peer);
        self.speech.forget(peer);
        self.give_back(peer);
        self.ask_all(now);
    }

    /// Whatever a peer was asked, it is not waited for.
    fn forget(&mut self, peer: NodeId) {
        if let Some(known) = self.peers.get_mut(&peer) {
            *known = Peer::up(known.up);
        }
        self.give_back(peer);
    }

    fn give_back(&mut self, peer: NodeId) {
        self.fills.values_mut().for_each(|fill| fill.give_back(peer));
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
        let late = |peer: &Peer| peer.asked.as_ref().is_some_and(|asked| asked.deadline <= now);
        let late: Vec<NodeId> = self
            .peers
            .iter()
            .filter(|(_, peer)| late(peer))
            .map(|(&id, _)| id)
            .collect();
        for peer in late {
            self.forget(peer);
            self.effects.push(Effect::Count("pulls_timed_out", 1));
        }
        self.ask_all(now);
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
            self.equal(from, None);
        } else {
            for roots in answer::roots(&self.replica) {
                self.send(from, &roots);
            }
        }
    }

    pub(super) fn roots(&mut self, from: NodeId, roots: Vec<(Scope, Digest)>, now: Duration) {
        for (scope, root) in roots {
            if self.replica.root(&scope) == root {
                self.equal(from, Some(&scope));
            } else if self.is_hungry(&scope, now) {
                let told = Some(root);
                self.enqueue(
                    from,
                    Want {
                        scope,
                        back: true,
                        told,
                    },
                );
            }
        }
        self.ask_next(from, now);
        self.notice_met(from);
    }

    /// Nothing is under way with a peer that told its roots.
    fn notice_met(&mut self, peer: NodeId) {
        self.met |= self.peers.get(&peer).is_some_and(Peer::is_idle);
    }

    /// Pulls a scope from a peer, once what is under way with it is done.
    pub(super) fn want(&mut self, from: NodeId, scope: Scope, back: bool, now: Duration) {
        let told = None;
        self.enqueue(from, Want { scope, back, told });
        self.ask_next(from, now);
    }

    fn enqueue(&mut self, from: NodeId, want: Want) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.queue.len() < QUEUE_MAX && peer.queued.insert(want.scope.clone()) {
            peer.queue.push_back(want);
        }
    }

    /// Whoever waited for others may have its turn.
    fn ask_all(&mut self, now: Duration) {
        let waiting = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.asked.is_none() && !peer.queue.is_empty());
        let waiting: Vec<NodeId> = waiting.map(|(&id, _)| id).collect();
        for peer in waiting {
            self.ask_next(peer, now);
            self.notice_met(peer);
        }
    }

    fn ask_next(&mut self, from: NodeId, now: Duration) {
        if self.held_bytes() > HELD_MAX {
            return;
        }
        // The latest question for a scope counts: whoever was asked before is slow.
        let mut busy: BTreeMap<Scope, Duration> = BTreeMap::new();
        for asked in self.peers.values().filter_map(|peer| peer.asked.as_ref()) {
            let since = busy.entry(asked.want.scope.clone()).or_default();
            *since = (*since).max(asked.since);
        }
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.asked.is_none()) else {
            return;
        };
        let mut queue = std::mem::take(&mut peer.queue);
        let (mut waiting, mut found) = (VecDeque::new(), None);
        while let Some(want) = queue.pop_front() {
            let others = busy.get(&want.scope).is_some_and(|since| now < *since + HEDGE);
            match self.turn(from, &want, others) {
                Turn::Over => self.unqueue(from, &want.scope),
                Turn::Others => {
                    let first = want.scope == Scope::System;
                    waiting.push_back(want);
                    if first {
                        break;
                    }
                }
                Turn::This(window) => {
                    if window.is_some() {
                        waiting.push_front(want.clone());
                    } else {
                        self.unqueue(from, &want.scope);
                    }
                    found = Some((want, window));
                    break;
                }
            }
        }
        waiting.append(&mut queue);
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.queue = waiting;
        }
        if let Some((want, window)) = found {
            let how = How {
                window,
                ..How::default()
            };
            self.ask(from, want, how, now);
        }
    }

    /// Bytes of answers that are not whole yet.
    pub(super) fn held_bytes(&self) -> usize {
        let asked = self.peers.values().filter_map(|peer| peer.asked.as_ref());
        asked.map(|asked| asked.bytes).sum()
    }

    fn unqueue(&mut self, from: NodeId, scope: &Scope) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.queued.remove(scope);
        }
    }

    fn turn(&mut self, from: NodeId, want: &Want, others: bool) -> Turn {
        if want.told.is_some_and(|told| told == self.replica.root(&want.scope)) {
            return Turn::Over;
        }
        if let Some(fill) = self.fills.get_mut(&want.scope) {
            if let Some(window) = fill.next(from) {
                return Turn::This(Some(window));
            }
            self.fills.remove(&want.scope);
        }
        if others { Turn::Others } else { Turn::This(None) }
    }

    fn ask(&mut self, from: NodeId, want: Want, how: How, now: Duration) {
        let How {
            buckets,
            details,
            window,
        } = how;
        let Want { scope, back, .. } = want.clone();
        self.prepare_shadow(&scope, from);
        let unwanted = self.unwanted(&scope, now);
        let held = self.held_for(&scope, from);
        let whole = |origin: NodeId| self.whole.contains(&(scope.clone(), origin));
        let mut vector = answer::vector(&self.replica, &scope, whole);
        let asked_whole = self.whole.iter().filter(|(of, _)| *of == scope);
        let asked_whole = asked_whole.map(|(_, origin)| *origin).collect();
        vector.retain(|have| unwanted.iter().all(|other| other.origin != have.origin));
        let (claims, cut) = match &window {
            Some(window) => (fill::claims(held, &scope, window, vector, &self.replica), true),
            None => {
                let (listed, cut) = answer::lists(held, &scope, buckets.as_ref());
                let sums = answer::sums(held, &scope);
                (Claims { vector, sums, listed }, cut)
            }
        };
        let Claims {
            mut vector,
            sums,
            listed,
        } = claims;
        vector.extend(unwanted);
        let partial = cut || details >= DETAILS_MAX;
        self.next_id += 1;
        let id = self.next_id;
        let pull = Pull {
            id,
            scope,
            vector,
            sums,
            listed,
            partial,
            back: back && window.is_none(),
        };
        self.send(from, &Message::Pull(pull));
        let asked = Asked {
            id,
            want,
            window,
            whole: asked_whole,
            partial,
            details,
            since: now,
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
            let objects = self.hands_out(&pull.scope);
            let (items, more) = answer::items(&self.replica, pull, objects);
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
            .and_then(|peer| peer.asked.take_if(|asked| asked.id == id && asked.window.is_none()));
        if let Some(Asked { want, details, .. }) = asked {
            let how = How {
                buckets: Some(buckets.iter().copied().collect()),
                details: details.saturating_add(1),
                window: None,
            };
            self.ask(from, want, how, now);
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
        asked.deadline = (now + PATIENCE).min(asked.since + ANSWER_TIME);
        asked.bytes += part.items.iter().map(Item::len).sum::<usize>();
        if asked.bytes > ANSWER_BYTES_MAX + SET_BYTES_MAX {
            self.forget(from);
            return self.bad_frame(from, "an answer is too large".to_owned());
        }
        asked.items.extend(part.items);
        if part.last
            && let Some(asked) = peer.asked.take()
        {
            self.answered(from, asked, part.more, now);
            self.ask_all(now);
        }
    }

    fn answered(&mut self, from: NodeId, asked: Asked, more: bool, now: Duration) {
        let Asked {
            want,
            window,
            whole,
            partial,
            bytes,
            items,
            ..
        } = asked;
        let taken = self.take_answer(from, &want.scope, items, &whole, now);
        if let Some(window) = window {
            if let Some(fill) = self.fills.get_mut(&want.scope) {
                fill.done(from, &window, more && taken.changed, bytes);
            }
        } else if taken.again || (taken.changed && (more || partial)) {
            self.share(&want.scope, more);
            self.enqueue(from, Want { told: None, ..want });
        } else if !more && !partial {
            if let Some(told) = want.told.filter(|_| !taken.changed) {
                self.doubt(&want.scope, told, now);
            }
            self.compared(&want.scope, from, now);
        }
        self.ask_next(from, now);
        self.notice_met(from);
    }

    /// Much is lacking of a scope: whoever else could send it is asked too.
    fn share(&mut self, scope: &Scope, more: bool) {
        let others = self.peers.values().any(|peer| peer.queued.contains(scope));
        if more && others && !self.is_doubtful(scope) && !self.fills.contains_key(scope) {
            self.fills.insert(scope.clone(), Fill::default());
        }
    }
}
