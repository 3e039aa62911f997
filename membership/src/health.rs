//! Whether this node may act on how others look. A node that was stopped, starved or cut off sees all others die at once,
//! and is itself the likeliest reason. It owns no looks and changes none: it only says that nothing may be decided by
//! them. Sans-I/O: time comes as an argument.
//!
//! | doubt begins | and ends |
//! |---|---|
//! | one of this node's own ticks came late | after 10 s of ticks in time |
//! | within 10 s gossip lost at least three and more than 30 % of the peers it had, or all of two or more | the same |

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::id::NodeId;

/// A tick that is later than this says that the node is not well.
const LATE: Duration = Duration::from_secs(1);
/// How long ticks must come in time again.
const RECOVERY: Duration = Duration::from_secs(10);
/// Deaths within this time belong together.
const WINDOW: Duration = Duration::from_secs(10);
/// So many deaths, and more than so many of a hundred peers, are more than chance.
const MASS_LEAST: usize = 3;
const MASS_PERCENT: usize = 30;
/// Where all peers are gone, two are enough.
const ALL_LEAST: usize = 2;

/// Why nothing may be decided by how others look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// This node was stopped, or has too little processor time.
    Late,
    /// So many at once are more likely to be cut off from here than dead.
    MassDeath {
        /// Peers that were lost within the window.
        died: usize,
        /// Peers that it had at the start of the window.
        knew: usize,
    },
}

/// What one node knows of its own health.
#[derive(Debug)]
pub(crate) struct Health {
    /// Time between two ticks.
    every: Duration,
    last: Option<Instant>,
    /// Why it doubts itself, and since when all ticks came in time.
    doubt: Option<(Doubt, Instant)>,
    heard: BTreeSet<NodeId>,
    /// Peers that were lost within the window, and when.
    lost: BTreeMap<NodeId, Instant>,
}

impl Health {
    /// Well, until something says otherwise. A tick is due every `every`.
    pub(crate) fn new(every: Duration) -> Self {
        Self {
            every,
            last: None,
            doubt: None,
            heard: BTreeSet::new(),
            lost: BTreeMap::new(),
        }
    }

    /// A tick came. Says whether it was late.
    pub(crate) fn beat(&mut self, now: Instant) -> bool {
        let late = self.is_late(now);
        if late {
            self.doubt = Some((Doubt::Late, now));
        }
        self.last = Some(now);
        self.doubt = self
            .doubt
            .filter(|(_, since)| now.saturating_duration_since(*since) < RECOVERY);
        late
    }

    /// Takes which of the members gossip hears, this node left out.
    pub(crate) fn hears(&mut self, heard: BTreeSet<NodeId>, members: impl Fn(NodeId) -> bool, now: Instant) {
        self.lost
            .retain(|id, at| now.saturating_duration_since(*at) < WINDOW && members(*id));
        let mut died = self.heard.difference(&heard).filter(|id| members(**id)).peekable();
        let more = died.peek().is_some();
        self.lost.extend(died.map(|id| (*id, now)));
        self.heard = heard;
        if more {
            self.weigh(now);
        }
    }

    fn weigh(&mut self, now: Instant) {
        let died = self.lost.len();
        let returned = self.heard.iter().filter(|id| self.lost.contains_key(id)).count();
        let knew = self.heard.len() + died - returned;
        let many = died >= MASS_LEAST && died * 100 > knew * MASS_PERCENT;
        if many || (died >= ALL_LEAST && died == knew) {
            // Who was late has lost them by that.
            let late = self.is_late(now) || matches!(self.doubt, Some((Doubt::Late, _)));
            let doubt = if late {
                Doubt::Late
            } else {
                Doubt::MassDeath { died, knew }
            };
            self.doubt = Some((doubt, now));
        }
    }

    /// Why nothing may be decided by how others look, if so. A tick that is overdue at this moment counts.
    pub(crate) fn doubt(&self, now: Instant) -> Option<Doubt> {
        if self.is_late(now) {
            return Some(Doubt::Late);
        }
        self.doubt.map(|(doubt, _)| doubt)
    }

