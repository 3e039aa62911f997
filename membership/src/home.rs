//! The data directory of a node: which files there are, who may read them, and how they are written. A directory holds
//! a node once `node.json` is in it; that file is written last, so that a crash in the middle of a set-up leaves none. How
//! authorities lie in it is [`authorities`]'s.
//!
//! | file | what |
//! |---|---|
//! | `node.json` | [`Manifest`]: which node of which cluster, on which machine |
//! | `node.key` | the node's key, PKCS#8 PEM |
//! | `node.der` | its certificate |
//! | `bootstrap.bin` | [`Bootstrap`]: the cluster and its nodes as they were at the set-up |
//! | `authority.key`, `authority.der` | the cluster's authority, on anchors only |
//! | `authority-2.key`, `authority-2.der` | another one, while it takes the place of the first, and then on; so up to 9 |
//! | `authority.for`, `authority-2.for` | for which anchors and roots it was made, if it was made to be trusted beside another |
//! | `generation` | number of the last start, for gossip |
//! | `store.redb` | the records |
//! | `setup.lock` | locked while `init` or `join` is at work |
//! | `settings.toml` | flags that `init` or `join` was given; the daemon's own |

mod authorities;

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub(crate) use self::authorities::AuthorityFiles;
use self::authorities::PLACES;
use crate::decree::Kept;
use crate::id::{ClusterId, Label, NodeId};
use crate::identity::{KeyError, NodeKey};
use crate::node::{Cluster, NodeRecord};

/// Layout of the directory.
const FORMAT: u32 = 1;
/// Largest file that is read whole.
const FILE_MAX: u64 = 16 * 1024 * 1024;

const MANIFEST: &str = "node.json";
const KEY: &str = "node.key";
const CERTIFICATE: &str = "node.der";
const BOOTSTRAP: &str = "bootstrap.bin";
const GENERATION: &str = "generation";
const STORE: &str = "store.redb";
const LOCK: &str = "setup.lock";

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HomeError {
    /// The disk refused.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// A file is not what was written there.
    #[error("{0} is damaged: {1}")]
    Damaged(PathBuf, String),
    /// Made by another version of the software.
    #[error("{0} has format {1}, this version reads {FORMAT}; run the version that made it")]
    Format(PathBuf, u32),
    /// A key that cannot be written or read.
    #[error("{0}: {1}")]
    Key(PathBuf, #[source] KeyError),
    /// Two set-ups at once would mix their files.
    #[error("another `init` or `join` is at work in {0}; wait for it")]
    Busy(PathBuf),
    /// There is no place for another authority.
    #[error(
        "{0} holds {PLACES} authorities already; those that are not trusted go when a rotation of the CA is finished or given up"
    )]
    Full(PathBuf),
    /// Records of a node that is not there any more.
    #[error("{0} is left from another node: remove it, or choose another --data")]
    Leftover(PathBuf),
}

/// What a directory is the home of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    /// The node.
    pub(crate) node: NodeId,
    /// Its name.
    pub(crate) name: Label,
    /// The cluster it is of.
    pub(crate) cluster: ClusterId,
    /// That cluster's name when it was made.
    pub(crate) cluster_name: Label,
    /// Hash of the machine's id, where it has one.
    pub(crate) machine: Option<String>,
}

impl Manifest {
    /// The manifest of a node on the machine with that hash.
    pub(crate) fn new(node: NodeId, name: Label, cluster: &Cluster, machine: Option<String>) -> Self {
        Self {
            format: FORMAT,
            node,
            name,
            cluster: cluster.id,
            cluster_name: cluster.name.clone(),
            machine,
        }
    }
}

/// What a node knows before it has met a peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bootstrap {
    /// The cluster record.
    pub(crate) cluster: Cluster,
    /// Nodes that were known.
    pub(crate) nodes: Vec<(NodeId, NodeRecord)>,
    /// The cluster record as a chain of decrees; none if it was never changed.
    pub(crate) decrees: Option<Kept>,
}

