//! A data directory without its daemon: whose it is, keeping it from being used, and forgetting it.

use std::path::Path;

use super::StartError;
use crate::home::Home;
use crate::id::NodeId;
use crate::store::{Store, StoreError};

/// The node whose home a data directory is. Needs neither its key nor its store.
pub fn node_of(data: &Path) -> Result<NodeId, StartError> {
    let manifest = Home::at(data).manifest()?;
    manifest
        .map(|manifest| manifest.node)
        .ok_or_else(|| StartError::NoNode(data.to_owned()))
}

/// Keeps a data directory's daemon from starting, as long as it lives.
#[derive(Debug)]
pub struct Hold(#[expect(dead_code, reason = "closing it frees the directory")] Option<Store>);

/// Makes sure that no daemon runs in a data directory, and that none starts there meanwhile. A store that nobody can use
/// is in nobody's use.
pub fn hold(data: &Path) -> Result<Hold, StartError> {
    let path = Home::at(data).store();
    if !path.exists() {
        return Ok(Hold(None));
    }
    match Store::open(&path) {
        Ok(store) => Ok(Hold(Some(store))),
        Err(StoreError::InUse(_)) => Err(StartError::InUse(data.to_owned())),
        Err(error) => {
            tracing::warn!("the store could not be opened: {error}");
            Ok(Hold(None))
        }
    }
}

/// Removes the node whose home a data directory is: its key, its certificate, its store. The directory must be held.
pub fn forget(data: &Path, hold: Hold) -> Result<(), StartError> {
    // Open files cannot be removed everywhere; here they can, but a closed store is whole until it goes.
    drop(hold);
    Ok(Home::at(data).forget()?)
}
