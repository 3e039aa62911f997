//! This node's own writes: numbering, chaining, heads, contexts and the limits of a batch. Pure: what it makes must be
//! on disk before it is merged or told to anybody.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::{Batch, BatchError, FactBatch, IntentBatch};
use crate::collect;
use crate::facts::{rank, sum};
use crate::hlc::Stamp;
use crate::id::{NodeId, Scope};
use crate::record::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Body, Digest, Dot, Fact, Head, Intent, Key, VersionVector};
use crate::replica::{Change, FACT_BYTES_MAX, FACTS_MAX, Replica, Siblings, VERSION_BYTES_MAX, VERSIONS_MAX};
use crate::signed::{Signed, SignedError, Signer};

/// One write: what becomes of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Which fact or object.
    pub key: Key,
    /// `None` withdraws the fact, or deletes the object.
    pub body: Option<Body>,
}

/// An own batch. Commit `change` durably, then hand `batch` to [`Sync`] as [`Event::LocalBatch`].
///
/// [`Sync`]: crate::sync::Sync
/// [`Event::LocalBatch`]: crate::sync::Event::LocalBatch
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authored {
    /// What is merged and pushed.
    pub batch: Batch,
    /// What goes to disk first.
    pub change: Change,
    /// For each object written, in the order of the writes, its version. Empty for facts.
    pub dots: Vec<(Key, Dot)>,
}

/// Why there is no batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorError {
    /// More records than fit a batch.
    #[error("{0} records are more than the {max} of one batch", max = BATCH_RECORDS_MAX)]
    TooMany(usize),
    /// More bytes than fit a batch.
    #[error("{0} bytes are more than the {max} of one batch", max = BATCH_BYTES_MAX)]
    TooLarge(usize),
    /// One key twice in one batch.
    #[error("{0} is written twice in one batch")]
    Twice(Key),
    /// A record that cannot be signed: too large.
    #[error("{0}: {1}")]
    Record(Key, SignedError),
    /// A head that cannot be signed, or a batch that contradicts itself.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The replica does not hold what this node wrote last.
    #[error("own writes before these are missing")]
    Behind,
    /// This host has too many facts in the scope.
    #[error("{0} bytes of facts are more than the {SET_BYTES_MAX} that a host may have in one scope")]
    Full(usize),
    /// This host has too many facts in all scopes.
    #[error(
        "this node has as many facts as a node may have, {FACTS_MAX} or {FACT_BYTES_MAX} bytes in all domains; others would leave \
         some of them out: withdraw some, or have another host take them"
    )]
    FullOfFacts,
    /// This node has written too many objects.
    #[error(
        "this node has written nearly as many objects as a node may, {VERSIONS_MAX} or {VERSION_BYTES_MAX} bytes in all domains; \
         others would drop its first ones: delete some, or write through another node"
    )]
    FullOfObjects,
    /// Nothing to write.
    #[error("a batch without records")]
    Empty,
}

/// Most bytes of signed facts that a host may have in one scope, so that a peer can take all of them as one.
pub const SET_BYTES_MAX: usize = 3 * 1024 * 1024;

/// How far others may have seen this node's counter ahead of its clock, in milliseconds: a day, for clocks that went
/// back.
const BELIEVED_AHEAD: u64 = 24 * 60 * 60 * 1_000;

/// Withdrawn facts are kept until there are more than this many, and more than half of the set.
const WITHDRAWN_KEPT: usize = 64;

/// Makes a batch of facts of this host. `replica` must hold all own batches made before.
pub fn facts(
    replica: &Replica,
    signer: &dyn Signer,
    scope: &Scope,
    writes: Vec<Write>,
    stamp: Stamp,
) -> Result<Authored, AuthorError> {
    check_keys(&writes)?;
    let held = replica.origin(scope, signer.id());
    let mut chain = match held {
        Some(held) => Chain {
            signer,
            head: held.head.value().clone(),
            current: held.current.clone(),
            facts: Vec::new(),
        },
        None => Chain::empty(signer, scope.clone(), 1),
    };
    let first = chain.head.seq.saturating_add(1);
    for Write { key, body } in writes {
        chain.say(key, body, stamp)?;
    }
    chain.forget_withdrawn(first);
    check_size(chain.facts.iter().map(|fact| fact.raw().len()).sum())?;
    let bytes = chain.current.values().map(|fact| fact.raw().len()).sum();
    if !replica.may_say(signer.id(), scope, chain.current.len(), bytes) {
        return Err(AuthorError::FullOfFacts);
    }
    authored(replica, chain.finish()?)
}

