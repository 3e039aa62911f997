//! How this node's clock stands to those of others. Pure: it is told what others said and when, and says whom to ask and
//! whether this clock is wrong. Nothing is set by it, and no order of records follows from it: stamps only order what was
//! written at once. Who is wrong by more than [`OFF_MAX`] takes no writes of users, whose versions would win or lose by
//! that against all others'.
//!
//! A clock of another node is kept as what it shows at the start of this node's monotonic clock, so that a step of this
//! node's own clock counts at once. Wrong is who differs from the median of all, himself included: of two nodes neither,
//! of three the one that the two others contradict. Who knows all others is stopped by no minority of wrong clocks or liars;
//! of a large cluster a node knows some dozen others at a time, whose majority may be wrong by chance where many are.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rand::Rng;
use rand::seq::IteratorRandom as _;

use crate::id::NodeId;

/// What is no fault of a clock yet.
const OFF_MAX: Duration = Duration::from_secs(5);
/// An answer that took longer says too little.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);
/// How often another node is asked, and while fewer than `FEW` are known.
const EVERY: Duration = Duration::from_secs(5);
const AT_FIRST: Duration = Duration::from_millis(500);
const FEW: usize = 3;
/// How long an answer counts: of a large cluster, some dozen members are known then.
const LIFE: Duration = Duration::from_secs(60);

/// By how much this node's clock differs from the median.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Off {
    /// It shows a later time than most.
    Ahead(Duration),
    /// An earlier one.
    Behind(Duration),
}

impl fmt::Display for Off {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, which) = match self {
            Self::Ahead(by) => (by, "ahead of"),
            Self::Behind(by) => (by, "behind"),
        };
        write!(
            f,
            "this node's clock is {}.{} s {which} most others: set it right (is an NTP client running?), or ask another node",
            by.as_secs(),
            by.subsec_millis() / 100
        )
    }
}

/// An answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heard {
    /// When it was asked, and when it answered, by this node's monotonic clock.
    pub(crate) asked: Duration,
    pub(crate) answered: Duration,
    /// Its time since 1970-01-01.
    pub(crate) shows: Duration,
}

/// Milliseconds that a clock would have shown at the start of this node's monotonic clock, and when that was heard.
#[derive(Debug, Clone, Copy)]
struct Start {
    millis: i128,
    heard: Duration,
}

/// What is known of the clocks of others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Clocks {
    starts: BTreeMap<NodeId, Start>,
    /// Whom it asked of late, whether they answered or not: earlier releases do not.
    asked: BTreeMap<NodeId, Duration>,
    last: Option<Duration>,
}

fn millis(time: Duration) -> i128 {
    i128::try_from(time.as_millis()).unwrap_or(i128::MAX)
}

impl Clocks {
    /// Whom to ask at this moment, of those that can be asked: somebody who was not asked of late first, and soon while
    /// little is known.
    pub(crate) fn due(&mut self, can: &[NodeId], now: Duration, rng: &mut impl Rng) -> Option<NodeId> {
        let recent = |then: Duration| now.saturating_sub(then) < LIFE;
        self.starts.retain(|_, start| recent(start.heard));
        self.asked.retain(|_, asked| recent(*asked));
        let fresh = can.iter().filter(|node| !self.asked.contains_key(*node)).choose(rng);
        let pause = if self.starts.len() < FEW && fresh.is_some() {
            AT_FIRST
        } else {
            EVERY
        };
        if self.last.is_some_and(|last| now.saturating_sub(last) < pause) {
            return None;
        }
        let node = *fresh.or_else(|| can.iter().choose(rng))?;
        self.last = Some(now);
        self.asked.insert(node, now);
        Some(node)
    }

    /// What one said.
    pub(crate) fn heard(&mut self, node: NodeId, heard: Heard) {
        let took = heard.answered.saturating_sub(heard.asked);
        if took > ROUND_TRIP_MAX {
            return;
        }
        let at = heard.asked + took / 2;
        let start = Start {
            millis: millis(heard.shows).saturating_sub(millis(at)),
            heard: heard.answered,
        };
        self.starts.insert(node, start);
    }

    /// How far this node's clock is off, if that is too far. `shows` is its time since 1970-01-01 at `now`.
    pub(crate) fn off(&self, shows: Duration, now: Duration) -> Option<Off> {
        let own = millis(shows).saturating_sub(millis(now));
        let fresh = self
            .starts
            .values()
            .filter(|start| now.saturating_sub(start.heard) < LIFE);
        let mut differ: Vec<i128> = fresh.map(|start| own.saturating_sub(start.millis)).collect();
        differ.push(0);
        differ.sort_unstable();
        // Of the two in the middle of an even number, the one that speaks for this node.
        let middle = [differ[(differ.len() - 1) / 2], differ[differ.len() / 2]];
        let off = middle.into_iter().min_by_key(|by| by.unsigned_abs())?;
        let by = Duration::from_millis(u64::try_from(off.unsigned_abs()).unwrap_or(u64::MAX));
        match by > OFF_MAX {
            false => None,
            true if off > 0 => Some(Off::Ahead(by)),
            true => Some(Off::Behind(by)),
        }
    }

