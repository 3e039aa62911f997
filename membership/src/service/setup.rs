//! Making a node: as the first of a cluster, or with a token of one. Both leave a directory alone that holds a node.

use super::restore::{self, Restored};
use super::{Config, Outcome, SetupError};
use crate::home::{AuthorityFiles, Bootstrap, Home, HomeError, Manifest, NodeFiles};
use crate::id::{ClusterId, Label};
use crate::identity::{self, NodeKey};
use crate::join::{self, Denied, JoinError};
use crate::node::{Anchors, Cluster};
use crate::pki::{Authority, PkiError};
use crate::token::Token;
use crate::wallclock;

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
        JoinError::Denied(denied) => SetupError::NotLetIn(denied.to_string()),
        JoinError::Unreachable(why) => {
            let seeds: Vec<_> = token.seeds.iter().map(ToString::to_string).collect();
            SetupError::Unreachable(seeds.join(", "), why)
        }
        JoinError::Stranger(why) => SetupError::Stranger(why),
        JoinError::Certificate(_) | JoinError::Local(_) => SetupError::Other(error.to_string()),
    }
}