/// Answers [`Effect::Reclaim`]: joins what peers hold of this node with what it holds itself, the later stamp of each
/// key winning, and says all of it again in an epoch above both, but for what was withdrawn since so long ago that the
/// withdrawal is forgotten. `None` if this node's own head is the higher one.
///
/// [`Effect::Reclaim`]: crate::sync::Effect::Reclaim
pub fn reclaim(replica: &Replica, signer: &dyn Signer, theirs: &FactBatch) -> Result<Option<Authored>, AuthorError> {
    let Head { scope, epoch, .. } = theirs.head().value();
    let held = replica.origin(scope, signer.id());
    if held.is_some_and(|held| rank(&held.head) >= rank(theirs.head())) {
        return Ok(None);
    }
    let epoch = held
        .map_or(0, |held| held.head.value().epoch)
        .max(*epoch)
        .saturating_add(1);
    let is_forgotten = forgotten(theirs);
    let mut latest: BTreeMap<&Key, &Signed<Fact>> = BTreeMap::new();
    for fact in held
        .into_iter()
        .flat_map(|held| held.current.values())
        .filter(|fact| !is_forgotten(fact.value()))
        .chain(theirs.facts())
    {
        let known = latest.entry(&fact.value().key).or_insert(fact);
        if age(known) < age(fact) {
            *known = fact;
        }
    }
    // Both histories may have traces of what was withdrawn; where there is no room for all, none is said again.
    let bytes: usize = latest.values().map(|fact| fact.raw().len()).sum();
    if bytes > SET_BYTES_MAX {
        latest.retain(|_, fact| fact.value().body.is_some());
    }
    let mut chain = Chain::empty(signer, scope.clone(), epoch);
    for fact in latest.into_values().map(Signed::value) {
        chain.say(fact.key.clone(), fact.body.clone(), fact.stamp)?;
    }
    authored(replica, chain.finish()?).map(Some)
}

/// Tells the facts whose withdrawal is among those that the latter history forgot. What an old disk said beside that
/// history has the same numbers, but later stamps.
fn forgotten(theirs: &FactBatch) -> impl Fn(&Fact) -> bool {
    let head = theirs.head().value();
    let last = theirs.facts().iter().map(|fact| fact.value().stamp).max();
    let keys: BTreeSet<&Key> = theirs.facts().iter().map(|fact| &fact.value().key).collect();
    move |fact| {
        fact.epoch == head.epoch && fact.seq < head.floor && Some(fact.stamp) < last && !keys.contains(&fact.key)
    }
}

/// Orders what one node said of one key on two histories.
fn age(fact: &Signed<Fact>) -> impl Ord {
    (fact.value().stamp, fact.value().epoch, fact.value().seq, fact.digest())
}

/// The facts of this node while more are being said.
struct Chain<'a> {
    signer: &'a dyn Signer,
    head: Head,
    current: BTreeMap<Key, Signed<Fact>>,
    facts: Vec<Signed<Fact>>,
}

impl<'a> Chain<'a> {
    fn empty(signer: &'a dyn Signer, scope: Scope, epoch: u64) -> Self {
        let [set, chain] = [Digest::default(); 2];
        let head = Head {
            origin: signer.id(),
            scope,
            epoch,
            floor: 0,
            seq: 0,
            count: 0,
            set,
            chain,
        };
        Self {
            signer,
            head,
            current: BTreeMap::new(),
            facts: Vec::new(),
        }
    }

