//! The one place of this crate that reads a clock. Cores never call it: their shells hand the result in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970-01-01 UTC; zero for a clock set before that.
#[expect(
    clippy::disallowed_methods,
    reason = "shells ask the clock here and pass the answer on"
)]
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A point in time that never goes back, for waiting and for measuring. It follows the paused clock of tests.
pub(crate) fn monotonic() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// The time since the machine was started, suspended or not.
pub(crate) fn since_boot() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    time.map_or(Duration::ZERO, Duration::from)
}
