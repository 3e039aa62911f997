//! How much of the agreed state is whose.

use std::collections::BTreeMap;

use super::Replica;
use crate::facts::OriginFacts;
use crate::id::NodeId;
use crate::record::Intent;
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
pub(super) struct Usages(BTreeMap<NodeId, Usage>);

impl Usages {
    pub(super) fn of(&self, node: NodeId) -> Usage {
        self.0.get(&node).copied().unwrap_or_default()
    }

    pub(super) fn replace_facts(&mut self, origin: NodeId, before: Option<(usize, usize)>, after: &OriginFacts) {
        let (facts, bytes) = before.unwrap_or_default();
        let usage = self.0.entry(origin).or_default();
        usage.facts = (usage.facts + after.current.len()).saturating_sub(facts);
        usage.fact_bytes = (usage.fact_bytes + after.bytes()).saturating_sub(bytes);
    }

    pub(super) fn forget_facts(&mut self, origin: NodeId, held: &OriginFacts) {
        let usage = self.0.entry(origin).or_default();
        usage.facts = usage.facts.saturating_sub(held.current.len());
        usage.fact_bytes = usage.fact_bytes.saturating_sub(held.bytes());
    }

    pub(super) fn add(&mut self, version: &Signed<Intent>) {
        let usage = self.0.entry(version.value().dot.writer).or_default();
        usage.versions += 1;
        usage.version_bytes += version.raw().len();
    }

    pub(super) fn take(&mut self, version: &Signed<Intent>) {
        let usage = self.0.entry(version.value().dot.writer).or_default();
        usage.versions = usage.versions.saturating_sub(1);
        usage.version_bytes = usage.version_bytes.saturating_sub(version.raw().len());
    }
}

impl Replica {
    /// How much of what is held a node has written.
    #[must_use]
    pub fn usage(&self, node: NodeId) -> Usage {
        self.usages.of(node)
    }
}
