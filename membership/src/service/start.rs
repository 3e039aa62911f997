//! Starting a peer: from a data directory to running tasks.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::alarms::Events;
use super::disk::Disk;
use super::engine::Engine;
use super::registrar::Desk;
use super::roster::{CLUSTER_NAME, Roster};
use super::state::{Parts, State, lock};
use super::{CallHandler, Config, FactWrite, Inner, Membership, StartError, internal, writing};
use crate::counter::{Counter, Counters};
use crate::gossip::{self, Gossip};
use crate::home::{Home, HomeError, NodeFiles};
use crate::id::Scope;
use crate::identity;
use crate::join::{self, Registrar};
use crate::keyring::{Certify, NODE_NAME};
use crate::mesh::{self, Class, Handlers, Mesh, MeshError};
use crate::node::{CLUSTER_KIND, NODE_KIND, NodeRecord};
use crate::pki::{Authority, Leaf, PkiError, Roots};
use crate::record::{Body, Key};
use crate::store::{Store, StoreError};
use crate::sync::Sync;
use crate::wallclock;

/// Events of the mesh that wait for the engine; beyond, peers are slowed down.
const EVENTS: usize = 64;
const COMMANDS: usize = 64;
/// Format of the bodies of node and cluster records.
const BODY_VERSION: u16 = 1;
/// How long the first writes may take.
const FIRST_WRITES: Duration = Duration::from_secs(30);

