//! Which wire version each peer is spoken to in, and what is said only because the cluster agreed on a version that has it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{Effect, Sync, Trouble};
use crate::id::NodeId;
use crate::wire::versions::FIRST;
use crate::wire::{self, Message, SINCE_NOT_TAKEN, Versions};

/// How long a node that was told why its records are not taken is not told again.
const TOLD: Duration = Duration::from_secs(60);

/// Who speaks what.
#[derive(Debug)]
pub(super) struct Speech {
    /// This node.
    pub(super) own: Versions,
    /// What the cluster agreed on.
    agreed: u16,
    /// What was found out when the peer connected.
    peers: BTreeMap<NodeId, u16>,
    /// Connected peers that were told why their records are not taken, and when.
    told: BTreeMap<NodeId, Duration>,
}

impl Default for Speech {
    fn default() -> Self {
        Self {
            own: Versions::OWN,
            agreed: FIRST,
            peers: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }
}

impl Speech {
    /// The version for a peer; the first one where nothing was found out.
    pub(super) fn with(&self, peer: NodeId) -> u16 {
        self.peers.get(&peer).copied().unwrap_or(FIRST)
    }

    /// The version that most peers are likely to be spoken to in.
    pub(super) fn usual(&self) -> u16 {
        self.peers.values().copied().max().unwrap_or(FIRST)
    }

    pub(super) fn forget(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
        self.told.remove(&peer);
    }
}

impl Sync {
    /// Has it speak these versions; all that the software speaks unless told otherwise.
    #[must_use]
    pub fn speaking(mut self, versions: Versions) -> Self {
        self.speech.own = versions;
        self
    }

    /// Takes the version that this node and a peer speak with each other, before `PeerUp`.
    pub fn speaks(&mut self, peer: NodeId, version: u16) {
        self.speech.peers.insert(peer, version);
    }

    /// Takes the version that the cluster agreed on: what only that one has is said from here on.
    pub fn agree(&mut self, version: u16) {
        self.speech.agreed = version;
    }

    /// The same frame for these peers, each in its version.
    pub(super) fn send_all(&mut self, frame: &Bytes, peers: Vec<NodeId>) {
        let mut made: BTreeMap<u16, Bytes> = BTreeMap::new();
        for to in peers {
            let version = self.speech.with(to);
            let frame = made
                .entry(version)
                .or_insert_with(|| wire::relabel(frame, version))
                .clone();
            self.effects.push(Effect::Send { to, frame });
        }
    }

    /// Tells a node that its records are not taken in, if it is connected and the cluster speaks a version that has this.
    pub(super) fn tell_not_taken(&mut self, origin: NodeId, why: &'static str, now: Duration) {
        let speech = &mut self.speech;
        let version = speech.agreed.min(speech.with(origin));
        let lately = speech.told.get(&origin).is_some_and(|at| now < *at + TOLD);
        if version < SINCE_NOT_TAKEN || lately || !self.peers.contains_key(&origin) {
            return;
        }
        speech.told.insert(origin, now);
        let why = why.to_owned();
        self.send(origin, &Message::NotTaken { why });
    }

    /// A peer does not take what this node writes.
    pub(super) fn hear_not_taken(&mut self, by: NodeId, why: &str) {
        self.effects.push(Effect::Count("records_not_taken", 1));
        let why = wire::plain(why);
        self.effects.push(Effect::Alarm(Trouble::NotTaken { by, why }));
    }
}
