//! How each member looks from here, out of two witnesses that fail in different ways: gossip, which hears of a node
//! through others, and the mesh, which holds a connection to it. Sans-I/O: time comes as an argument.
//!
//! | gossip | mesh | |
//! |---|---|---|
//! | live | connected | live |
//! | live | lost | suspect |
//! | lost | connected | suspect |
//! | lost for less than 5 s | lost | suspect |
//! | lost for longer | lost | dead |

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::id::NodeId;
use crate::service::Liveness;

/// A node that neither witness has is only suspect that long.
const SUSPECT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
struct Peer {
    /// Since when gossip does not have it; `None` while it does.
    lost: Option<Instant>,
    connected: bool,
}

impl Peer {
    fn liveness(self, now: Instant) -> Liveness {
        match (self.lost, self.connected) {
            (None, true) => Liveness::Live,
            (None, false) | (Some(_), true) => Liveness::Suspect,
            (Some(since), false) if now.duration_since(since) < SUSPECT => Liveness::Suspect,
            (Some(_), false) => Liveness::Dead,
        }
    }
}

/// How the members look.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    peers: BTreeMap<NodeId, Peer>,
    live: BTreeSet<NodeId>,
    connected: BTreeSet<NodeId>,
}

impl Watch {
    /// Takes the members, this node left out. One that is not known yet counts as lost a moment ago.
    pub(crate) fn members(&mut self, members: &BTreeSet<NodeId>, now: Instant) {
        self.peers.retain(|id, _| members.contains(id));
        for id in members {
            let lost = (!self.live.contains(id)).then_some(now);
            let connected = self.connected.contains(id);
            self.peers.entry(*id).or_insert(Peer { lost, connected });
        }
    }

    /// Takes whom gossip takes for alive.
    pub(crate) fn gossip(&mut self, live: BTreeSet<NodeId>, now: Instant) {
        for (id, peer) in &mut self.peers {
            peer.lost = match (live.contains(id), peer.lost) {
                (true, _) => None,
                (false, None) => Some(now),
                (false, since) => since,
            };
        }
        self.live = live;
    }

    /// A connection came up.
    pub(crate) fn connected(&mut self, id: NodeId) {
        self.connected.insert(id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.connected = true;
        }
    }

    /// The connection was lost.
    pub(crate) fn disconnected(&mut self, id: NodeId) {
        self.connected.remove(&id);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.connected = false;
        }
    }

    /// The members that gossip takes for alive.
    pub(crate) fn heard(&self) -> BTreeSet<NodeId> {
        let heard = self.peers.iter().filter(|(_, peer)| peer.lost.is_none());
        heard.map(|(id, _)| *id).collect()
    }

    /// Whether a node is a member.
    pub(crate) fn has(&self, id: NodeId) -> bool {
        self.peers.contains_key(&id)
    }

    /// How every member looks.
    pub(crate) fn all(&self, now: Instant) -> BTreeMap<NodeId, Liveness> {
        self.peers.iter().map(|(id, peer)| (*id, peer.liveness(now))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::of_key(&[n; 32])
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some point in time to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    /// One member that both witnesses have.
    fn live_peer(now: Instant) -> Watch {
        let mut watch = Watch::default();
        watch.members(&BTreeSet::from([node(1)]), now);
        watch.gossip(BTreeSet::from([node(1)]), now);
        watch.connected(node(1));
        assert_eq!(watch.all(now)[&node(1)], Liveness::Live);
        watch
    }

    #[test]
    fn one_lost_witness_makes_suspect() {
        let now = start();
        let mut watch = live_peer(now);
        watch.disconnected(node(1));
        assert_eq!(watch.all(now + 100 * SUSPECT)[&node(1)], Liveness::Suspect);
        let mut watch = live_peer(now);
        watch.gossip(BTreeSet::new(), now);
        assert_eq!(watch.all(now + 100 * SUSPECT)[&node(1)], Liveness::Suspect);
    }

    #[test]
    fn a_host_without_power_is_dead_soon_and_comes_back() {
        let now = start();
        let mut watch = live_peer(now);
        let gossip_lost = now + Duration::from_secs(2);
        watch.gossip(BTreeSet::new(), gossip_lost);
        watch.disconnected(node(1));
        assert_eq!(watch.all(gossip_lost + SUSPECT / 2)[&node(1)], Liveness::Suspect);
        watch.gossip(BTreeSet::new(), gossip_lost + SUSPECT / 2);
        assert_eq!(watch.all(gossip_lost + SUSPECT)[&node(1)], Liveness::Dead);
        watch.connected(node(1));
        assert_eq!(watch.all(gossip_lost + 2 * SUSPECT)[&node(1)], Liveness::Suspect);
        watch.gossip(BTreeSet::from([node(1)]), gossip_lost + 2 * SUSPECT);
        assert_eq!(watch.all(gossip_lost + 2 * SUSPECT)[&node(1)], Liveness::Live);
    }

    #[test]
    fn a_member_never_seen_is_dead_after_a_moment_and_one_seen_before_is_not() {
        let now = start();
        let mut watch = Watch::default();
        watch.gossip(BTreeSet::from([node(2)]), now);
        watch.connected(node(2));
        watch.members(&BTreeSet::from([node(1), node(2)]), now);
        assert_eq!(watch.all(now)[&node(1)], Liveness::Suspect);
        assert_eq!(watch.all(now + SUSPECT)[&node(1)], Liveness::Dead);
        assert_eq!(watch.all(now + SUSPECT)[&node(2)], Liveness::Live);
        watch.members(&BTreeSet::from([node(2)]), now);
        assert_eq!(watch.all(now).len(), 1);
    }
}
