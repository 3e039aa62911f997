//! Calls that membership answers itself, and their wire form.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::state::State;
use crate::claim::{Acknowledgement, Granted, KEY_MAX};
use crate::id::{NodeId, Scope};

/// What a node asks another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Asks an anchor for a key.
    Claim {
        /// Within this scope.
        scope: Scope,
        /// The key.
        key: String,
    },
    /// Gives a key back to an anchor.
    Release {
        /// Within this scope.
        scope: Scope,
        /// The key.
        key: String,
    },
}

/// What an anchor answers to [`Request::Claim`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Claimed {
    /// The key is the asker's.
    Given(Acknowledgement),
    /// It is this node's.
    Held(NodeId),
}

/// Answers a call of a member.
pub(super) async fn answer(state: Arc<State>, from: NodeId, request: Bytes) -> Result<Bytes, String> {
    let request: Request = postcard::from_bytes(&request).map_err(|_| "the request cannot be read".to_owned())?;
    let answer = match request {
        Request::Claim { scope, key } => postcard::to_stdvec(&claim(&state, from, scope, key).await?),
        Request::Release { scope, key } => postcard::to_stdvec(&release(&state, from, scope, key).await?),
    };
    answer.map(Bytes::from).map_err(|error| error.to_string())
}

/// Decides as an anchor. The decision is on disk when this returns.
pub(super) async fn claim(state: &State, holder: NodeId, scope: Scope, key: String) -> Result<Claimed, String> {
    let cluster = state.roster().cluster().clone();
    if !cluster.anchors.nodes.contains(&state.own()) {
        return Err("this node is no anchor".to_owned());
    }
    if key.is_empty() || key.len() > KEY_MAX {
        return Err(format!("a key has 1 to {KEY_MAX} bytes"));
    }
    let (within, of) = (scope.clone(), key.clone());
    let granted = state.disk.run(move |store| store.grant(&within, &of, holder)).await;
    match granted.map_err(|error| error.to_string())? {
        Granted::Held(other) => Ok(Claimed::Held(other)),
        Granted::First | Granted::Again => {
            let list = cluster.anchors.version;
            Ok(Claimed::Given(Acknowledgement::sign(
                &state.key, cluster.id, &scope, &key, holder, list,
            )))
        }
    }
}

/// Frees a key that the asker holds.
pub(super) async fn release(state: &State, holder: NodeId, scope: Scope, key: String) -> Result<(), String> {
    let released = state.disk.run(move |store| store.release(&scope, &key, holder)).await;
    released.map_err(|error| error.to_string())
}
