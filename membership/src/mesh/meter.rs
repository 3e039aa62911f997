//! How much gossip each peer may bring. What waits to be read is shared by all, and the newest pushes out the oldest: a
//! peer that brought any amount would silence the others. Sans-I/O: time comes as an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::id::NodeId;

/// What a peer may bring at once, and again in each second: five times what two nodes alone say to each other, and what
/// they said while one of them stood still for ten seconds.
const BURST: u32 = 256;
const PER_SECOND: u32 = 64;
/// Peers that are remembered; a cell has fewer.
const PEERS_MAX: usize = 2_000;

/// What one peer may still bring.
#[derive(Debug, Clone, Copy)]
struct Meter {
    left: u32,
    /// When that was.
    at: Instant,
}

impl Meter {
    fn refill(&mut self, now: Instant) {
        let each = Duration::from_secs(1) / PER_SECOND;
        let gained = now.saturating_duration_since(self.at).as_nanos() / each.as_nanos();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        if self.left.saturating_add(gained) >= BURST {
            *self = Self { left: BURST, at: now };
        } else {
            self.left += gained;
            self.at += each * gained;
        }
    }
}

/// What the peers of one node may still bring.
#[derive(Debug, Default)]
pub(crate) struct Meters(BTreeMap<NodeId, Meter>);

impl Meters {
    /// Whether to take one more message of a peer.
    pub(crate) fn takes(&mut self, peer: NodeId, now: Instant) -> bool {
        if self.0.len() >= PEERS_MAX {
            self.forget_full(now);
        }
        let meter = self.0.entry(peer).or_insert(Meter { left: BURST, at: now });
        meter.refill(now);
        let takes = meter.left > 0;
        meter.left = meter.left.saturating_sub(1);
        takes
    }

    /// Who may bring all again need not be remembered.
    fn forget_full(&mut self, now: Instant) {
        self.0.retain(|_, meter| {
            meter.refill(now);
            meter.left < BURST
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u32) -> NodeId {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&n.to_le_bytes());
        NodeId::of_key(&key)
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some point in time to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_flood_ends_at_the_burst_and_others_are_not_touched() {
        let (mut meters, now) = (Meters::default(), start());
        let taken = (0..10_000).filter(|_| meters.takes(node(1), now)).count();
        assert_eq!(taken, BURST as usize);
        assert!(meters.takes(node(2), now));
    }

    #[test]
    fn what_is_said_at_the_usual_pace_is_always_taken() {
        let (mut meters, mut now) = (Meters::default(), start());
        let taken = (0..10_000).filter(|_| meters.takes(node(1), now)).count();
        assert_eq!(taken, BURST as usize);
        let step = Duration::from_secs(1) / PER_SECOND;
        for n in 0..10_000 {
            now += step;
            assert!(meters.takes(node(1), now), "{n}");
        }
        let late = now + Duration::from_secs(3_600);
        let taken = (0..10_000).filter(|_| meters.takes(node(1), late)).count();
        assert_eq!(taken, BURST as usize, "silence is not saved up");
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let (mut meters, now) = (Meters::default(), start());
        for n in 0..10_000 {
            meters.takes(node(n), now + Duration::from_millis(n.into()));
        }
        assert!(meters.0.len() <= PEERS_MAX);
    }
}
