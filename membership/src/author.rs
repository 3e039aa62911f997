//! This node's own writes: numbering, chaining, heads, contexts and the limits of a batch. Pure: what it makes must be
//! on disk before it is merged or told to anybody.

use crate::batch::{Batch, BatchError, FactBatch};
use crate::hlc::Stamp;
use crate::id::Scope;
use crate::record::{Body, Dot, Head, Key};
use crate::replica::{Change, Replica};
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
    #[error("{0} records are more than the {max} of one batch", max = crate::record::BATCH_RECORDS_MAX)]
    TooMany(usize),
    /// More bytes than fit a batch.
    #[error("{0} bytes are more than the {max} of one batch", max = crate::record::BATCH_BYTES_MAX)]
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
    /// Nothing to write.
    #[error("a batch without records")]
    Empty,
}

/// Makes a batch of facts of this host. `replica` must hold all own batches made before.
pub fn facts(
    replica: &Replica,
    signer: &dyn Signer,
    scope: &Scope,
    writes: Vec<Write>,
    stamp: Stamp,
) -> Result<Authored, AuthorError> {
    todo!()
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
    todo!()
}

/// Answers [`Effect::Reclaim`]: joins what peers hold of this node with what it holds itself, the later stamp of each
/// key winning, and says all of it again in an epoch above both.
///
/// [`Effect::Reclaim`]: crate::sync::Effect::Reclaim
pub fn reclaim(replica: &Replica, signer: &dyn Signer, theirs: &FactBatch) -> Result<Authored, AuthorError> {
    todo!()
}
