//! Removing nodes: deciding it, and doing what follows from it on each node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;

use super::anchors::{find, only_on_anchors};
use super::decrees::{self, DecreeError};
use super::internal::{self, Request};
use super::state::State;
use super::{Membership, warden};
use crate::counter::Counter;
use crate::decree::{Act, Removal};
use crate::id::{Label, NodeId, Scope};
use crate::mesh::Mesh;
use crate::record::Intent;
use crate::replica::Removed;
use crate::signed::Signed;
use crate::store::StoreError;

/// How long an anchor may take to remove a node that asks for it.
pub(super) const LEAVE_DEADLINE: Duration = Duration::from_secs(25);

/// How long to wait for the word that this node is out, and how often to look.
const HEARD_DEADLINE: Duration = Duration::from_secs(5);
const HEARD_PAUSE: Duration = Duration::from_millis(50);

/// A write that counts nowhere: the node that took it was removed, and had not told it to the anchors by then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Void {
    /// What that node was called, where its removal is still known by name.
    pub writer: Option<Label>,
    /// What was written, with its author, its time and its digest.
    pub record: Signed<Intent>,
}

impl Membership {
    /// Removes a member for good, by its id or name: it is cut off, what it said of itself is forgotten, and what it wrote
    /// that no majority of the anchors had seen is void. Only an anchor can.
    pub async fn remove_node(&self, who: &str) -> Result<NodeId, DecreeError> {
        remove(&self.0.state, &self.0.mesh, who).await
    }

    /// Has this node removed from the cluster.
    pub async fn leave(&self) -> Result<(), DecreeError> {
        leave(&self.0.state, &self.0.mesh).await
    }

    /// Writes of removed nodes that count nowhere, as far as they came here, by scope and key; at most 1,000.
    pub async fn void_records(&self) -> Result<Vec<Void>, String> {
        void(&self.0.state).await
    }
}

/// Removes a member, by its id or name.
pub(super) async fn remove(state: &Arc<State>, mesh: &Mesh, who: &str) -> Result<NodeId, DecreeError> {
    only_on_anchors(state)?;
    let node = find(state, who)?;
    remove_node(state, mesh, node).await?;
    Ok(node)
}

/// Removes a member, as an anchor.
pub(super) async fn remove_node(state: &Arc<State>, mesh: &Mesh, node: NodeId) -> Result<(), DecreeError> {
    let known = state.roster().record(node).map(|record| record.name.clone());
    let (Some(key), Some(name)) = (warden::key_of(state, node), known) else {
        return Err(DecreeError::Unknown(node.to_string()));
    };
    let cut = cut(state, mesh, node).await?;
    decrees::decide(state, mesh, Act::Remove(Removal { node, key, name, cut })).await
}

/// Up to where the node's writes count: the furthest that any of a majority of the anchors has seen.
async fn cut(state: &Arc<State>, mesh: &Mesh, node: NodeId) -> Result<u64, DecreeError> {
    let anchors = state.roster().cluster().anchors.clone();
    let asked = anchors.nodes.iter().map(|anchor| async move {
        if *anchor == state.own() {
            return Ok(seen(state, node));
        }
        internal::ask::<u64>(mesh, *anchor, &Request::Seen { node }).await
    });
    let counters: Vec<u64> = join_all(asked).await.into_iter().flatten().collect();
    if counters.len() < anchors.majority() {
        let agreed = counters.len();
        return Err(DecreeError::NoMajority { agreed, anchors });
    }
    Ok(counters.into_iter().max().unwrap_or_default())
}

/// The highest counter of a node that this one has seen.
pub(super) fn seen(state: &State, node: NodeId) -> u64 {
    state.core().replica().highest_counter(node)
}

/// Removes a node that asks for it; the same one may ask several anchors.
pub(super) async fn let_go(state: &Arc<State>, mesh: &Mesh, node: NodeId) -> Result<(), String> {
    if state.roster().standing().removed().contains_key(&node) {
        return Ok(());
    }
    let removed = remove_node(state, mesh, node).await;
    removed.map_err(|error| error.to_string())
}

