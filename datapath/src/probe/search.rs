//! The search for a path's MTU by packets of that size (RFC 8899): the declared size first, then halving between the
//! largest that came back and the smallest that did not. What is found is confirmed every 10 s, and a larger one is
//! looked for every 10 minutes. ICMP is not listened to.

use std::time::Duration;

/// A size is refuted when it is lost so many times in a row while small packets come back (`MAX_PROBES`).
const ATTEMPTS: u8 = 3;
/// Between two confirmations of what was found.
const CONFIRM: Duration = Duration::from_secs(10);
/// Between two looks for more (`PMTU_RAISE_TIMER`).
const RAISE: Duration = Duration::from_secs(600);

/// One path's search. Sizes are whole IP packets in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Search {
    /// Of the shortest packet: it comes back, or nothing is asked.
    least: u16,
    /// What both ends say.
    declared: u16,
    /// The largest that came back.
    works: u16,
    /// The smallest that did not, or one more than declared.
    fails: u16,
    lost: u8,
    /// What the last finished search found.
    found: Option<Found>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    mtu: u16,
    confirmed: Duration,
    searched: Duration,
}

impl Search {
    /// Between the shortest packet and what both ends declare.
    pub(crate) fn new(least: u16, declared: u16) -> Self {
        let declared = declared.clamp(least, u16::MAX - 1);
        Self {
            least,
            declared,
            works: least,
            fails: declared + 1,
            lost: 0,
            found: None,
        }
    }