    fn say(&mut self, key: Key, body: Option<Body>, stamp: Stamp) -> Result<(), AuthorError> {
        let Head {
            origin,
            scope,
            epoch,
            seq,
            chain,
            ..
        } = self.head.clone();
        let seq = seq.saturating_add(1);
        let fact = Fact {
            origin,
            scope,
            epoch,
            seq,
            previous: chain,
            key: key.clone(),
            stamp,
            body,
        };
        let fact = Signed::sign(fact, self.signer).map_err(|error| AuthorError::Record(key.clone(), error))?;
        (self.head.seq, self.head.chain) = (seq, fact.digest());
        self.current.insert(key, fact.clone());
        self.facts.push(fact);
        Ok(())
    }

    /// Drops withdrawn facts numbered below `first`, once they are many.
    fn forget_withdrawn(&mut self, first: u64) {
        let withdrawn = self.current.values().filter(|fact| fact.value().body.is_none()).count();
        if withdrawn > WITHDRAWN_KEPT && withdrawn > self.current.len() / 2 {
            self.head.floor = first;
            self.current
                .retain(|_, fact| fact.value().body.is_some() || fact.value().seq >= first);
        }
    }

    fn finish(mut self) -> Result<FactBatch, AuthorError> {
        let bytes: usize = self.current.values().map(|fact| fact.raw().len()).sum();
        if bytes > SET_BYTES_MAX {
            return Err(AuthorError::Full(bytes));
        }
        self.head.count = u64::try_from(self.current.len()).unwrap_or(u64::MAX);
        self.head.set = sum(self.current.values());
        let head = Signed::sign(self.head, self.signer).map_err(BatchError::from)?;
        Ok(FactBatch::new(head, self.facts)?)
    }
}

/// Makes a batch of versions of objects, each of which replaces all that the replica holds of its key. `author` is the
/// API user who asks for it.
pub fn intents(
    replica: &Replica,
    signer: &dyn Signer,
    scope: &Scope,
    author: &str,
    writes: Vec<Write>,
    stamp: Stamp,
) -> Result<Authored, AuthorError> {
    check_keys(&writes)?;
    let writer = signer.id();
    let mut counter = last_counter(replica, scope, writer, stamp).max(stamp.millis);
    let mut versions = Vec::new();
    for Write { key, body } in writes {
        counter = counter.saturating_add(1);
        let dot = Dot { writer, counter };
        let intent = Intent {
            scope: scope.clone(),
            context: context(replica, scope, &key, dot),
            dot,
            stamp,
            author: author.into(),
            key: key.clone(),
            body,
        };
        versions.push(Signed::sign(intent, signer).map_err(|error| AuthorError::Record(key, error))?);
    }
    let bytes = versions.iter().map(|version| version.raw().len()).sum();
    check_size(bytes)?;
    let adds = versions.iter().any(|version| version.value().body.is_some());
    if adds && !replica.may_add(writer, versions.len(), bytes) {
        return Err(AuthorError::FullOfObjects);
    }
    let dots = versions
        .iter()
        .map(|version| (version.value().key.clone(), version.value().dot))
        .collect();
    let batch = Batch::Intents(IntentBatch::new(scope.clone(), versions)?);
    let change = change(replica, &batch)?;
    Ok(Authored { batch, change, dots })
}

/// The highest counter that this node used in a scope. Others that say they saw far more of it than its clock allows
/// are not believed: no counter would be left for it.
pub(crate) fn last_counter(replica: &Replica, scope: &Scope, writer: NodeId, stamp: Stamp) -> u64 {
    let promised = collect::stated(replica, scope, writer).map_or(0, |stated| stated.upto);
    let seen = replica.last_counter(scope, writer);
    if seen <= stamp.millis.saturating_add(BELIEVED_AHEAD) {
        return seen.max(promised);
    }
    let held = replica.intents(scope).flat_map(|(_, siblings)| siblings.all());
    let own = held.map(|version| version.dot).filter(|dot| dot.writer == writer);
    own.map(|dot| dot.counter).max().unwrap_or_default().max(promised)
}

