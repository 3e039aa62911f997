//! When a node renews its leaf certificate: in good time before it ends, soon after another root issues, and at once
//! when others take its certificate no more, or it theirs. No I/O, no clock: the shell asks each tick, tries, and tells
//! how it went. Times are since 1970-01-01 UTC, as those in certificates are.
//!
//! ```text
//!  issued                              due, with jitter   alarm        end
//!    ├──────────────────────────────────────┬───────────────┬────────────┤
//!                                      a third is left   a quarter
//! ```

use std::time::Duration;

use rand::Rng;

/// A leaf is renewed when this part of its life is left.
const LEFT_AT_RENEWAL: u32 = 3;
/// Somebody should look when this part of its life is left, and still nobody renewed it.
const LEFT_AT_ALARM: u32 = 4;
/// Up to this part of its life earlier, so that nodes that joined together do not come together.
const JITTER: u32 = 30;
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(10 * 60);
/// A leaf that lives shortly is tried for more often: so many times in its life at least.
const TRIES_IN_LIFE: u32 = 20;
/// A node is cut off if so many certificates were refused, on either side, since it last had an anchor to talk to.
const REFUSALS: u64 = 3;

/// A leaf, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// How long it was to live when it was issued.
    pub life: Duration,
    /// Its end.
    pub not_after: Duration,
    /// Whether the root signed it that issues at the moment.
    pub of_issuing_root: bool,
}

impl Held {
    /// What is left of its life; zero behind its end.
    #[must_use]
    pub fn left(&self, now: Duration) -> Duration {
        self.not_after.saturating_sub(now)
    }

    /// Whether it should have been renewed by now.
    #[must_use]
    pub fn is_expiring(&self, now: Duration) -> bool {
        self.left(now) < self.life / LEFT_AT_ALARM
    }

    /// Whether it is good for nothing but to be renewed.
    #[must_use]
    pub fn is_over(&self, now: Duration) -> bool {
        self.left(now) == Duration::ZERO
    }
}

/// Why a leaf is to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A third of its life is left, or less.
    Age,
    /// Another root issues.
    Root,
    /// This node and the anchors do not take each other's certificates.
    CutOff,
}

/// What a node sees of the anchors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Whether it is connected to one, or needs none.
    pub connected: bool,
    /// Certificates that were refused so far, by it or by others.
    pub refusals: u64,
}

/// When the next try is.
#[derive(Debug, Default)]
pub struct Renewal {
    /// For which leaf, and when its time comes.
    plan: Option<(Held, Duration)>,
    failures: u32,
    next: Duration,
    /// Refusals when an anchor was last connected.
    before: u64,
    /// Renewals because of being cut off, since then.
    knocks: u32,
}

impl Renewal {
    /// Whether to try at this moment. After a change of the root all nodes come within `spread`.
    pub fn due(
        &mut self,
        held: Held,
        sight: Sight,
        spread: Duration,
        now: Duration,
        rng: &mut impl Rng,
    ) -> Option<Why> {
        if sight.connected {
            (self.before, self.knocks) = (sight.refusals, 0);
        }
        let at = self.planned(held, spread, now, rng);
        // What is further off than any pause was set by a clock that went back since.
        if now < self.next && self.next <= now.saturating_add(BACKOFF_MAX) {
            return None;
        }
        if sight.refusals >= self.before.saturating_add(REFUSALS) {
            return Some(Why::CutOff);
        }
        let why = if held.of_issuing_root { Why::Age } else { Why::Root };
        (now >= at).then_some(why)
    }

    fn planned(&mut self, held: Held, spread: Duration, now: Duration, rng: &mut impl Rng) -> Duration {
        if let Some((of, at)) = self.plan
            && of == held
        {
            return at;
        }
        let early = (held.life / JITTER).mul_f64(rng.random());
        let by_age = held.not_after.saturating_sub(held.life / LEFT_AT_RENEWAL + early);
        let at = if held.of_issuing_root {
            by_age
        } else {
            by_age.min(now.saturating_add(spread.mul_f64(rng.random())))
        };
        self.plan = Some((held, at));
        at
    }

