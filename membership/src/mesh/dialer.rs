//! Whom to dial and when. Of each pair the node with the lower id dials; the other one waits a few seconds and then
//! dials too, in case only one direction works. Attempts back off with jitter, and all of them together stay below a
//! budget, so that a fleet that lost its links does not drown itself. Sans-I/O: the shell dials and reports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;

use crate::id::NodeId;

/// Most dials within one second.
const DIALS_PER_SECOND: u32 = 50;
/// How long the higher id waits for the lower one.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same right after a peer became known, when the other side may not know this node yet.
const FIRST_PATIENCE: Duration = Duration::from_millis(300);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Dial when this time has come.
    Waiting(Instant),
    Dialling,
    Connected,
}

#[derive(Debug)]
struct Peer {
    addresses: Vec<SocketAddr>,
    /// Which address comes next.
    next: usize,
    /// Failures in a row.
    failures: u32,
    state: State,
}

/// The policy of one node.
#[derive(Debug)]
pub(crate) struct Dialer {
    own: NodeId,
    peers: BTreeMap<NodeId, Peer>,
    /// The second that the budget counts, and what it counted.
    window: Option<Instant>,
    dialled: u32,
}

impl Dialer {
    /// Knows nobody yet.
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            peers: BTreeMap::new(),
            window: None,
            dialled: 0,
        }
    }

    /// Takes the members and where they are reached; this node itself is skipped.
    pub(crate) fn members(&mut self, members: BTreeMap<NodeId, Vec<SocketAddr>>, now: Instant) {
        self.peers.retain(|id, _| members.contains_key(id));
        for (id, addresses) in members {
            if id == self.own {
                continue;
            }
            let wait = if self.own < id { Duration::ZERO } else { FIRST_PATIENCE };
            let state = State::Waiting(now + wait);
            let peer = self.peers.entry(id).or_insert_with(|| Peer {
                addresses: Vec::new(),
                next: 0,
                failures: 0,
                state,
            });
            if peer.addresses != addresses {
                peer.addresses = addresses;
                peer.next = 0;
                if let State::Waiting(at) = &mut peer.state {
                    *at = (*at).min(now + wait);
                }
            }
        }
    }

    /// A connection to the peer stands, whoever dialled it.
    pub(crate) fn connected(&mut self, id: NodeId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.state = State::Connected;
            peer.failures = 0;
        }
    }

    /// The last connection to the peer is gone.
    pub(crate) fn disconnected(&mut self, id: NodeId, now: Instant, rng: &mut impl Rng) {
        let patience = if self.own < id { Duration::ZERO } else { PATIENCE };
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.state = State::Waiting(now + patience + jitter(BACKOFF_MIN, rng));
        }
    }

    /// A dial ended without a connection.
    pub(crate) fn failed(&mut self, id: NodeId, now: Instant, rng: &mut impl Rng) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.state != State::Dialling {
            return;
        }
        peer.failures = peer.failures.saturating_add(1);
        let ceiling = BACKOFF_MIN.saturating_mul(1 << peer.failures.min(10)).min(BACKOFF_MAX);
        peer.state = State::Waiting(now + ceiling / 2 + jitter(ceiling / 2, rng));
    }

    /// Whom to dial at once.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<(NodeId, SocketAddr)> {
        let mut due = Vec::new();
        if self
            .window
            .is_none_or(|start| now.duration_since(start) >= Duration::from_secs(1))
        {
            self.window = Some(now);
            self.dialled = 0;
        }
        for (id, peer) in &mut self.peers {
            if self.dialled >= DIALS_PER_SECOND {
                break;
            }
            let State::Waiting(at) = peer.state else { continue };
            let Some(address) = peer.addresses.get(peer.next % peer.addresses.len().max(1)).copied() else {
                continue;
            };
            if at <= now {
                peer.next = peer.next.wrapping_add(1);
                peer.state = State::Dialling;
                self.dialled += 1;
                due.push((*id, address));
            }
        }
        due
    }
}

fn jitter(most: Duration, rng: &mut impl Rng) -> Duration {
    most.mul_f64(rng.random::<f64>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    fn node(n: u8) -> NodeId {
        format!("aaaaaaaaaaa{}", (b'a' + n) as char).parse().unwrap()
    }

    fn address(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 7946))
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some point in time to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn knows(own: u8, others: &[u8], now: Instant) -> Dialer {
        let mut dialer = Dialer::new(node(own));
        dialer.members(others.iter().map(|n| (node(*n), vec![address(*n)])).collect(), now);
        dialer
    }

    #[test]
    fn the_lower_dials_at_once_and_the_higher_waits() {
        let now = start();
        let mut dialer = knows(1, &[0, 1, 2], now);
        assert_eq!(dialer.due(now), [(node(2), address(2))]);
        assert_eq!(dialer.due(now + FIRST_PATIENCE), [(node(0), address(0))]);
        dialer.connected(node(0));
        dialer.disconnected(node(0), now, &mut StdRng::seed_from_u64(1));
        assert_eq!(dialer.due(now + PATIENCE - Duration::from_millis(1)), []);
        assert_eq!(dialer.due(now + PATIENCE + BACKOFF_MIN), [(node(0), address(0))]);
    }

    #[test]
    fn failures_back_off_and_try_the_next_address() {
        let (mut now, mut rng) = (start(), StdRng::seed_from_u64(2));
        let mut dialer = Dialer::new(node(0));
        dialer.members(BTreeMap::from([(node(1), vec![address(1), address(2)])]), now);
        let mut waits = Vec::new();
        for round in 0..12 {
            assert_eq!(dialer.due(now), [(node(1), address(1 + round % 2))]);
            let since = now;
            dialer.failed(node(1), now, &mut rng);
            assert_eq!(dialer.due(now), []);
            let State::Waiting(at) = dialer.peers[&node(1)].state else {
                panic!("it waits")
            };
            now = at;
            waits.push(now - since);
        }
        assert!(waits[0] < Duration::from_secs(1) && waits[11] >= BACKOFF_MAX / 2);
        assert!(waits.iter().all(|wait| *wait <= BACKOFF_MAX));
    }

    #[test]
    fn dials_stay_below_the_budget() {
        let now = start();
        let mut dialer = Dialer::new(node(0));
        let many = (1..=120)
            .map(|n| (NodeId::of_key(&[n; 32]), vec![address(n)]))
            .collect();
        dialer.own = "222222222222".parse().unwrap();
        dialer.members(many, now);
        let first = dialer.due(now + FIRST_PATIENCE).len();
        assert_eq!((first, dialer.due(now + FIRST_PATIENCE).len()), (50, 0));
        assert_eq!(dialer.due(now + FIRST_PATIENCE + Duration::from_secs(1)).len(), 50);
    }

    #[test]
    fn those_who_left_are_forgotten() {
        let now = start();
        let mut dialer = knows(0, &[1], now);
        dialer.members(BTreeMap::new(), now);
        assert_eq!(dialer.due(now), []);
    }
}
