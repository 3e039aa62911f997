//! What one node may write, so that no member can fill the memory and disks of the others, or keep them busy. Everything is
//! charged to who signed it, never to who relayed it, and only if it changes something. What comes too fast is not merged and
//! not passed on; it is asked for again later, so it is delayed, not lost. How much a node may have in all, and how many
//! versions of one object side by side, is the join's affair, so that all nodes keep the same (`replica/limits.rs`,
//! `siblings.rs`): here it is counted and named.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fill::everything_of;
use super::{Effect, Sync, Trouble};
use crate::id::{NodeId, Scope};
use crate::record::Intent;
use crate::replica::Change;
use crate::signed::Signed;
use crate::wire::Have;

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

/// Why some of what a node wrote is not kept.
const TOO_MANY_FACTS: &str = "it has more facts than a node may have, those in the last scopes are left out";
/// The same of objects.
const TOO_MANY_OBJECTS: &str = "it has written more objects than a node may, the first ones are left out";

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
        Change::Forgotten(..) => (0, 0),
    }
}

impl Sync {
    /// Whether an origin may add this at this pace. If not it is counted, and an operator is told.
    pub(super) fn is_within_quota(&mut self, origin: NodeId, change: &Change, way: Way, now: Duration) -> bool {
        let (records, bytes) = size(change);
        let paid = self.credits.pay(origin, way, records, bytes, now);
        if !paid {
            if way == Way::Pulled {
                self.sate(change, origin, now + SATED);
            }
            self.name_over_quota(origin, "it writes faster than others take it in", now);
        }
        paid
    }

    /// Whether the facts of a node in this scope are left out, since it has as many as it may in the scopes before.
    pub(super) fn leaves_out(&mut self, origin: NodeId, scope: &Scope, now: Duration) -> bool {
        let is_out = origin != self.me && self.replica.has_no_room_for_facts(origin, scope);
        if is_out {
            self.name_over_quota(origin, TOO_MANY_FACTS, now);
        }
        is_out
    }

    /// Whether a version is left out, since its writer has as many later ones as it may.
    pub(super) fn crowds_out(&mut self, version: &Signed<Intent>, now: Duration) -> bool {
        let writer = version.value().dot.writer;
        let is_out = writer != self.me && self.replica.is_crowded_out(version);
        if is_out {
            self.name_over_quota(writer, TOO_MANY_OBJECTS, now);
        }
        is_out
    }

    /// Lets go of what others wrote beyond what they may, and names them. This node's own is what it may write.
    pub(super) fn trim(&mut self, nodes: impl IntoIterator<Item = NodeId>, now: Duration) {
        for node in nodes.into_iter().filter(|node| *node != self.me).collect::<Vec<_>>() {
            for change in self.replica.trim(node) {
                let why = match &change {
                    Change::Intents(_) => TOO_MANY_OBJECTS,
                    Change::Facts(_) | Change::Forgotten(..) => TOO_MANY_FACTS,
                };
                self.changed.insert(change.scope().clone());
                self.effects.push(Effect::Persist(change));
                self.name_over_quota(node, why, now);
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
            Change::Facts(_) | Change::Forgotten(..) => drop(self.muted.insert(origin, until)),
            Change::Intents(change) => drop(self.sated.insert(change.scope.clone(), until)),
        }
    }

    /// Whether a scope may be pulled again.
    pub(super) fn is_hungry(&self, scope: &Scope, now: Duration) -> bool {
        self.sated.get(scope).is_none_or(|until| *until <= now)
    }

    /// What a pull of a scope claims to hold of origins whose facts are not wanted: more than there can be.
    pub(super) fn unwanted(&mut self, scope: &Scope, now: Duration) -> Vec<Have> {
        self.muted.retain(|_, until| *until > now);
        let mut origins: BTreeSet<NodeId> = self.replica.without_room_in(scope).collect();
        origins.remove(&self.me);
        origins.extend(self.muted.keys());
        origins.into_iter().map(everything_of).collect()
    }
}
