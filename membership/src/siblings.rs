//! The versions of one object. What is kept is exactly the versions that no other one dominates; since domination is a
//! strict order, joining two such sets is commutative, associative and idempotent. Of one writer no more than
//! [`SIBLINGS_MAX`] are kept, whatever order they came in; `ALGORITHM.md` says what that does to the join.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::NodeId;
use crate::record::{Digest, Intent, Key};
use crate::signed::Signed;

/// Most versions of one object by one writer. An honest one leaves a second one only if its disk was restored.
pub const SIBLINGS_MAX: usize = 8;

/// How often what a crowded version dominated is looked at again. Once is enough unless several writers crowd their own
/// versions out and claim to have seen each other's in a circle.
const ROUNDS: usize = 8;

/// Counter and digest of a version.
type Place = (u64, Digest);

/// The versions of one object that no other dominates. Never empty. There are as many as there are objects: what can be
/// computed from them is not kept, but for what all are asked at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Siblings {
    shown: Signed<Intent>,
    /// Descending by rank.
    others: Box<[Signed<Intent>]>,
    bucket: u8,
}

/// What a join adds and takes away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SiblingsChange {
    pub(crate) add: Vec<Signed<Intent>>,
    pub(crate) remove: Vec<Digest>,
    /// Writers that have more versions side by side than are kept.
    pub(crate) crowded: BTreeSet<NodeId>,
}

impl Siblings {
    /// The version that is shown: the highest (stamp, writer).
    #[must_use]
    pub fn shown(&self) -> &Intent {
        self.shown.value()
    }

    /// All of them, the shown one first.
    pub fn all(&self) -> impl Iterator<Item = &Intent> {
        self.versions().map(Signed::value)
    }

    /// All of them as signed, the shown one first.
    pub fn versions(&self) -> impl Iterator<Item = &Signed<Intent>> {
        std::iter::once(&self.shown).chain(&self.others)
    }

    /// How many of them delete the object.
    pub(crate) fn tombstones(&self) -> usize {
        self.all().filter(|version| version.body.is_none()).count()
    }

    /// One digest over the key and its versions.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let key = self.key_digest();
        let mut digests: Vec<_> = self.versions().map(Signed::digest).collect();
        digests.sort_unstable();
        let parts: Vec<&[u8]> = std::iter::once(&key)
            .chain(&digests)
            .map(|digest| digest.0.as_slice())
            .collect();
        Digest::of(&parts)
    }

    /// The digest of the key.
    pub(crate) fn key_digest(&self) -> Digest {
        key_digest(&self.shown().key)
    }

    /// The bucket of the key.
    pub(crate) fn bucket(&self) -> u8 {
        self.bucket
    }

    /// Siblings of these versions of one key, of which at least one must be there.
    pub(crate) fn of(mut versions: Vec<Signed<Intent>>) -> Option<Self> {
        versions.sort_unstable_by(|a, b| rank(b).cmp(&rank(a)));
        let mut versions = versions.into_iter();
        let shown = versions.next()?;
        Some(Self {
            bucket: key_digest(&shown.value().key).0[0],
            shown,
            others: versions.collect(),
        })
    }
}

/// How `held` changes when `incoming` versions of the same key are joined: what no other version dominates stays, of one
/// writer only the [`SIBLINGS_MAX`] latest. What is crowded out counts for nothing, so it dominates nothing either.
pub(crate) fn join<'a>(held: Option<&Siblings>, incoming: impl Iterator<Item = &'a Signed<Intent>>) -> SiblingsChange {
    let held: Vec<_> = held.into_iter().flat_map(Siblings::versions).collect();
    let mut known: BTreeSet<Digest> = held.iter().map(|version| version.digest()).collect();
    let fresh: Vec<_> = incoming.filter(|version| known.insert(version.digest())).collect();
    let mut counting: Vec<_> = held.iter().chain(&fresh).copied().collect();
    let mut crowded = BTreeSet::new();
    let mut kept = maximal(&counting);
    for _ in 0..ROUNDS {
        let last = last_kept(&kept);
        if last.is_empty() {
            break;
        }
        // With those that it crowds out go those of its writer that they dominated: these rank lower still.
        counting.retain(|version| stays(&last, version));
        crowded.extend(last.into_keys());
        kept = maximal(&counting);
    }
    let last = last_kept(&kept);
    kept.retain(|version| stays(&last, version));
    let kept: BTreeSet<Digest> = kept.iter().map(|version| version.digest()).collect();
    let stays = |version: &&&Signed<Intent>| kept.contains(&version.digest());
    SiblingsChange {
        remove: held
            .iter()
            .filter(|version| !stays(version))
            .map(|version| version.digest())
            .collect(),
        add: fresh.iter().filter(stays).map(|&version| version.clone()).collect(),
        crowded,
    }
}

/// The versions that no other one dominates.
fn maximal<'a>(versions: &[&'a Signed<Intent>]) -> Vec<&'a Signed<Intent>> {
    let dominated = |version: &Signed<Intent>| {
        let dominates = |other: &&Signed<Intent>| other.value().dominates(version.value());
        versions.iter().any(dominates)
    };
    let maximal = versions.iter().filter(|version| !dominated(version));
    maximal.copied().collect()
}

/// Of each writer that has more than it may: the last version that stays.
fn last_kept(versions: &[&Signed<Intent>]) -> BTreeMap<NodeId, Place> {
    let mut by_writer: BTreeMap<NodeId, Vec<Place>> = BTreeMap::new();
    for version in versions {
        let of = by_writer.entry(version.value().dot.writer).or_default();
        of.push(place(version));
    }
    let last = |(writer, mut places): (NodeId, Vec<Place>)| {
        places.sort_unstable_by(|a, b| b.cmp(a));
        let more = places.len() > SIBLINGS_MAX;
        Some((writer, *places.get(SIBLINGS_MAX - 1).filter(|_| more)?))
    };
    by_writer.into_iter().filter_map(last).collect()
}

fn stays(last: &BTreeMap<NodeId, Place>, version: &Signed<Intent>) -> bool {
    last.get(&version.value().dot.writer)
        .is_none_or(|last| place(version) >= *last)
}

/// Where a version stands among those of its writer: later ones have higher counters.
fn place(version: &Signed<Intent>) -> Place {
    (version.value().dot.counter, version.digest())
}

/// Orders versions for showing.
fn rank(version: &Signed<Intent>) -> impl Ord {
    (version.value().stamp, version.value().dot.writer, version.digest())
}

/// The digest of a key, which places it in one of the buckets of its scope.
pub(crate) fn key_digest(key: &Key) -> Digest {
    Digest::of(&[key.kind.as_bytes(), &[0], key.name.as_bytes()])
}
