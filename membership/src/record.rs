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

use crate::hlc::Stamp;
use crate::id::{NodeId, Scope};

/// Largest record, in bytes of its signed form.
pub const RECORD_MAX: usize = 16 * 1024;
/// Most records in one batch.
pub const BATCH_RECORDS_MAX: usize = 256;
/// Largest batch, in bytes.
pub const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

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
    /// 1, 2, 3, … per (writer, scope).
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
    /// Whether this version was written in knowledge of the other one.
    #[must_use]
    pub fn dominates(&self, other: &Self) -> bool {
        self.context.contains(other.dot)
    }
}
