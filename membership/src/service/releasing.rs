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
use crate::claim::Claim;
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
        Ok(give_up(&self.0.state, scope, key).await?)
    }

    /// Has the anchors free a key that was given up; whether all have. Call it when nobody in the cluster can still believe
    /// that the key is this node's, and again while it is not true.
    pub async fn free(&self, scope: &Scope, key: &str) -> Result<bool, WriteError> {
        let (state, mesh) = (&self.0.state, &self.0.mesh);
        // An old disk may say so of keys that are in use again.
        state.settled().await;
        let _no_doubt_meanwhile = state.freeing.read().await;
        if !is_given_up(state, scope, key).await {
            return Ok(true);
        }
        let anchors = state.roster().cluster().anchors.clone();
        let asked = anchors.nodes.iter().map(|anchor| ask(state, mesh, *anchor, scope, key));
        let freed = join_all(asked).await.into_iter().all(|freed| freed);
        if !freed {
            return Ok(false);
        }
        // A word of a try before this one may still be under way.
        tokio::time::sleep(ANCHOR_DEADLINE).await;
        if state.roster().cluster().anchors != anchors {
            return Ok(false);
        }
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

/// Notes that this node gave the key up.
pub(super) async fn give_up(state: &State, scope: &Scope, key: &str) -> Result<(), DiskError> {
    let Some(row) = row(scope, key) else { return Ok(()) };
    state.disk.run(move |store| store.put(GIVEN_UP, &row, &[])).await
}

/// Forgets the proofs of all claims, and what was given up, but not the keys: the disk is older than what this node said
/// since, and it may have given up or claimed any of them. Whoever claims asks the anchors again; what nobody uses is given
/// up once more.
pub(super) async fn doubt(state: &State) -> Result<(), DiskError> {
    let _nothing_is_freed_meanwhile = state.freeing.write().await;
    let holder = state.own();
    let forgotten = state.disk.run(move |store| {
        let mut rows = store.entries(HELD)?;
        rows.extend(store.entries(GIVEN_UP)?);
        for (row, _) in rows {
            match asked(&row, holder) {
                Some(asked) => store.put(HELD, &row, &asked)?,
                None => store.delete(HELD, &row)?,
            }
            store.delete(GIVEN_UP, &row)?;
        }
        Ok(())
    });
    forgotten.await
}

/// The claim of a row as it is before anybody witnessed it.
fn asked(row: &[u8], holder: NodeId) -> Option<Vec<u8>> {
    let (scope, key): (Scope, String) = postcard::from_bytes(row).ok()?;
    let claim = Claim {
        scope,
        key: key.into(),
        holder,
        witnesses: Vec::new(),
    };
    postcard::to_stdvec(&claim).ok()
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
