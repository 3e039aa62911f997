//! What one node may write, so that no member can fill the memory and disks of the others, or keep them busy. Everything is
//! charged to who signed it, never to who relayed it, and only if it changes something. What is over a limit is not merged
//! and not passed on; it is asked for again later, so what is only too fast is delayed, not lost. How many versions of one
//! object a writer may have side by side is the join's affair, so that all nodes keep the same ones (`siblings.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fill::everything_of;
use super::{Effect, Sync, Trouble};
use crate::id::{NodeId, Scope};
use crate::replica::Change;
use crate::wire::Have;

/// Most facts of one host in all scopes, withdrawn ones that are kept included. One scope is bounded by
/// `author::SET_BYTES_MAX`.
pub const FACTS_MAX: usize = 400_000;
/// Their bytes as signed.
pub const FACT_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most versions of objects of one writer in all scopes.
pub const VERSIONS_MAX: usize = 1_000_000;
/// Their bytes as signed.
pub const VERSION_BYTES_MAX: usize = 384 * 1024 * 1024;

/// Records per second that one origin may push.
pub const PUSHES_PER_SECOND: u32 = 10_000;
/// Bytes per second that one origin may push.
pub const PUSHED_BYTES_PER_SECOND: u32 = 8 * 1024 * 1024;
/// Seconds of pushes that may come at once.
const PUSH_BURST: u32 = 10;
/// Records of one origin per second that are pulled.
pub const PULLS_PER_SECOND: u32 = 20_000;
/// Bytes of one origin per second that are pulled.
pub const PULLED_BYTES_PER_SECOND: u32 = 16 * 1024 * 1024;
/// Seconds of pulls that may come at once: all that one writer may have, for a peer that starts with nothing.
const PULL_BURST: u32 = 60;

/// After something pulled was refused: how long its scope is not pulled, and its origin's facts are not asked for.
const SATED: Duration = Duration::from_secs(10);

/// How records came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Pushed,
    Pulled,
}

/// What one origin may still send: full at first, refilled with time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    records: f64,
    bytes: f64,
    at: Duration,
}

impl Bucket {
    fn full(way: Way, now: Duration) -> Self {
        let (records, bytes, burst) = way.rates();
        Self {
            records: records * burst,
            bytes: bytes * burst,
            at: now,
        }
    }

    /// Pays, if there is enough.
    fn pay(&mut self, way: Way, records: usize, size: usize, now: Duration) -> bool {
        let (rate, bytes, burst) = way.rates();
        let since = now.saturating_sub(self.at).as_secs_f64();
        self.at = now;
        self.records = (self.records + rate * since).min(rate * burst);
        self.bytes = (self.bytes + bytes * since).min(bytes * burst);
        let (records, size) = (as_f64(records), as_f64(size));
        let enough = self.records >= records && self.bytes >= size;
        if enough {
            self.records -= records;
            self.bytes -= size;
        }
        enough
    }
}

/// Counts stay far below what a `u32` holds: a frame has at most a million bytes, an answer a few.
fn as_f64(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

impl Way {
    /// Records and bytes per second, and how many seconds of them at once.
    fn rates(self) -> (f64, f64, f64) {
        let (records, bytes, burst) = match self {
            Self::Pushed => (PUSHES_PER_SECOND, PUSHED_BYTES_PER_SECOND, PUSH_BURST),
            Self::Pulled => (PULLS_PER_SECOND, PULLED_BYTES_PER_SECOND, PULL_BURST),
        };
        (f64::from(records), f64::from(bytes), f64::from(burst))
    }
}

/// The credit of all origins.
#[derive(Debug, Default)]
pub(super) struct Credits(BTreeMap<(NodeId, bool), Bucket>);

impl Credits {
    fn pay(&mut self, origin: NodeId, way: Way, records: usize, bytes: usize, now: Duration) -> bool {
        let bucket = self.0.entry((origin, way == Way::Pulled));
        bucket
            .or_insert_with(|| Bucket::full(way, now))
            .pay(way, records, bytes, now)
    }
}

/// The records and bytes that a change adds.
fn size(change: &Change) -> (usize, usize) {
    match change {
        Change::Facts(change) => (change.put.len(), change.put.iter().map(|fact| fact.raw().len()).sum()),
        Change::Intents(change) => (
            change.put.len(),
            change.put.iter().map(|version| version.raw().len()).sum(),
        ),
    }
}

impl Sync {
    /// Whether an origin may add this. If not it is counted, and an operator is told.
    pub(super) fn is_within_quota(&mut self, origin: NodeId, change: &Change, way: Way, now: Duration) -> bool {
        let (records, bytes) = size(change);
        let over = self.over(origin, change, records, bytes);
        let over = over.or_else(|| {
            let paid = self.credits.pay(origin, way, records, bytes, now);
            (!paid).then_some("it writes faster than others take it in")
        });
        match over {
            None => true,
            Some(why) => {
                if way == Way::Pulled {
                    self.sate(change, origin, now + SATED);
                }
                self.name_over_quota(origin, why, now);
                false
            }
        }
    }

    /// Some versions of these writers are not kept, the same ones on every node: nothing has to be asked for later.
    pub(super) fn name_crowded(&mut self, writers: BTreeSet<NodeId>, now: Duration) {
        for writer in writers {
            let why = "it has written too many versions of one object side by side";
            self.name_over_quota(writer, why, now);
        }
    }

    fn name_over_quota(&mut self, origin: NodeId, why: &'static str, now: Duration) {
        self.effects.push(Effect::Count("batches_over_quota", 1));
        self.effects.push(Effect::Alarm(Trouble::OverQuota { origin, why }));
        self.tell_not_taken(origin, why, now);
    }

    fn sate(&mut self, change: &Change, origin: NodeId, until: Duration) {
        match change {
            Change::Facts(_) => drop(self.muted.insert(origin, until)),
            Change::Intents(change) => drop(self.sated.insert(change.scope.clone(), until)),
        }
    }

    /// Whether a scope may be pulled again.
    pub(super) fn is_hungry(&self, scope: &Scope, now: Duration) -> bool {
        self.sated.get(scope).is_none_or(|until| *until <= now)
    }

    /// What a pull claims to hold of origins whose facts are not wanted: more than there can be.
    pub(super) fn unwanted(&mut self, now: Duration) -> Vec<Have> {
        self.muted.retain(|_, until| *until > now);
        self.muted.keys().copied().map(everything_of).collect()
    }

    fn over(&self, origin: NodeId, change: &Change, records: usize, bytes: usize) -> Option<&'static str> {
        let usage = self.replica.usage(origin);
        match change {
            Change::Facts(_) if usage.facts + records > FACTS_MAX => Some("it has too many facts"),
            Change::Facts(_) if usage.fact_bytes + bytes > FACT_BYTES_MAX => Some("its facts are too large"),
            Change::Facts(_) => None,
            // Who deletes makes room.
            Change::Intents(change) if change.put.iter().all(|version| version.value().body.is_none()) => None,
            Change::Intents(_) if usage.versions + records > VERSIONS_MAX => Some("it has written too many objects"),
            Change::Intents(_) if usage.version_bytes + bytes > VERSION_BYTES_MAX => Some("its objects are too large"),
            Change::Intents(_) => None,
        }
    }
}
