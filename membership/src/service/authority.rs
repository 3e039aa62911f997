//! The cluster's authority on anchors, or two while one takes the place of the other: who becomes an anchor gets the key
//! from another one, over the mesh (TLS 1.3, both sides known by certificate), and who ceases to be one deletes it. The key
//! is in memory that is wiped, apart from what the QUIC library has under way; it is never logged.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use zeroize::{Zeroize as _, Zeroizing};

use super::internal::{self, ANCHOR_DEADLINE, Request};
use super::state::{Kept, State, lock};
use crate::decree::{Act, ROOT_BYTES_MAX, Standing, root_digest};
use crate::home::{AuthorityFiles, Home, HomeError};
use crate::id::{ClusterId, NodeId};
use crate::identity::NodeKey;
use crate::mesh::Mesh;
use crate::pki::{self, Authority};
use crate::record::Digest;
use crate::wallclock;

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
    kept(state, root).map(|kept| kept.authority)
}

fn kept(state: &State, root: Digest) -> Option<Kept> {
    let mut held = state.authorities().into_iter();
    held.find(|kept| root_digest(kept.authority.certificate()) == root)
}

/// What a root is made for that is to be trusted beside another: exactly these anchors, who get its key, and these roots.
/// When either changes it is worth nothing: one who is no anchor any more may know the key.
pub(super) fn occasion(standing: &Standing) -> Digest {
    let list = standing.lists().last().map_or(0, |list| list.version);
    let roots = standing.roots().iter().flat_map(|root| root_digest(root).0);
    Digest::of(&[b"fabric candidate\0", &list.to_be_bytes(), &roots.collect::<Vec<u8>>()])
}

/// Whether this root was made for the anchors and roots of this version, and its key lies here.
pub(super) fn is_made_for(state: &State, root: &Bytes, standing: &Standing) -> bool {
    kept(state, root_digest(root)).is_some_and(|kept| kept.made_for == Some(occasion(standing)))
}

/// The authorities that lay on disk. A key and a certificate that do not belong together are none, and are deleted, as is
/// what a crash left.
pub(super) fn load(home: &Home, cluster: ClusterId, files: Vec<AuthorityFiles>) -> Result<Vec<Kept>, HomeError> {
    home.drop_authority_drafts()?;
    let mut loaded = Vec::new();
    for files in files {
        if is_pair(&files) {
            loaded.push(ready(cluster, files));
        } else {
            tracing::warn!("a key of an authority does not belong to its certificate; it was deleted");
            home.drop_authority(&files.certificate)?;
        }
    }
    Ok(loaded)
}

fn is_pair(files: &AuthorityFiles) -> bool {
    pki::root_key(&files.certificate).is_ok_and(|key| key == files.key.public())
}

fn ready(cluster: ClusterId, files: AuthorityFiles) -> Kept {
    Kept {
        made_for: files.made_for,
        authority: Arc::new(Authority::restore(cluster, files.key, files.certificate)),
    }
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
        match from(mesh, anchor, &root, None).await {
            Ok(files) => return keep(state, files),
            Err(error) => why = format!("{anchor}: {error}"),
        }
    }
    Err(why)
}

/// Takes the key of a root that another anchor is about to have trusted, from that anchor. It is on disk when this
/// returns.
pub(super) async fn prepare(
    state: &State,
    mesh: &Mesh,
    from_whom: NodeId,
    root: &Bytes,
    made_for: Digest,
) -> Result<(), String> {
    internal::check_anchor(state, from_whom)?;
    internal::check_anchor(state, state.own())?;
    if root.len() > ROOT_BYTES_MAX {
        return Err(format!("a root certificate has at most {ROOT_BYTES_MAX} bytes"));
    }
    Fates::of(state).check(root, Some(made_for))?;
    if kept(state, root_digest(root)).is_some_and(|kept| kept.made_for == Some(made_for)) {
        return Ok(());
    }
    let files = from(mesh, from_whom, root, Some(made_for)).await?;
    keep(state, files)
}

