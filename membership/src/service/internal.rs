//! Calls that membership answers itself, and their wire form.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::state::State;
use super::{authority, clocks, decrees, registrar, removal, seat, upgrade, warden};
use crate::claim::{Acknowledgement, Granted, KEY_MAX};
use crate::decree;
use crate::id::{Label, NodeId, Scope};
use crate::mesh::{Class, Mesh};
use crate::record::Digest;
use crate::store::Store;

/// How long an anchor may take.
pub(super) const ANCHOR_DEADLINE: Duration = Duration::from_secs(5);
/// What an anchor says that does not have yet what the list before it witnessed.
pub(super) const NOT_SEATED: &str = "this anchor is still taking over the claims of the others; try again";

/// What a node asks another one. Variants are added at the end: those before are what earlier releases speak.
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
    /// Of one anchor to another: about a change of the cluster record.
    Decree(decree::Request),
    /// Of one anchor to another: may this node join under this name?
    Admit {
        /// Who joins.
        node: NodeId,
        /// As whom.
        name: Label,
    },
    /// Of an anchor to another: the key of the authority with this root certificate.
    Authority {
        /// The digest of the certificate.
        root: Digest,
    },
    /// Of an anchor to those of the list before: the claims in its ledger behind this one.
    Claims {
        /// The version of the list whose ledger is wanted.
        list: u64,
        /// Scope as it stands in the ledger, and key.
        after: Option<(String, String)>,
    },
    /// Of one anchor to another: the highest counter that it has seen of this node's writes.
    Seen {
        /// Who is to be removed.
        node: NodeId,
    },
    /// Asks an anchor to remove the asker.
    Leave,
    /// Asks an anchor for a further certificate for the asker.
    Renew,
    /// Of an anchor to another: to fetch the key of this root certificate (DER) from the asker, and to keep it.
    Prepare {
        /// Which is about to be trusted.
        root: Bytes,
        /// By those anchors and beside those roots for whom it was made.
        made_for: Digest,
    },
    /// Of one anchor to another: what it knows against this wire version.
    Obstacle {
        /// Which is about to be agreed on.
        version: u16,
    },
    /// Asks what time it is there: milliseconds since 1970-01-01.
    Time,
}

/// What an anchor answers to [`Request::Claim`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Claimed {
    /// The key is the asker's.
    Given(Acknowledgement),
    /// It is this node's.
    Held(NodeId),
}

/// Asks another node.
pub(super) async fn ask<T: DeserializeOwned>(mesh: &Mesh, node: NodeId, request: &Request) -> Result<T, String> {
    ask_for(mesh, node, request, ANCHOR_DEADLINE).await
}

/// Asks another node what takes longer.
pub(super) async fn ask_for<T: DeserializeOwned>(
    mesh: &Mesh,
    node: NodeId,
    request: &Request,
    wait: Duration,
) -> Result<T, String> {
    let answer = call(mesh, node, request, wait).await?;
    postcard::from_bytes(&answer).map_err(|_| "its answer cannot be read".to_owned())
}

/// Asks another node; its answer as it came.
pub(super) async fn call(mesh: &Mesh, node: NodeId, request: &Request, wait: Duration) -> Result<Bytes, String> {
    let request = postcard::to_stdvec(request).map_err(|error| error.to_string())?;
    let answer = mesh.call(node, Class::Internal, request.into(), wait).await;
    answer.map_err(|error| error.to_string())
}

/// Answers a call of a member.
pub(super) async fn answer(state: Arc<State>, mesh: Mesh, from: NodeId, request: Bytes) -> Result<Bytes, String> {
    let request: Request = postcard::from_bytes(&request).map_err(|_| "the request cannot be read".to_owned())?;
    match request {
        Request::Claim { scope, key } => said(&claim(&state, from, scope, key).await?),
        Request::Release { scope, key } => said(&release(&state, from, scope, key).await?),
        Request::Decree(request) => said(&decrees::answer(&state, from, request).await?),
        Request::Admit { node, name } => said(&registrar::acknowledge(&state, from, node, name).await?),
        Request::Authority { root } => authority::hand_over(&state, from, root),
        Request::Seen { node } => {
            check_anchor(&state, from)?;
            said(&removal::seen(&state, node))
        }
        Request::Leave => {
            check_anchor(&state, state.own())?;
            said(&removal::let_go(&state, &mesh, from).await)
        }
        Request::Prepare { root, made_for } => said(&authority::prepare(&state, &mesh, from, &root, made_for).await?),
        Request::Obstacle { version } => {
            check_anchor(&state, from)?;
            said(&upgrade::objection(&state, version))
        }
        Request::Time => said(&clocks::shown()),
        Request::Renew => said(&renewed(&state, from)?),
        Request::Claims { list, after } => said(&seat::page(&state, from, list, after).await?),
    }
}

/// The connection proves the asker's key, and the record that is known of it says which that is.
fn renewed(state: &State, from: NodeId) -> Result<Bytes, String> {
    let key = warden::key_of(state, from).ok_or_else(|| format!("the record of node {from} is not here yet"))?;
    registrar::renew(state, &key).map_err(|denied| denied.to_string())
}

fn said(answer: &impl Serialize) -> Result<Bytes, String> {
    postcard::to_stdvec(answer)
        .map(Bytes::from)
        .map_err(|error| error.to_string())
}

/// Whether a node is an anchor as far as this one knows.
pub(super) fn check_anchor(state: &State, node: NodeId) -> Result<(), String> {
    let roster = state.roster();
    let seat = roster.standing().seat(node);
    seat.map(|_| ()).ok_or_else(|| format!("node {node} is no anchor"))
}

/// Decides as an anchor. The decision is on disk when this returns.
pub(super) async fn claim(state: &Arc<State>, holder: NodeId, scope: Scope, key: String) -> Result<Claimed, String> {
    if key.is_empty() || key.len() > KEY_MAX {
        return Err(format!("a key has 1 to {KEY_MAX} bytes"));
    }
    check_anchor(state, state.own())?;
    if state.roster().standing().removed().contains_key(&holder) {
        return Err(format!("node {holder} was removed"));
    }
    let (deciding, within, of) = (state.clone(), scope.clone(), key.clone());
    let granted = move |store: &Store| {
        let Some(list) = seat::witnesses_for(&deciding) else {
            return Ok(None);
        };
        Ok(Some((list, store.grant(&within, &of, holder)?)))
    };
    let granted = state.disk.run(granted).await.map_err(|error| error.to_string())?;
    match granted.ok_or_else(|| NOT_SEATED.to_owned())? {
        (_, Granted::Held(other)) => Ok(Claimed::Held(other)),
        (list, Granted::First | Granted::Again) => {
            let cluster = state.roster().cluster().id;
            Ok(Claimed::Given(Acknowledgement::sign(
                &state.key, cluster, &scope, &key, holder, list,
            )))
        }
    }
}

/// Frees a key that the asker holds. Only who is seated can: who copies ledgers at the moment would have it back.
pub(super) async fn release(state: &Arc<State>, holder: NodeId, scope: Scope, key: String) -> Result<(), String> {
    let deciding = state.clone();
    let release = move |store: &Store| {
        let is_seated = seat::witnesses_for(&deciding).is_some();
        if is_seated {
            store.release(&scope, &key, holder)?;
        }
        Ok(is_seated)
    };
    let released = state.disk.run(release).await.map_err(|error| error.to_string())?;
    if released { Ok(()) } else { Err(NOT_SEATED.to_owned()) }
}
