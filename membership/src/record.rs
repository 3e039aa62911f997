//! What is agreed on, in its two classes, and nothing about how it travels or where it lies.
//!
//! * A **fact** has one writer, the host it is about. Facts of one (origin, scope) form a gap-free, hash-chained
//!   sequence; the newest one of each key counts. A signed [`Head`] says what the whole set is.
//! * **Intent** may be written on any node. A version carries the causal context its writer saw; versions that do
//!   not dominate each other are kept side by side as siblings.
//!
//! Bodies are opaque here: a key, a format version and bytes, relayed unchanged by nodes that cannot read them.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::hlc::Stamp;
use crate::id::{NodeId, Scope};

/// Largest record, in bytes of its signed form.
pub const RECORD_MAX: usize = 16 * 1024;
/// Most records in one batch.
pub const BATCH_RECORDS_MAX: usize = 256;
/// Largest batch, in bytes of its signed records: 1 MiB less what its head and the frame around it need.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024 - 2 * RECORD_MAX;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of these parts, one after the other.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// Sum modulo 2^256, both read as little-endian numbers: the digest of a set, whatever the order of its members.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut sum = self;
        let mut carry = 0;
        for (byte, add) in sum.0.iter_mut().zip(other.0) {
            let wide = u16::from(*byte) + u16::from(add) + carry;
            *byte = wide.to_le_bytes()[0];
            carry = wide >> 8;
        }
        sum
    }

    /// Takes a member out of a sum.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        // Two's complement: minus x is (not x) plus one.
        let mut one = Self::default();
        one.0[0] = 1;
        self.plus(Self(other.0.map(|byte| !byte))).plus(one)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0[..8]))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// What a record is about: a kind and a name within its scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// `Network`, `Endpoint`, `Attachment`, …; the reader decides what it knows.
    pub kind: Box<str>,
    /// Unique within (scope, kind), for facts within (origin, scope, kind).
    pub name: Box<str>,
}

impl Key {
    /// The key of `name` among the records of `kind`.
    #[must_use]
    pub fn new(kind: &str, name: &str) -> Self {
        Self {
            kind: kind.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// The opaque content of a record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Format of `bytes`, known to who reads the kind.
    pub version: u16,
    /// The content.
    pub bytes: Bytes,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{} ({} bytes)", self.version, self.bytes.len())
    }
}

/// A statement of a host about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// The host that says it, and the only one that may.
    pub origin: NodeId,
    /// Where it belongs.
    pub scope: Scope,
    /// Raised when the origin found that its peers hold more of it than its own disk.
    pub epoch: u64,
    /// 1, 2, 3, … without a gap per (origin, scope, epoch).
    pub seq: u64,
    /// Digest of the record with the number before; zero for the first.
    pub previous: Digest,
    /// What it is about.
    pub key: Key,
    /// When it was said; orders nothing, shown to people.
    pub stamp: Stamp,
    /// `None` withdraws the key.
    pub body: Option<Body>,
}

/// What an origin signs about all its facts in a scope, so that omission and reordering by a relay are seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The host whose facts these are.
    pub origin: NodeId,
    /// Their scope.
    pub scope: Scope,
    /// The current epoch.
    pub epoch: u64,
    /// A receiver that is below is reset from the whole set.
    pub floor: u64,
    /// Number of the newest fact.
    pub seq: u64,
    /// How many keys are current, withdrawn ones that are still kept included.
    pub count: u64,
    /// Sum of the digests of the current facts (256-bit, wrapping).
    pub set: Digest,
    /// Digest of the newest fact.
    pub chain: Digest,
}

/// One write of one writer in one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// The node that took the write.
    pub writer: NodeId,
    /// Rises with each write per (writer, scope) and is never used twice. It starts from the writer's clock, so that
    /// not even a restored disk repeats one.
    pub counter: u64,
}

/// For each writer the highest write that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VersionVector(pub BTreeMap<NodeId, u64>);

impl VersionVector {
    /// Whether the write is among those seen.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.0.get(&dot.writer).is_some_and(|seen| *seen >= dot.counter)
    }

    /// Adds a write.
    pub fn insert(&mut self, dot: Dot) {
        let seen = self.0.entry(dot.writer).or_default();
        *seen = (*seen).max(dot.counter);
    }

    /// Whether all that the other has seen was seen here.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other
            .0
            .iter()
            .all(|(&writer, &counter)| self.contains(Dot { writer, counter }))
    }

    /// Adds all that the other has seen.
    pub fn join(&mut self, other: &Self) {
        for (&writer, &counter) in &other.0 {
            self.insert(Dot { writer, counter });
        }
    }
}

/// A version of a shared object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Where it belongs.
    pub scope: Scope,
    /// Which object.
    pub key: Key,
    /// This write.
    pub dot: Dot,
    /// The writes of this key that its writer saw, and that it therefore replaces.
    pub context: VersionVector,
    /// Orders concurrent versions, nothing else.
    pub stamp: Stamp,
    /// The API user who asked for it.
    pub author: Box<str>,
    /// `None` deletes the object.
    pub body: Option<Body>,
}

impl Intent {
    /// Whether this version was written in knowledge of the other one, and of all that one knew. The second half
    /// always holds between honest writers; asking for it makes this a strict order (no context contains the dot of
    /// its own version), so that not even forged contexts keep two replicas apart.
    #[must_use]
    pub fn dominates(&self, other: &Self) -> bool {
        self.context.contains(other.dot) && self.context.covers(&other.context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_digests_forget_the_order_and_can_be_undone() {
        let [a, b] = [Digest::of(&[b"a"]), Digest::of(&[b"b"])];
        assert_eq!(a.plus(b), b.plus(a));
        assert_eq!(a.plus(b).minus(a), b);
        assert_eq!(a.minus(b).plus(b), a);
        assert_ne!(a.plus(b), a);
    }
}
