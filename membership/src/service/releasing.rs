//! Giving back the keys that this node asked for and does not use: those of claims that it needs no longer, and those of
//! claims that were never finished. A key is given up first, on disk: from then on this node does not use it, nor claim it
//! again, until every anchor has freed it. Else a word that reaches an anchor late would free what is claimed anew.

use std::sync::Arc;

use futures::future::join_all;

use super::claiming::{TABLE as HELD, row};
use super::disk::DiskError;
use super::internal::{self, ANCHOR_DEADLINE, Request};
use super::state::State;
use super::{Membership, WriteError};
use crate::id::{NodeId, Scope};
use crate::mesh::Mesh;

/// The store's table of keys that this node gave up and some anchor may hold for it.
const GIVEN_UP: &str = "claims-given-up";

impl Membership {
    /// The keys that this node claimed, or tried to claim, and did not give up.
    pub async fn keys_held(&self) -> Result<Vec<(Scope, String)>, WriteError> {
        let state = &self.0.state;
        let given_up = keys(state, GIVEN_UP).await?;
        let held = keys(state, HELD).await?.into_iter();
        Ok(held.filter(|key| !given_up.contains(key)).collect())
    }

    /// The keys that this node gave up and that are not free yet.
    pub async fn keys_given_up(&self) -> Result<Vec<(Scope, String)>, WriteError> {
        Ok(keys(&self.0.state, GIVEN_UP).await?)
    }

    /// Gives a key up: this node neither uses nor claims it from here on. Nobody else can have it before [`Self::free`].
    pub async fn give_up(&self, scope: &Scope, key: &str) -> Result<(), WriteError> {
        let Some(row) = row(scope, key) else { return Ok(()) };
        let put = self.0.state.disk.run(move |store| store.put(GIVEN_UP, &row, &[]));
        Ok(put.await?)
    }

    /// Has the anchors free a key that was given up; whether all have. Call it when nobody in the cluster can still believe
    /// that the key is this node's, and again while it is not true.
    pub async fn free(&self, scope: &Scope, key: &str) -> Result<bool, WriteError> {
        let (state, mesh) = (&self.0.state, &self.0.mesh);
        if !is_given_up(state, scope, key).await {
            return Ok(true);
        }
        let anchors = state.roster().cluster().anchors.clone();
        let asked = anchors.nodes.iter().map(|anchor| ask(state, mesh, *anchor, scope, key));
        let freed = join_all(asked).await.into_iter().all(|freed| freed);
        if !freed || state.roster().cluster().anchors != anchors {
            return Ok(false);
        }
        // A word of a try before this one may still be under way.
        tokio::time::sleep(ANCHOR_DEADLINE).await;
        let Some(row) = row(scope, key) else { return Ok(true) };
        let forgotten = state.disk.run(move |store| {
            store.delete(HELD, &row)?;
            store.delete(GIVEN_UP, &row)
        });
        forgotten.await?;
        Ok(true)
    }
}

/// Whether this node gave the key up and not every anchor has freed it. What the disk does not tell counts as given up.
pub(super) async fn is_given_up(state: &State, scope: &Scope, key: &str) -> bool {
    let Some(row) = row(scope, key) else { return true };
    let found = state.disk.run(move |store| store.get(GIVEN_UP, &row)).await;
    !matches!(found, Ok(None))
}

/// Forgets the proofs of all claims: the disk is older than what this node said since, and it may have given some of them
/// up. Whoever claims asks the anchors again.
pub(super) async fn doubt(state: &State) -> Result<(), DiskError> {
    let forgotten = state.disk.run(|store| {
        for (row, _) in store.entries(HELD)? {
            store.delete(HELD, &row)?;
        }
        Ok(())
    });
    forgotten.await
}

async fn keys(state: &State, table: &'static str) -> Result<Vec<(Scope, String)>, DiskError> {
    let rows = state.disk.run(move |store| store.entries(table)).await?;
    Ok(rows
        .iter()
        .filter_map(|(row, _)| postcard::from_bytes(row).ok())
        .collect())
}

async fn ask(state: &Arc<State>, mesh: &Mesh, anchor: NodeId, scope: &Scope, key: &str) -> bool {
    let (scope, key) = (scope.clone(), key.to_owned());
    let freed = if anchor == state.own() {
        internal::release(state, anchor, scope, key).await
    } else {
        internal::ask(mesh, anchor, &Request::Release { scope, key }).await
    };
    freed
        .inspect_err(|why| tracing::debug!(%anchor, "a key is not free yet: {why}"))
        .is_ok()
}

impl From<DiskError> for WriteError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::Closed => Self::Closed,
            DiskError::Store(why) => Self::Store(why),
        }
    }
}