    fn is_late(&self, now: Instant) -> bool {
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) > self.every + LATE)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVERY: Duration = Duration::from_millis(250);

    fn nodes(n: usize) -> BTreeSet<NodeId> {
        (0..n).map(|n| NodeId::of_key(&[n as u8; 32])).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some point in time to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    /// A node that hears so many peers and has ticked once.
    fn hearing(peers: usize, now: Instant) -> Health {
        let mut health = Health::new(EVERY);
        health.beat(now);
        health.hears(nodes(peers), |_| true, now);
        assert_eq!(health.doubt(now), None);
        health
    }

    /// Ticks in time for so long; when that was.
    fn ticks(health: &mut Health, from: Instant, long: Duration) -> Instant {
        let mut now = from;
        while now < from + long {
            now += EVERY;
            assert!(!health.beat(now));
        }
        now
    }

    #[test]
    fn a_late_tick_is_doubted_until_ten_seconds_came_in_time() {
        let now = start();
        let mut health = hearing(5, now);
        let resumed = now + Duration::from_secs(6);
        assert_eq!(health.doubt(resumed), Some(Doubt::Late), "before the tick itself came");
        assert!(health.beat(resumed));
        let soon = ticks(&mut health, resumed, RECOVERY - EVERY);
        assert_eq!(health.doubt(soon), Some(Doubt::Late));
        let well = ticks(&mut health, soon, EVERY);
        assert_eq!(health.doubt(well), None);
    }

    #[test]
    fn stopped_again_it_has_to_recover_anew() {
        let now = start();
        let mut health = hearing(5, now);
        let first = now + Duration::from_secs(5);
        assert!(health.beat(first));
        let half = ticks(&mut health, first, RECOVERY / 2);
        // Longer than the recovery, and no tick of it in time.
        let second = half + 2 * RECOVERY;
        assert!(health.beat(second));
        let soon = ticks(&mut health, second, RECOVERY / 2);
        assert_eq!(health.doubt(soon), Some(Doubt::Late));
    }

    #[test]
    fn many_deaths_at_once_are_doubted_and_few_are_not() {
        for (peers, dead, doubted) in [
            (1, 1, false),
            (2, 1, false),
            (2, 2, true),
            (4, 2, false),
            (5, 3, true),
            (9, 3, true),
            (10, 3, false),
            (10, 4, true),
            (200, 60, false),
            (200, 61, true),
        ] {
            let now = start();
            let mut health = hearing(peers, now);
            // One after the other, as they are noticed.
            let step = WINDOW / 250;
            for gone in 1..=dead {
                let at = now + step * u32::try_from(gone).unwrap();
                health.beat(at);
                health.hears(nodes(peers).into_iter().skip(gone).collect(), |_| true, at);
            }
            let end = now + step * u32::try_from(dead).unwrap();
            let expected = doubted.then_some(true);
            assert_eq!(health.doubt(end).map(|_| true), expected, "{dead} of {peers}");
            let well = ticks(&mut health, end, RECOVERY);
            assert_eq!(health.doubt(well), None, "then they are taken for dead");
        }
    }

    #[test]
    fn deaths_far_apart_and_members_that_left_are_no_mass_death() {
        let now = start();
        let mut health = hearing(5, now);
        let mut at = now;
        for gone in 1..=4 {
            at = ticks(&mut health, at, WINDOW);
            health.hears(nodes(5).into_iter().skip(gone).collect(), |_| true, at);
            assert_eq!(health.doubt(at), None, "{gone}");
        }
        let mut health = hearing(5, now);
        let left: BTreeSet<_> = nodes(5).into_iter().skip(3).collect();
        health.hears(left.clone(), |id| left.contains(&id), now);
        assert_eq!(health.doubt(now), None);
    }

    #[test]
    fn who_was_late_says_so_and_not_that_others_died() {
        let now = start();
        let resumed = now + Duration::from_secs(6);
        for tick_first in [true, false] {
            let mut health = hearing(5, now);
            let _late = tick_first && health.beat(resumed);
            health.hears(BTreeSet::new(), |_| true, resumed);
            health.beat(resumed + EVERY);
            assert_eq!(health.doubt(resumed + EVERY), Some(Doubt::Late));
        }
    }

    #[test]
    fn who_comes_and_goes_counts_once() {
        let now = start();
        let mut health = hearing(6, now);
        for _ in 0..10 {
            health.hears(nodes(6).into_iter().skip(1).collect(), |_| true, now);
            health.hears(nodes(6), |_| true, now);
        }
        assert_eq!(health.doubt(now), None);
    }

    proptest! {
        /// Whatever came before: a stall is doubted, and after ten seconds in time with the same peers nothing is.
        #[test]
        fn doubt_follows_each_stall_and_ends(gaps in proptest::collection::vec((0u64..4_000, 0usize..20), 1..80)) {
            let mut now = start();
            let mut health = hearing(20, now);
            for (gap, heard) in gaps {
                let (late, gap) = (gap > 1_250, Duration::from_millis(gap));
                now += gap;
                prop_assert_eq!(health.beat(now), late);
                health.hears(nodes(heard), |_| true, now);
                prop_assert!(!late || health.doubt(now).is_some());
            }
            let well = ticks(&mut health, now, RECOVERY);
            prop_assert_eq!(health.doubt(well), None);
        }
    }
}
