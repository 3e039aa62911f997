//! Claiming an exclusive key: note that it is asked for, ask every anchor, keep the proof. What is asked for and not used
//! can be given up (`releasing`).

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::internal::{self, Claimed, NOT_SEATED, Request};
use super::releasing;
use super::state::State;
use crate::claim::{Acknowledgement, Claim, ClaimError, KEY_MAX};
use crate::id::{NodeId, Scope};
use crate::mesh::Mesh;
use crate::node::Cluster;
use crate::wallclock;

/// The store's table of claims that this node holds; without witnesses where it asked for one.
pub(super) const TABLE: &str = "claims-held";
/// How long to wait for an anchor that is about to take its seat, and how often to look.
const SEAT_DEADLINE: Duration = Duration::from_secs(10);
const SEAT_PAUSE: Duration = Duration::from_millis(250);
/// How long anchors that do not answer are asked again: a connection that broke, or is not there yet after a start, is made
/// within a second or two.
const PATIENCE: Duration = Duration::from_secs(4);

/// Claims a key for this node, or finds the claim that it has.
pub(super) async fn claim(state: &Arc<State>, mesh: &Mesh, scope: Scope, key: &str) -> Result<Claim, ClaimError> {
    if !(1..=KEY_MAX).contains(&key.len()) {
        return Err(ClaimError::Key(key.len()));
    }
    // An old disk may hold claims that were given up.
    state.settled().await;
    let began = wallclock::monotonic();
    if releasing::is_given_up(state, &scope, key).await {
        // An anchor may hear only later that it is free.
        let (key, holder) = (key.into(), state.own());
        return Err(ClaimError::Held { key, holder });
    }
    if let Some(held) = held(state, &scope, key).await {
        return Ok(held);
    }
    // Whatever becomes of it, it is known that some anchor may hold it for this node.
    let asked = Claim {
        scope: scope.clone(),
        key: key.into(),
        holder: state.own(),
        witnesses: Vec::new(),
    };
    keep(state, &asked).await;
    loop {
        let cluster = state.roster().cluster().clone();
        let answers = ask_all(state, mesh, &cluster, &scope, key).await;
        let claim = Claim {
            scope: scope.clone(),
            key: key.into(),
            holder: state.own(),
            witnesses: answers.given.clone(),
        };
        if is_witnessed(state, &claim) {
            keep(state, &claim).await;
            return Ok(claim);
        }
        // So many, and not for one list: it changed in between.
        let changed = answers.given.len() >= cluster.anchors.majority();
        if let Some(holder) = answers.held {
            // It must not stay half ours. Freed at once, a word that an anchor hears late would free what is claimed anew.
            if let Err(error) = releasing::give_up(state, &scope, key).await {
                state.note("store-failed", error.to_string());
            }
            let key = key.into();
            return Err(ClaimError::Held { key, holder });
        }
        let patience = if answers.soon || changed {
            SEAT_DEADLINE
        } else {
            PATIENCE
        };
        if wallclock::monotonic() >= began + patience {
            return Err(ClaimError::NoMajority {
                answered: answers.given.len(),
                anchors: cluster.anchors,
            });
        }
        tokio::time::sleep(SEAT_PAUSE).await;
    }
}

async fn ask_all(state: &Arc<State>, mesh: &Mesh, cluster: &Cluster, scope: &Scope, key: &str) -> Answers {
    let anchors = &cluster.anchors.nodes;
    let asked = anchors
        .iter()
        .map(|anchor| ask(state, mesh, cluster, *anchor, scope, key));
    let mut answers = Answers::default();
    join_all(asked).await.into_iter().for_each(|answer| answers.add(answer));
    answers
}

#[derive(Debug, Default)]
struct Answers {
    given: Vec<Acknowledgement>,
    held: Option<NodeId>,
    /// One of them will answer soon.
    soon: bool,
}

enum Heard {
    Claimed(Claimed),
    Soon,
    Nothing,
}

impl Answers {
    fn add(&mut self, heard: Heard) {
        match heard {
            Heard::Claimed(Claimed::Given(word)) => self.given.push(word),
            Heard::Claimed(Claimed::Held(holder)) => self.held = Some(holder),
            Heard::Soon => self.soon = true,
            Heard::Nothing => {}
        }
    }
}

async fn ask(state: &Arc<State>, mesh: &Mesh, cluster: &Cluster, anchor: NodeId, scope: &Scope, key: &str) -> Heard {
    let claimed = if anchor == state.own() {
        internal::claim(state, anchor, scope.clone(), key.to_owned()).await
    } else {
        let request = Request::Claim {
            scope: scope.clone(),
            key: key.to_owned(),
        };
        internal::ask(mesh, anchor, &request).await
    };
    match claimed {
        Ok(Claimed::Given(word)) if !is_good(state, cluster, anchor, &word, scope, key) => Heard::Nothing,
        Ok(claimed) => Heard::Claimed(claimed),
        Err(why) if why.contains(NOT_SEATED) => Heard::Soon,
        Err(why) => {
            tracing::warn!(%anchor, key, "the anchor did not answer a claim: {why}");
            Heard::Nothing
        }
    }
}

fn is_good(state: &State, cluster: &Cluster, anchor: NodeId, word: &Acknowledgement, scope: &Scope, key: &str) -> bool {
    let core = state.core();
    let keyring = core.replica().keyring();
    word.anchor == anchor && word.verify(keyring, cluster.id, scope, key, state.own())
}

fn is_witnessed(state: &State, claim: &Claim) -> bool {
    let cluster = state.roster().cluster().clone();
    let core = state.core();
    claim.verify(&cluster.anchors, core.replica().keyring(), cluster.id)
}

/// A claim that this node holds.
async fn held(state: &State, scope: &Scope, key: &str) -> Option<Claim> {
    let row = row(scope, key)?;
    let bytes = state.disk.run(move |store| store.get(TABLE, &row)).await.ok()??;
    let claim: Claim = postcard::from_bytes(&bytes).ok()?;
    (claim.holder == state.own() && is_witnessed(state, &claim)).then_some(claim)
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

pub(super) fn row(scope: &Scope, key: &str) -> Option<Vec<u8>> {
    postcard::to_stdvec(&(scope, key)).ok()
}
