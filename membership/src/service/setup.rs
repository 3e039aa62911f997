//! Making a node: as the first of a cluster, or with a token of one. Both leave a directory alone that holds a node.

use std::path::PathBuf;

use super::Config;
use super::restore::{self, Restored};
use crate::home::{AuthorityFiles, Bootstrap, Home, HomeError, Manifest, NodeFiles};
use crate::id::{ClusterId, Label, NodeId};
use crate::identity::{self, NodeKey};
use crate::join::{self, Denied, JoinError};
use crate::node::{Anchors, Cluster};
use crate::pki::{Authority, PkiError};
use crate::token::Token;
use crate::wallclock;

/// What `init` and `join` found or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A node was made.
    Made {
        /// Its id.
        node: NodeId,
        /// Its cluster.
        cluster: Cluster,
    },
    /// The directory was already a node of that cluster.
    Already {
        /// Its id.
        node: NodeId,
        /// Its cluster.
        cluster: Cluster,
    },
}

/// Why `init` or `join` did nothing.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The directory belongs to another cluster.
    #[error("{path} belongs to cluster {name} ({id}); choose another --data, or remove that directory")]
    OtherCluster {
        /// The data directory.
        path: PathBuf,
        /// Its cluster's name.
        name: Label,
        /// Its cluster's id.
        id: String,
    },
    /// A backup makes a new cluster only.
    #[error("{0} holds a node already, and nothing was restored: choose another --data, or remove that directory")]
    NotRestored(PathBuf),
    /// The text is no token.
    #[error("not a join token: {0}; make one with `fabricctl token create` on an anchor")]
    BadToken(String),
    /// The anchor refused the token: unknown, used or expired.
    #[error("the cluster refused the token: {0}; make another one with `fabricctl token create`")]
    Refused(String),
    /// The anchor refused for another reason than the token, which stays good.
    #[error("the cluster did not let this node in: {0}")]
    NotLetIn(String),
    /// The anchors that agreed were too few; the token stays good.
    #[error("the cluster did not let this node in: {0}")]
    NoMajority(String),
    /// An address of the token answered, but not as a node of the token's cluster.
    #[error(
        "who answered is not of the token's cluster, or that cluster's CA was replaced since the token was made: {0}; make \
         another token there with `fabricctl token create`"
    )]
    Stranger(String),
    /// No address of the token answered.
    #[error("none of {0} could be reached: {1}")]
    Unreachable(String, String),
    /// A file of the data directory cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] std::io::Error),
    /// A file is damaged, another set-up is at work, ….
    #[error("{0}")]
    Other(String),
}

impl From<HomeError> for SetupError {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::Io(path, error) => Self::Io(path, error),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<PkiError> for SetupError {
    fn from(error: PkiError) -> Self {
        Self::Other(error.to_string())
    }
}

/// Makes a cluster of one node, with these objects.
pub(crate) fn init(
    config: &Config,
    node_name: Label,
    cluster_name: Label,
    objects: Option<Vec<Restored>>,
) -> Result<Outcome, SetupError> {
    let home = Home::at(&config.data);
    let _alone = home.begin()?;
    if let Some(manifest) = home.manifest()? {
        if objects.is_some() {
            return Err(SetupError::NotRestored(config.data.clone()));
        }
        let same = manifest.cluster_name == cluster_name;
        return already(config, &home, &manifest, same);
    }
    let (key, now) = (NodeKey::generate(), wallclock::since_epoch());
    if let Some(objects) = objects {
        restore::write(&home.store(), &key, objects)?;
    }
    let id = ClusterId::from_random(rand::random());
    let authority = Authority::create(id, NodeKey::generate(), now)?;
    let cluster = Cluster {
        id,
        name: cluster_name,
        roots: vec![authority.certificate().clone()],
        anchors: Anchors::of(1, vec![key.id()]),
    };
    let files = NodeFiles {
        manifest: Manifest::new(key.id(), node_name, &cluster, identity::machine()),
        certificate: authority.issue(&key.public(), config.certificate_life, now)?,
        bootstrap: Bootstrap {
            cluster,
            nodes: Vec::new(),
            decrees: None,
        },
        authorities: vec![AuthorityFiles {
            certificate: authority.certificate().clone(),
            key: authority.into_key(),
            made_for: None,
        }],
        key,
    };
    made(&home, &files)
}

/// Joins the cluster that the token is of.
pub(super) async fn join(config: &Config, node_name: Label, token: &str) -> Result<Outcome, SetupError> {
    let token: Token = token
        .parse()
        .map_err(|error| SetupError::BadToken(format!("{error}")))?;
    let home = Home::at(&config.data);
    let _alone = home.begin()?;
    if let Some(manifest) = home.manifest()? {
        let same = manifest.cluster == token.cluster;
        return already(config, &home, &manifest, same);
    }
    let key = home.pending_key()?;
    let now = wallclock::since_epoch();
    let grant = join::join(&token, &key, &node_name, (config.listen.ip(), config.wire), now)
        .await
        .map_err(|error| refused(&token, error))?;
    let files = NodeFiles {
        manifest: Manifest::new(key.id(), node_name, &grant.bootstrap.cluster, identity::machine()),
        certificate: grant.certificate,
        bootstrap: grant.bootstrap,
        authorities: Vec::new(),
        key,
    };
    made(&home, &files)
}

fn made(home: &Home, files: &NodeFiles) -> Result<Outcome, SetupError> {
    home.found(files)?;
    Ok(Outcome::Made {
        node: files.key.id(),
        cluster: files.bootstrap.cluster.clone(),
    })
}

fn already(config: &Config, home: &Home, manifest: &Manifest, same: bool) -> Result<Outcome, SetupError> {
    if !same {
        let (name, id) = (manifest.cluster_name.clone(), manifest.cluster.to_string());
        return Err(SetupError::OtherCluster {
            path: config.data.clone(),
            name,
            id,
        });
    }
    Ok(Outcome::Already {
        node: manifest.node,
        cluster: home.bootstrap()?.cluster,
    })
}

fn refused(token: &Token, error: JoinError) -> SetupError {
    match error {
        JoinError::Denied(Denied::Token(refusal)) => SetupError::Refused(refusal.to_string()),
        JoinError::Denied(denied @ Denied::NoMajority(..)) => SetupError::NoMajority(denied.to_string()),
        JoinError::Denied(denied) => SetupError::NotLetIn(denied.to_string()),
        JoinError::Unreachable(why) => {
            let seeds: Vec<_> = token.seeds.iter().map(ToString::to_string).collect();
            SetupError::Unreachable(seeds.join(", "), why)
        }
        JoinError::Stranger(why) => SetupError::Stranger(why),
        JoinError::Certificate(_) | JoinError::Local(_) => SetupError::Other(error.to_string()),
    }
}
