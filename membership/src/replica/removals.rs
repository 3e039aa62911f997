//! Nodes that were removed from the cluster: nothing that they say about themselves counts, and of what they wrote only
//! what lies within the cut. The same on every node that knows of it, in whatever order it heard of both: what a void version
//! had replaced here, and nothing else has, comes back as if a peer had just told it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Change, IntentChange, Replica};
use crate::batch::IntentBatch;
use crate::decree::Removal;
use crate::hlc::Stamp;
use crate::id::{NodeId, Scope};
use crate::record::{Digest, Dot, Intent, Key, VersionVector};
use crate::signed::Signed;

/// A version that counted here once, and does no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// As it was signed.
    pub version: Signed<Intent>,
    /// The stamp of the version that replaced it; its own if it was taken away without one.
    pub at: Stamp,
}

impl Replaced {
    fn is_by(&self, other: &Intent) -> bool {
        self.at == other.stamp && other.dominates(self.version.value())
    }
}

/// What a removal took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// How the objects change, in the words of the store and in this order.
    pub changes: Vec<Change>,
    /// The versions that are void.
    pub void: Vec<Signed<Intent>>,
    /// Scopes in which something changed.
    pub scopes: Vec<Scope>,
}

impl Replica {
    /// Whether the node was removed.
    #[must_use]
    pub fn is_out(&self, node: NodeId) -> bool {
        self.removed.contains_key(&node)
    }

    /// Whether a write lies beyond the cut of its writer.
    #[must_use]
    pub fn is_void(&self, dot: Dot) -> bool {
        self.removed.get(&dot.writer).is_some_and(|cut| dot.counter > *cut)
    }

    /// The highest counter that a node is known to have used in any scope.
    #[must_use]
    pub fn highest_counter(&self, writer: NodeId) -> u64 {
        let counters = self.scopes.values().filter_map(|state| state.seen.0.get(&writer));
        counters.copied().max().unwrap_or_default()
    }

    /// What is held and would be void with this removal, if it is not known.
    #[must_use]
    pub fn void_after(&self, removal: &Removal) -> Vec<Signed<Intent>> {
        if self.is_out(removal.node) {
            return Vec::new();
        }
        let beyond = |version: &Intent| version.dot.writer == removal.node && version.dot.counter > removal.cut;
        let held = self
            .scopes
            .values()
            .flat_map(|state| state.intents.values().flat_map(super::Siblings::versions));
        held.filter(|version| beyond(version.value())).cloned().collect()
    }

    /// Forgets what a node said of itself, and what it wrote beyond the cut; from here on both are not merged. Of `past`, what
    /// is known of the objects of [`Self::void_after`], that comes back which only void versions had replaced. The node's key stays
    /// known for what it wrote before. A second removal of the same node changes nothing.
    pub fn remove(&mut self, removal: &Removal, past: &[Replaced]) -> Removed {
        let mut removed = Removed::default();
        self.keyring.insert(&removal.key);
        if self.removed.contains_key(&removal.node) {
            return removed;
        }
        self.removed.insert(removal.node, removal.cut);
        let scopes: Vec<Scope> = self.scopes.keys().cloned().collect();
        for scope in scopes {
            let facts = self.forget_facts(&scope, removal.node);
            let void = self.void_in(&scope);
            if facts || !void.is_empty() {
                removed.scopes.push(scope.clone());
            }
            if !void.is_empty() {
                removed.changes.extend(self.uncover(&scope, &void, past));
            }
            removed.void.extend(void);
            if let Some(state) = self.scopes.get_mut(&scope) {
                clamp(&mut state.seen, &self.removed);
            }
        }
        removed
    }

