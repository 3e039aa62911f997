//! The first store of a cluster that is made from a backup: the objects as they were, as versions of its first node.

use std::collections::BTreeMap;
use std::path::Path;

use super::SetupError;
use crate::hlc::Stamp;
use crate::id::Scope;
use crate::identity::NodeKey;
use crate::record::{BATCH_RECORDS_MAX, Body, Dot, Intent, Key, VersionVector};
use crate::replica::{Change, IntentChange};
use crate::signed::Signed;
use crate::store::{Durable, Store, StoreError};

/// A version of an object from a backup. Several of one object that stand in a backup disagreed there, and do so again.
#[derive(Debug, Clone)]
pub struct Restored {
    /// Where it belongs.
    pub scope: Scope,
    /// Which object.
    pub key: Key,
    /// When it was written.
    pub stamp: Stamp,
    /// Who asked for it then.
    pub author: String,
    /// `None` deletes the object.
    pub body: Option<Body>,
}

impl From<StoreError> for SetupError {
    fn from(error: StoreError) -> Self {
        Self::Other(error.to_string())
    }
}

/// Writes them into a new store, signed by this node. On disk when it returns; where it fails there is no store.
pub(super) fn write(path: &Path, key: &NodeKey, objects: Vec<Restored>) -> Result<(), SetupError> {
    fill(path, key, objects).inspect_err(|_| {
        if let Err(error) = std::fs::remove_file(path) {
            tracing::warn!("{} could not be removed: {error}", path.display());
        }
    })
}

fn fill(path: &Path, key: &NodeKey, objects: Vec<Restored>) -> Result<(), SetupError> {
    let store = Store::open(path)?;
    let mut counters: BTreeMap<Scope, u64> = BTreeMap::new();
    let mut changes: BTreeMap<Scope, Vec<Signed<Intent>>> = BTreeMap::new();
    for object in objects {
        let counter = counters.entry(object.scope.clone()).or_default();
        *counter += 1;
        let version = signed(key, object, *counter)?;
        changes.entry(version.value().scope.clone()).or_default().push(version);
    }
    for (scope, versions) in changes {
        for part in versions.chunks(BATCH_RECORDS_MAX) {
            let change = IntentChange {
                scope: scope.clone(),
                put: part.to_vec(),
                removed: Vec::new(),
            };
            store.commit(&[Change::Intents(change)], Durable::Later)?;
        }
    }
    Ok(store.flush()?)
}

/// Its context is empty: the new cluster saw nothing before it.
fn signed(key: &NodeKey, object: Restored, counter: u64) -> Result<Signed<Intent>, SetupError> {
    let Restored {
        scope,
        key: of,
        stamp,
        author,
        body,
    } = object;
    let what = format!("{of} in {scope}");
    let intent = Intent {
        scope,
        key: of,
        dot: Dot {
            writer: key.id(),
            counter,
        },
        context: VersionVector::default(),
        stamp,
        author: author.into(),
        body,
    };
    Signed::sign(intent, key).map_err(|error| SetupError::Other(format!("{what} cannot be restored: {error}")))
}