/// The same as it was before there were decrees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unchained {
    cluster: Cluster,
    nodes: Vec<(NodeId, NodeRecord)>,
}

impl From<Unchained> for Bootstrap {
    fn from(Unchained { cluster, nodes }: Unchained) -> Self {
        Self {
            cluster,
            nodes,
            decrees: None,
        }
    }
}

/// Everything of a node that is not in its store.
#[derive(Debug)]
pub(crate) struct NodeFiles {
    pub(crate) manifest: Manifest,
    pub(crate) key: NodeKey,
    pub(crate) certificate: Bytes,
    pub(crate) bootstrap: Bootstrap,
    pub(crate) authorities: Vec<AuthorityFiles>,
}

/// Held by who sets up a directory; the kernel frees it with the process.
#[derive(Debug)]
pub(crate) struct SetupLock(#[expect(dead_code, reason = "closing it frees the lock")] File);

/// A data directory.
#[derive(Debug, Clone)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// The directory, which need not exist.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// What it is the home of; `None` if it holds no node.
    pub(crate) fn manifest(&self) -> Result<Option<Manifest>, HomeError> {
        let Some(bytes) = self.read(MANIFEST)? else {
            return Ok(None);
        };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| self.damaged(MANIFEST, error))?;
        match manifest.format {
            FORMAT => Ok(Some(manifest)),
            other => Err(HomeError::Format(self.0.join(MANIFEST), other)),
        }
    }

    /// Everything of the node in it; `None` if it holds none.
    pub(crate) fn node(&self) -> Result<Option<NodeFiles>, HomeError> {
        let Some(manifest) = self.manifest()? else {
            return Ok(None);
        };
        let key = self.key(KEY)?.ok_or_else(|| self.damaged(KEY, "it is missing"))?;
        if key.id() != manifest.node {
            return Err(self.damaged(
                KEY,
                format!("it is the key of node {}, not of {}", key.id(), manifest.node),
            ));
        }
        Ok(Some(NodeFiles {
            manifest,
            key,
            certificate: self.required(CERTIFICATE)?,
            bootstrap: self.bootstrap()?,
            authorities: self.authorities()?,
        }))
    }

    /// What was known at the set-up.
    pub(crate) fn bootstrap(&self) -> Result<Bootstrap, HomeError> {
        let bytes = self.required(BOOTSTRAP)?;
        let unchained = || postcard::from_bytes::<Unchained>(&bytes).map(Bootstrap::from);
        let read = postcard::from_bytes(&bytes).or_else(|_| unchained());
        read.map_err(|error| self.damaged(BOOTSTRAP, error))
    }

    /// Keeps the certificate that takes the place of the one before.
    pub(crate) fn keep_certificate(&self, certificate: &[u8]) -> Result<(), HomeError> {
        self.write(CERTIFICATE, certificate)
    }

    /// Writes a node; `node.json` last.
    pub(crate) fn found(&self, files: &NodeFiles) -> Result<(), HomeError> {
        self.write_key(KEY, &files.key)?;
        self.write(CERTIFICATE, &files.certificate)?;
        let bootstrap = postcard::to_stdvec(&files.bootstrap).map_err(|error| self.damaged(BOOTSTRAP, error))?;
        self.write(BOOTSTRAP, &bootstrap)?;
        // An `init` that was cut short leaves an authority that nobody knows.
        self.drop_authorities()?;
        for authority in &files.authorities {
            self.keep_authority(authority)?;
        }
        let manifest = serde_json::to_vec_pretty(&files.manifest).map_err(|error| self.damaged(MANIFEST, error))?;
        self.write(MANIFEST, &manifest)
    }

    /// Begins a set-up: makes the directory, keeps others from setting it up as long as the lock is held, and checks that
    /// no records of a former node would be taken for the next one's.
    pub(crate) fn begin(&self) -> Result<SetupLock, HomeError> {
        self.make()?;
        let path = self.0.join(LOCK);
        let io = |error| HomeError::Io(path.clone(), error);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(HomeError::Busy(self.0.clone())),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        if self.manifest()?.is_none() && self.store().exists() {
            return Err(HomeError::Leftover(self.store()));
        }
        Ok(SetupLock(file))
    }

    /// The key of a set-up that is under way: a second try must use the key of the first one, to which the token may
    /// be bound already.
    pub(crate) fn pending_key(&self) -> Result<NodeKey, HomeError> {
        if let Some(key) = self.key(KEY)? {
            return Ok(key);
        }
        let key = NodeKey::generate();
        self.write_key(KEY, &key)?;
        Ok(key)
    }

    /// A number higher than at any start before: `at_least`, or one more than the last one.
    pub(crate) fn next_generation(&self, at_least: u64) -> Result<u64, HomeError> {
        let last = self
            .read(GENERATION)?
            .and_then(|bytes| String::from_utf8(bytes).ok()?.trim().parse::<u64>().ok());
        let next = last.map_or(at_least, |last| at_least.max(last.saturating_add(1)));
        self.write(GENERATION, format!("{next}\n").as_bytes())?;
        Ok(next)
    }

    /// Removes the node: the manifest first, with which there is none, then all that `Home` ever writes. Nobody else's files
    /// are touched.
    pub(crate) fn forget(&self) -> Result<(), HomeError> {
        for name in [MANIFEST, KEY] {
            self.remove(name)?;
            self.remove(&draft_of(name))?;
        }
        self.drop_authorities()?;
        for name in [CERTIFICATE, BOOTSTRAP, GENERATION, STORE, LOCK] {
            self.remove(name)?;
            self.remove(&draft_of(name))?;
        }
        Ok(())
    }

    /// Where the store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.0.join(STORE)
    }

    fn make(&self) -> Result<(), HomeError> {
        let io = |error| HomeError::Io(self.0.clone(), error);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .map_err(io)?;
        fs::set_permissions(&self.0, Permissions::from_mode(0o700)).map_err(io)
    }

    fn key(&self, name: &str) -> Result<Option<NodeKey>, HomeError> {
        let Some(bytes) = self.read(name)?.map(Zeroizing::new) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| self.damaged(name, error))?;
        NodeKey::from_pem(text)
            .map(Some)
            .map_err(|error| HomeError::Key(self.0.join(name), error))
    }

    fn write_key(&self, name: &str, key: &NodeKey) -> Result<(), HomeError> {
        let pem = key.to_pem().map_err(|error| HomeError::Key(self.0.join(name), error))?;
        self.write(name, pem.as_bytes())
    }

    fn required(&self, name: &str) -> Result<Bytes, HomeError> {
        Ok(self
            .read(name)?
            .ok_or_else(|| self.damaged(name, "it is missing"))?
            .into())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, HomeError> {
        let path = self.0.join(name);
        let size = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(HomeError::Io(path, error)),
        };
        if size > FILE_MAX {
            return Err(self.damaged(name, "it is too large"));
        }
        fs::read(&path).map(Some).map_err(|error| HomeError::Io(path, error))
    }

    /// All of it or nothing is on disk, whatever happens.
    fn write(&self, name: &str, content: &[u8]) -> Result<(), HomeError> {
        let (path, draft) = (self.0.join(name), self.0.join(draft_of(name)));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&draft, &path)?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(|error| HomeError::Io(path.clone(), error))
    }

    fn remove(&self, name: &str) -> Result<(), HomeError> {
        let path = self.0.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HomeError::Io(path, error)),
            _ => Ok(()),
        }
    }

    fn damaged(&self, name: &str, why: impl ToString) -> HomeError {
        HomeError::Damaged(self.0.join(name), why.to_string())
    }
}

