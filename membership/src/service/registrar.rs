//! The anchor's desk: makes tokens, redeems them, issues certificates. All of it is on disk before it is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};

use super::disk::DiskError;
use super::internal::{self, Request};
use super::state::State;
use super::{TokenError, authority, cell, warden};
use crate::home::Bootstrap;
use crate::id::{Label, NodeId};
use crate::join::{Applicant, Denied, Registrar, Renewed};
use crate::mesh::Mesh;
use crate::node::Cluster;
use crate::pki::Authority;
use crate::store::{Store, StoreError};
use crate::token::{CreateError, Redeemed, Secret, Token, TokenId, Tokens};
use crate::wallclock;

/// The store's table with the book of tokens, and the book's key in it.
const TABLE: &str = "tokens";
const BOOK: &[u8] = b"book";
/// How long to wait for the key where this node is about to get it, and how often to look.
const KEY_DEADLINE: Duration = Duration::from_secs(10);
const KEY_PAUSE: Duration = Duration::from_millis(250);

/// Makes a token and its text.
pub(super) async fn create(state: &State, uses: u32, ttl: Duration) -> Result<String, TokenError> {
    let (cluster, authority) = own_authority(state).await?;
    let (id, secret) = (TokenId(rand::random()), Secret(rand::random()));
    let own = state.own();
    let seeds = state.roster().addresses().remove(&own).unwrap_or_default();
    // By which this node is known to who joins: not always the one that issues.
    let shown = state.trust.roots().signer(&state.identity().certificate).cloned();
    let root = shown.unwrap_or_else(|| authority.certificate().clone());
    let token = Token {
        cluster: cluster.id,
        anchor: own,
        seeds,
        root,
        id,
        secret: secret.clone(),
    };
    let now = wallclock::since_epoch();
    let noted = change_book(state, move |book| book.create(id, &secret, uses, ttl, now)).await;
    match noted {
        Ok(Ok(())) => Ok(token.to_string()),
        Ok(Err(error)) => Err(TokenError::Invalid(error.to_string())),
        Err(error) => Err(TokenError::Store(error.to_string())),
    }
}

/// The cluster's authority, if this node is an anchor and has it.
pub(super) fn authority(state: &State, cluster: &Cluster) -> Option<Arc<Authority>> {
    authority::issuing(state).filter(|_| cluster.anchors.nodes.contains(&state.own()))
}

/// The same; an anchor that became one a moment ago is waited for.
async fn own_authority(state: &State) -> Result<(Cluster, Arc<Authority>), TokenError> {
    let until = wallclock::monotonic() + KEY_DEADLINE;
    loop {
        let cluster = state.roster().cluster().clone();
        if let Some(authority) = authority(state, &cluster) {
            return Ok((cluster, authority));
        }
        match no_authority(state, cluster) {
            TokenError::NoKey if wallclock::monotonic() < until => tokio::time::sleep(KEY_PAUSE).await,
            error => return Err(error),
        }
    }
}

fn no_authority(state: &State, cluster: Cluster) -> TokenError {
    if cluster.anchors.nodes.contains(&state.own()) {
        TokenError::NoKey
    } else {
        TokenError::NotAnchor(cluster.anchors.nodes)
    }
}

/// Reads the book, changes it, and has it on disk when this returns.
async fn change_book(
    state: &State,
    change: impl FnOnce(&mut Tokens) -> Result<(), CreateError> + Send + 'static,
) -> Result<Result<(), CreateError>, DiskError> {
    let changed = move |store: &Store| {
        let mut book = read(store)?;
        let outcome = change(&mut book);
        if outcome.is_ok() {
            write(store, &book)?;
        }
        Ok(outcome)
    };
    state.disk.run(changed).await
}

fn read(store: &Store) -> Result<Tokens, StoreError> {
    match store.get(TABLE, BOOK)? {
        None => Ok(Tokens::default()),
        Some(bytes) => Tokens::read(&bytes).map_err(|error| StoreError::Damaged(format!("tokens: {error}"))),
    }
}

