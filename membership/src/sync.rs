//! Replication between peers as a state machine: `handle(event, now, rng)` answers with effects that the shell obeys
//! in order. It owns the replica. What it guarantees and how is told in `ALGORITHM.md`.

mod answer;
mod confirm;
mod fill;
mod quota;
mod receive;
mod repair;
mod speech;
mod spread;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use rand::RngCore;

use crate::batch::{Batch, FactBatch};
use crate::decree::Removal;
use crate::id::{NodeId, Scope};
use crate::keyring::{Certify, certified_key};
use crate::record::{Body, Intent};
use crate::replica::{Change, Removed, Replaced, Replica};
use crate::signed::Signed;
use crate::wire::{self, Message};
use confirm::{Doubt, Shadow};
use fill::Fill;
use quota::Credits;
use repair::Peer;
use speech::Speech;

pub use confirm::Tombstones;
pub use quota::{PULLED_BYTES_PER_SECOND, PULLS_PER_SECOND, PUSHED_BYTES_PER_SECOND, PUSHES_PER_SECOND};

pub use crate::replica::{FACT_BYTES_MAX, FACTS_MAX, SIBLINGS_MAX, VERSION_BYTES_MAX, VERSIONS_MAX};
pub use crate::wire::FRAME_MAX;

/// Most bytes of records in one answer, unless what belongs together is larger alone.
const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How often at least the shell sends [`Event::Tick`].
pub const TICK: Duration = Duration::from_millis(250);

/// What happens to replication.
#[derive(Debug, Clone)]
pub enum Event {
    /// There is a connection to this peer from here on.
    PeerUp(NodeId),
    /// There is none any more.
    PeerDown(NodeId),
    /// A frame came from this peer.
    Frame(NodeId, Bytes),
    /// An own batch, which is on disk.
    LocalBatch(Batch),
    /// Time passed.
    Tick,
}

/// What the shell is to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send a frame (at most [`FRAME_MAX`] bytes) to a peer. Dropping it is allowed, if the connection is slow or gone;
    /// but the frames of one event for one peer, up to 4 MiB, should find room, or a large answer never arrives whole.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        frame: Bytes,
    },
    /// Others' records were merged and can be read already; commit them in this order, with `Durable::Later`, and own
    /// batches behind those that were merged before them.
    Persist(Change),
    /// Readers of this scope should look again.
    ScopeChanged(Scope),
    /// Peers hold facts of this node that its own store does not: make `author::reclaim` of them, commit it, and hand
    /// it back as [`Event::LocalBatch`].
    Reclaim(FactBatch),
    /// Say this of a scope as this node's fact under `collect::key()`, behind what was merged before: it tells others what
    /// this node has seen, so that tombstones can be collected.
    Confirm(Scope, Body),
    /// An operator should know.
    Alarm(Trouble),
    /// This version came, and is void: its writer was removed before it told anybody.
    Void(Signed<Intent>),
    /// Add to a named counter.
    Count(&'static str, u64),
}

/// What replication finds wrong with others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Two different things are signed under one number: its disk was copied or restored.
    #[error("node {origin} contradicts itself in scope {scope}: its store was copied or restored")]
    Forked {
        /// Whose facts.
        origin: NodeId,
        /// Where.
        scope: Scope,
    },
    /// A node writes more, or faster, than any node may.
    #[error(
        "node {origin} is over its quota: {why}; what it writes beyond is not taken in; look at that node, or remove it"
    )]
    OverQuota {
        /// Who signed it.
        origin: NodeId,
        /// Which limit.
        why: &'static str,
    },
    /// A peer does not take in what this node writes.
    #[error("node {by} does not take in what this node writes: {why}")]
    NotTaken {
        /// Who says so.
        by: NodeId,
        /// In its words, short and plain.
        why: String,
    },
    /// A peer hands on less than an origin signed.
    #[error(
        "node {from} keeps back some of what node {origin} says in scope {scope}: what is held of it here is older, until another peer \
         hands it on; look at {from}, or remove it"
    )]
    Withheld {
        /// Who answered.
        from: NodeId,
        /// Whose facts.
        origin: NodeId,
        /// Where.
        scope: Scope,
    },
    /// A peer sends frames that are wrong.
    #[error("node {from} sent a frame that was refused: {reason}")]
    BadFrame {
        /// The sender; not necessarily the author.
        from: NodeId,
        /// What is wrong.
        reason: String,
    },
}

impl Trouble {
    /// A stable name of the kind of trouble.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Forked { .. } => "origin-forked",
            Self::OverQuota { .. } => "origin-over-quota",
            Self::NotTaken { .. } => "records-not-taken",
            Self::Withheld { .. } => "facts-withheld",
            Self::BadFrame { .. } => "bad-frame",
        }
    }
}

/// The replication of one node.
pub struct Sync {
    me: NodeId,
    replica: Replica,
    certify: Box<dyn Certify + Send + std::marker::Sync>,
    peers: BTreeMap<NodeId, Peer>,
    speech: Speech,
    /// Origins whose facts do not lead from what is held to their head: the next pull asks for all of them.
    whole: BTreeSet<(Scope, NodeId)>,
    /// Once all that a peer had to say was taken in.
    met: bool,
    next_repair: Duration,
    next_look: Duration,
    /// There are other members.
    accompanied: bool,
    /// Scopes in which there may be something to confirm.
    unconfirmed: BTreeSet<Scope>,
    /// Scopes in which this node's disk is older than what it said of them.
    void: BTreeSet<Scope>,
    /// In which epoch peers held facts of this node that it did not know of itself.
    reclaimed: BTreeMap<Scope, u64>,
    shadows: BTreeMap<Scope, Shadow>,
    doubts: BTreeMap<Scope, Doubt>,
    /// Scopes that several peers send at once.
    fills: BTreeMap<Scope, Fill>,
    credits: Credits,
    /// Scopes, and origins of facts, of which something was refused of late: until when they are not pulled.
    sated: BTreeMap<Scope, Duration>,
    muted: BTreeMap<NodeId, Duration>,
    next_id: u64,
    changed: BTreeSet<Scope>,
    effects: Vec<Effect>,
}

