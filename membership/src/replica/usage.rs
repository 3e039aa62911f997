//! How much of the agreed state is whose.

use std::collections::BTreeMap;

use super::Replica;
use super::limits::Queue;
use crate::facts::OriginFacts;
use crate::id::{NodeId, Scope};
use crate::record::{Digest, Intent, Key};
use crate::signed::Signed;

/// What one node has written of what is held, in all scopes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Facts, withdrawn ones that are kept included.
    pub facts: usize,
    /// Their bytes as signed.
    pub fact_bytes: usize,
    /// Versions of objects.
    pub versions: usize,
    /// Their bytes as signed.
    pub version_bytes: usize,
}

/// Of all nodes that have written something.
#[derive(Debug, Default)]
pub(super) struct Usages {
    of: BTreeMap<NodeId, Usage>,
    /// The versions of those that once wrote as many as they may, in order.
    queues: BTreeMap<NodeId, Queue>,
}

/// A version in its writer's queue.
pub(super) fn queued(version: &Signed<Intent>) -> ((u64, Digest), (Scope, Key, usize)) {
    let Intent { dot, scope, key, .. } = version.value();
    let what = (scope.clone(), key.clone(), version.raw().len());
    ((dot.counter, version.digest()), what)
}

impl Usages {
    pub(super) fn of(&self, node: NodeId) -> Usage {
        self.of.get(&node).copied().unwrap_or_default()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.of.keys().copied()
    }

    pub(super) fn queue(&self, writer: NodeId) -> Option<&Queue> {
        self.queues.get(&writer)
    }

    pub(super) fn open_queue(&mut self, writer: NodeId, queue: Queue) {
        self.queues.insert(writer, queue);
    }

    pub(super) fn replace_facts(&mut self, origin: NodeId, before: Option<(usize, usize)>, after: &OriginFacts) {
        let (facts, bytes) = before.unwrap_or_default();
        let usage = self.of.entry(origin).or_default();
        usage.facts = (usage.facts + after.current.len()).saturating_sub(facts);
        usage.fact_bytes = (usage.fact_bytes + after.bytes()).saturating_sub(bytes);
    }

    pub(super) fn forget_facts(&mut self, origin: NodeId, held: &OriginFacts) {
        let usage = self.of.entry(origin).or_default();
        usage.facts = usage.facts.saturating_sub(held.current.len());
        usage.fact_bytes = usage.fact_bytes.saturating_sub(held.bytes());
    }

    pub(super) fn add(&mut self, version: &Signed<Intent>) {
        let writer = version.value().dot.writer;
        let usage = self.of.entry(writer).or_default();
        usage.versions += 1;
        usage.version_bytes += version.raw().len();
        if let Some(queue) = self.queues.get_mut(&writer) {
            queue.extend([queued(version)]);
        }
    }

    pub(super) fn take(&mut self, version: &Signed<Intent>) {
        let writer = version.value().dot.writer;
        let usage = self.of.entry(writer).or_default();
        usage.versions = usage.versions.saturating_sub(1);
        usage.version_bytes = usage.version_bytes.saturating_sub(version.raw().len());
        if let Some(queue) = self.queues.get_mut(&writer) {
            queue.remove(&(version.value().dot.counter, version.digest()));
            if queue.is_empty() {
                self.queues.remove(&writer);
            }
        }
    }
}

impl Replica {
    /// How much of what is held a node has written.
    #[must_use]
    pub fn usage(&self, node: NodeId) -> Usage {
        self.usages.of(node)
    }
}