impl From<HomeError> for StartError {
    fn from(error: HomeError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<PkiError> for StartError {
    fn from(error: PkiError) -> Self {
        Self::Other(error.to_string())
    }
}

impl From<MeshError> for StartError {
    fn from(error: MeshError) -> Self {
        Self::Other(error.to_string())
    }
}

impl Certify for Roots {
    fn public_key(&self, record: &NodeRecord) -> Option<[u8; 32]> {
        self.check_record(&record.certificate).ok().map(|leaf| leaf.key)
    }
}

/// Starts the peer in `config.data`.
pub(super) async fn start(config: Config, handler: CallHandler) -> Result<Membership, StartError> {
    let home = Home::at(&config.data);
    let files = home.node()?.ok_or_else(|| StartError::NoNode(config.data.clone()))?;
    check_machine(
        &config.data,
        files.manifest.machine.as_deref(),
        identity::machine().as_deref(),
    )?;
    let roots = Roots::new(files.manifest.cluster, &files.bootstrap.cluster.roots)?;
    let leaf = Leaf::parse(&files.certificate)?;
    let counters = Arc::new(Counters::default());
    let (events_tx, events) = mpsc::channel(EVENTS);
    let (commands_tx, commands) = mpsc::channel(COMMANDS);
    let known: Arc<Mutex<Events>> = Arc::default();
    let (disk, core) = open(&config.data, &home, &files, &roots, known.clone()).await?;
    let slot = Slot::default();
    let mesh = Mesh::start(
        mesh::Settings {
            key: &files.key,
            certificate: &files.certificate,
            roots,
            listen: config.listen,
            counters: counters.clone(),
        },
        slot.handlers(),
        events_tx,
    )?;
    let addresses = advertised(&config, &mesh)?;
    let NodeFiles {
        manifest,
        key,
        certificate,
        bootstrap,
        authority,
    } = files;
    let own = NodeRecord {
        name: manifest.name,
        certificate,
        addresses,
        wire: mesh::frame::WIRE,
        intent: true,
        software: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let authority = authority.map(|files| Authority::restore(manifest.cluster, files.key, files.certificate));
    let roster = Roster::new(key.id(), bootstrap);
    let state = Arc::new(State::new(Parts {
        key,
        leaf,
        authority,
        disk,
        handler,
        commands: commands_tx,
        counters: counters.clone(),
        core,
        roster,
        events: known,
    }));
    slot.fill(&state, &mesh);
    let gossip = start_gossip(&state, &mesh, home, counters);
    let engine = tokio::spawn(Engine::new(state.clone(), mesh.clone(), gossip.clone()).run(events, commands));
    let membership = Membership(Arc::new(Inner {
        state,
        mesh,
        gossip,
        engine: Mutex::new(Some(engine)),
    }));
    match tokio::time::timeout(FIRST_WRITES, say_own(&membership, own)).await {
        Ok(Ok(())) => Ok(membership),
        failed => {
            membership.shutdown().await;
            let why = failed.map_or_else(
                |_| "the disk does not answer".to_owned(),
                |said| said.err().unwrap_or_default(),
            );
            Err(StartError::Other(format!(
                "this node's own record could not be written: {why}"
            )))
        }
    }
}

fn check_machine(data: &Path, bound: Option<&str>, here: Option<&str>) -> Result<(), StartError> {
    match bound {
        Some(bound) if Some(bound) != here => Err(StartError::Cloned(data.to_owned())),
        _ => Ok(()),
    }
}

async fn open(
    data: &Path,
    home: &Home,
    files: &NodeFiles,
    roots: &Roots,
    events: Arc<Mutex<Events>>,
) -> Result<(Disk, Sync), StartError> {
    let (path, node, data) = (home.store(), files.key.id(), data.to_owned());
    let opened = move || {
        let store = Store::open(&path)?;
        let loaded = store.load(node)?;
        Ok((store, loaded))
    };
    let opened: Result<_, StoreError> = tokio::task::spawn_blocking(opened)
        .await
        .map_err(|error| StartError::Other(error.to_string()))?;
    let (store, loaded) = opened.map_err(|error| match error {
        StoreError::InUse(_) => StartError::InUse(data),
        other => StartError::Other(other.to_string()),
    })?;
    if loaded.forgotten > 0 {
        tracing::warn!(
            sets = loaded.forgotten,
            "records of others were damaged on disk; peers send them again"
        );
    }
    let failed = move |error: String| {
        tracing::error!("the store could not be written: {error}");
        lock(&events).note("store-failed", error, wallclock::monotonic());
    };
    let disk = Disk::start(store, failed).map_err(|error| StartError::Other(error.to_string()))?;
    Ok((
        disk,
        Sync::new(&files.key.public(), loaded.replica, Box::new(roots.clone())),
    ))
}

/// Where others reach this node.
fn advertised(config: &Config, mesh: &Mesh) -> Result<Vec<SocketAddr>, StartError> {
    if !config.advertise.is_empty() {
        return Ok(config.advertise.clone());
    }
    let bound = mesh.local_addr().unwrap_or(config.listen);
    if !bound.ip().is_unspecified() {
        return Ok(vec![bound]);
    }
    let found = source_address(bound).map(|address| vec![SocketAddr::new(address.ip(), bound.port())]);
    found.ok_or_else(|| {
        let why =
            "the node listens on all addresses, and none of them leads out: say with --advertise where others reach it";
        StartError::Other(why.to_owned())
    })
}

/// The address from which this host would reach others. Nothing is sent: connecting a UDP socket only looks up a route.
fn source_address(bound: SocketAddr) -> Option<SocketAddr> {
    // Documentation addresses (RFC 5737, RFC 3849) follow the default route.
    let v4 = (
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9)),
    );
    let v6_target = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let v6 = (
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        SocketAddr::from((v6_target, 9)),
    );
    let families = if bound.is_ipv4() { vec![v4] } else { vec![v6, v4] };
    families.into_iter().find_map(|(any, target)| {
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(target).ok()?;
        socket
            .local_addr()
            .ok()
            .filter(|address| !address.ip().is_unspecified())
    })
}

fn start_gossip(state: &Arc<State>, mesh: &Mesh, home: Home, counters: Arc<Counters>) -> Gossip {
    let sender = mesh.clone();
    let settings = gossip::Settings {
        own: state.own(),
        cluster: state.roster().cluster().id,
        home,
        inbox: mesh.gossip_inbox(),
        send: Arc::new(move |to, bytes| sender.gossip(to, bytes)),
        counters,
    };
    Gossip::start(settings, state.stop.clone())
}

/// Writes this node's record, and the founder the cluster's, where the replica says something else.
async fn say_own(membership: &Membership, own: NodeRecord) -> Result<(), String> {
    let state = &membership.0.state;
    let mut writes = Vec::new();
    let node = (Key::new(NODE_KIND, NODE_NAME), body(&own)?);
    let cluster = (Key::new(CLUSTER_KIND, CLUSTER_NAME), body(state.roster().cluster())?);
    let said = |key: &Key| {
        let core = state.core();
        core.replica()
            .fact(&Scope::System, state.own(), key)
            .and_then(|fact| fact.body.clone())
    };
    if said(&node.0).as_ref() != Some(&node.1) {
        writes.push(FactWrite {
            key: node.0,
            body: Some(node.1),
        });
    }
    if state.authority.is_some() && said(&cluster.0).is_none() {
        writes.push(FactWrite {
            key: cluster.0,
            body: Some(cluster.1),
        });
    }
    if writes.is_empty() {
        return Ok(());
    }
    writing::facts(state, Scope::System, writes)
        .await
        .map(|_| ())
        .map_err(|error| error.to_string())
}

fn body(value: &impl serde::Serialize) -> Result<Body, String> {
    let bytes = postcard::to_stdvec(value).map_err(|error| error.to_string())?;
    Ok(Body {
        version: BODY_VERSION,
        bytes: bytes.into(),
    })
}

/// The mesh answers from its first packet on, and its handlers need the state, which is made after it.
#[derive(Debug, Default, Clone)]
struct Slot(Arc<std::sync::OnceLock<(Weak<State>, Mesh)>>);

impl Slot {
    fn fill(&self, state: &Arc<State>, mesh: &Mesh) {
        // It is filled once, by the only caller.
        let _filled = self.0.set((Arc::downgrade(state), mesh.clone()));
    }

