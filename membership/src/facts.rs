//! The facts of one origin in one scope. What is held is always exactly what one signed head says; a batch either
//! leads to the next head, whole, or changes nothing. Heads are ordered by (epoch, seq, digest), the highest wins.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::FactBatch;
use crate::record::{Digest, Fact, Head, Key};
use crate::signed::Signed;

/// What a head says, and the facts that it says it of.
#[derive(Debug, Clone)]
pub(crate) struct OriginFacts {
    pub(crate) head: Signed<Head>,
    /// The newest fact of each key, withdrawn ones from the floor on included.
    pub(crate) current: BTreeMap<Key, Signed<Fact>>,
    /// Of the current facts as signed.
    bytes: usize,
}

/// How a batch changes what is held of its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FactChange {
    /// The head that then holds.
    pub head: Signed<Head>,
    /// Facts to add, each in place of the one with its key.
    pub put: Vec<Signed<Fact>>,
    /// Keys whose fact goes.
    pub removed: Vec<Key>,
}

/// What a batch means for what is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Held already, or older than what is held.
    Stale,
    /// Leads from what is held to its head.
    Applies(FactChange),
    /// Its head is higher, but something between is missing.
    Gap,
}

/// Orders the heads of one origin and scope.
pub(crate) fn rank(head: &Signed<Head>) -> (u64, u64, Digest) {
    (head.value().epoch, head.value().seq, head.digest())
}

/// Whether origin says two different things about itself: two heads with one number, a fact that does not follow the one
/// that is held, or, beside a later head, one that was as current at the held head as what is held of its key; or says
/// all again without something that it said later than what it says.
pub(crate) fn forked(held: Option<&OriginFacts>, batch: &FactBatch) -> bool {
    let Some(held) = held else { return false };
    let (known, head) = (held.head.value(), batch.head().value());
    if known.epoch != head.epoch {
        return known.epoch < head.epoch && forgets(held, batch);
    }
    let twins = known.seq == head.seq && held.head.digest() != batch.head().digest();
    let differs = |fact: &Signed<Fact>| {
        let same = held.current.get(&fact.value().key);
        same.is_none_or(|same| same.digest() != fact.digest())
    };
    let contradicts = |fact: &&Signed<Fact>| match fact.value().seq {
        seq if seq == known.seq.saturating_add(1) => fact.value().previous != known.chain,
        seq => seq <= known.seq && known.seq < head.seq && differs(fact),
    };
    twins || newest(batch.facts()).into_values().any(|fact| contradicts(&fact))
}

/// Whether a batch of a higher epoch, as the whole set, has something earlier in it than what is held, or lacks what is later
/// than all of it. What was withdrawn and is forgotten is earlier than the last of the set.
fn forgets(held: &OriginFacts, batch: &FactBatch) -> bool {
    let (head, set) = (batch.head().value(), newest(batch.facts()));
    let last = set.values().map(|fact| fact.value().stamp).max();
    let is_later = |fact: &Signed<Fact>| {
        let said = set.get(&fact.value().key).map(|same| same.value().stamp).or(last);
        said.is_some_and(|said| said < fact.value().stamp)
    };
    u64::try_from(set.len()) == Ok(head.count) && held.current.values().any(is_later)
}

/// Judges a batch: as the continuation of what is held first, then as the whole set.
pub(crate) fn judge(held: Option<&OriginFacts>, batch: &FactBatch) -> Judgement {
    if held.is_some_and(|held| rank(&held.head) >= rank(batch.head())) {
        return Judgement::Stale;
    }
    held.and_then(|held| continuation(held, batch))
        .or_else(|| whole(held, batch))
        .map_or(Judgement::Gap, Judgement::Applies)
}

