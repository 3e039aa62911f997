//! Replication between peers as a state machine: `handle(event, now, rng)` answers with effects that the shell obeys
//! in order. It owns the replica. What it guarantees and how is told in `ALGORITHM.md`.

use std::time::Duration;

use bytes::Bytes;
use rand::RngCore;

use crate::batch::{Batch, FactBatch};
use crate::id::{NodeId, Scope};
use crate::keyring::Certify;
use crate::replica::{Change, Replica};

pub use crate::wire::FRAME_MAX;

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
    /// Send a frame (at most [`FRAME_MAX`] bytes) to a peer; dropping it is allowed, if the connection is slow or gone.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        frame: Bytes,
    },
    /// Others' records were merged and can be read already; commit them in this order, with `Durable::Later`.
    Persist(Change),
    /// Readers of this scope should look again.
    ScopeChanged(Scope),
    /// Peers hold facts of this node that its own store does not: make `author::reclaim` of them, commit it, and hand
    /// it back as [`Event::LocalBatch`].
    Reclaim(FactBatch),
    /// An operator should know.
    Alarm(Trouble),
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
            Self::BadFrame { .. } => "bad-frame",
        }
    }
}

/// The replication of one node.
#[expect(missing_debug_implementations, reason = "a trait object inside")]
pub struct Sync {
    me: NodeId,
    replica: Replica,
    certify: Box<dyn Certify + Send + std::marker::Sync>,
}

impl Sync {
    /// Starts with what was loaded. The keyring is filled from the node records in it, and with `own`, this node's
    /// public key.
    #[must_use]
    pub fn new(own: &[u8; 32], replica: Replica, certify: Box<dyn Certify + Send + std::marker::Sync>) -> Self {
        Self {
            me: NodeId::of_key(own),
            replica,
            certify,
        }
    }

    /// What this node holds.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Takes one event. `now` is the time since any fixed moment; it must not go back.
    pub fn handle(&mut self, event: Event, now: Duration, rng: &mut dyn RngCore) -> Vec<Effect> {
        todo!("{event:?} {now:?} {}", rng.next_u32())
    }
}