/// What a file is written as before it takes its name.
fn draft_of(name: &str) -> String {
    format!(".{name}.draft")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Anchors;

    pub(super) fn files() -> NodeFiles {
        let key = NodeKey::generate();
        let cluster = Cluster {
            id: ClusterId::from_random([1; 16]),
            name: "lab".parse().unwrap(),
            roots: vec![Bytes::from_static(b"root")],
            anchors: Anchors::of(1, vec![key.id()]),
        };
        NodeFiles {
            manifest: Manifest::new(key.id(), "one".parse().unwrap(), &cluster, Some("machine".to_owned())),
            certificate: Bytes::from_static(b"certificate"),
            authorities: vec![AuthorityFiles {
                key: key.clone(),
                certificate: Bytes::from_static(b"authority"),
                made_for: None,
            }],
            bootstrap: Bootstrap {
                cluster,
                nodes: Vec::new(),
                decrees: None,
            },
            key,
        }
    }

    #[test]
    fn a_node_survives_and_only_its_owner_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(&dir.path().join("deep/home"));
        assert!(home.node().unwrap().is_none());
        let files = files();
        let lock = home.begin().unwrap();
        home.found(&files).unwrap();
        assert!(matches!(home.begin(), Err(HomeError::Busy(_))));
        drop(lock);
        home.begin().unwrap();
        let back = home.node().unwrap().unwrap();
        assert_eq!((&back.manifest, &back.bootstrap), (&files.manifest, &files.bootstrap));
        assert_eq!(back.authorities[0].key.public(), files.key.public());
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(home.0.clone()), 0o700);
        for file in fs::read_dir(&home.0).unwrap() {
            assert_eq!(mode(file.unwrap().path()), 0o600);
        }
    }

    #[test]
    fn a_set_up_that_stopped_halfway_is_no_node_and_keeps_its_key() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let first = home.pending_key().unwrap();
        assert!(home.node().unwrap().is_none());
        assert_eq!(home.pending_key().unwrap().public(), first.public());
    }

    #[test]
    fn what_is_left_of_others_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        // An `init` that got as far as its authority, and then a `join`.
        let mut files = files();
        let authority = files.authorities.remove(0);
        home.keep_authority(&authority).unwrap();
        home.found(&files).unwrap();
        assert!(home.node().unwrap().unwrap().authorities.is_empty());
        // Somebody removed the manifest only.
        home.write(STORE, b"records").unwrap();
        home.begin().unwrap();
        home.remove(MANIFEST).unwrap();
        assert!(matches!(home.begin(), Err(HomeError::Leftover(_))));
    }

    #[test]
    fn a_set_up_from_before_there_were_decrees_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        let files = files();
        home.found(&files).unwrap();
        let Bootstrap { cluster, nodes, .. } = files.bootstrap.clone();
        let old = postcard::to_stdvec(&Unchained { cluster, nodes }).unwrap();
        home.write(BOOTSTRAP, &old).unwrap();
        assert_eq!(home.bootstrap().unwrap(), files.bootstrap);
    }

    #[test]
    fn a_forgotten_node_leaves_only_what_is_not_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        home.found(&files()).unwrap();
        home.write(STORE, b"records").unwrap();
        home.next_generation(1).unwrap();
        fs::write(dir.path().join("note"), "an operator's").unwrap();
        home.forget().unwrap();
        let left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left, ["note"]);
        home.begin().unwrap();
        home.forget().unwrap();
    }

    #[test]
    fn a_foreign_key_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        home.found(&files()).unwrap();
        home.write_key(KEY, &NodeKey::generate()).unwrap();
        assert!(matches!(home.node(), Err(HomeError::Damaged(path, _)) if path.ends_with(KEY)));
    }

    #[test]
    fn generations_rise_even_if_the_clock_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::at(dir.path());
        assert_eq!(
            [100, 50, 200].map(|clock| home.next_generation(clock).unwrap()),
            [100, 101, 200]
        );
    }
}
