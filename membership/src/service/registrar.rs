//! The anchor's desk: makes tokens, redeems them, issues certificates. All of it is on disk before it is said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;

use super::disk::DiskError;
use super::state::State;
use super::{TokenError, cell};
use crate::home::Bootstrap;
use crate::id::NodeId;
use crate::join::{Applicant, Denied, Registrar};
use crate::node::Cluster;
use crate::pki::Authority;
use crate::store::{Store, StoreError};
use crate::token::{CreateError, Redeemed, Secret, Token, TokenId, Tokens};
use crate::wallclock;

/// The store's table with the book of tokens, and the book's key in it.
const TABLE: &str = "tokens";
const BOOK: &[u8] = b"book";

/// Makes a token and its text.
pub(super) async fn create(state: &State, uses: u32, ttl: Duration) -> Result<String, TokenError> {
    let cluster = state.roster().cluster().clone();
    let Some(authority) = authority(state, &cluster) else {
        return Err(TokenError::NotAnchor(cluster.anchors.nodes));
    };
    let (id, secret) = (TokenId(rand::random()), Secret(rand::random()));
    let own = state.own();
    let seeds = state.roster().addresses().remove(&own).unwrap_or_default();
    let root = authority.certificate().clone();
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

/// The cluster's authority, if this node is an anchor.
pub(super) fn authority<'a>(state: &'a State, cluster: &Cluster) -> Option<&'a Authority> {
    state
        .authority
        .as_ref()
        .filter(|_| cluster.anchors.nodes.contains(&state.own()))
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
        Some(bytes) => postcard::from_bytes(&bytes).map_err(|error| StoreError::Damaged(format!("tokens: {error}"))),
    }
}

fn write(store: &Store, book: &Tokens) -> Result<(), StoreError> {
    let bytes = postcard::to_stdvec(book).map_err(|error| StoreError::Damaged(format!("tokens: {error}")))?;
    store.put(TABLE, BOOK, &bytes)
}

/// The desk of one node.
#[derive(Debug)]
pub(super) struct Desk(pub(super) Arc<State>);

impl Registrar for Desk {
    fn admit(&self, applicant: Applicant) -> BoxFuture<'_, Result<Bytes, Denied>> {
        Box::pin(admit(self.0.clone(), applicant))
    }

    fn bootstrap(&self) -> Bootstrap {
        self.0.roster().bootstrap()
    }
}

/// Runs on the store's thread, so that two that come with one token do not both get its last use.
async fn admit(state: Arc<State>, applicant: Applicant) -> Result<Bytes, Denied> {
    let cluster = state.roster().cluster().clone();
    if authority(&state, &cluster).is_none() {
        return Err(Denied::Failed("this node is no anchor".to_owned()));
    }
    let disk = state.disk.clone();
    let decided = disk.run(move |store| decide(&state, store, &applicant)).await;
    decided.unwrap_or_else(|error| Err(Denied::Failed(error.to_string())))
}

fn decide(state: &State, store: &Store, applicant: &Applicant) -> Result<Result<Bytes, Denied>, StoreError> {
    let Applicant {
        token,
        secret,
        key,
        name,
    } = applicant;
    let now = wallclock::since_epoch();
    let mut book = read(store)?;
    match book.redeem(*token, secret, key, now) {
        Err(refusal) => return Ok(Err(refusal.into())),
        Ok(Redeemed::Again(certificate)) => return Ok(Ok(certificate)),
        Ok(Redeemed::Fresh) => {}
    }
    let issued = check_place(state, &book, applicant, now).and_then(|()| {
        let authority = state
            .authority
            .as_ref()
            .ok_or_else(|| Denied::Failed("this node is no anchor".to_owned()))?;
        authority
            .issue(key, now)
            .map_err(|error| Denied::Failed(error.to_string()))
    });
    if let Ok(certificate) = &issued {
        book.bind(*token, *key, name.clone(), certificate.clone(), now);
        write(store, &book)?;
    }
    Ok(issued)
}

/// Name and place are promised to those who were let in a moment ago and whose records are not here yet.
fn check_place(state: &State, book: &Tokens, applicant: &Applicant, now: Duration) -> Result<(), Denied> {
    let (roster, node) = (state.roster(), NodeId::of_key(&applicant.key));
    let promised: BTreeMap<_, _> = book
        .fresh(now)
        .filter(|(id, _)| *id != node && !roster.has(*id))
        .collect();
    let namesake = promised.iter().find(|(_, name)| **name == &applicant.name);
    if let Some(other) = roster.namesake(&applicant.name, node).or(namesake.map(|(id, _)| *id)) {
        return Err(Denied::NameTaken(applicant.name.clone(), other));
    }
    let nodes = roster.len() + promised.len();
    if !cell::has_room(nodes) && !roster.has(node) {
        return Err(Denied::CellFull(nodes));
    }
    Ok(())
}
