//! The tombstones of a scope: which there are, what it takes to collect them, and what may not come back.

use std::collections::BTreeMap;

use super::{IntentChange, Replica};
use crate::id::{NodeId, Scope};
use crate::record::{Digest, Dot, Intent, VersionVector};
use crate::signed::Signed;

/// What the tombstones of a scope need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Their dots and contexts, of those beside which nothing is alive.
    pub wanted: VersionVector,
    /// Per writer the first tombstone beside a version that is alive: an open conflict.
    pub open: BTreeMap<NodeId, u64>,
    /// How many tombstones there are.
    pub count: usize,
    /// Their bytes as signed.
    pub bytes: usize,
}

impl Survey {
    /// Whether a conflict of one of this writer's tombstones up to a counter is open.
    #[must_use]
    pub fn is_open(&self, writer: NodeId, upto: u64) -> bool {
        self.open.get(&writer).is_some_and(|first| *first <= upto)
    }

    /// As much of this writer up to a counter as is below its first open conflict.
    #[must_use]
    pub fn settled(&self, writer: NodeId, upto: u64) -> u64 {
        let first = self.open.get(&writer).copied().unwrap_or(u64::MAX);
        upto.min(first.saturating_sub(1))
    }
}

/// Whether all members have seen a tombstone and all that it deletes.
fn is_covered(version: &Intent, floor: &VersionVector) -> bool {
    version.body.is_none() && floor.contains(version.dot) && floor.covers(&version.context)
}

impl Replica {
    /// How many tombstones a scope holds.
    #[must_use]
    pub fn tombstones(&self, scope: &Scope) -> usize {
        self.scopes.get(scope).map_or(0, |state| state.tombstones)
    }

    /// What the tombstones of a scope need to be collected.
    #[must_use]
    pub fn survey(&self, scope: &Scope) -> Survey {
        let mut survey = Survey::default();
        if self.tombstones(scope) == 0 {
            return survey;
        }
        for (_, siblings) in self.intents(scope) {
            let alive = siblings.all().any(|version| version.body.is_some());
            for version in siblings.versions().filter(|version| version.value().body.is_none()) {
                let Intent { dot, context, .. } = version.value();
                survey.count += 1;
                survey.bytes += version.raw().len();
                if alive {
                    let first = survey.open.entry(dot.writer).or_insert(dot.counter);
                    *first = (*first).min(dot.counter);
                } else {
                    survey.wanted.insert(*dot);
                    survey.wanted.join(context);
                }
            }
        }
        survey
    }

    /// Per writer and counter the sum of its versions up to there, tombstones that a floor covers left out.
    pub(crate) fn sums_of<'a>(
        &self,
        scope: &Scope,
        asked: impl Iterator<Item = ((NodeId, u64), &'a VersionVector)>,
    ) -> BTreeMap<(NodeId, u64), Digest> {
        let asked: BTreeMap<_, _> = asked.collect();
        let mut sums = BTreeMap::new();
        if asked.is_empty() {
            return sums;
        }
        for version in self.intents(scope).flat_map(|(_, siblings)| siblings.versions()) {
            let Dot { writer, counter } = version.value().dot;
            for (&at, floor) in asked.range((writer, counter)..=(writer, u64::MAX)) {
                if !is_covered(version.value(), floor) {
                    let sum: &mut Digest = sums.entry(at).or_default();
                    *sum = sum.plus(version.digest());
                }
            }
        }
        sums
    }

    /// What all members have seen of the objects of a scope.
    #[must_use]
    pub fn floor(&self, scope: &Scope) -> Option<&VersionVector> {
        self.scopes.get(scope).map(|state| &state.floor)
    }

    /// What is below the floor and not held is dead from here on.
    pub(crate) fn set_floor(&mut self, scope: &Scope, floor: VersionVector) {
        if let Some(state) = self.scopes.get_mut(scope) {
            state.seen.join(&floor);
            state.floor = floor;
        }
    }

    /// Takes note that nothing before these writes is lacking.
    pub(crate) fn note_seen(&mut self, scope: &Scope, seen: &VersionVector) {
        if let Some(state) = self.scopes.get_mut(scope) {
            state.seen.join(seen);
        }
    }

    /// Whether a version that is not held was superseded, and what superseded it was collected.
    pub(crate) fn is_dead(&self, scope: &Scope, version: &Intent) -> bool {
        self.floor(scope).is_some_and(|floor| floor.contains(version.dot))
    }

    /// The tombstones that the floor covers, as what takes them away.
    pub(crate) fn collectable(&self, scope: &Scope) -> Option<IntentChange> {
        if self.tombstones(scope) == 0 {
            return None;
        }
        let floor = self.floor(scope)?;
        self.without(scope, |version| is_covered(version.value(), floor))
    }

    /// What takes these versions away.
    pub(crate) fn without(&self, scope: &Scope, goes: impl Fn(&Signed<Intent>) -> bool) -> Option<IntentChange> {
        let versions = self
            .intents(scope)
            .flat_map(|(key, siblings)| siblings.versions().map(move |version| (key, version)));
        let removed: Vec<_> = versions
            .filter(|(_, version)| goes(version))
            .map(|(key, version)| (key.clone(), version.digest()))
            .collect();
        let change = IntentChange {
            scope: scope.clone(),
            put: Vec::new(),
            removed,
        };
        (!change.removed.is_empty()).then_some(change)
    }
}