/// Has this node removed: by itself if it is an anchor, else by one of them.
pub(super) async fn leave(state: &Arc<State>, mesh: &Mesh) -> Result<(), DecreeError> {
    if only_on_anchors(state).is_ok() {
        return remove_node(state, mesh, state.own()).await;
    }
    if state.roster().is_out() {
        return Ok(());
    }
    let anchors = state.roster().cluster().anchors.clone();
    let mut refused = None;
    for anchor in &anchors.nodes {
        let asked = internal::ask_for::<Result<(), String>>(mesh, *anchor, &Request::Leave, LEAVE_DEADLINE).await;
        match asked {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => refused = Some(why),
            Err(why) => tracing::info!(%anchor, "this node could not ask an anchor to be removed: {why}"),
        }
    }
    match refused {
        Some(why) => Err(DecreeError::Refused(why)),
        // Who removed it may have cut it off before the answer was here.
        None if is_out(state).await => Ok(()),
        None => Err(DecreeError::NoMajority { agreed: 0, anchors }),
    }
}

/// Waits a moment whether this node hears that it is out: from a decree, or from peers that refuse it.
async fn is_out(state: &State) -> bool {
    let refused = || state.counters.value(Counter::RefusedAsRemoved) > 0;
    let heard = tokio::time::timeout(HEARD_DEADLINE, async {
        while !state.roster().is_out() && !refused() {
            tokio::time::sleep(HEARD_PAUSE).await;
        }
    });
    heard.await.is_ok()
}

/// Does what follows from removals that this node did not know of, on disk before anything else is. Tells which scopes changed.
pub(super) async fn apply(state: &State, now: Duration) -> BTreeSet<Scope> {
    let known: Vec<Removal> = {
        let roster = state.roster();
        roster.standing().removed().values().cloned().collect()
    };
    let mut changed = BTreeSet::new();
    for removal in known {
        // A node that is out keeps what it has: nobody hears it, and its workloads go on until its host is told.
        if removal.node == state.own() || state.core().replica().is_out(removal.node) {
            continue;
        }
        changed.extend(carry_out(state, &removal, now).await);
        changed.insert(Scope::System);
    }
    changed
}

/// After a crash, or if the disk fails, the next start does the same again.
async fn carry_out(state: &State, removal: &Removal, now: Duration) -> Vec<Scope> {
    let void = state.core().replica().void_after(removal);
    let past = match void.is_empty() {
        true => Ok(Vec::new()),
        false => state.disk.run(move |store| store.replaced(&void)).await,
    };
    // It is out, whatever the disk says.
    let past_known = past.as_deref().unwrap_or_default();
    let Removed { changes, void, scopes } = state.core().remove(removal, past_known, now);
    tracing::info!(node = %removal.node, name = %removal.name, void = void.len(), "a node was removed from the cluster");
    let node = removal.node;
    let kept = match past {
        Ok(_) => state.disk.run(move |store| store.remove(node, &changes, &void)).await,
        Err(error) => Err(error),
    };
    if let Err(error) = kept {
        state.note("store-failed", error.to_string());
    }
    scopes
}

/// Keeps a version that came and is void.
pub(super) fn keep_void(state: &Arc<State>, version: Signed<Intent>) {
    let state = state.clone();
    tokio::spawn(async move {
        let kept = state.disk.run(move |store| store.keep_void(&[version])).await;
        if let Err(error) = kept {
            tracing::debug!("a void version was not kept: {error}");
        }
    });
}

/// The writes that count nowhere, by scope and key.
pub(super) async fn void(state: &State) -> Result<Vec<Void>, String> {
    let read = state.disk.run(|store| -> Result<_, StoreError> { store.void() }).await;
    let versions = read.map_err(|error| error.to_string())?;
    let names: BTreeMap<NodeId, Label> = {
        let roster = state.roster();
        let removed = roster.standing().removed().values();
        removed.map(|removal| (removal.node, removal.name.clone())).collect()
    };
    let named = |record: Signed<Intent>| Void {
        writer: names.get(&record.value().dot.writer).cloned(),
        record,
    };
    let mut void: Vec<Void> = versions.into_iter().map(named).collect();
    let place = |intent: &Intent| (intent.scope.clone(), intent.key.clone(), intent.dot);
    void.sort_by_cached_key(|void| place(void.record.value()));
    Ok(void)
}