    /// From the start, as on a path that was down.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.least, self.declared);
    }

    /// What both ends say.
    pub(crate) fn declared(&self) -> u16 {
        self.declared
    }

    /// What was found; `None` until it is.
    pub(crate) fn mtu(&self) -> Option<u16> {
        self.found.map(|found| found.mtu)
    }

    /// Which size is to be tried, if any.
    pub(crate) fn candidate(&mut self, now: Duration) -> Option<u16> {
        if self.works + 1 < self.fails {
            return Some(self.next());
        }
        let found = *self.found.get_or_insert(Found {
            mtu: self.works,
            confirmed: now,
            searched: now,
        });
        if self.works < self.declared && now.abs_diff(found.searched) >= RAISE {
            self.fails = self.declared + 1;
            return Some(self.next());
        }
        (now.abs_diff(found.confirmed) >= CONFIRM).then_some(self.works)
    }

    /// The declared size before all others.
    fn next(&self) -> u16 {
        if self.fails > self.declared {
            self.declared
        } else {
            self.works + (self.fails - self.works) / 2
        }
    }

    /// A packet of this size came back.
    pub(crate) fn works(&mut self, size: u16, now: Duration) {
        self.lost = 0;
        if size > self.works && size <= self.declared {
            self.works = size;
            self.fails = self.fails.max(size + 1);
        }
        if let Some(found) = &mut self.found
            && size >= found.mtu
        {
            found.confirmed = now;
        }
        self.finish(now);
    }

    /// A packet of this size did not come back although small ones did; `certain` if the kernel refused to send it.
    pub(crate) fn fails(&mut self, size: u16, certain: bool, now: Duration) {
        self.lost += 1;
        if self.lost < ATTEMPTS && !certain {
            return;
        }
        self.lost = 0;
        if size <= self.least {
            // It is as short as what comes back: no size is to blame.
            return;
        }
        if size <= self.works {
            // A black hole: what was found is not true any more.
            self.found = None;
            self.works = self.least;
        }
        self.fails = size.min(self.fails);
        self.finish(now);
    }

    /// Notes the result of a search that has none left to try.
    fn finish(&mut self, now: Duration) {
        if self.works + 1 < self.fails {
            return;
        }
        let confirmed = self.found.map_or(now, |found| found.confirmed);
        let unchanged = self
            .found
            .filter(|found| found.mtu == self.works && now.abs_diff(found.searched) < RAISE);
        self.found = Some(Found {
            mtu: self.works,
            confirmed,
            searched: unchanged.map_or(now, |found| found.searched),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEAST: u16 = 74;
    const ROUND: Duration = Duration::from_millis(300);

    /// A path and its clock.
    struct Path {
        search: Search,
        mtu: u16,
        now: Duration,
        asked: Vec<u16>,
    }

    impl Path {
        fn new(declared: u16, mtu: u16) -> Self {
            Self {
                search: Search::new(LEAST, declared),
                mtu,
                now: Duration::ZERO,
                asked: Vec::new(),
            }
        }

        /// Passes time; packets that fit come back.
        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                if let Some(size) = self.search.candidate(self.now) {
                    self.asked.push(size);
                    if size <= self.mtu {
                        self.search.works(size, self.now);
                    } else {
                        self.search.fails(size, false, self.now);
                    }
                }
                self.now += ROUND;
            }
        }

        fn found(&self) -> Option<u16> {
            self.search.mtu()
        }
    }

    #[test]
    fn the_declared_size_is_tried_first_and_is_enough() {
        let mut path = Path::new(1500, 9000);
        path.pass(ROUND);
        assert_eq!((path.asked.as_slice(), path.found()), (&[1500][..], Some(1500)));
        path.pass(CONFIRM - ROUND);
        assert_eq!(path.asked, [1500]);
        path.pass(2 * ROUND);
        assert_eq!(path.asked, [1500, 1500], "confirmed");
    }

    #[test]
    fn a_smaller_one_is_found_to_the_byte() {
        let mut path = Path::new(1500, 1423);
        path.pass(Duration::from_secs(15));
        assert_eq!(path.asked[..3], [1500; 3], "three times before it is refuted");
        assert_eq!(path.found(), Some(1423));
    }

    #[test]
    fn a_path_that_shrinks_is_noticed_and_one_that_grows_is_within_ten_minutes() {
        let mut path = Path::new(1500, 1500);
        path.pass(Duration::from_secs(20));
        path.mtu = 1400;
        path.pass(Duration::from_secs(25));
        assert_eq!(path.found(), Some(1400));
        path.mtu = 1500;
        path.pass(Duration::from_secs(300));
        assert_eq!(path.found(), Some(1400));
        path.pass(RAISE);
        assert_eq!(path.found(), Some(1500));
    }

    #[test]
    fn while_more_is_looked_for_what_was_found_stands() {
        let mut path = Path::new(1500, 1400);
        path.pass(Duration::from_secs(15));
        let tried = |path: &Path| path.asked.iter().filter(|size| **size == 1500).count();
        let mut tries = Vec::new();
        for _ in 0..2200 {
            path.pass(ROUND);
            assert_eq!(path.found(), Some(1400));
            tries.push(tried(&path));
        }
        assert_eq!((tries[0], tries[2199]), (3, 6), "it was looked for again, once");
    }

    #[test]
    fn what_the_kernel_refuses_is_not_tried_again() {
        let mut search = Search::new(LEAST, 9000);
        assert_eq!(search.candidate(ROUND), Some(9000));
        search.fails(9000, true, ROUND);
        assert!(search.candidate(ROUND).is_some_and(|size| size < 9000));
    }

    #[test]
    fn a_path_for_nothing_but_the_shortest() {
        let mut path = Path::new(1500, LEAST);
        path.pass(Duration::from_secs(20));
        assert_eq!(path.found(), Some(LEAST));
        path.search.fails(LEAST, true, path.now);
        assert_eq!(path.found(), Some(LEAST));
        for declared in [0, LEAST] {
            let mut path = Path::new(declared, 1500);
            path.pass(ROUND);
            assert_eq!((path.found(), path.asked.len()), (Some(LEAST), 0));
        }
    }

    proptest! {
        #[test]
        fn any_path_is_found_to_the_byte(declared: u16, mtu in LEAST..) {
            let mut path = Path::new(declared, mtu);
            path.pass(ROUND * 64);
            let expected = declared.clamp(LEAST, u16::MAX - 1).min(mtu);
            prop_assert_eq!(path.found(), Some(expected));
        }

        #[test]
        fn any_story_keeps_the_bounds(
            declared: u16,
            story in prop::collection::vec((any::<u16>(), any::<bool>(), any::<bool>(), 0..2_000_000_u64), 0..100),
        ) {
            let mut search = Search::new(LEAST, declared);
            for (size, works, certain, at) in story {
                let now = Duration::from_millis(at);
                if works { search.works(size, now) } else { search.fails(size, certain, now) }
                let bounds = search.least..=search.declared;
                prop_assert!(search.works < search.fails);
                prop_assert!(search.candidate(now).is_none_or(|size| bounds.contains(&size)));
                prop_assert!(search.mtu().is_none_or(|mtu| bounds.contains(&mtu)));
            }
        }
    }
}
