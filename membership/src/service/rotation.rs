//! Replacing the cluster's CA: another root is trusted beside the one that is, all nodes get certificates of it, then the
//! former one goes. Each step is a decree, and between two steps the cluster works, whoever is lost:
//!
//! ```text
//!  key made here ─► kept by a majority of the anchors ─► AddRoot ─► nodes renew ─► all have ─► DropRoot(former)
//!                                                           └──────── given up ───────────► DropRoot(latter)
//! ```
//!
//! Since a majority of the anchors has the key before anybody trusts its root, losing less than a majority loses no key.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;

use super::anchors::only_on_anchors;
use super::decrees::{self, DecreeError};
use super::internal::{self, Request};
use super::state::State;
use super::{authority, certificates};
use crate::decree::{Act, root_digest};
use crate::home::AuthorityFiles;
use crate::id::NodeId;
use crate::identity::NodeKey;
use crate::mesh::Mesh;
use crate::pki::{self, Authority, BACKDATE, PkiError};
use crate::wallclock;

/// Why the CA was not replaced. What was trusted before still is.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The anchors did not decide it.
    #[error("{0}")]
    Decree(#[from] DecreeError),
    /// There are two roots already.
    #[error("a rotation is under way: finish it with `fabricctl ca rotate --finish`, or give it up with `--cancel`")]
    UnderWay,
    /// There is one root.
    #[error("no rotation is under way: begin one with `fabricctl ca rotate`")]
    NotUnderWay,
    /// Too few anchors could keep the key.
    #[error("{kept} of {anchors} anchors could keep the key, {} are needed; check that they run and can be reached: {why}", anchors / 2 + 1)]
    NotKept {
        /// How many do.
        kept: usize,
        /// Of how many.
        anchors: usize,
        /// What the others said.
        why: String,
    },
    /// This anchor could not make certificates after it.
    #[error(
        "this anchor does not hold the key of the root that would stay; try again in a moment, or on another anchor"
    )]
    NoKey,
    /// These members would be left with a certificate that nobody takes.
    #[error("members have certificates of the root that would go")]
    Pending(Vec<NodeId>),
    /// The library or the disk refused.
    #[error("{0}")]
    Failed(String),
}

impl From<PkiError> for RotateError {
    fn from(error: PkiError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Which root goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goes {
    /// The one that was trusted first: the rotation is finished.
    Former,
    /// The one that was added: the rotation is given up.
    Latter,
}

/// Has another root trusted beside the one that is.
pub(super) async fn begin(state: &Arc<State>, mesh: &Mesh) -> Result<(), RotateError> {
    only_on_anchors(state)?;
    if roots(state).len() > 1 {
        return Err(RotateError::UnderWay);
    }
    let root = match authority::candidate(state) {
        // An earlier try, also another anchor's: it may be decided already.
        Some(candidate) => candidate.certificate().clone(),
        None => make(state)?,
    };
    let begun = match hand_out(state, mesh, &root).await {
        Ok(()) => decrees::decide(state, mesh, Act::AddRoot(root))
            .await
            .map_err(RotateError::from),
        Err(error) => Err(error),
    };
    if begun.is_ok() {
        tracing::info!("another root is trusted: nodes renew their certificates under it");
    }
    begun
}

/// Has all other anchors fetch the key, and waits for a majority.
async fn hand_out(state: &Arc<State>, mesh: &Mesh, root: &Bytes) -> Result<(), RotateError> {
    let anchors = state.roster().cluster().anchors.clone();
    let others = anchors.nodes.iter().filter(|anchor| **anchor != state.own());
    let asked = others.map(|anchor| {
        let request = Request::Prepare { root: root.clone() };
        async move { (*anchor, internal::ask::<()>(mesh, *anchor, &request).await) }
    });
    let (mut kept, mut why) = (1, Vec::new());
    for (anchor, answer) in join_all(asked).await {
        match answer {
            Ok(()) => kept += 1,
            Err(error) => why.push(format!("{anchor}: {error}")),
        }
    }
    if kept < anchors.majority() {
        let (anchors, why) = (anchors.nodes.len(), why.join("; "));
        return Err(RotateError::NotKept { kept, anchors, why });
    }
    Ok(())
}

/// Has one of two roots trusted no more. Unless `force`, no member may have a certificate of it. Gives those who do.
pub(super) async fn end(state: &Arc<State>, mesh: &Mesh, goes: Goes, force: bool) -> Result<Vec<NodeId>, RotateError> {
    only_on_anchors(state)?;
    let roots = roots(state);
    let (gone, stays) = match (&roots[..], goes) {
        ([former, latter], Goes::Former) => (former, latter),
        ([former, latter], Goes::Latter) => (latter, former),
        _ => return Err(RotateError::NotUnderWay),
    };
    if authority::held(state, root_digest(stays)).is_none() {
        return Err(RotateError::NoKey);
    }
    let pending = certificates::without(state, stays);
    // Who gives a rotation up has nodes that followed it: they come back by themselves.
    if !(force || pending.is_empty() || goes == Goes::Latter) {
        return Err(RotateError::Pending(pending));
    }
    decrees::decide(state, mesh, Act::DropRoot(root_digest(gone))).await?;
    tracing::info!(pending = pending.len(), "a root is not trusted any more");
    Ok(pending)
}

fn roots(state: &State) -> Vec<Bytes> {
    state.roster().standing().roots().to_vec()
}

/// Makes the authority that is to be trusted, and has its key on disk.
fn make(state: &State) -> Result<Bytes, RotateError> {
    let cluster = state.roster().cluster().id;
    // Not before those that are trusted, whatever the clock says: by that it is known for one that is to come.
    let before = roots(state)
        .into_iter()
        .filter_map(|root| pki::root_validity(&root).ok());
    let latest = before.map(|(from, _)| from + BACKDATE).max().unwrap_or_default();
    let made = Authority::create(cluster, NodeKey::generate(), wallclock::since_epoch().max(latest))?;
    let certificate = made.certificate().clone();
    let files = AuthorityFiles {
        certificate: certificate.clone(),
        key: made.into_key(),
    };
    authority::keep(state, files).map_err(RotateError::Failed)?;
    Ok(certificate)
}
