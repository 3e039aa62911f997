//! Claiming an exclusive key: ask every anchor, keep the proof.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::internal::{self, Claimed, Request};
use super::state::State;
use crate::claim::{Acknowledgement, Claim, ClaimError, KEY_MAX};
use crate::id::{NodeId, Scope};
use crate::mesh::{Class, Mesh};
use crate::node::Cluster;

/// The store's table of claims that this node holds.
const TABLE: &str = "claims-held";
/// How long an anchor may take.
const ANCHOR_DEADLINE: Duration = Duration::from_secs(5);

/// Claims a key for this node, or finds the claim that it has.
pub(super) async fn claim(state: &State, mesh: &Mesh, scope: Scope, key: &str) -> Result<Claim, ClaimError> {
    if !(1..=KEY_MAX).contains(&key.len()) {
        return Err(ClaimError::Key(key.len()));
    }
    let cluster = state.roster().cluster().clone();
    if let Some(held) = held(state, &cluster, &scope, key).await {
        return Ok(held);
    }
    let anchors = cluster.anchors.clone();
    let asked = anchors
        .nodes
        .iter()
        .map(|anchor| ask(state, mesh, &cluster, *anchor, &scope, key));
    let mut answers = Answers::default();
    join_all(asked)
        .await
        .into_iter()
        .flatten()
        .for_each(|claimed| answers.add(claimed));
    if answers.given.len() >= anchors.majority() {
        let claim = Claim {
            scope,
            key: key.into(),
            holder: state.own(),
            witnesses: answers.given,
        };
        keep(state, &claim).await;
        return Ok(claim);
    }
    match answers.held {
        Some(holder) => {
            give_back(state, mesh, &answers.given, &scope, key).await;
            Err(ClaimError::Held {
                key: key.into(),
                holder,
            })
        }
        None => Err(ClaimError::NoMajority {
            answered: answers.given.len(),
            anchors,
        }),
    }
}

#[derive(Debug, Default)]
struct Answers {
    given: Vec<Acknowledgement>,
    held: Option<NodeId>,
}

impl Answers {
    fn add(&mut self, claimed: Claimed) {
        match claimed {
            Claimed::Given(word) => self.given.push(word),
            Claimed::Held(holder) => self.held = Some(holder),
        }
    }
}

async fn ask(
    state: &State,
    mesh: &Mesh,
    cluster: &Cluster,
    anchor: NodeId,
    scope: &Scope,
    key: &str,
) -> Option<Claimed> {
    let claimed = if anchor == state.own() {
        internal::claim(state, anchor, scope.clone(), key.to_owned()).await
    } else {
        ask_other(mesh, anchor, scope, key).await
    };
    match claimed {
        Ok(Claimed::Given(word)) => is_good(state, cluster, anchor, &word, scope, key).then_some(Claimed::Given(word)),
        Ok(held) => Some(held),
        Err(why) => {
            tracing::warn!(%anchor, key, "the anchor did not answer a claim: {why}");
            None
        }
    }
}

async fn ask_other(mesh: &Mesh, anchor: NodeId, scope: &Scope, key: &str) -> Result<Claimed, String> {
    let request = Request::Claim {
        scope: scope.clone(),
        key: key.to_owned(),
    };
    let answer = call(mesh, anchor, &request).await?;
    postcard::from_bytes(&answer).map_err(|_| "its answer cannot be read".to_owned())
}

async fn call(mesh: &Mesh, anchor: NodeId, request: &Request) -> Result<Bytes, String> {
    let request = postcard::to_stdvec(request).map_err(|error| error.to_string())?;
    let answer = mesh
        .call(anchor, Class::Internal, request.into(), ANCHOR_DEADLINE)
        .await;
    answer.map_err(|error| error.to_string())
}

fn is_good(state: &State, cluster: &Cluster, anchor: NodeId, word: &Acknowledgement, scope: &Scope, key: &str) -> bool {
    let core = state.core();
    let keyring = core.replica().keyring();
    word.anchor == anchor && word.verify(keyring, cluster.id, scope, key, state.own())
}

/// A key that somebody else got must not stay half ours.
async fn give_back(state: &State, mesh: &Mesh, given: &[Acknowledgement], scope: &Scope, key: &str) {
    for word in given {
        let (scope, key) = (scope.clone(), key.to_owned());
        let back = if word.anchor == state.own() {
            internal::release(state, state.own(), scope, key).await
        } else {
            call(mesh, word.anchor, &Request::Release { scope, key })
                .await
                .map(|_| ())
        };
        if let Err(why) = back {
            tracing::warn!(anchor = %word.anchor, "a key could not be given back: {why}");
        }
    }
}

/// A claim that this node holds and that still has a majority.
async fn held(state: &State, cluster: &Cluster, scope: &Scope, key: &str) -> Option<Claim> {
    let row = row(scope, key)?;
    let bytes = state.disk.run(move |store| store.get(TABLE, &row)).await.ok()??;
    let claim: Claim = postcard::from_bytes(&bytes).ok()?;
    let core = state.core();
    let good = claim.holder == state.own() && claim.verify(&cluster.anchors, core.replica().keyring(), cluster.id);
    good.then_some(claim)
}

/// Losing it costs a question: the anchors give the same answer again.
async fn keep(state: &State, claim: &Claim) {
    let (Some(row), Ok(bytes)) = (row(&claim.scope, &claim.key), postcard::to_stdvec(claim)) else {
        return;
    };
    if let Err(error) = state.disk.run(move |store| store.put(TABLE, &row, &bytes)).await {
        state.note("store-failed", error.to_string());
    }
}

fn row(scope: &Scope, key: &str) -> Option<Vec<u8>> {
    postcard::to_stdvec(&(scope, key)).ok()
}
