//! Starting a peer: from a data directory to running tasks.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::alarms::Events;
use super::disk::Disk;
use super::engine::Engine;
use super::handlers::Slot;
use super::roster::Roster;
use super::state::{Identity, Parts, State, lock};
use super::trust::{Certifier, Trust};
use super::{
    CallHandler, Config, Inner, Membership, StartError, authority, clocks, decrees, own_record, renewal, seat, warden,
};
use crate::counter::Counters;
use crate::decree::Chain;
use crate::gossip::{self, Gossip};
use crate::home::{Home, HomeError, NodeFiles};
use crate::id::NodeId;
use crate::identity;
use crate::mesh::{self, Mesh, MeshError};
use crate::node::NodeRecord;
use crate::pki::{Leaf, PkiError};
use crate::replica::Replica;
use crate::store::{Store, StoreError};
use crate::sync::Sync;
use crate::wallclock;

/// Events of the mesh that wait for the engine; beyond, peers are slowed down.
const EVENTS: usize = 64;
const COMMANDS: usize = 64;
/// How long the first writes may take.
const FIRST_WRITES: Duration = Duration::from_secs(30);

impl From<HomeError> for StartError {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::Io(path, error) => Self::Io(path, error),
            other => Self::Other(other.to_string()),
        }
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

/// Starts the peer in `config.data`.
pub(super) async fn start(config: Config, handler: CallHandler) -> Result<Membership, StartError> {
    let home = Home::at(&config.data);
    let files = home.node()?.ok_or_else(|| StartError::NoNode(config.data.clone()))?;
    check_machine(
        &config.data,
        files.manifest.machine.as_deref(),
        identity::machine().as_deref(),
    )?;
    let (counters, known): (Arc<Counters>, Arc<Mutex<Events>>) = Default::default();
    let (disk, replica) = open(&config.data, &home, &files, known.clone()).await?;
    let chain = decrees::load(&disk, &files, &replica)
        .await
        .map_err(StartError::Other)?;
    let seated = seat::load(&disk)
        .await
        .map_err(|error| StartError::Other(error.to_string()))?;
    let trust = Trust::new(files.manifest.cluster, chain.now().roots(), &files.bootstrap, &replica)?;
    let trust = Arc::new(trust);
    let mut core = Sync::new(&files.key.public(), replica, Box::new(Certifier(trust.clone()))).speaking(config.wire);
    if files.bootstrap.nodes.iter().any(|(known, _)| *known != files.key.id()) {
        core.expect_others();
    }
    leave_out_removed(&disk, &mut core, &chain, files.key.id()).await?;
    let (slot, (events_tx, events)) = (Slot::default(), mpsc::channel(EVENTS));
    let settings = mesh::Settings {
        key: &files.key,
        certificate: &files.certificate,
        roots: trust.roots(),
        listen: config.listen,
        counters: counters.clone(),
        wire: config.wire,
        agreed: chain.now().wire(),
    };
    let mesh = match Mesh::start(settings, slot.handlers(), events_tx) {
        Ok(mesh) => mesh,
        Err(error) => {
            // Whoever tries again finds the store free.
            disk.close().await;
            return Err(error.into());
        }
    };
    let own = own_record(&config, &mesh, &files).inspect_err(|_| mesh.abandon())?;
    let (commands_tx, commands) = mpsc::channel(COMMANDS);
    let NodeFiles {
        manifest,
        key,
        certificate,
        bootstrap,
        authorities,
    } = files;
    let state = Arc::new(State::new(Parts {
        identity: Identity {
            leaf: Leaf::parse(&certificate).inspect_err(|_| mesh.abandon())?,
            certificate,
        },
        trust,
        certificate_life: config.certificate_life,
        authorities: authority::load(&home, manifest.cluster, authorities)?,
        seated,
        roster: Roster::new(key.id(), bootstrap, chain),
        home: home.clone(),
        key,
        disk,
        handler,
        commands: commands_tx,
        counters,
        core,
        wire: config.wire,
        events: known,
    }));
    slot.fill(&state, &mesh);
    let gossip = start_gossip(&state, &mesh, home);
    let engine = Engine::new(state.clone(), mesh.clone(), gossip.clone()).await;
    let engine = tokio::spawn(engine.run(events, commands));
    tokio::spawn(warden::run(Arc::downgrade(&state), mesh.downgrade()));
    tokio::spawn(renewal::run(Arc::downgrade(&state), mesh.downgrade()));
    tokio::spawn(clocks::run(Arc::downgrade(&state), mesh.downgrade()));
    let engine = Mutex::new(Some(engine));
    begin(
        Membership(Arc::new(Inner {
            state,
            mesh,
            gossip,
            engine,
        })),
        own,
    )
    .await
}

/// What a removal took away must not come back from a disk that was not told in time.
async fn leave_out_removed(disk: &Disk, core: &mut Sync, chain: &Chain, own: NodeId) -> Result<(), StartError> {
    for removal in chain.now().removed().values().filter(|removal| removal.node != own) {
        let (node, void) = (removal.node, core.replica().void_after(removal));
        let past = disk.run(move |store| store.replaced(&void)).await;
        let past = past.map_err(|error| StartError::Other(error.to_string()))?;
        let removed = core.remove(removal, &past, Duration::ZERO);
        if removed.scopes.is_empty() {
            continue;
        }
        let kept = disk
            .run(move |store| store.remove(node, &removed.changes, &removed.void))
            .await;
        kept.map_err(|error| StartError::Other(error.to_string()))?;
    }
    Ok(())
}

/// Has the node's own record on disk before anybody gets hold of the peer.
async fn begin(membership: Membership, own: NodeRecord) -> Result<Membership, StartError> {
    let said = own.clone();
    let why = match timeout(FIRST_WRITES, own_record::say(&membership.0.state, own)).await {
        Ok(Ok(())) => {
            membership.0.state.set_record(said);
            return Ok(membership);
        }
        Ok(Err(why)) => why,
        Err(_) => "the disk does not answer".to_owned(),
    };
    membership.shutdown().await;
    Err(StartError::Other(format!(
        "this node's own record could not be written: {why}"
    )))
}

fn own_record(config: &Config, mesh: &Mesh, files: &NodeFiles) -> Result<NodeRecord, StartError> {
    Ok(NodeRecord {
        name: files.manifest.name.clone(),
        certificate: files.certificate.clone(),
        addresses: own_record::advertised(config, mesh, &files.bootstrap)?,
        wire: config.wire.pair(),
        intent: true,
        software: env!("CARGO_PKG_VERSION").to_owned(),
    })
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
    events: Arc<Mutex<Events>>,
) -> Result<(Disk, Replica), StartError> {
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
        if lock(&events).note("store-failed", error.clone(), wallclock::monotonic()) {
            tracing::error!("the store could not be written: {error}");
        }
    };
    let disk = Disk::start(store, failed).map_err(|error| StartError::Other(error.to_string()))?;
    Ok((disk, loaded.replica))
}

fn start_gossip(state: &Arc<State>, mesh: &Mesh, home: Home) -> Gossip {
    let sender = mesh.clone();
    let settings = gossip::Settings {
        own: state.own(),
        cluster: state.roster().cluster().id,
        home,
        inbox: mesh.gossip_inbox(),
        send: Arc::new(move |to, bytes| sender.gossip(to, bytes)),
        counters: state.counters.clone(),
    };
    Gossip::start(settings, state.stop.clone())
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