/// All that the held versions of a key are or saw before `dot`. Of a key that is not there, that includes what was
/// collected of it: others may hold its tombstones still.
fn context(replica: &Replica, scope: &Scope, key: &Key, dot: Dot) -> VersionVector {
    let mut context = VersionVector::default();
    let held = replica.intent(scope, key);
    if held.is_none_or(|held| held.all().all(|version| version.body.is_none())) {
        context = replica.floor(scope).cloned().unwrap_or_default();
    }
    for version in held.into_iter().flat_map(Siblings::all) {
        context.join(&version.context);
        context.insert(version.dot);
    }
    // Somebody claims to have seen what is only being written.
    if context.contains(dot) {
        context.0.insert(dot.writer, dot.counter.saturating_sub(1));
    }
    context
}

fn authored(replica: &Replica, batch: FactBatch) -> Result<Authored, AuthorError> {
    let batch = Batch::Facts(batch);
    let change = change(replica, &batch)?;
    Ok(Authored {
        batch,
        change,
        dots: Vec::new(),
    })
}

fn change(replica: &Replica, batch: &Batch) -> Result<Change, AuthorError> {
    let merged = replica.plan(batch).map_err(|_| AuthorError::Behind)?;
    merged.change.ok_or(AuthorError::Behind)
}

fn check_keys(writes: &[Write]) -> Result<(), AuthorError> {
    if writes.is_empty() {
        return Err(AuthorError::Empty);
    }
    if writes.len() > BATCH_RECORDS_MAX {
        return Err(AuthorError::TooMany(writes.len()));
    }
    let mut seen = BTreeSet::new();
    match writes.iter().find(|write| !seen.insert(&write.key)) {
        Some(write) => Err(AuthorError::Twice(write.key.clone())),
        None => Ok(()),
    }
}

fn check_size(bytes: usize) -> Result<(), AuthorError> {
    if bytes > BATCH_BYTES_MAX {
        Err(AuthorError::TooLarge(bytes))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Host, domain, stamp, write};

    #[test]
    fn what_does_not_fit_is_refused_whole() {
        let (host, scope, replica) = (Host::new(1), domain("red"), Replica::default());
        let write_all = |writes| facts(&replica, &host, &scope, writes, stamp(1)).err();
        let large = "x".repeat(15_000);
        let some = |count: usize, text: &str| (0..count).map(|n| write(&n.to_string(), Some(text))).collect();
        assert_eq!(write_all(Vec::new()), Some(AuthorError::Empty));
        assert_eq!(write_all(some(257, "x")), Some(AuthorError::TooMany(257)));
        assert_eq!(write_all(some(256, "x")), None);
        assert!(matches!(write_all(some(70, &large)), Some(AuthorError::TooLarge(bytes)) if bytes > BATCH_BYTES_MAX));
        assert_eq!(write_all(some(60, &large)), None);
        let twice = vec![write("a", None), write("a", Some("x"))];
        assert_eq!(write_all(twice), Some(AuthorError::Twice(Key::new("K", "a"))));
        let huge = "x".repeat(17_000);
        assert!(matches!(
            write_all(some(1, &huge)),
            Some(AuthorError::Record(_, SignedError::TooLarge(_)))
        ));
    }

    #[test]
    fn a_counter_is_never_used_twice_even_by_a_restored_disk() {
        let (host, scope) = (Host::new(1), domain("red"));
        let mut replica = Replica::default();
        let first = host
            .wants(&mut replica, &scope, 1_000, vec![write("a", None), write("b", None)])
            .dots;
        let second = host.wants(&mut replica, &scope, 900, vec![write("a", None)]).dots;
        let restored = host
            .wants(&mut Replica::default(), &scope, 2_000, vec![write("a", None)])
            .dots;
        let counters: Vec<_> = [first, second, restored]
            .iter()
            .flatten()
            .map(|(_, dot)| dot.counter)
            .collect();
        assert_eq!(counters, [1_001, 1_002, 1_003, 2_001]);
    }
}
