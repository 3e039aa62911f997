//! The cluster's authority on anchors, or two while one takes the place of the other: who becomes an anchor gets the key
//! from another one, over the mesh (TLS 1.3, both sides known by certificate), and who ceases to be one deletes it. The key is in memory that is wiped, apart from what the
//! QUIC library has under way; it is never logged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zeroize::{Zeroize as _, Zeroizing};

use super::internal::{self, ANCHOR_DEADLINE, Request};
use super::state::State;
use crate::decree::{Act, ROOT_BYTES_MAX, root_digest};
use crate::home::AuthorityFiles;
use crate::id::NodeId;
use crate::identity::NodeKey;
use crate::mesh::Mesh;
use crate::pki::{self, Authority};
use crate::record::Digest;

/// More than key and certificate ever take.
const ANSWER_MAX: usize = 8 * 1024;

/// The root that issues: the one that was trusted last.
pub(super) fn wanted(state: &State) -> Option<Bytes> {
    state.roster().standing().roots().last().cloned()
}

/// The authority that makes certificates here: of the trusted roots the latest whose key this node has.
pub(super) fn issuing(state: &State) -> Option<Arc<Authority>> {
    let roots = state.roster().standing().roots().to_vec();
    roots.iter().rev().find_map(|root| held(state, root_digest(root)))
}

/// The authority with this root, if it lies here.
pub(super) fn held(state: &State, root: Digest) -> Option<Arc<Authority>> {
    let mut held = state.authorities().into_iter();
    held.find(|authority| root_digest(authority.certificate()) == root)
}

/// Gives the key to an anchor.
pub(super) fn hand_over(state: &State, to: NodeId, root: Digest) -> Result<Bytes, String> {
    internal::check_anchor(state, to)?;
    internal::check_anchor(state, state.own())?;
    let authority = held(state, root).ok_or("the key of that root is not here")?;
    let pem = authority.key().to_pem().map_err(|error| error.to_string())?;
    // As large as it may become, so that no copy is left behind by growing.
    let mut answer = Zeroizing::new(vec![0; ANSWER_MAX]);
    let said = postcard::to_slice(&(pem.as_str(), &authority.certificate()[..]), &mut answer);
    let length = said.map_err(|error| error.to_string())?.len();
    answer.truncate(length);
    tracing::info!(node = %to, "the key of the cluster's authority was handed to an anchor");
    Ok(Bytes::from_owner(answer))
}

/// Fetches the key of the root that issues if this anchor lacks it, from whichever anchor has it.
pub(super) async fn fetch(state: &State, mesh: &Mesh) -> Result<(), String> {
    let Some(root) = wanted(state) else { return Ok(()) };
    if held(state, root_digest(&root)).is_some() {
        return Ok(());
    }
    let anchors: Vec<NodeId> = state.roster().standing().seats().iter().map(|seat| seat.node).collect();
    let mut why = "there is no other anchor".to_owned();
    for anchor in anchors.into_iter().filter(|anchor| *anchor != state.own()) {
        match from(mesh, anchor, &root).await {
            Ok(files) => return keep(state, files),
            Err(error) => why = format!("{anchor}: {error}"),
        }
    }
    Err(why)
}

/// Takes the key of a root that another anchor is about to have trusted, from that anchor. It is on disk when this
/// returns.
pub(super) async fn prepare(state: &State, mesh: &Mesh, from_whom: NodeId, root: &Bytes) -> Result<(), String> {
    internal::check_anchor(state, from_whom)?;
    internal::check_anchor(state, state.own())?;
    if root.len() > ROOT_BYTES_MAX {
        return Err(format!("a root certificate has at most {ROOT_BYTES_MAX} bytes"));
    }
    if held(state, root_digest(root)).is_some() {
        return Ok(());
    }
    let files = from(mesh, from_whom, root).await?;
    keep(state, files)
}

/// The authority of a root that somebody was about to have trusted, here or on another anchor. It is kept for good: the
/// anchors may have decided for it already, without this node having heard.
pub(super) fn candidate(state: &State) -> Option<Arc<Authority>> {
    let (trusted, dropped) = fates(state);
    let made = |root: &Bytes| pki::root_validity(root).map_or(Duration::ZERO, |(from, _)| from);
    let latest = trusted.iter().map(made).max().unwrap_or_default();
    let open = |root: &Bytes| !trusted.contains(root) && !dropped.contains(&root_digest(root)) && made(root) >= latest;
    state
        .authorities()
        .into_iter()
        .find(|authority| open(authority.certificate()))
}