    /// There is another leaf.
    pub fn renewed(&mut self, why: Why, now: Duration, rng: &mut impl Rng) {
        self.failures = 0;
        self.next = now;
        if why == Why::CutOff {
            // It may not have helped.
            self.next = now.saturating_add(pause(self.knocks, BACKOFF_MAX, rng));
            self.knocks = self.knocks.saturating_add(1);
        }
    }

    /// Nobody renewed it.
    pub fn failed(&mut self, held: Held, now: Duration, rng: &mut impl Rng) {
        let most = (held.life / TRIES_IN_LIFE).clamp(BACKOFF_MIN, BACKOFF_MAX);
        self.next = now.saturating_add(pause(self.failures, most, rng));
        self.failures = self.failures.saturating_add(1);
    }
}

/// Doubles from a second on; between half of it and all.
fn pause(failures: u32, most: Duration, rng: &mut impl Rng) -> Duration {
    let doubled = BACKOFF_MIN.saturating_mul(1 << failures.min(16)).min(most);
    doubled.mul_f64(0.5 + rng.random::<f64>() / 2.0)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const LIFE: Duration = Duration::from_secs(90 * 86_400);
    const ISSUED: Duration = Duration::from_secs(1_800_000_000);
    const CALM: Sight = Sight {
        connected: true,
        refusals: 0,
    };
    const SPREAD: Duration = Duration::from_secs(30);

    fn held(issued: Duration) -> Held {
        Held {
            life: LIFE,
            not_after: issued + LIFE,
            of_issuing_root: true,
        }
    }

    /// The first moment, of those `step` apart, at which it is due.
    fn first(renewal: &mut Renewal, held: Held, from: Duration, step: Duration, rng: &mut StdRng) -> (Duration, Why) {
        let mut now = from;
        loop {
            if let Some(why) = renewal.due(held, CALM, SPREAD, now, rng) {
                return (now, why);
            }
            assert!(now < from + 2 * LIFE, "it never comes");
            now += step;
        }
    }

    #[test]
    fn a_leaf_is_renewed_when_a_third_is_left_and_not_all_at_once() {
        let mut times = Vec::new();
        for seed in 0..1_000 {
            let rng = &mut StdRng::seed_from_u64(seed);
            let (at, why) = first(&mut Renewal::default(), held(ISSUED), ISSUED, DAY / 8, rng);
            assert_eq!(why, Why::Age);
            assert!(
                (ISSUED + 57 * DAY..=ISSUED + 60 * DAY + DAY / 8).contains(&at),
                "{seed}"
            );
            times.push(at);
        }
        times.sort_unstable();
        times.dedup();
        assert!(times.len() > 10, "they come on different days: {}", times.len());
    }

    #[test]
    fn a_year_of_renewals_is_one_every_two_months() {
        let rng = &mut StdRng::seed_from_u64(7);
        let (mut renewal, mut leaf, mut now, mut count) = (Renewal::default(), held(ISSUED), ISSUED, 0);
        while now < ISSUED + 365 * DAY {
            if let Some(why) = renewal.due(leaf, CALM, SPREAD, now, rng) {
                assert!(!leaf.is_expiring(now) && !leaf.is_over(now));
                leaf = held(now);
                renewal.renewed(why, now, rng);
                count += 1;
            }
            now += DAY / 24;
        }
        assert_eq!(count, 6);
    }

    #[test]
    fn failures_back_off_up_to_ten_minutes_and_never_end() {
        let rng = &mut StdRng::seed_from_u64(1);
        let (mut renewal, leaf) = (Renewal::default(), held(ISSUED));
        let (mut now, mut tries) = (ISSUED + 60 * DAY, Vec::new());
        while now < ISSUED + 61 * DAY {
            if renewal.due(leaf, CALM, SPREAD, now, rng).is_some() {
                tries.push(now);
                renewal.failed(leaf, now, rng);
            }
            now += Duration::from_millis(500);
        }
        let pauses: Vec<Duration> = tries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(pauses[0] <= Duration::from_millis(1_500), "{:?}", pauses[0]);
        let longest = pauses.iter().max().copied();
        assert!(longest <= Some(BACKOFF_MAX + DAY / 86_400), "{longest:?}");
        assert!(tries.len() < 24 * 12 + 20, "{}", tries.len());
        // Behind its end it goes on.
        now = leaf.not_after + DAY;
        assert!(leaf.is_over(now));
        assert_eq!(renewal.due(leaf, CALM, SPREAD, now, rng), Some(Why::Age));
    }

    #[test]
    fn another_root_is_followed_within_the_spread() {
        for seed in 0..200 {
            let rng = &mut StdRng::seed_from_u64(seed);
            let (mut renewal, leaf) = (Renewal::default(), held(ISSUED));
            assert_eq!(renewal.due(leaf, CALM, SPREAD, ISSUED, rng), None);
            let old = Held {
                of_issuing_root: false,
                ..leaf
            };
            let (at, why) = first(&mut renewal, old, ISSUED + DAY, Duration::from_millis(100), rng);
            assert_eq!(why, Why::Root);
            assert!(at <= ISSUED + DAY + SPREAD + Duration::from_millis(100), "{seed}");
        }
    }

    #[test]
    fn who_is_cut_off_knocks_ever_less_often_until_it_is_let_in() {
        let rng = &mut StdRng::seed_from_u64(3);
        let (mut renewal, leaf) = (Renewal::default(), held(ISSUED));
        let sight = |connected, refusals| Sight { connected, refusals };
        // Strangers that are refused while anchors are there say nothing.
        assert_eq!(renewal.due(leaf, sight(true, 50), SPREAD, ISSUED, rng), None);
        assert_eq!(renewal.due(leaf, sight(false, 52), SPREAD, ISSUED, rng), None);
        let (mut now, mut knocks) = (ISSUED, 0);
        while now < ISSUED + Duration::from_secs(3_600) {
            if renewal.due(leaf, sight(false, 60), SPREAD, now, rng) == Some(Why::CutOff) {
                knocks += 1;
                renewal.renewed(Why::CutOff, now, rng);
            }
            now += Duration::from_millis(500);
        }
        assert!((8..30).contains(&knocks), "{knocks}");
        assert_eq!(renewal.due(leaf, sight(true, 60), SPREAD, now, rng), None);
        assert_eq!(
            renewal.due(leaf, sight(false, 63), SPREAD, now + DAY, rng),
            Some(Why::CutOff)
        );
    }

    #[test]
    fn a_clock_that_is_set_back_delays_no_more_than_a_pause() {
        let rng = &mut StdRng::seed_from_u64(4);
        let (mut renewal, leaf) = (Renewal::default(), held(ISSUED));
        let ahead = ISSUED + 80 * DAY;
        assert!(renewal.due(leaf, CALM, SPREAD, ahead, rng).is_some());
        renewal.failed(leaf, ahead, rng);
        assert!(renewal.due(leaf, CALM, SPREAD, ahead - 10 * DAY, rng).is_some());
    }

    #[test]
    fn the_alarm_comes_after_the_renewal_was_due() {
        let leaf = held(ISSUED);
        assert!(!leaf.is_expiring(ISSUED + 67 * DAY));
        assert!(leaf.is_expiring(ISSUED + 68 * DAY) && !leaf.is_over(ISSUED + 89 * DAY));
        assert!(leaf.is_over(ISSUED + 90 * DAY));
        assert_eq!(leaf.left(ISSUED + 95 * DAY), Duration::ZERO);
    }
}
