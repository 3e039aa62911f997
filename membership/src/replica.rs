//! The replica: what this node holds of the agreed state, in memory. `merge` is commutative, associative and
//! idempotent; signatures are checked before anything gets here. It does no I/O and reads no clock.

mod limits;
mod removals;

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::{Batch, FactBatch, IntentBatch};
use crate::facts::{self, Judgement, OriginFacts};
use crate::id::{NodeId, Scope};
use crate::keyring::Keyring;
use crate::record::{Digest, Dot, Fact, Head, Intent, Key, VersionVector};
use crate::root::Sums;
use crate::siblings;
use crate::signed::Signed;
use crate::touched::Touched;

mod tombstones;
mod usage;

pub(crate) use self::limits::Limits;
pub use self::limits::{FACT_BYTES_MAX, FACTS_MAX, VERSION_BYTES_MAX, VERSIONS_MAX};
pub use self::removals::{Removed, Replaced};
pub use self::tombstones::Survey;
pub use self::usage::Usage;
use self::usage::Usages;
pub use crate::facts::FactChange;
pub use crate::siblings::{SIBLINGS_MAX, Siblings};

/// How one batch changes the replica, in the words in which the store takes it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Of one origin's facts.
    Facts(FactChange),
    /// Of some objects.
    Intents(IntentChange),
    /// The facts of this node in this scope go: it has as many as it may in the scopes before.
    Forgotten(Scope, NodeId),
}

impl Change {
    /// Where it changes something.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        match self {
            Self::Facts(change) => &change.head.value().scope,
            Self::Intents(change) => &change.scope,
            Self::Forgotten(scope, _) => scope,
        }
    }

    /// How many records it adds.
    pub(crate) fn added(&self) -> usize {
        match self {
            Self::Facts(change) => change.put.len(),
            Self::Intents(change) => change.put.len(),
            Self::Forgotten(..) => 0,
        }
    }

    /// Whose records it adds, or takes away all of.
    pub(crate) fn writers(&self) -> BTreeSet<NodeId> {
        match self {
            Self::Facts(change) => [change.head.value().origin].into(),
            Self::Intents(change) => change.put.iter().map(|version| version.value().dot.writer).collect(),
            Self::Forgotten(_, node) => [*node].into(),
        }
    }
}

/// How a batch changes the objects of a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentChange {
    /// Their scope.
    pub scope: Scope,
    /// Versions to add.
    pub put: Vec<Signed<Intent>>,
    /// Versions that go: an added one dominates them or, with others, crowds them out, or they are tombstones that all
    /// members have seen.
    pub removed: Vec<(Key, Digest)>,
}

/// What merging a batch does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// `None` if all of it was known, or older than what is.
    pub change: Option<Change>,
    /// The origin was seen saying two different things about itself (a copied or restored disk).
    pub forked: Option<NodeId>,
    /// Writers that have more versions of one object side by side than are kept.
    pub crowded: BTreeSet<NodeId>,
}

/// Something between what is held and the batch is missing: it must be pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("facts of node {origin} before these are missing")]
pub struct Gap {
    /// Whose.
    pub origin: NodeId,
    /// What is held does not lead there, so that the whole set is needed.
    pub forked: bool,
}

/// What this node holds of the agreed state.
#[derive(Debug, Default)]
pub struct Replica {
    scopes: BTreeMap<Scope, ScopeState>,
    keyring: Keyring,
    usages: Usages,
    limits: Limits,
    /// Nodes that are out, and the last counter of theirs that counts.
    removed: BTreeMap<NodeId, u64>,
}

#[derive(Debug, Default)]
struct ScopeState {
    facts: BTreeMap<NodeId, OriginFacts>,
    intents: BTreeMap<Key, Siblings>,
    /// All writes that the versions here are or saw.
    seen: VersionVector,
    /// What all members have seen: what is in it and not held is dead.
    floor: VersionVector,
    /// How many of the versions delete their object.
    tombstones: usize,
    sums: Sums,
    touched: Touched,
}

/// Reading.
impl Replica {
    /// Scopes with any record, `System` first.
    pub fn scopes(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.keys()
    }

    /// The objects of a scope, deleted ones (whose shown body is `None`) included.
    pub fn intents(&self, scope: &Scope) -> impl Iterator<Item = (&Key, &Siblings)> {
        self.scopes.get(scope).into_iter().flat_map(|state| &state.intents)
    }

    /// One object.
    #[must_use]
    pub fn intent(&self, scope: &Scope, key: &Key) -> Option<&Siblings> {
        self.scopes.get(scope)?.intents.get(key)
    }

    /// The current facts of a scope in the order (origin, key), withdrawn ones left out.
    pub fn facts(&self, scope: &Scope) -> impl Iterator<Item = &Fact> {
        self.heads(scope)
            .flat_map(|held| held.current.values())
            .map(Signed::value)
            .filter(|fact| fact.body.is_some())
    }

    /// One current fact, unless it is withdrawn.
    #[must_use]
    pub fn fact(&self, scope: &Scope, origin: NodeId, key: &Key) -> Option<&Fact> {
        let fact = self.origin(scope, origin)?.current.get(key)?.value();
        fact.body.is_some().then_some(fact)
    }