    /// Drops void versions, and merges what only such had replaced.
    fn uncover(&mut self, scope: &Scope, void: &[Signed<Intent>], past: &[Replaced]) -> Vec<Change> {
        let removed = void
            .iter()
            .map(|version| (version.value().key.clone(), version.digest()));
        let dropped = Change::Intents(IntentChange {
            scope: scope.clone(),
            put: Vec::new(),
            removed: removed.collect(),
        });
        self.apply(&dropped);
        let covered = self.covered_by(scope, void, past);
        // What is known was checked when it came.
        let back = IntentBatch::new(scope.clone(), covered).ok();
        let back = back.and_then(|batch| self.plan_intents(&batch).change);
        back.iter().for_each(|change| self.apply(change));
        std::iter::once(dropped).chain(back).collect()
    }

    /// What void versions had replaced, directly or one by the other, and nothing that counts has.
    fn covered_by(&self, scope: &Scope, void: &[Signed<Intent>], past: &[Replaced]) -> Vec<Signed<Intent>> {
        let mut by_key: BTreeMap<&Key, Vec<&Replaced>> = BTreeMap::new();
        for replaced in past.iter().filter(|replaced| replaced.version.value().scope == *scope) {
            by_key.entry(&replaced.version.value().key).or_default().push(replaced);
        }
        let (mut known, mut back): (BTreeSet<Digest>, _) = (BTreeSet::new(), Vec::new());
        let mut covering: Vec<&Signed<Intent>> = void.iter().collect();
        while let Some(by) = covering.pop() {
            let of = by_key.get(&by.value().key).map(Vec::as_slice).unwrap_or_default();
            let counts = |version: &Intent| !self.is_void(version.dot);
            for Replaced { version, .. } in of.iter().filter(|replaced| replaced.is_by(by.value())) {
                let replaces = |other: &&Replaced| {
                    let other = other.version.value();
                    counts(other) && other.dominates(version.value())
                };
                if !known.insert(version.digest()) {
                    continue;
                }
                if !counts(version.value()) {
                    covering.push(version);
                } else if !self.is_dead(scope, version.value()) && !of.iter().copied().any(|other| replaces(&other)) {
                    back.push(version.clone());
                }
            }
        }
        back
    }

    pub(super) fn forget_facts(&mut self, scope: &Scope, node: NodeId) -> bool {
        let Some(state) = self.scopes.get_mut(scope) else {
            return false;
        };
        let Some(held) = state.facts.remove(&node) else {
            return false;
        };
        self.usages.forget_facts(node, &held);
        state.sums.replace_head(Some(held.head.digest()), Default::default());
        state.touched.note(held.current.keys());
        true
    }

    fn void_in(&self, scope: &Scope) -> Vec<Signed<Intent>> {
        let held = self.intents(scope).flat_map(|(_, siblings)| siblings.versions());
        held.filter(|version| self.is_void(version.value().dot))
            .cloned()
            .collect()
    }

    /// What was seen, without what is void: nobody has that, so nobody must wait for it.
    pub(crate) fn without_void(&self, mut seen: VersionVector) -> VersionVector {
        clamp(&mut seen, &self.removed);
        seen
    }
}

