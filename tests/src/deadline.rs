//! Waiting for a condition. Owns the only clock of the tests; nothing waits without an end.

use std::fmt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Within which everything has to hold.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks until the answer is `Ok`; after [`DEADLINE`] the last refusal is the error.
pub fn eventually<T>(what: impl fmt::Display, ask: impl FnMut() -> Result<T>) -> Result<T> {
    within(DEADLINE, what, ask)
}

/// [`eventually`] with a limit of one's own.
pub fn within<T>(limit: Duration, what: impl fmt::Display, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let began = clock();
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if began.elapsed() >= limit => bail!("{what}: not within {limit:?}: {error:#}"),
            Err(_) => sleep(Duration::from_millis(100)),
        }
    }
}

/// Does a thing again and again until the time is over; how often it was done.
pub fn repeatedly(time: Duration, mut f: impl FnMut() -> Result<()>) -> Result<usize> {
    let began = clock();
    let mut done = 0;
    while began.elapsed() < time {
        f()?;
        done += 1;
    }
    Ok(done)
}

#[expect(clippy::disallowed_methods, reason = "tests wait in real time")]
fn clock() -> Instant {
    Instant::now()
}