    /// Of how many others something is known.
    #[cfg(test)]
    pub(crate) fn known(&self) -> usize {
        self.starts.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::fixture::Host;
    use crate::signed::Signer as _;

    /// 2026.
    const EPOCH: Duration = Duration::from_secs(1_780_000_000);
    const NOW: Duration = Duration::from_secs(1000);

    fn node(number: u8) -> NodeId {
        Host::new(number).id()
    }

    /// Others whose clocks differ from the true time by so many seconds, heard at `NOW`.
    fn others(differ: &[i64]) -> Clocks {
        let mut clocks = Clocks::default();
        for (number, by) in (1..).zip(differ) {
            let heard = Heard {
                asked: NOW,
                answered: NOW,
                shows: shown(*by),
            };
            clocks.heard(node(number), heard);
        }
        clocks
    }

    /// The time that a clock shows at `NOW` that differs by so many seconds.
    fn shown(differs: i64) -> Duration {
        let by = Duration::from_secs(differs.unsigned_abs());
        if differs < 0 {
            EPOCH.saturating_sub(by)
        } else {
            EPOCH + by
        }
    }

    fn off(differ: &[i64], own: i64) -> Option<Off> {
        others(differ).off(shown(own), NOW)
    }

    #[test]
    fn wrong_is_who_most_contradict() {
        let hour = 3600;
        assert_eq!(off(&[], hour), None, "alone");
        assert_eq!(off(&[0], hour), None, "of two, neither");
        assert_eq!(off(&[0, 0], hour), Some(Off::Ahead(Duration::from_secs(3600))));
        assert_eq!(off(&[0, 0], -hour), Some(Off::Behind(Duration::from_secs(3600))));
        assert_eq!(off(&[0, hour], 0), None, "the other is wrong");
        assert_eq!(off(&[0, hour, -hour, 2], 1), None);
        assert_eq!(off(&[0, 0], 5), None);
        assert_eq!(off(&[0, 0], 6), Some(Off::Ahead(Duration::from_secs(6))));
    }

    #[test]
    fn a_step_of_the_own_clock_counts_at_once_and_old_answers_do_not() {
        let clocks = others(&[0, 0, 0]);
        let later = Duration::from_secs(50);
        assert_eq!(clocks.off(EPOCH + later, NOW + later), None);
        let stepped = EPOCH + later + Duration::from_secs(60);
        assert_eq!(
            clocks.off(stepped, NOW + later),
            Some(Off::Ahead(Duration::from_secs(60)))
        );
        assert_eq!(clocks.off(stepped, NOW + LIFE), None, "too long ago");
    }

    #[test]
    fn answers_that_took_long_say_nothing() {
        let mut clocks = Clocks::default();
        for number in 1..4 {
            let heard = Heard {
                asked: NOW,
                answered: NOW + Duration::from_millis(1001),
                shows: EPOCH,
            };
            clocks.heard(node(number), heard);
        }
        assert_eq!(clocks.known(), 0);
    }

    #[test]
    fn all_are_asked_in_turns() {
        let (mut clocks, mut rng) = (Clocks::default(), StdRng::seed_from_u64(1));
        let can: Vec<NodeId> = (1..9).map(node).collect();
        let mut now = NOW;
        for _ in 0..can.len() {
            let asked = clocks.due(&can, now, &mut rng).expect("it is time");
            assert_eq!(clocks.due(&can, now, &mut rng), None, "one at a time");
            let soon = clocks.known() + 1 < FEW;
            let heard = Heard {
                asked: now,
                answered: now,
                shows: EPOCH,
            };
            clocks.heard(asked, heard);
            let next = now + AT_FIRST;
            assert_eq!(
                clocks.clone().due(&can, next, &mut rng).is_some(),
                soon,
                "soon while little is known"
            );
            now += EVERY;
        }
        assert_eq!(clocks.known(), can.len());
        assert_eq!(clocks.due(&[], now, &mut rng), None);
    }

    proptest! {
        /// Whoever lies or is wrong: fewer than half stop nobody whose clock is right.
        #[test]
        fn a_minority_stops_nobody(right in 1_usize..8, wrong in prop::collection::vec(any::<i32>(), 0..8)) {
            prop_assume!(wrong.len() <= right);
            let mut differ: Vec<i64> = wrong.into_iter().map(i64::from).collect();
            differ.extend(std::iter::repeat_n(0, right - 1));
            prop_assert_eq!(off(&differ, 0), None);
        }
    }
}
