//! `init`, `join`, `leave`, `purge` and `reset`: what happens once; all but `leave` without a running daemon.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::Path;

use membership::id::{IdError, Label, NodeId, Scope};
use membership::service::{self, Hold, Outcome, Restored, SetupError, StartError};

use super::{Failure, Told, host, quarantine};
use crate::backup::{self, Backup, Head, Saved};
use crate::config::{Config, DEFAULT_FILE, Kept};
use crate::ctl;
use crate::exit::Exit;

/// What a cluster is called unless it is told.
const CLUSTER_NAME: &str = "fabric";

/// Makes a cluster, with the objects of a backup if there is one.
pub(super) async fn init(
    told: &Told,
    cluster_name: Option<Label>,
    restore: Option<&Path>,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let host = host::read();
    let name = told.config.node_name(&host)?;
    let config = membership_config(&told.config, &host)?;
    let backup = restore.map(read).transpose()?;
    let named = backup.as_ref().map_or(CLUSTER_NAME, |backup| &backup.head.cluster_name);
    let named = named
        .parse()
        .map_err(|error: IdError| Failure::new(Exit::Refused, format!("the cluster's name: {error}")));
    let cluster_name = cluster_name.map_or(named, Ok)?;
    let outcome = match &backup {
        None => service::init(&config, name, cluster_name).await?,
        Some(backup) => service::init_from(&config, name, cluster_name, restored(backup)).await?,
    };
    tell(out, &outcome, "made cluster")?;
    if let Some(backup) = &backup {
        let Head {
            cluster,
            cluster_name,
            taken,
            ..
        } = &backup.head;
        let (objects, domains) = (backup.objects, backup.domains());
        writeln!(
            out,
            "restored {objects} objects of {domains} domains as of {taken} from cluster {cluster_name} ({cluster})"
        )?;
    }
    let next =
        "start the node (`systemctl start fabric-node`), then make tokens for others with `fabricctl token create`";
    remember(told, &outcome, next, out)
}

/// The whole backup, or what is wrong with it.
fn read(file: &Path) -> Result<Backup, Failure> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let opened = File::open(file).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(Exit::Usage, wrong(&error)),
        _ => Failure::io(&error, wrong(&error)),
    })?;
    backup::read(BufReader::new(opened)).map_err(|error| Failure::new(Exit::Refused, wrong(&error)))
}

fn restored(backup: &Backup) -> Vec<Restored> {
    let restored = |saved: &Saved| {
        let Saved {
            domain,
            key,
            stamp,
            author,
            body,
        } = saved.clone();
        Restored {
            scope: Scope::Domain(domain),
            key,
            stamp,
            author,
            body,
        }
    };
    backup.versions.iter().map(restored).collect()
}

/// Joins a cluster.
pub(super) async fn join(told: &Told, token: &str, out: &mut impl Write) -> Result<(), Failure> {
    let host = host::read();
    let name = told.config.node_name(&host)?;
    let outcome = service::join(&membership_config(&told.config, &host)?, name, token).await?;
    tell(out, &outcome, "joined cluster")?;
    remember(told, &outcome, "start the node (`systemctl start fabric-node`)", out)
}

/// Keeps the flags for `run`. A node that was there keeps what it has; that other flags were given must not go unsaid.
fn remember(told: &Told, outcome: &Outcome, next: &str, out: &mut impl Write) -> Result<(), Failure> {
    match outcome {
        Outcome::Made { .. } => {
            told.flags.write(&told.config.node.data).map_err(|error| {
                let message = format!(
                    "the node was made, but the flags could not be kept for `run`: {error}; set them in {DEFAULT_FILE}"
                );
                Failure::new(Exit::Refused, message)
            })?;
            writeln!(out, "next: {next}")?;
        }
        Outcome::Already { .. } if told.config.mesh != told.later.mesh || told.config.api != told.later.api => {
            writeln!(
                out,
                "the flags given here are not what it runs with: to change that, set them in {DEFAULT_FILE}"
            )?;
        }
        Outcome::Already { .. } => {}
    }
    Ok(())
}

/// Removes what this node made in the kernel.
pub(super) async fn purge(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    let node = node_of(&config.node.data)?;
    let _alone = hold(&config.node.data)?;
    purge_kernel(config, node, out).await
}

