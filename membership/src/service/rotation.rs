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
use crate::record::Digest;
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
    // An earlier try, also another anchor's, may be decided already.
    let candidate = authority::candidate(state);
    let (root, made_for) = candidate.map_or_else(|| make(state), Ok)?;
    let begun = match hand_out(state, mesh, &root, made_for).await {
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

/// Has all other anchors fetch the key, and waits for a majority. Whoever missed what was decided is told first: an anchor
/// keeps the key only for the anchors and roots that it was made for.
async fn hand_out(state: &Arc<State>, mesh: &Mesh, root: &Bytes, made_for: Digest) -> Result<(), RotateError> {
    let anchors = state.roster().cluster().anchors.clone();
    let others = anchors.nodes.iter().filter(|anchor| **anchor != state.own());
    let asked = others.map(|anchor| {
        let root = root.clone();
        async move {
            if !decrees::knows_decrees(state, mesh, *anchor).await {
                return (*anchor, Err("it does not answer".to_owned()));
            }
            let request = Request::Prepare { root, made_for };
            (*anchor, internal::ask::<()>(mesh, *anchor, &request).await)
        }
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
fn make(state: &State) -> Result<(Bytes, Digest), RotateError> {
    let standing = state.roster().standing().clone();
    // Not before those that are trusted, whatever the clock says: by that it is known for one that is to come.
    let before = standing.roots().iter().filter_map(|root| pki::root_validity(root).ok());
    let latest = before.map(|(from, _)| from + BACKDATE).max().unwrap_or_default();
    let now = wallclock::since_epoch().max(latest);
    let made = Authority::create(standing.cluster().id, NodeKey::generate(), now)?;
    let (certificate, made_for) = (made.certificate().clone(), authority::occasion(&standing));
    let files = AuthorityFiles {
        certificate: certificate.clone(),
        key: made.into_key(),
        made_for: Some(made_for),
    };
    authority::keep(state, files).map_err(RotateError::Failed)?;
    Ok((certificate, made_for))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use futures::future::BoxFuture;

    use super::*;
    use crate::counter::Counter;
    use crate::mesh;
    use crate::service::{Config, Membership, join, setup};
    use crate::wire::Versions;

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let waits = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let met = tokio::time::timeout(Duration::from_secs(30), waits).await;
        assert!(met.is_ok(), "not in time: {what}");
    }

    async fn started(config: &Config) -> Membership {
        let silent = |_: NodeId, _: Bytes| -> BoxFuture<'static, Result<Bytes, String>> {
            Box::pin(std::future::ready(Ok(Bytes::new())))
        };
        Membership::start(config.clone(), Arc::new(silent)).await.unwrap()
    }

    /// Three nodes, all anchors with the cluster's key.
    async fn three() -> ([tempfile::TempDir; 3], [Membership; 3]) {
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [one, two, three] = [0, 1, 2].map(|at: usize| Config {
            data: dirs[at].path().join("data"),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: Vec::new(),
            certificate_life: pki::LEAF_LIFE,
            wire: Versions::OWN,
        });
        setup::init(&one, "one".parse().unwrap(), "lab".parse().unwrap(), None).unwrap();
        let a = started(&one).await;
        let mut further = Vec::new();
        for (config, name) in [(&two, "two"), (&three, "three")] {
            let token = a.create_token(1, Duration::from_secs(60)).await.unwrap();
            join(config, name.parse().unwrap(), &token).await.unwrap();
            further.push(started(config).await);
        }
        let [b, c]: [Membership; 2] = further.try_into().ok().unwrap();
        let all = [a, b, c];
        until("all are anchors with the key", || {
            let ready = |peer: &Membership| {
                peer.anchors().anchors.len() == 3 && peer.0.mesh.peers().len() == 2 && keys(peer).len() == 1
            };
            all.iter().all(ready)
        })
        .await;
        (dirs, all)
    }

    /// The roots whose keys lie there.
    fn keys(peer: &Membership) -> Vec<Bytes> {
        let held = peer.0.state.authorities().into_iter();
        held.map(|kept| kept.authority.certificate().clone()).collect()
    }

    /// An anchor that prepared a rotation, and handed the key out, but was stolen before anybody trusted its root.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_key_that_a_removed_anchor_knows_is_never_trusted() {
        let (_dirs, [a, b, c]) = three().await;
        let (root, made_for) = make(&a.0.state).unwrap();
        hand_out(&a.0.state, &a.0.mesh, &root, made_for).await.unwrap();
        let candidate = |peer: &Membership| authority::candidate(&peer.0.state).map(|(root, _)| root);
        for peer in [&a, &b, &c] {
            assert_eq!(
                candidate(peer).as_ref(),
                Some(&root),
                "it is what a rotation would take"
            );
        }
        until("it can be removed", || b.0.state.seated().is_some()).await;
        b.remove_node("one").await.unwrap();
        until("the others know", || {
            [&b, &c].iter().all(|peer| peer.anchors().anchors.len() == 2)
        })
        .await;
        assert_eq!((candidate(&b), candidate(&c)), (None, None));
        let late = decrees::decide(&c.0.state, &c.0.mesh, Act::AddRoot(root.clone())).await;
        assert!(matches!(late, Err(DecreeError::Busy)), "{late:?}");
        b.rotate_ca().await.unwrap();
        until("both trust another one, and its key is gone", || {
            [&b, &c].iter().all(|peer| {
                let roots = peer.0.state.roster().standing().roots().to_vec();
                roots.len() == 2 && !roots.contains(&root) && !keys(peer).contains(&root)
            })
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn all_anchors_may_begin_a_rotation_at_once() {
        let (_dirs, all) = three().await;
        let made = all.each_ref().map(|peer| make(&peer.0.state).unwrap());
        for (peer, (root, made_for)) in all.iter().zip(&made) {
            hand_out(&peer.0.state, &peer.0.mesh, root, *made_for).await.unwrap();
        }
        let candidates = all.each_ref().map(|peer| authority::candidate(&peer.0.state).unwrap());
        assert!(candidates.iter().all(|candidate| *candidate == candidates[0]));
        let [a, b, c] = &all;
        let begun = tokio::join!(a.rotate_ca(), b.rotate_ca(), c.rotate_ca());
        assert!(begun.0.is_ok() || begun.1.is_ok() || begun.2.is_ok(), "{begun:?}");
        until("one of them is trusted, and the others are gone", || {
            all.iter().all(|peer| {
                let roots = peer.0.state.roster().standing().roots().to_vec();
                let mut held = keys(peer);
                held.sort_by_key(|root| roots.iter().position(|trusted| trusted == root));
                roots.len() == 2 && held == roots
            })
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_root_from_the_future_is_not_waited_for() {
        let (_dirs, [a, _b, _c]) = three().await;
        let standing = a.0.state.roster().standing().clone();
        let later = wallclock::since_epoch() + 3 * BACKDATE;
        let made = Authority::create(standing.cluster().id, NodeKey::generate(), later).unwrap();
        let files = |made: &Authority, key: NodeKey| AuthorityFiles {
            certificate: made.certificate().clone(),
            key,
            made_for: Some(authority::occasion(&standing)),
        };
        let early = files(&made, made.key().clone());
        assert!(authority::keep(&a.0.state, early).is_err());
        // One that lies there since before the clock was set right.
        let state = &a.0.state;
        state.home.keep_authority(&files(&made, made.key().clone())).unwrap();
        let pair = state.home.node().unwrap().unwrap().authorities;
        let odd = files(&made, NodeKey::generate());
        let loaded = authority::load(
            &state.home,
            standing.cluster().id,
            pair.into_iter().chain([odd]).collect(),
        );
        let loaded = loaded.unwrap();
        assert_eq!(loaded.len(), 2, "a key beside another one's certificate is none");
        loaded.into_iter().for_each(|kept| state.add_authority(kept));
        assert_eq!(authority::candidate(state), None);
        a.rotate_ca().await.unwrap();
        assert!(!keys(&a).contains(made.certificate()));
    }

    /// Who has the key of the root that goes, and made itself a certificate with it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_thief_is_disconnected_with_the_root_that_it_stole_and_members_are_not() {
        let (_dirs, all) = three().await;
        let [a, b, c] = &all;
        let (key, cluster) = (NodeKey::generate(), a.cluster().id);
        let stolen = a.0.state.authorities().remove(0).authority;
        let certificate = stolen.issue(&key.public(), pki::LEAF_LIFE, wallclock::since_epoch());
        let certificate = certificate.unwrap();
        let settings = mesh::Settings {
            key: &key,
            certificate: &certificate,
            roots: pki::Roots::new(cluster, &[stolen.certificate().clone()]).unwrap(),
            listen: "127.0.0.1:0".parse().unwrap(),
            counters: Arc::default(),
            wire: Versions::OWN,
            agreed: 1,
        };
        let handlers = mesh::Handlers {
            answer: Arc::new(|_, _, _| Box::pin(std::future::ready(Ok(Bytes::new())))),
            join: Arc::new(|_| Box::pin(std::future::ready(()))),
        };
        let (events, _heard) = tokio::sync::mpsc::channel(4096);
        let thief = Mesh::start(settings, handlers, events).unwrap();
        thief.members(BTreeMap::from([(a.id(), vec![a.0.mesh.local_addr().unwrap()])]));
        until("it is connected", || a.0.mesh.has(key.id())).await;

        b.rotate_ca().await.unwrap();
        until("all members have certificates of the other root", || {
            all.iter().all(|peer| {
                let ca = peer.ca();
                ca.roots.len() == 2 && ca.pending.is_empty()
            })
        })
        .await;
        assert!(a.0.mesh.has(key.id()), "both roots count");
        let before = a.0.state.counters.value(Counter::LinksDown);
        b.finish_ca_rotation(false).await.unwrap();
        until("it is cut off", || !a.0.mesh.has(key.id())).await;
        assert!(a.0.mesh.has(b.id()) && a.0.mesh.has(c.id()));
        assert_eq!(
            a.0.state.counters.value(Counter::LinksDown),
            before + 1,
            "nobody else was"
        );
        thief.close().await;
    }
}