    fn get(&self) -> Option<(Arc<State>, Mesh)> {
        let (state, mesh) = self.0.get()?;
        Some((state.upgrade()?, mesh.clone()))
    }

    fn handlers(&self) -> Handlers {
        let (answers, joins) = (self.clone(), self.clone());
        Handlers {
            answer: Arc::new(move |class, from, request| answers.answer(class, from, request)),
            join: Arc::new(move |connection| joins.join(connection)),
        }
    }

    fn answer(
        &self,
        class: Class,
        from: crate::id::NodeId,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        match (self.get(), class) {
            (None, _) => Box::pin(std::future::ready(Err("the node is starting".to_owned()))),
            (Some((state, _)), Class::Internal) => Box::pin(internal::answer(state, from, request)),
            (Some((state, _)), Class::Application) => (state.handler)(from, request),
        }
    }

    fn join(&self, connection: quinn::Connection) -> BoxFuture<'static, ()> {
        let Some((state, mesh)) = self.get() else {
            return Box::pin(std::future::ready(()));
        };
        Box::pin(async move {
            let from = connection.remote_address();
            let desk: Arc<dyn Registrar> = Arc::new(Desk(state));
            match join::serve(&connection, &desk).await {
                Ok(node) => tracing::info!(%node, %from, "a node joined"),
                Err(denied) => mesh.refuse(Counter::RefusedJoin, from, &denied.to_string()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copied_directory_is_noticed() {
        let data = Path::new("/data");
        assert!(check_machine(data, None, Some("here")).is_ok());
        assert!(check_machine(data, Some("here"), Some("here")).is_ok());
        assert!(matches!(
            check_machine(data, Some("there"), Some("here")),
            Err(StartError::Cloned(_))
        ));
        assert!(matches!(
            check_machine(data, Some("there"), None),
            Err(StartError::Cloned(_))
        ));
    }
}
