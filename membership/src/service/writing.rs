//! Own writes: made under a lock, on disk, then merged, in this order. A write that has begun is finished even if its
//! caller has gone, since the next one builds on it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::state::{Command, State};
use super::{FactWrite, IntentWrite, Mark, Membership, WriteError};
use crate::author::{self, AuthorError, Authored, Write};
use crate::batch::{Batch, FactBatch};
use crate::collect;
use crate::id::Scope;
use crate::record::{Body, Digest, Head, Key};
use crate::replica::{Replica, Siblings};

/// What a caller saw of an object before it decided to write.
#[derive(Debug, Clone)]
pub struct Saw {
    /// Which object.
    pub key: Key,
    /// The digest of its versions ([`Siblings::digest`]); `None` if there was none.
    ///
    /// [`Siblings::digest`]: crate::replica::Siblings::digest
    pub versions: Option<Digest>,
}

impl Membership {
    /// As [`Self::write_intent`], if each of these objects is still what the caller saw of it: a version that came in between, from
    /// whichever node, is not replaced unseen.
    pub async fn write_intent_if(
        &self,
        scope: Scope,
        author: &str,
        writes: Vec<IntentWrite>,
        saw: Vec<Saw>,
    ) -> Result<Mark, WriteError> {
        intent(&self.0.state, scope, author.to_owned(), writes, saw).await
    }
}

/// Writes objects of one scope, if these are still what the caller saw.
pub(super) async fn intent(
    state: &Arc<State>,
    scope: Scope,
    author: String,
    writes: Vec<IntentWrite>,
    saw: Vec<Saw>,
) -> Result<Mark, WriteError> {
    let writes: Vec<_> = writes
        .into_iter()
        .map(|IntentWrite { key, body }| Write { key, body })
        .collect();
    // An old disk may hold what was deleted.
    state.settled().await;
    state.check_clock()?;
    finished(state, move |state| {
        let core = state.core();
        unchanged(core.replica(), &scope, saw)?;
        let shown = writes
            .iter()
            .filter_map(|write| core.replica().intent(&scope, &write.key));
        shown.for_each(|siblings| state.observe(siblings.shown().stamp));
        let made = author::intents(core.replica(), &state.key, &scope, &author, writes, state.stamp());
        made.map(Some).map_err(refused)
    })
    .await
    .and_then(|authored| authored.map(mark).ok_or(WriteError::Closed))
}

/// Writes facts of this host in one scope, once it is known what peers hold of it or nobody tells.
pub(super) async fn facts(state: &Arc<State>, scope: Scope, writes: Vec<FactWrite>) -> Result<Mark, WriteError> {
    state.settled().await;
    facts_at_once(state, scope, writes).await
}

/// The same without waiting: for what peers must know before they are met.
pub(super) async fn facts_at_once(
    state: &Arc<State>,
    scope: Scope,
    writes: Vec<FactWrite>,
) -> Result<Mark, WriteError> {
    let writes: Vec<_> = writes
        .into_iter()
        .map(|FactWrite { key, body }| Write { key, body })
        .collect();
    finished(state, move |state| {
        let made = author::facts(state.core().replica(), &state.key, &scope, writes, state.stamp());
        made.map(Some).map_err(refused)
    })
    .await
    .and_then(|authored| authored.map(mark).ok_or(WriteError::Closed))
}

/// Says again what peers hold of this node and its own disk has lost.
pub(super) async fn reclaim(state: &Arc<State>, theirs: FactBatch) {
    let scope = theirs.head().value().scope.clone();
    let said = finished(state, move |state| {
        author::reclaim(state.core().replica(), &state.key, &theirs).map_err(refused)
    })
    .await;
    match said {
        Ok(None) | Err(WriteError::Closed) => {}
        Ok(Some(_)) => {
            let message = format!(
                "this node's store lacked what its peers hold of it in scope {scope}; all of it was said again: was an older copy of \
                 the data directory restored?"
            );
            state.note("store-restored", message);
        }
        Err(error) => state.note("store-failed", error.to_string()),
    }
}

/// Tells others what this node has seen of the objects of a scope.
pub(super) async fn confirm(state: &Arc<State>, scope: Scope, body: Body) {
    let write = FactWrite {
        key: collect::key(),
        body: Some(body),
    };
    match facts(state, scope, vec![write]).await {
        Ok(_) | Err(WriteError::Closed) => {}
        Err(error) => state.note("store-failed", error.to_string()),
    }
}

/// Whether each of these objects is what the caller saw.
fn unchanged(replica: &Replica, scope: &Scope, saw: Vec<Saw>) -> Result<(), WriteError> {
    let held = |key: &Key| replica.intent(scope, key).map(Siblings::digest);
    match saw.into_iter().find(|saw| held(&saw.key) != saw.versions) {
        Some(Saw { key, .. }) => Err(WriteError::Changed(key)),
        None => Ok(()),
    }
}

type Made = Result<Option<Authored>, WriteError>;

async fn finished(
    state: &Arc<State>,
    make: impl FnOnce(&State) -> Made + Send + 'static,
) -> Result<Option<Authored>, WriteError> {
    let state = state.clone();
    tokio::spawn(async move { write(&state, make).await })
        .await
        .unwrap_or(Err(WriteError::Closed))
}

async fn write(state: &State, make: impl FnOnce(&State) -> Made) -> Result<Option<Authored>, WriteError> {
    let _one_at_a_time = state.writing.lock().await;
    if state.stop.is_cancelled() {
        return Err(WriteError::Closed);
    }
    let Some(authored) = make(state)? else {
        return Ok(None);
    };
    state.disk.commit(authored.change.clone()).await?;
    let (done, merged) = oneshot::channel();
    let local = Command::Local(Box::new(authored.batch.clone()), done);
    // It is on disk: a node that stops meanwhile tells it after its next start.
    if state.commands.send(local).await.is_ok() {
        let _stopped = merged.await;
    }
    Ok(Some(authored))
}

fn refused(error: AuthorError) -> WriteError {
    match error {
        AuthorError::Behind | AuthorError::Batch(_) => WriteError::Store(error.to_string()),
        AuthorError::TooMany(_)
        | AuthorError::TooLarge(_)
        | AuthorError::Twice(_)
        | AuthorError::Record(..)
        | AuthorError::Full(_)
        | AuthorError::FullOfFacts
        | AuthorError::FullOfObjects
        | AuthorError::Empty => WriteError::TooLarge(error.to_string()),
    }
}

fn mark(authored: Authored) -> Mark {
    match authored.batch {
        Batch::Facts(batch) => {
            let Head {
                origin,
                scope,
                epoch,
                seq,
                ..
            } = batch.head().value().clone();
            Mark::Facts {
                origin,
                scope,
                epoch,
                seq,
            }
        }
        Batch::Intents(batch) => Mark::Intents {
            scope: batch.scope().clone(),
            versions: authored.dots,
        },
    }
}
