//! Who was refused by the API over TLS: counted always, logged rarely, since anybody can cause it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Least time between two log lines of one reason.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Why a connection is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// No TLS, no certificate, or one that no root of the cluster signed or that has expired.
    Handshake,
    /// The handshake took too long.
    Slow,
    /// The certificate is of the cluster, but not of a user: a node's.
    NotUser,
    /// More at once than are served.
    Busy,
}

impl Reason {
    const ALL: [Self; 4] = [Self::Handshake, Self::Slow, Self::NotUser, Self::Busy];

    /// The counter's stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "api_refused_handshake",
            Self::Slow => "api_refused_slow",
            Self::NotUser => "api_refused_not_user",
            Self::Busy => "api_refused_busy",
        }
    }
}

#[derive(Debug, Default)]
struct Count {
    all: u64,
    logged: u64,
    log_after: Option<Instant>,
}

/// The refusals of one listener.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<Reason, Count>>);

impl Refusals {
    /// Notes one.
    pub(super) fn note(&self, reason: Reason, from: SocketAddr, why: &str) {
        if let Some(unlogged) = self.count(reason, Instant::now()) {
            tracing::warn!(reason = reason.name(), %from, unlogged, "refused by the API: {why}");
        }
    }

    /// Counts it; if it is to be logged, says how many went unlogged before.
    fn count(&self, reason: Reason, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(reason).or_default();
        count.all += 1;
        if count.log_after.is_some_and(|after| now < after) {
            return None;
        }
        let unlogged = count.all - count.logged - 1;
        (count.logged, count.log_after) = (count.all, Some(now + LOG_EVERY));
        Some(unlogged)
    }

    /// Every counter with its name.
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = |reason: Reason| (reason.name(), all.get(&reason).map_or(0, |count| count.all));
        Reason::ALL.into_iter().map(value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_are_counted_and_few_are_logged() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let logged: Vec<_> = [0, 1, 2, 10, 11, 20]
            .map(|second| refusals.count(Reason::NotUser, now + Duration::from_secs(second)))
            .to_vec();
        assert_eq!(logged, [Some(0), None, None, Some(2), None, Some(1)]);
        assert!(refusals.counters().contains(&("api_refused_not_user", 6)));
        assert!(refusals.counters().contains(&("api_refused_busy", 0)));
    }
}