fn continuation(held: &OriginFacts, batch: &FactBatch) -> Option<FactChange> {
    let (known, head) = (held.head.value(), batch.head().value());
    let follows = batch.facts().first().is_none_or(|fact| fact.value().seq > known.seq);
    if known.epoch != head.epoch || !follows || forked(Some(held), batch) {
        return None;
    }
    let put = newest(batch.facts());
    let expired = |fact: &Signed<Fact>| fact.value().body.is_none() && fact.value().seq < head.floor;
    let mut removed = Vec::new();
    let mut sum = known.set;
    let mut count = known.count;
    for fact in put.values() {
        match held.current.get(&fact.value().key) {
            Some(replaced) => sum = sum.minus(replaced.digest()),
            None => count = count.checked_add(1)?,
        }
        sum = sum.plus(fact.digest());
    }
    if head.floor > known.floor {
        for (key, fact) in held
            .current
            .iter()
            .filter(|(key, fact)| expired(fact) && !put.contains_key(key))
        {
            sum = sum.minus(fact.digest());
            count = count.checked_sub(1)?;
            removed.push(key.clone());
        }
    }
    let put = put.into_values().cloned().collect();
    (sum == head.set && count == head.count).then(|| FactChange {
        head: batch.head().clone(),
        put,
        removed,
    })
}

fn whole(held: Option<&OriginFacts>, batch: &FactBatch) -> Option<FactChange> {
    let head = batch.head().value();
    let set = newest(batch.facts());
    let sum = sum(set.values().copied());
    if set.len() != batch.facts().len() || u64::try_from(set.len()) != Ok(head.count) || sum != head.set {
        return None;
    }
    let known = held.map(|held| &held.current);
    let differs = |fact: &Signed<Fact>| {
        known
            .and_then(|known| known.get(&fact.value().key))
            .is_none_or(|same| same.digest() != fact.digest())
    };
    let keys: BTreeSet<_> = set.keys().copied().collect();
    let removed = known
        .into_iter()
        .flat_map(BTreeMap::keys)
        .filter(|key| !keys.contains(key))
        .cloned()
        .collect();
    let put = set.into_values().filter(|fact| differs(fact)).cloned().collect();
    Some(FactChange {
        head: batch.head().clone(),
        put,
        removed,
    })
}

/// The last fact of each key. Facts come ascending.
fn newest(facts: &[Signed<Fact>]) -> BTreeMap<&Key, &Signed<Fact>> {
    facts.iter().map(|fact| (&fact.value().key, fact)).collect()
}

/// The sum of the digests of some facts.
pub(crate) fn sum<'a>(facts: impl Iterator<Item = &'a Signed<Fact>>) -> Digest {
    facts.fold(Digest::default(), |sum, fact| sum.plus(fact.digest()))
}

impl OriginFacts {
    /// What holds after a change.
    pub(crate) fn change(held: Option<Self>, change: &FactChange) -> Self {
        let bytes = Self::bytes_after(held.as_ref(), change);
        let mut current = held.map(|held| held.current).unwrap_or_default();
        for key in &change.removed {
            current.remove(key);
        }
        current.extend(change.put.iter().map(|fact| (fact.value().key.clone(), fact.clone())));
        Self {
            head: change.head.clone(),
            current,
            bytes,
        }
    }

    /// Of the current facts as signed.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How large the set is after a change.
    pub(crate) fn bytes_after(held: Option<&Self>, change: &FactChange) -> usize {
        let size = |key: &Key| {
            held.and_then(|held| held.current.get(key))
                .map_or(0, |fact| fact.raw().len())
        };
        let put = &change.put;
        let gone: usize = change
            .removed
            .iter()
            .chain(put.iter().map(|fact| &fact.value().key))
            .map(size)
            .sum();
        let come: usize = put.iter().map(|fact| fact.raw().len()).sum();
        (held.map_or(0, |held| held.bytes) + come).saturating_sub(gone)
    }

    /// The facts after a number of this epoch, ascending; all of them for zero.
    pub(crate) fn after(&self, seq: u64) -> Vec<Signed<Fact>> {
        let mut facts: Vec<_> = self
            .current
            .values()
            .filter(|fact| fact.value().seq > seq)
            .cloned()
            .collect();
        facts.sort_unstable_by_key(|fact| fact.value().seq);
        facts
    }
}
