//! The one place of this crate that reads the clock of the calendar, by which certificates live.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970-01-01 UTC; zero for a clock set before that.
#[expect(
    clippy::disallowed_methods,
    reason = "shells ask the clock here and pass the answer on"
)]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