/// The roots that are trusted, and the names of those that were.
fn fates(state: &State) -> (Vec<Bytes>, BTreeSet<Digest>) {
    let roster = state.roster();
    let dropped = roster
        .decrees()
        .steps()
        .iter()
        .filter_map(|step| match step.decree.act {
            Act::DropRoot(root) => Some(root),
            _ => None,
        });
    (roster.standing().roots().to_vec(), dropped.collect())
}

/// Deletes the keys of roots that are not trusted any more.
pub(super) fn tidy(state: &State) -> Result<(), String> {
    let ((trusted, _), candidate) = (fates(state), candidate(state));
    let candidate = candidate.map(|authority| authority.certificate().clone());
    for authority in state.authorities() {
        let root = authority.certificate();
        if trusted.contains(root) || candidate.as_ref() == Some(root) {
            continue;
        }
        state.home.drop_authority(root).map_err(|error| error.to_string())?;
        state.keep_authorities(|other| other.certificate() != root);
        tracing::info!("the key of a root that is not trusted any more was deleted");
    }
    Ok(())
}

async fn from(mesh: &Mesh, anchor: NodeId, root: &Bytes) -> Result<AuthorityFiles, String> {
    let request = Request::Authority {
        root: root_digest(root),
    };
    let answer = internal::call(mesh, anchor, &request, ANCHOR_DEADLINE).await?;
    let files = read(&answer, root);
    // Nobody else has the bytes.
    if let Ok(mut answer) = answer.try_into_mut() {
        answer.zeroize();
    }
    files
}

fn read(answer: &[u8], root: &Bytes) -> Result<AuthorityFiles, String> {
    let unread = || "its answer cannot be read".to_owned();
    let (pem, certificate): (&str, &[u8]) = postcard::from_bytes(answer).map_err(|_| unread())?;
    let key = NodeKey::from_pem(pem).map_err(|_| unread())?;
    if certificate != &root[..] || pki::root_key(certificate).map_err(|error| error.to_string())? != key.public() {
        return Err("it gave another authority's key".to_owned());
    }
    Ok(AuthorityFiles {
        key,
        certificate: root.clone(),
    })
}

/// Has the authority on disk, then in use.
pub(super) fn keep(state: &State, files: AuthorityFiles) -> Result<(), String> {
    state.home.keep_authority(&files).map_err(|error| error.to_string())?;
    let cluster = state.roster().cluster().id;
    state.add_authority(Authority::restore(cluster, files.key, files.certificate));
    tracing::info!("this anchor holds the key of the cluster's authority");
    Ok(())
}

/// Lets go of all keys on a node that is no anchor.
pub(super) fn drop_all(state: &State) -> Result<(), String> {
    if state.authorities().is_empty() {
        return Ok(());
    }
    state.home.drop_authorities().map_err(|error| error.to_string())?;
    state.keep_authorities(|_| false);
    tracing::info!("this node is no anchor any more; the key of the cluster's authority was deleted");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ClusterId;

    #[test]
    fn only_the_key_of_the_wanted_root_is_taken() {
        let now = Duration::from_secs(1_800_000_000);
        let made = |seed: u8| {
            Authority::create(ClusterId::from_random([1; 16]), NodeKey::from_seed(&[seed; 32]), now).unwrap()
        };
        let (good, other) = (made(1), made(2));
        let answer = |key: &Authority, certificate: &Authority| {
            let pem = key.key().to_pem().unwrap();
            postcard::to_stdvec(&(pem.as_str(), &certificate.certificate()[..])).unwrap()
        };
        let root = good.certificate().clone();
        assert_eq!(
            read(&answer(&good, &good), &root).unwrap().key.public(),
            good.key().public()
        );
        assert!(read(&answer(&other, &other), &root).is_err(), "another authority");
        assert!(read(&answer(&other, &good), &root).is_err(), "another one's key");
        let whole = answer(&good, &good);
        for length in 0..whole.len() {
            assert!(read(&whole[..length], &root).is_err(), "cut at {length}");
        }
    }
}