fn write(store: &Store, book: &Tokens) -> Result<(), StoreError> {
    let bytes = postcard::to_stdvec(book).map_err(|error| StoreError::Damaged(format!("tokens: {error}")))?;
    store.put(TABLE, BOOK, &bytes)
}

/// The desk of one node.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) state: Arc<State>,
    pub(super) mesh: Mesh,
}

impl Registrar for Desk {
    fn admit(&self, applicant: Applicant) -> BoxFuture<'_, Result<Bytes, Denied>> {
        Box::pin(admit(self.state.clone(), &self.mesh, applicant))
    }

    fn renew(&self, key: &[u8; 32], since: u64) -> Result<Renewed, Denied> {
        Ok(Renewed {
            certificate: renew(&self.state, key)?,
            decrees: self.state.roster().decrees().since(since),
        })
    }

    fn bootstrap(&self) -> Bootstrap {
        self.state.roster().bootstrap()
    }
}

/// Decides on the store's thread, so that two that come with one token do not both get its last use; the other anchors
/// are asked in between, for nobody is let in whom a majority does not know.
async fn admit(state: Arc<State>, mesh: &Mesh, applicant: Applicant) -> Result<Bytes, Denied> {
    let cluster = state.roster().cluster().clone();
    if authority(&state, &cluster).is_none() {
        return Err(Denied::Failed("this node is no anchor".to_owned()));
    }
    let agreed_on = state.roster().standing().wire();
    if let Err(apart) = state.wire.common(applicant.wire, agreed_on) {
        let why = format!(
            "the cluster speaks wire version {agreed_on}, this anchor {}, and the one that joins {}: upgrade it",
            apart.ours, apart.theirs
        );
        return Err(Denied::Failed(why));
    }
    let node = NodeId::of_key(&applicant.key);
    let (disk, looking, asked) = (state.disk.clone(), state.clone(), applicant.clone());
    let looked = disk.run(move |store| look(&looking, store, &asked)).await;
    if let Some(certificate) = looked.unwrap_or_else(|error| Err(Denied::Failed(error.to_string())))? {
        return Ok(certificate);
    }
    agreed(&state, mesh, &cluster, node, &applicant.name).await?;
    let decided = disk.run(move |store| decide(&state, store, &applicant)).await;
    decided.unwrap_or_else(|error| Err(Denied::Failed(error.to_string())))
}

/// What the token gives, before anybody else is asked: a certificate, if this key has one already.
fn look(state: &State, store: &Store, applicant: &Applicant) -> Result<Result<Option<Bytes>, Denied>, StoreError> {
    let now = wallclock::since_epoch();
    let book = read(store)?;
    let redeemed = book.redeem(applicant.token, &applicant.secret, &applicant.key, now);
    Ok(match redeemed {
        Err(refusal) => Err(refusal.into()),
        Ok(Redeemed::Again(certificate)) => Ok(Some(certificate)),
        Ok(Redeemed::Fresh) => {
            check_place(state, &book, NodeId::of_key(&applicant.key), &applicant.name, now).map(|()| None)
        }
    })
}

/// Asks the other anchors. One that says no is believed, for it knows why.
async fn agreed(state: &State, mesh: &Mesh, cluster: &Cluster, node: NodeId, name: &Label) -> Result<(), Denied> {
    let others = cluster.anchors.nodes.iter().filter(|anchor| **anchor != state.own());
    let asked = others.map(|anchor| {
        let request = Request::Admit {
            node,
            name: name.clone(),
        };
        async move { internal::ask::<Result<(), Denied>>(mesh, *anchor, &request).await }
    });
    let mut words = 1;
    for answer in join_all(asked).await {
        match answer {
            Ok(Ok(())) => words += 1,
            Ok(Err(denied)) => return Err(denied),
            Err(why) => tracing::warn!("an anchor did not answer about a join: {why}"),
        }
    }
    if words < cluster.anchors.majority() {
        return Err(Denied::NoMajority(words, cluster.anchors.nodes.len()));
    }
    Ok(())
}

