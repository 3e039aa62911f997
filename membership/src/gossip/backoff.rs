//! How long the gossip task stays down after it ended: twice as long each time, until it ran well for a while.

use std::time::Duration;

const MIN: Duration = Duration::from_secs(1);
const MAX: Duration = Duration::from_secs(60);

/// The pauses of one task.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(MIN)
    }
}

impl Backoff {
    /// The pause after it ran for `ran`.
    pub(crate) fn after(&mut self, ran: Duration) -> Duration {
        if ran > MAX {
            self.0 = MIN;
        }
        let pause = self.0;
        self.0 = (self.0 * 2).min(MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_start_anew_after_a_good_while() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = (0..8).map(|_| backoff.after(Duration::ZERO).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff.after(MAX), MAX, "as long as it lasts no longer than its pauses");
        assert_eq!(backoff.after(MAX + MIN), MIN);
        assert_eq!(backoff.after(MIN), 2 * MIN);
    }
}
