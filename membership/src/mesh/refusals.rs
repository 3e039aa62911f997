//! Who was refused: counted always, logged rarely, and remembered for a while so that an operator sees it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::counter::{Counter, Counters};

/// Least time between two log lines of one reason.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// How long a refusal is shown.
const SHOWN: Duration = Duration::from_secs(600);

#[derive(Debug)]
struct Last {
    at: Instant,
    logged: Instant,
    unlogged: u64,
    words: String,
}

/// The refusals of one endpoint.
#[derive(Debug)]
pub(crate) struct Refusals {
    counters: Arc<Counters>,
    last: Mutex<BTreeMap<&'static str, Last>>,
}

impl Refusals {
    /// None yet.
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self {
            counters,
            last: Mutex::default(),
        }
    }

    /// Notes one.
    pub(crate) fn note(&self, reason: Counter, from: SocketAddr, words: &str, now: Instant) {
        self.counters.add(reason);
        if let Some(unlogged) = self.remember(reason, from, words, now) {
            tracing::warn!(reason = reason.name(), %from, unlogged, "connection refused: {words}");
        }
    }

    /// Keeps it and says how many went unlogged before, if it is to be logged.
    fn remember(&self, reason: Counter, from: SocketAddr, words: &str, now: Instant) -> Option<u64> {
        let mut all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let words = format!("{from}: {words}");
        let Some(last) = all.get_mut(reason.name()) else {
            all.insert(
                reason.name(),
                Last {
                    at: now,
                    logged: now,
                    unlogged: 0,
                    words,
                },
            );
            return Some(0);
        };
        (last.at, last.words) = (now, words);
        if now.duration_since(last.logged) < LOG_EVERY {
            last.unlogged += 1;
            return None;
        }
        last.logged = now;
        Some(std::mem::take(&mut last.unlogged))
    }

    /// The last refusal of each reason that is still worth showing.
    pub(crate) fn recent(&self, now: Instant) -> Vec<(&'static str, String)> {
        let all = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = all.iter().filter(|(_, last)| now.duration_since(last.at) < SHOWN);
        fresh.map(|(reason, last)| (*reason, last.words.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some point in time to count from")]
    fn logs_rarely_counts_always_and_forgets() {
        let (start, from) = (Instant::now(), SocketAddr::from(([192, 0, 2, 1], 1)));
        let counters = Arc::new(Counters::default());
        let refusals = Refusals::new(counters.clone());
        let reason = Counter::RefusedNoCertificate;
        assert_eq!(refusals.remember(reason, from, "first", start), Some(0));
        for _ in 0..3 {
            assert_eq!(
                refusals.remember(reason, from, "next", start + Duration::from_secs(1)),
                None
            );
        }
        assert_eq!(refusals.remember(reason, from, "last", start + LOG_EVERY), Some(3));
        refusals.note(reason, from, "last", start + LOG_EVERY);
        assert_eq!(counters.value(reason), 1);
        assert_eq!(
            refusals.recent(start + SHOWN),
            [(reason.name(), "192.0.2.1:1: last".to_owned())]
        );
        assert_eq!(refusals.recent(start + SHOWN + LOG_EVERY), []);
    }
}