/// The word of another anchor: the name is kept for the node for a while, on disk when this returns.
pub(super) async fn acknowledge(
    state: &Arc<State>,
    from: NodeId,
    node: NodeId,
    name: Label,
) -> Result<Result<(), Denied>, String> {
    internal::check_anchor(state, from)?;
    internal::check_anchor(state, state.own())?;
    let holder = state.clone();
    let kept = move |store: &Store| {
        let now = wallclock::since_epoch();
        let mut book = read(store)?;
        if let Err(denied) = check_place(&holder, &book, node, &name, now) {
            return Ok(Err(denied));
        }
        book.promise(node, name, now);
        write(store, &book)?;
        Ok(Ok(()))
    };
    state.disk.run(kept).await.map_err(|error| error.to_string())
}

fn decide(state: &State, store: &Store, applicant: &Applicant) -> Result<Result<Bytes, Denied>, StoreError> {
    let Applicant {
        token,
        secret,
        key,
        name,
        ..
    } = applicant;
    let node = NodeId::of_key(key);
    let now = wallclock::since_epoch();
    let mut book = read(store)?;
    match book.redeem(*token, secret, key, now) {
        Err(refusal) => return Ok(Err(refusal.into())),
        Ok(Redeemed::Again(certificate)) => return Ok(Ok(certificate)),
        Ok(Redeemed::Fresh) => {}
    }
    let issued = check_place(state, &book, node, name, now).and_then(|()| {
        let authority = authority::issuing(state).ok_or_else(|| Denied::Failed("this node is no anchor".to_owned()))?;
        authority
            .issue(key, state.certificate_life, now)
            .map_err(|error| Denied::Failed(error.to_string()))
    });
    if let Ok(certificate) = &issued {
        book.bind(*token, *key, name.clone(), certificate.clone(), now);
        write(store, &book)?;
    }
    Ok(issued)
}

/// A further certificate (DER) for a member who was proven to hold this key.
pub(super) fn renew(state: &State, key: &[u8; 32]) -> Result<Bytes, Denied> {
    let (node, cluster) = (NodeId::of_key(key), state.roster().cluster().clone());
    let authority = authority(state, &cluster).ok_or_else(|| {
        Denied::Failed("this node is no anchor, or does not hold the cluster's CA key yet".to_owned())
    })?;
    if state.roster().standing().removed().contains_key(&node) {
        return Err(Denied::Removed(node));
    }
    if warden::key_of(state, node) != Some(*key) {
        return Err(Denied::NotMember(node));
    }
    let issued = authority.issue(key, state.certificate_life, wallclock::since_epoch());
    issued.map_err(|error| Denied::Failed(error.to_string()))
}

/// Name and place are promised to those who were let in a moment ago and whose records are not here yet; not to those who
/// were removed since.
fn check_place(state: &State, book: &Tokens, node: NodeId, name: &Label, now: Duration) -> Result<(), Denied> {
    let roster = state.roster();
    let removed = roster.standing().removed();
    if removed.contains_key(&node) {
        return Err(Denied::Removed(node));
    }
    let promised: BTreeMap<_, _> = book
        .fresh(now)
        .filter(|(id, _)| *id != node && !roster.has(*id) && !removed.contains_key(id))
        .collect();
    let namesake = promised.iter().find(|(_, promised)| **promised == name);
    if let Some(other) = roster.namesake(name, node).or(namesake.map(|(id, _)| *id)) {
        return Err(Denied::NameTaken(name.clone(), other));
    }
    let nodes = roster.len() + promised.len();
    if !cell::has_room(nodes) && !roster.has(node) {
        return Err(Denied::CellFull(nodes));
    }
    Ok(())
}
