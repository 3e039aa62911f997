//! What went wrong with each domain, and what follows from it. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use overlay::name::DomainName;
use serde::{Deserialize, Serialize};

/// Form of the file.
pub(super) const FORMAT: u32 = 2;
/// After so many crashes a domain is held. One may be chance.
const CRASHES_MAX: u32 = 2;
/// How long what changed since is held as well, after one end: twice as long with each further one.
const HOLD: Duration = Duration::from_secs(10);
/// The longest of that.
const HOLD_MAX: Duration = Duration::from_secs(60 * 60);
/// Most characters of what is said about it.
const WORDS_MAX: usize = 300;

/// What is known of a domain since it was handled well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Entry {
    /// The state of the domain at the last end, in hexadecimal.
    pub(in super::super) root: String,
    /// How often handling it crashed: it panicked, or the process was gone (killed, out of memory or stack, or without power).
    pub(in super::super) crashes: u32,
    /// What is known of the last end.
    pub(in super::super) why: String,
    /// When it was, in milliseconds since 1970-01-01 UTC.
    pub(in super::super) at_ms: u64,
}

impl Entry {
    /// Whether it is left alone in that state.
    pub(in super::super) fn is_held(&self) -> bool {
        self.crashes >= CRASHES_MAX
    }

    /// Whether the last end was so short ago that no change counts. A clock that went back far does not hold it.
    fn is_fresh(&self, now: Duration) -> bool {
        let doubled = 1_u32.checked_shl(self.crashes).unwrap_or(u32::MAX);
        let hold = HOLD.saturating_mul(doubled).min(HOLD_MAX);
        now.abs_diff(Duration::from_millis(self.at_ms)) < hold
    }
}

/// All domains that were not handled well since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ledger {
    pub(super) format: u32,
    pub(super) entries: BTreeMap<DomainName, Entry>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            format: FORMAT,
            entries: BTreeMap::new(),
        }
    }
}

impl Ledger {
    /// Why a domain in this state is left alone, if it is. Another state is tried once, what was wrong may be gone; but ever
    /// later, for most changes mend nothing and each try may cost the process.
    pub(super) fn held(&self, domain: &DomainName, root: &str, now: Duration) -> Option<&Entry> {
        let entry = self.entries.get(domain)?;
        (entry.is_held() && (entry.root == root || entry.is_fresh(now))).then_some(entry)
    }

    /// Handling a domain in this state crashed.
    pub(super) fn crashed(&mut self, domain: &DomainName, root: String, why: String, now: Duration) {
        let entry = self.entries.entry(domain.clone()).or_insert_with(|| Entry {
            root: String::new(),
            crashes: 0,
            why: String::new(),
            at_ms: 0,
        });
        entry.crashes = entry.crashes.saturating_add(1);
        entry.root = root;
        entry.why = why.chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
        entry.at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    }
}