pub(super) fn clamp(seen: &mut VersionVector, removed: &BTreeMap<NodeId, u64>) {
    for (node, cut) in removed {
        if let Some(counter) = seen.0.get_mut(node) {
            *counter = (*counter).min(*cut);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::batch::Batch;
    use crate::fixture::{Host, domain, write};
    use crate::signed::Signer as _;

    fn removal(host: &Host, cut: u64) -> Removal {
        Removal {
            node: host.id(),
            key: host.public(),
            name: "host".parse().unwrap(),
            cut,
        }
    }

    /// Batches of two hosts: facts, objects below and beyond a cut of 50, and one that saw a void version.
    fn batches(out: &Host, stays: &Host) -> Vec<Batch> {
        let scope = domain("red");
        let mut replica = Replica::default();
        let mut made = vec![
            stays.says(&mut replica, &scope, 1, vec![write("port", Some("here"))]),
            out.says(&mut replica, &scope, 1, vec![write("port", Some("there"))]),
            stays.wants(
                &mut replica,
                &scope,
                5,
                vec![write("a", Some("first")), write("b", Some("first"))],
            ),
            out.wants(&mut replica, &scope, 20, vec![write("a", Some("early"))]),
            out.wants(
                &mut replica,
                &scope,
                90,
                vec![write("b", Some("void")), write("c", Some("void"))],
            ),
        ];
        made.push(out.says(&mut replica, &scope, 95, vec![write("port", None)]));
        made.push(stays.wants(&mut replica, &scope, 99, vec![write("b", Some("over it"))]));
        made.into_iter().map(|made| made.batch).collect()
    }

    fn shown(replica: &Replica, name: &str) -> Option<String> {
        let siblings = replica.intent(&domain("red"), &Key::new("K", name))?;
        let body = siblings.shown().body.clone()?;
        Some(String::from_utf8(body.bytes.to_vec()).unwrap())
    }

    #[test]
    fn what_lies_beyond_the_cut_is_void_and_the_rest_stays() {
        let (out, stays) = (Host::new(1), Host::new(2));
        let mut replica = Replica::default();
        for batch in &batches(&out, &stays)[..6] {
            replica.merge(batch).unwrap();
        }
        assert_eq!(replica.highest_counter(out.id()), 92);
        let removed = replica.remove(&removal(&out, 50), &[]);
        let names: Vec<_> = removed
            .void
            .iter()
            .map(|version| version.value().key.name.to_string())
            .collect();
        assert_eq!(
            (names, removed.scopes),
            (vec!["b".to_owned(), "c".to_owned()], vec![domain("red")])
        );
        assert_eq!(replica.facts(&domain("red")).count(), 1, "only of who stays");
        assert_eq!(
            shown(&replica, "a").as_deref(),
            Some("early"),
            "what it wrote before stays"
        );
        assert_eq!((shown(&replica, "b"), shown(&replica, "c")), (None, None));
        assert!(replica.is_out(out.id()) && replica.keyring().key(out.id()).is_some());
        assert_eq!(replica.highest_counter(out.id()), 50, "nobody waits for what is void");
        assert_eq!(replica.remove(&removal(&out, 90), &[]), Removed::default(), "once");
        // What saw a void version is none itself.
        replica.merge(&batches(&out, &stays)[6]).unwrap();
        assert_eq!(shown(&replica, "b").as_deref(), Some("over it"));
        assert_eq!(replica.highest_counter(out.id()), 50);
    }

    #[test]
    fn a_scope_that_only_the_removed_node_spoke_in_leaves_no_trace() {
        let (out, mut heard, mut spared) = (Host::new(1), Replica::default(), Replica::default());
        out.says(&mut heard, &domain("own"), 1, vec![write("a", Some("1"))]);
        out.wants(&mut heard, &domain("own"), 90, vec![write("a", Some("void"))]);
        for replica in [&mut heard, &mut spared] {
            replica.remove(&removal(&out, 50), &[]);
        }
        assert_eq!(heard.root(&domain("own")), spared.root(&domain("own")));
        assert_eq!(heard.root_of_roots(), spared.root_of_roots());
    }

    /// Everything that two replicas compare.
    fn digests(replica: &Replica) -> (Digest, VersionVector) {
        (replica.root(&domain("red")), replica.seen(&domain("red")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// In whatever order the removal and the batches come: once all batches were offered again, all hold the same.
        #[test]
        fn all_settle_on_the_same(order in Just((0..7).collect::<Vec<usize>>()).prop_shuffle(), at in 0usize..8) {
            let (out, stays) = (Host::new(1), Host::new(2));
            let batches = batches(&out, &stays);
            let mut first = Replica::default();
            first.remove(&removal(&out, 50), &[]);
            let mut mixed = Replica::default();
            for (place, batch) in order.iter().enumerate() {
                if place == at {
                    mixed.remove(&removal(&out, 50), &[]);
                }
                // A gap is what repair closes.
                let _gap = mixed.merge(&batches[*batch]);
            }
            mixed.remove(&removal(&out, 50), &[]);
            for _ in 0..2 {
                for batch in &batches {
                    let _gap = first.merge(batch);
                    let _gap = mixed.merge(batch);
                }
            }
            prop_assert_eq!(digests(&first), digests(&mixed));
        }
    }
}
