//! Reading back what objects said before.

use super::Membership;
use super::disk::DiskError;
use crate::id::Scope;
use crate::record::Intent;
use crate::signed::Signed;

/// Why there is no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The disk refused.
    #[error("the store could not be read: {0}")]
    Store(String),
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Closed,
}

impl Membership {
    /// Every version of the objects of a scope that this node merged and still remembers, those that count included, in
    /// any order. It forgets first what was replaced first, beyond [`HISTORY_VERSIONS_MAX`] versions or
    /// [`HISTORY_BYTES_MAX`] bytes of a scope. What was replaced before this node could merge it was never here.
    ///
    /// [`HISTORY_VERSIONS_MAX`]: crate::store::HISTORY_VERSIONS_MAX
    /// [`HISTORY_BYTES_MAX`]: crate::store::HISTORY_BYTES_MAX
    pub async fn history(&self, scope: &Scope) -> Result<Vec<Signed<Intent>>, HistoryError> {
        let of = scope.clone();
        let kept = self.0.state.disk.run(move |store| store.history(&of)).await;
        let mut versions = kept.map_err(|error| match error {
            DiskError::Store(why) => HistoryError::Store(why),
            DiskError::Closed => HistoryError::Closed,
        })?;
        // What was merged a moment ago may not be on disk yet.
        versions.extend(self.read(|replica| {
            let held = replica.intents(scope).flat_map(|(_, siblings)| siblings.versions());
            held.cloned().collect::<Vec<_>>()
        }));
        Ok(versions)
    }
}
