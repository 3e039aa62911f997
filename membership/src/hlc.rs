//! Hybrid logical clock (Kulkarni et al., 2014): stamps that follow the wall clock and never go back. Stamps order
//! concurrent versions and are shown to people; they never decide whether something is accepted.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time as one node saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// Milliseconds since 1970-01-01 UTC.
    pub millis: u64,
    /// Orders stamps of one millisecond.
    pub logical: u32,
}

/// The clock of one node. `now` is the time since 1970-01-01 UTC, given by the shell that owns the real clock.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    last: Stamp,
}

impl Clock {
    /// A stamp later than all this clock gave or saw.
    pub fn tick(&mut self, now: Duration) -> Stamp {
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.last = if millis > self.last.millis {
            Stamp { millis, logical: 0 }
        } else {
            match self.last.logical.checked_add(1) {
                Some(logical) => Stamp { logical, ..self.last },
                None => Stamp {
                    millis: self.last.millis.saturating_add(1),
                    logical: 0,
                },
            }
        };
        self.last
    }

    /// Takes note of a stamp from another node, but not of one further ahead than `bound`: a peer with a wrong clock
    /// must not carry ours away.
    pub fn observe(&mut self, seen: Stamp, now: Duration, bound: Duration) {
        let limit = u64::try_from((now + bound).as_millis()).unwrap_or(u64::MAX);
        if seen.millis <= limit {
            self.last = self.last.max(seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_never_go_back() {
        let mut clock = Clock::default();
        let first = clock.tick(Duration::from_millis(10));
        let same = clock.tick(Duration::from_millis(10));
        let back = clock.tick(Duration::from_millis(5));
        assert!(first < same && same < back);
        clock.observe(
            Stamp { millis: 50, logical: 3 },
            Duration::from_millis(11),
            Duration::from_millis(100),
        );
        assert_eq!(clock.tick(Duration::from_millis(12)), Stamp { millis: 50, logical: 4 });
    }

    #[test]
    fn a_stamp_far_ahead_is_ignored() {
        let mut clock = Clock::default();
        clock.observe(
            Stamp {
                millis: 9_000,
                logical: 0,
            },
            Duration::from_millis(1),
            Duration::from_millis(5_000),
        );
        assert_eq!(clock.tick(Duration::from_millis(2)), Stamp { millis: 2, logical: 0 });
    }
}