/// The authority of a root that somebody was about to have trusted, here or on another anchor, and what it was made for.
/// Of several all anchors that hold them take the same one. It is kept as long as the anchors and the roots stay what
/// they are: until then they may have decided for it without this node having heard.
pub(super) fn candidate(state: &State) -> Option<(Bytes, Digest)> {
    let fates = Fates::of(state);
    let candidates = state.authorities().into_iter().filter_map(|kept| {
        let root = kept.authority.certificate().clone();
        let made_for = kept.made_for.filter(|_| fates.is_open(&root, kept.made_for))?;
        Some((root, made_for))
    });
    candidates.min_by_key(|(root, _)| root_digest(root))
}

/// What became of roots.
struct Fates {
    trusted: Vec<Bytes>,
    dropped: BTreeSet<Digest>,
    occasion: Digest,
}

impl Fates {
    fn of(state: &State) -> Self {
        let roster = state.roster();
        let steps = roster.decrees().steps().iter();
        let dropped = steps.filter_map(|step| match step.decree.act {
            Act::DropRoot(root) => Some(root),
            _ => None,
        });
        Self {
            trusted: roster.standing().roots().to_vec(),
            dropped: dropped.collect(),
            occasion: occasion(roster.standing()),
        }
    }

    /// Whether a root may still be trusted beside the one that is: it was made for what holds, it is not older than those
    /// that are trusted, and it is good already, whatever the clock was on the anchor that made it.
    fn is_open(&self, root: &Bytes, made_for: Option<Digest>) -> bool {
        let from = |root: &Bytes| pki::root_validity(root).map_or(Duration::ZERO, |(from, _)| from);
        let latest = self.trusted.iter().map(from).max().unwrap_or_default();
        let good_by = latest.max(wallclock::since_epoch());
        made_for == Some(self.occasion)
            && !self.trusted.contains(root)
            && !self.dropped.contains(&root_digest(root))
            && (latest..=good_by).contains(&from(root))
    }

    fn counts(&self, root: &Bytes, made_for: Option<Digest>) -> bool {
        self.trusted.contains(root) || self.is_open(root, made_for)
    }

    fn check(&self, root: &Bytes, made_for: Option<Digest>) -> Result<(), String> {
        if self.counts(root, made_for) {
            return Ok(());
        }
        let why = "the anchors or the roots changed meanwhile, or the clocks of the anchors differ by a day: try again";
        Err(why.to_owned())
    }
}

/// Deletes the keys of roots that are not trusted any more, or never were and cannot be.
pub(super) fn tidy(state: &State) -> Result<(), String> {
    let _one_at_a_time = lock(&state.keeping);
    clear_out(state)
}

/// Called with [`State::keeping`] held.
fn clear_out(state: &State) -> Result<(), String> {
    let fates = Fates::of(state);
    for kept in state.authorities() {
        let root = kept.authority.certificate();
        if fates.counts(root, kept.made_for) {
            continue;
        }
        state.home.drop_authority(root).map_err(|error| error.to_string())?;
        state.keep_authorities(|other| other.certificate() != root);
        tracing::info!("the key of a root that is not trusted any more was deleted");
    }
    Ok(())
}

async fn from(mesh: &Mesh, anchor: NodeId, root: &Bytes, made_for: Option<Digest>) -> Result<AuthorityFiles, String> {
    let request = Request::Authority {
        root: root_digest(root),
    };
    let answer = internal::call(mesh, anchor, &request, ANCHOR_DEADLINE).await?;
    let files = read(&answer, root).map(|files| AuthorityFiles { made_for, ..files });
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
        made_for: None,
    })
}

/// Has the authority on disk, then in use. Those that count for nothing make room first.
pub(super) fn keep(state: &State, files: AuthorityFiles) -> Result<(), String> {
    let _one_at_a_time = lock(&state.keeping);
    clear_out(state)?;
    Fates::of(state).check(&files.certificate, files.made_for)?;
    state.home.keep_authority(&files).map_err(|error| error.to_string())?;
    let cluster = state.roster().cluster().id;
    state.add_authority(ready(cluster, files));
    tracing::info!("this anchor holds the key of the cluster's authority");
    Ok(())
}

/// Lets go of all keys on a node that is no anchor.
pub(super) fn drop_all(state: &State) -> Result<(), String> {
    let _one_at_a_time = lock(&state.keeping);
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
