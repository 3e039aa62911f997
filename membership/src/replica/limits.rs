//! The most that one node may have written of what is held, and what of it is kept when it wrote more. Part of the join: it
//! depends on what was written and not on what came first, so all nodes keep the same (`ALGORITHM.md`, Quotas).
//!
//! Of versions the latest are kept, by counter and digest: each as long as those after it do not fill the limit already. Of
//! facts the sets of the first scopes, in the order of their names: each as long as those before it do not. So what is kept
//! may be larger than the limit by one record, or by one set, and by no more.

use std::collections::BTreeMap;

use super::{Change, IntentChange, Replica, Usage};
use crate::id::{NodeId, Scope};
use crate::record::{Digest, Intent, Key};
use crate::signed::Signed;

/// Most facts of one host in all scopes, withdrawn ones that are kept included. One scope is bounded by
/// `author::SET_BYTES_MAX`.
pub const FACTS_MAX: usize = 400_000;
/// Their bytes as signed.
pub const FACT_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Most versions of objects of one writer in all scopes.
pub const VERSIONS_MAX: usize = 1_000_000;
/// Their bytes as signed.
pub const VERSION_BYTES_MAX: usize = 384 * 1024 * 1024;

/// Of what a node may write a sixteenth is left for deleting objects of others.
const LEFT_FOR_DELETES: usize = 16;

/// The most that one node may have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) facts: usize,
    pub(crate) fact_bytes: usize,
    pub(crate) versions: usize,
    pub(crate) version_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            facts: FACTS_MAX,
            fact_bytes: FACT_BYTES_MAX,
            versions: VERSIONS_MAX,
            version_bytes: VERSION_BYTES_MAX,
        }
    }
}

impl Limits {
    fn facts_fill(&self, usage: Usage) -> bool {
        usage.facts >= self.facts || usage.fact_bytes >= self.fact_bytes
    }

    fn versions_fill(&self, usage: Usage) -> bool {
        usage.versions >= self.versions || usage.version_bytes >= self.version_bytes
    }
}

/// A version as it stands among those of its writer: what it takes away when it goes.
pub(super) type Queue = BTreeMap<(u64, Digest), (Scope, Key, usize)>;

impl Replica {
    /// As one that allows this much.
    #[cfg(test)]
    pub(crate) fn allowing(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Whether a node may write so much more that is no delete. Others would take it in place of what it wrote first.
    pub(crate) fn may_add(&self, node: NodeId, versions: usize, bytes: usize) -> bool {
        let usage = self.usage(node);
        let share = |limit: usize| limit - limit / LEFT_FOR_DELETES;
        usage.versions.saturating_add(versions) <= share(self.limits.versions)
            && usage.version_bytes.saturating_add(bytes) <= share(self.limits.version_bytes)
    }

    /// Whether a node may have so many facts in place of those that it has in a scope.
    pub(crate) fn may_say(&self, node: NodeId, scope: &Scope, facts: usize, bytes: usize) -> bool {
        let usage = self.usage(node);
        let held = self.origin(scope, node);
        let (before, before_bytes) = held.map_or((0, 0), |held| (held.current.len(), held.bytes()));
        usage.facts.saturating_sub(before).saturating_add(facts) <= self.limits.facts
            && usage.fact_bytes.saturating_sub(before_bytes).saturating_add(bytes) <= self.limits.fact_bytes
    }

    /// Whether a version that is not held is not to be: its writer has as many later ones as it may.
    pub(crate) fn is_crowded_out(&self, version: &Signed<Intent>) -> bool {
        let dot = version.value().dot;
        let first = self.usages.queue(dot.writer).and_then(Queue::first_key_value);
        self.limits.versions_fill(self.usage(dot.writer))
            && first.is_some_and(|(first, _)| (dot.counter, version.digest()) < *first)
    }

    /// Whether the facts of a node in a scope are not to be held: those in the scopes before are as many as it may have.
    pub(crate) fn has_no_room_for_facts(&self, node: NodeId, scope: &Scope) -> bool {
        self.limits.facts_fill(self.usage(node)) && self.limits.facts_fill(self.facts_before(node, scope))
    }

    /// All nodes of which that is so in this scope.
    pub(crate) fn without_room_in(&self, scope: &Scope) -> impl Iterator<Item = NodeId> {
        let nodes = self.usages.nodes();
        nodes.filter(move |node| self.has_no_room_for_facts(*node, scope))
    }

    /// Lets go of what a node wrote beyond what it may. Says what went, in the words of the store.
    pub(crate) fn trim(&mut self, node: NodeId) -> Vec<Change> {
        let mut gone = self.versions_beyond(node);
        gone.extend(self.facts_beyond(node));
        gone.iter().for_each(|change| self.apply(change));
        gone
    }

    /// All that wrote anything.
    pub(crate) fn writers(&self) -> Vec<NodeId> {
        self.usages.nodes().collect()
    }

    fn versions_beyond(&mut self, writer: NodeId) -> Vec<Change> {
        let mut usage = self.usage(writer);
        let mut gone: BTreeMap<Scope, Vec<(Key, Digest)>> = BTreeMap::new();
        if self.limits.versions_fill(usage) {
            self.queue_up(writer);
        }
        for (&(_, digest), (scope, key, bytes)) in self.usages.queue(writer).into_iter().flatten() {
            usage.versions = usage.versions.saturating_sub(1);
            usage.version_bytes = usage.version_bytes.saturating_sub(*bytes);
            if !self.limits.versions_fill(usage) {
                break;
            }
            gone.entry(scope.clone()).or_default().push((key.clone(), digest));
        }
        let change = |(scope, removed)| {
            Change::Intents(IntentChange {
                scope,
                put: Vec::new(),
                removed,
            })
        };
        gone.into_iter().map(change).collect()
    }

    /// Who has as many versions as it may has them in order from here on.
    fn queue_up(&mut self, writer: NodeId) {
        if self.usages.queue(writer).is_none() {
            let versions = self
                .scopes
                .values()
                .flat_map(|state| state.intents.values().flat_map(super::Siblings::versions));
            let own = versions.filter(|version| version.value().dot.writer == writer);
            let queue = own.map(super::usage::queued).collect();
            self.usages.open_queue(writer, queue);
        }
    }

    fn facts_before(&self, node: NodeId, scope: &Scope) -> Usage {
        let mut before = Usage::default();
        let sets = self
            .scopes
            .range(..scope)
            .filter_map(|(_, state)| state.facts.get(&node));
        for held in sets {
            before.facts += held.current.len();
            before.fact_bytes += held.bytes();
        }
        before
    }

    fn facts_beyond(&self, node: NodeId) -> Vec<Change> {
        let (mut before, mut gone) = (Usage::default(), Vec::new());
        if !self.limits.facts_fill(self.usage(node)) {
            return gone;
        }
        for (scope, state) in &self.scopes {
            let Some(held) = state.facts.get(&node) else { continue };
            if self.limits.facts_fill(before) {
                gone.push(Change::Forgotten(scope.clone(), node));
            }
            before.facts += held.current.len();
            before.fact_bytes += held.bytes();
        }
        gone
    }
}