impl fmt::Debug for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sync")
            .field("me", &self.me)
            .field("peers", &self.peers.keys())
            .finish_non_exhaustive()
    }
}

impl Sync {
    /// Starts with what was loaded. The keyring is filled from the node records in it, and with `own`, this node's
    /// public key.
    #[must_use]
    pub fn new(own: &[u8; 32], mut replica: Replica, certify: Box<dyn Certify + Send + std::marker::Sync>) -> Self {
        replica.learn(own);
        let keys: Vec<_> = replica
            .facts(&Scope::System)
            .filter_map(|fact| certified_key(fact, certify.as_ref()))
            .collect();
        for key in keys {
            replica.learn(&key);
        }
        let mut sync = Self {
            me: NodeId::of_key(own),
            replica,
            certify,
            peers: BTreeMap::new(),
            speech: Speech::default(),
            whole: BTreeSet::new(),
            met: false,
            next_repair: Duration::ZERO,
            next_look: Duration::ZERO,
            accompanied: false,
            unconfirmed: BTreeSet::new(),
            void: BTreeSet::new(),
            reclaimed: BTreeMap::new(),
            shadows: BTreeMap::new(),
            doubts: BTreeMap::new(),
            fills: BTreeMap::new(),
            credits: Credits::default(),
            sated: BTreeMap::new(),
            muted: BTreeMap::new(),
            next_id: 0,
            changed: BTreeSet::new(),
            effects: Vec::new(),
        };
        sync.restore_floors();
        // A crash may have brought back what had been let go of.
        let writers = sync.replica.writers();
        sync.trim(writers, Duration::ZERO);
        sync
    }

    /// What this node holds.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether this node has once compared what it holds with a peer, and taken in what it lacked.
    #[must_use]
    pub fn has_met(&self) -> bool {
        self.met
    }

    /// Forgets a node that was removed from the cluster; see [`Replica::remove`]. What it tells is to be on disk before the next
    /// event. `now` is as for [`Self::handle`].
    pub fn remove(&mut self, removal: &Removal, past: &[Replaced], now: Duration) -> Removed {
        self.whole.retain(|(_, origin)| *origin != removal.node);
        let removed = self.replica.remove(removal, past);
        let back = removed.changes.iter().flat_map(Change::writers);
        self.trim(back.collect::<BTreeSet<_>>(), now);
        removed
    }

    /// Takes one event. `now` is the time since any fixed moment; it must not go back.
    pub fn handle(&mut self, event: Event, now: Duration, rng: &mut dyn RngCore) -> Vec<Effect> {
        match event {
            Event::PeerUp(peer) => self.peer_up(peer, now),
            Event::PeerDown(peer) => self.peer_down(peer, now),
            Event::Frame(from, frame) => self.frame(from, frame, now, rng),
            Event::LocalBatch(batch) => self.local(&batch, rng),
            Event::Tick => {
                self.tick(now, rng);
                self.look_at_tombstones(now, rng);
            }
        }
        let changed = std::mem::take(&mut self.changed);
        self.effects.extend(changed.into_iter().map(Effect::ScopeChanged));
        std::mem::take(&mut self.effects)
    }

    fn frame(&mut self, from: NodeId, frame: Bytes, now: Duration, rng: &mut dyn RngCore) {
        if !self.peers.contains_key(&from) {
            return self.effects.push(Effect::Count("frames_from_strangers", 1));
        }
        match wire::decode_as(&frame, self.speech.own) {
            Ok(Message::Hello { root }) => self.hello(from, root),
            Ok(Message::Roots(roots)) => self.roots(from, roots, now),
            Ok(Message::Pull(pull)) => self.pull(from, &pull, now),
            Ok(Message::Detail { id, buckets }) => self.detail(from, id, &buckets, now),
            Ok(Message::Part(part)) => self.part(from, part, now),
            Ok(Message::Push(batch)) => self.pushed(from, batch, &frame, now, rng),
            Ok(Message::NotTaken { why }) => self.hear_not_taken(from, &why),
            Err(error) => self.bad_frame(from, error.to_string()),
        }
    }

    fn bad_frame(&mut self, from: NodeId, reason: String) {
        self.effects.push(Effect::Count("bad_frames", 1));
        self.effects.push(Effect::Alarm(Trouble::BadFrame { from, reason }));
    }

    fn send(&mut self, to: NodeId, message: &Message) {
        match wire::encode_as(message, self.speech.with(to)) {
            Ok(frame) => self.effects.push(Effect::Send { to, frame }),
            Err(_) => self.effects.push(Effect::Count("frames_not_sent", 1)),
        }
    }
}

#[cfg(test)]
mod bench;
#[cfg(test)]
mod crowding;
#[cfg(test)]
mod filling;
#[cfg(test)]
mod flood;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod overflow;
#[cfg(test)]
mod ring;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod versions;