    /// The current facts of one origin in a scope, withdrawn ones left out.
    pub fn facts_from(&self, scope: &Scope, origin: NodeId) -> impl Iterator<Item = &Fact> {
        let current = self
            .origin(scope, origin)
            .into_iter()
            .flat_map(|held| held.current.values());
        current.map(Signed::value).filter(|fact| fact.body.is_some())
    }

    /// What each origin says under one key, those who withdrew it left out. Costs what origins there are.
    pub fn facts_about(&self, scope: &Scope, key: &Key) -> impl Iterator<Item = &Fact> {
        let said = self.heads(scope).filter_map(|held| held.current.get(key));
        said.map(Signed::value).filter(|fact| fact.body.is_some())
    }

    /// The objects of one kind in a scope, deleted ones included.
    pub fn intents_of(&self, scope: &Scope, kind: &str) -> impl Iterator<Item = (&Key, &Siblings)> {
        let state = self.scopes.get(scope);
        let from = state.map(|state| state.intents.range(Key::new(kind, "")..));
        from.into_iter()
            .flatten()
            .take_while(move |(key, _)| &*key.kind == kind)
    }

    /// How many changes a scope has seen in this process.
    #[must_use]
    pub fn moment(&self, scope: &Scope) -> u64 {
        self.scopes.get(scope).map_or(0, |state| state.touched.moment())
    }

    /// The keys of the objects and facts that changed in a scope since a moment of it; `None` if that is too long ago to
    /// be remembered.
    #[must_use]
    pub fn touched(&self, scope: &Scope, since: u64) -> Option<BTreeSet<Key>> {
        match self.scopes.get(scope) {
            Some(state) => state.touched.since(since),
            None => (since == 0).then(BTreeSet::new),
        }
    }

    /// What an origin signed about its facts in a scope.
    #[must_use]
    pub fn head(&self, scope: &Scope, origin: NodeId) -> Option<&Head> {
        Some(self.origin(scope, origin)?.head.value())
    }

    /// One digest over all a scope holds: equal on two nodes exactly if they hold the same.
    #[must_use]
    pub fn root(&self, scope: &Scope) -> Digest {
        self.scopes
            .get(scope)
            .map(|state| state.sums.root())
            .unwrap_or_default()
    }

    /// One digest over the roots of all scopes.
    #[must_use]
    pub fn root_of_roots(&self) -> Digest {
        let roots: Vec<_> = self
            .scopes
            .iter()
            .map(|(scope, state)| (scope.to_string(), state.sums.root()))
            .filter(|(_, root)| *root != Digest::default())
            .collect();
        let parts: Vec<&[u8]> = roots
            .iter()
            .flat_map(|(scope, root)| [scope.as_bytes(), &[0], root.0.as_slice()])
            .collect();
        Digest::of(&parts)
    }

    /// Whether this origin's facts up to a number are held, or later ones in their place.
    #[must_use]
    pub fn has_facts(&self, scope: &Scope, origin: NodeId, epoch: u64, seq: u64) -> bool {
        self.head(scope, origin)
            .is_some_and(|head| (head.epoch, head.seq) >= (epoch, seq))
    }

    /// Whether this version of an object is held, or one that saw it, or once was by all members.
    #[must_use]
    pub fn has_version(&self, scope: &Scope, key: &Key, dot: Dot) -> bool {
        let seen = |version: &Intent| version.dot == dot || version.context.contains(dot);
        self.floor(scope).is_some_and(|floor| floor.contains(dot))
            || self.intent(scope, key).is_some_and(|siblings| siblings.all().any(seen))
    }

    /// All writes in a scope that the held versions are or saw. As long as only causally complete states are merged,
    /// all of them are held, or superseded by what is held.
    #[must_use]
    pub fn seen(&self, scope: &Scope) -> VersionVector {
        self.scopes
            .get(scope)
            .map(|state| state.seen.clone())
            .unwrap_or_default()
    }

    /// The highest counter that this writer is known to have used in a scope.
    #[must_use]
    pub fn last_counter(&self, scope: &Scope, writer: NodeId) -> u64 {
        self.scopes
            .get(scope)
            .and_then(|state| state.seen.0.get(&writer))
            .copied()
            .unwrap_or_default()
    }

    /// The public keys of the nodes whose records are accepted.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    pub(crate) fn origin(&self, scope: &Scope, origin: NodeId) -> Option<&OriginFacts> {
        self.scopes.get(scope)?.facts.get(&origin)
    }

    pub(crate) fn heads(&self, scope: &Scope) -> impl Iterator<Item = &OriginFacts> {
        self.scopes
            .get(scope)
            .into_iter()
            .flat_map(|state| state.facts.values())
    }

    /// Whether a record of this scope may come: the scope is known, or there are fewer than `most`.
    pub(crate) fn has_room_for(&self, scope: &Scope, most: usize) -> bool {
        self.scopes.contains_key(scope) || self.scopes.len() < most
    }

    pub(crate) fn sums(&self, scope: &Scope) -> Option<&Sums> {
        self.scopes.get(scope).map(|state| &state.sums)
    }
}

