//! The versions of one object. What is kept is exactly the versions that no other one dominates; since domination is a
//! strict order, joining two such sets is commutative, associative and idempotent.

use crate::record::{Digest, Intent, Key};
use crate::signed::Signed;

/// The versions of one object that no other dominates. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Siblings {
    shown: Signed<Intent>,
    /// Descending by rank.
    others: Vec<Signed<Intent>>,
    key: Digest,
    digest: Digest,
}

/// What a join adds and takes away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SiblingsChange {
    pub(crate) add: Vec<Signed<Intent>>,
    pub(crate) remove: Vec<Digest>,
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
        self.digest
    }

    /// The digest of the key.
    pub(crate) fn key_digest(&self) -> Digest {
        self.key
    }

    /// The bucket of the key.
    pub(crate) fn bucket(&self) -> u8 {
        self.key.0[0]
    }

    /// Siblings of these versions of one key, of which at least one must be there.
    pub(crate) fn of(mut versions: Vec<Signed<Intent>>) -> Option<Self> {
        versions.sort_unstable_by(|a, b| rank(b).cmp(&rank(a)));
        let mut digests: Vec<_> = versions.iter().map(Signed::digest).collect();
        digests.sort_unstable();
        let mut versions = versions.into_iter();
        let shown = versions.next()?;
        let key = key_digest(&shown.value().key);
        let parts: Vec<&[u8]> = std::iter::once(&key)
            .chain(&digests)
            .map(|digest| digest.0.as_slice())
            .collect();
        Some(Self {
            digest: Digest::of(&parts),
            key,
            shown,
            others: versions.collect(),
        })
    }
}

/// How `held` changes when `incoming` versions of the same key are joined.
pub(crate) fn join<'a>(held: Option<&Siblings>, incoming: impl Iterator<Item = &'a Signed<Intent>>) -> SiblingsChange {
    let held: Vec<_> = held.into_iter().flat_map(Siblings::versions).collect();
    let mut fresh: Vec<&Signed<Intent>> = Vec::new();
    for version in incoming {
        if !held
            .iter()
            .chain(&fresh)
            .any(|known| known.digest() == version.digest())
        {
            fresh.push(version);
        }
    }
    let dominated = |version: &Signed<Intent>| {
        held.iter()
            .chain(&fresh)
            .any(|other| other.value().dominates(version.value()))
    };
    SiblingsChange {
        remove: held
            .iter()
            .filter(|version| dominated(version))
            .map(|version| version.digest())
            .collect(),
        add: fresh
            .iter()
            .filter(|version| !dominated(version))
            .map(|&version| version.clone())
            .collect(),
    }
}

/// Orders versions for showing.
fn rank(version: &Signed<Intent>) -> impl Ord {
    (version.value().stamp, version.value().dot.writer, version.digest())
}

/// The digest of a key, which places it in one of the buckets of its scope.
pub(crate) fn key_digest(key: &Key) -> Digest {
    Digest::of(&[key.kind.as_bytes(), &[0], key.name.as_bytes()])
}
