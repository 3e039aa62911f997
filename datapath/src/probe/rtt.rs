//! Smoothed round-trip time and how long an answer is waited for (RFC 6298).

use std::time::Duration;

/// Before the first answer.
const FIRST: Duration = Duration::from_secs(1);
/// At least a round: answers are read once a round.
const LEAST: Duration = Duration::from_millis(300);
/// What the answers' table in the kernel can hold, less a round.
const MOST: Duration = Duration::from_millis(1500);

/// The estimate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
}

impl Rtt {
    /// An answer took this long (RFC 6298 section 2.2 and 2.3).
    pub(crate) fn sample(&mut self, rtt: Duration) {
        match self.smoothed {
            None => (self.smoothed, self.variation) = (Some(rtt), rtt / 2),
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }

    /// `None` before the first answer.
    pub(crate) fn smoothed(self) -> Option<Duration> {
        self.smoothed
    }

    /// A request without an answer for this long is lost, until its answer comes after all.
    pub(crate) fn timeout(self) -> Duration {
        self.smoothed
            .map_or(FIRST, |smoothed| (smoothed + 4 * self.variation).clamp(LEAST, MOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_formulas_of_rfc_6298() {
        let mut rtt = Rtt::default();
        assert_eq!((rtt.smoothed(), rtt.timeout()), (None, ms(1000)));
        rtt.sample(ms(160));
        assert_eq!((rtt.smoothed(), rtt.timeout()), (Some(ms(160)), ms(480)));
        rtt.sample(ms(80));
        // Variation 3/4 × 80 + 1/4 × 80, smoothed 7/8 × 160 + 1/8 × 80.
        assert_eq!((rtt.smoothed(), rtt.timeout()), (Some(ms(150)), ms(150 + 4 * 80)));
    }

    #[test]
    fn the_wait_has_limits() {
        for (sample, wait) in [
            (Duration::ZERO, LEAST),
            (Duration::from_micros(80), LEAST),
            (ms(4290), MOST),
        ] {
            let mut rtt = Rtt::default();
            (0..100).for_each(|_| rtt.sample(sample));
            assert_eq!(rtt.timeout(), wait);
        }
    }
}