/// Changing.
impl Replica {
    /// Accepts the records of the node with this public key from here on.
    pub fn learn(&mut self, public: &[u8; 32]) -> Option<NodeId> {
        self.keyring.insert(public)
    }

    /// Merges a batch: all of it or nothing.
    pub fn merge(&mut self, batch: &Batch) -> Result<Merged, Gap> {
        let merged = self.plan(batch)?;
        if let Some(change) = &merged.change {
            self.apply(change);
        }
        Ok(merged)
    }

    /// What merging a batch would do.
    pub fn plan(&self, batch: &Batch) -> Result<Merged, Gap> {
        match batch {
            Batch::Facts(batch) => self.plan_facts(batch),
            Batch::Intents(batch) => Ok(self.plan_intents(batch)),
        }
    }

    fn plan_facts(&self, batch: &FactBatch) -> Result<Merged, Gap> {
        let Head { scope, origin, .. } = batch.head().value();
        if self.is_out(*origin) {
            return Ok(Merged {
                change: None,
                forked: None,
                crowded: BTreeSet::new(),
            });
        }
        let held = self.origin(scope, *origin);
        let forked = facts::forked(held, batch);
        let change = match facts::judge(held, batch) {
            Judgement::Stale => None,
            Judgement::Applies(change) => Some(Change::Facts(change)),
            Judgement::Gap => {
                return Err(Gap {
                    origin: *origin,
                    forked,
                });
            }
        };
        Ok(Merged {
            change,
            forked: forked.then_some(*origin),
            crowded: BTreeSet::new(),
        })
    }

    fn plan_intents(&self, batch: &IntentBatch) -> Merged {
        let mut by_key: BTreeMap<&Key, Vec<&Signed<Intent>>> = BTreeMap::new();
        let counts = batch
            .versions()
            .iter()
            .filter(|version| !self.is_void(version.value().dot));
        for version in counts {
            by_key.entry(&version.value().key).or_default().push(version);
        }
        let mut change = IntentChange {
            scope: batch.scope().clone(),
            put: Vec::new(),
            removed: Vec::new(),
        };
        let mut crowded = BTreeSet::new();
        for (key, versions) in by_key {
            let joined = siblings::join(self.intent(batch.scope(), key), versions.into_iter());
            crowded.extend(joined.crowded);
            change.put.extend(joined.add);
            change
                .removed
                .extend(joined.remove.into_iter().map(|digest| (key.clone(), digest)));
        }
        Merged {
            change: (!change.put.is_empty()).then_some(Change::Intents(change)),
            forked: None,
            crowded,
        }
    }

    /// Applies what `plan` said of this same state.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Facts(change) => self.apply_facts(change),
            Change::Intents(change) => self.apply_intents(change),
            Change::Forgotten(scope, node) => drop(self.forget_facts(scope, *node)),
        }
    }

    fn apply_facts(&mut self, change: &FactChange) {
        let Head { scope, origin, .. } = change.head.value();
        let state = self.scopes.entry(scope.clone()).or_default();
        let held = state.facts.remove(origin);
        state
            .sums
            .replace_head(held.as_ref().map(|held| held.head.digest()), change.head.digest());
        let put = change.put.iter().map(|fact| &fact.value().key);
        state.touched.note(put.chain(&change.removed));
        let before = held.as_ref().map(|held| (held.current.len(), held.bytes()));
        let after = OriginFacts::change(held, change);
        self.usages.replace_facts(*origin, before, &after);
        state.facts.insert(*origin, after);
    }

    fn apply_intents(&mut self, change: &IntentChange) {
        let state = self.scopes.entry(change.scope.clone()).or_default();
        let mut by_key: BTreeMap<&Key, Vec<&Signed<Intent>>> = BTreeMap::new();
        for version in &change.put {
            state.seen.insert(version.value().dot);
            state.seen.join(&version.value().context);
            by_key.entry(&version.value().key).or_default().push(version);
        }
        removals::clamp(&mut state.seen, &self.removed);
        for (key, _) in &change.removed {
            by_key.entry(key).or_default();
        }
        state.touched.note(by_key.keys().copied());
        for (key, added) in by_key {
            let held = state.intents.remove(key);
            let goes = |version: &Signed<Intent>| {
                change
                    .removed
                    .iter()
                    .any(|(of, digest)| of == key && *digest == version.digest())
            };
            let kept = held
                .iter()
                .flat_map(Siblings::versions)
                .filter(|version| !goes(version));
            let after = Siblings::of(kept.chain(added).cloned().collect());
            state.sums.replace_object(held.as_ref(), after.as_ref());
            for version in held.iter().flat_map(Siblings::versions) {
                self.usages.take(version);
            }
            for version in after.iter().flat_map(Siblings::versions) {
                self.usages.add(version);
            }
            state.tombstones += after.as_ref().map_or(0, Siblings::tombstones);
            state.tombstones -= held.as_ref().map_or(0, Siblings::tombstones);
            state.intents.extend(after.map(|after| (key.clone(), after)));
        }
    }
}

#[cfg(test)]
mod crowding;
#[cfg(test)]
mod tests;