/// Asks the running daemon to have its node removed from the cluster.
pub(super) async fn leave(config: &Config, out: &mut impl Write) -> Result<(), Failure> {
    let told = |problem: ctl::Problem| Failure::new(problem.exit(), problem.to_string());
    let (data, socket) = (&config.node.data, &config.api.socket);
    let node = node_of(data)?;
    let runs = ctl::node_behind(socket).await.map_err(told)?;
    if runs != node.to_string() {
        let message = format!(
            "{} holds node {node}, but the daemon behind {} is node {runs}: give --data and the configuration of the node that \
             shall leave",
            data.display(),
            socket.display()
        );
        return Err(Failure::new(Exit::Refused, message));
    }
    let left = ctl::leave(socket).await.map_err(told)?;
    writeln!(out, "node {} ({}) is out of the cluster", left.name, left.id)?;
    writeln!(
        out,
        "next: systemctl disable --now fabric-node && fabric-node reset --yes"
    )?;
    Ok(())
}

/// Removes what this node made in the kernel, then the node.
pub(super) async fn reset(config: &Config, yes: bool, out: &mut impl Write) -> Result<(), Failure> {
    let data = &config.node.data;
    let node = node_of(data)?;
    let alone = hold(data)?;
    if !yes {
        let message = format!(
            "{} holds node {node}: its key and its records would be deleted for good; say --yes if that is meant",
            data.display()
        );
        return Err(Failure::new(Exit::Refused, message));
    }
    purge_kernel(config, node, out).await?;
    service::forget(data, alone)?;
    quarantine::forget(data).map_err(|error| Failure::io(&error, format!("{}: {error}", data.display())))?;
    Kept::forget(data).map_err(|error| Failure::io(&error, format!("{}: {error}", data.display())))?;
    writeln!(out, "node {node} is no more; next: fabric-node join TOKEN")?;
    Ok(())
}

/// The daemon has the store open before it touches the kernel, and none starts while this is held.
fn hold(data: &Path) -> Result<Hold, Failure> {
    service::hold(data).map_err(|error| match error {
        StartError::InUse(data) => {
            let message = format!("the daemon of {} runs: stop it first", data.display());
            Failure::new(Exit::Refused, message)
        }
        other => other.into(),
    })
}

async fn purge_kernel(config: &Config, node: NodeId, out: &mut impl Write) -> Result<(), Failure> {
    let removed = datapath::purge(&config.datapath.bpffs, node)
        .await
        .map_err(Failure::datapath)?;
    for line in &removed {
        writeln!(out, "removed {line}")?;
    }
    if removed.is_empty() {
        writeln!(out, "nothing of node {node} is left in the kernel")?;
    }
    Ok(())
}

/// Which node the data directory is of.
fn node_of(data: &Path) -> Result<NodeId, Failure> {
    service::node_of(data).map_err(|error| match error {
        StartError::NoNode(_) => {
            let message = format!(
                "{} holds no node, so it is not known which one is meant; give --data DIR",
                data.display()
            );
            Failure::new(Exit::Refused, message)
        }
        other => other.into(),
    })
}

/// The part of the configuration that membership knows.
pub(super) fn membership_config(
    config: &Config,
    host: &crate::config::resolve::Host,
) -> Result<service::Config, Failure> {
    let addresses = config.addresses(host)?;
    Ok(service::Config {
        data: config.node.data.clone(),
        listen: config.mesh.listen.0,
        advertise: addresses.advertise,
        certificate_life: membership::pki::LEAF_LIFE,
        wire: config.wire.spoken,
    })
}

fn tell(out: &mut impl Write, outcome: &Outcome, made: &str) -> io::Result<()> {
    match outcome {
        Outcome::Made { node, cluster } => writeln!(out, "{made} {} ({}) as node {node}", cluster.name, cluster.id),
        Outcome::Already { node, cluster } => {
            writeln!(
                out,
                "already node {node} of cluster {} ({}); nothing was changed",
                cluster.name, cluster.id
            )
        }
    }
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        let exit = match &error {
            SetupError::Io(_, cause) => return Self::io(cause, error.to_string()),
            SetupError::OtherCluster { .. }
            | SetupError::Refused(_)
            | SetupError::NotLetIn(_)
            | SetupError::Stranger(_)
            | SetupError::NotRestored(_)
            | SetupError::Other(_) => Exit::Refused,
            SetupError::BadToken(_) => Exit::Usage,
            SetupError::NoMajority(_) | SetupError::Unreachable(..) => Exit::TryAgain,
        };
        Self::new(exit, error.to_string())
    }
}
