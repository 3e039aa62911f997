//! The mesh: one QUIC endpoint that dials and listens, one permanent connection per pair of members, and on each the
//! classes of traffic of [`frame`]. It moves bytes between nodes whose identity it has checked, and refuses to look
//! into them.
//!
//! Start with [`link`], the life of one connection; [`dialer`] and [`table`] decide which connections there are,
//! [`admission`] who may have one.

mod admission;
mod call;
mod dial;
mod dialer;
pub(crate) mod frame;
mod link;
mod listen;
mod meter;
mod places;
pub(crate) mod queue;
mod refusals;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use quinn::{Connection, Endpoint, TokioRuntime};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use self::admission::Close;
pub(crate) use self::call::Class;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::call::read as read_call;
use self::dialer::Dialer;
use self::meter::Meters;
use self::places::Places;
use self::queue::{Bounds, Queue};
use self::refusals::Refusals;
use self::table::{Dialled, Seat, Table};
use self::tls::TlsError;
use crate::counter::{Counter, Counters};
use crate::id::{ClusterId, NodeId};
use crate::identity::NodeKey;
use crate::join::JoinError;
use crate::pki::{self, Roots};
use crate::service::CallError;
use crate::wallclock;
use crate::wire::Versions;

/// Gossip that waits to be read.
const GOSSIP_WAITING: Bounds = Bounds {
    items: 256,
    bytes: 4 * 1024 * 1024,
};
/// How long a removed node stays connected, so that it hears that it is one. What it says meanwhile counts for nothing.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// How long closing may take: long enough to tell the peers.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// What the mesh tells its owner. Connections and frames of one peer come in order, but the end of one connection may
/// come after the start of the next: [`Mesh::has`] tells what holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A connection to the peer stands, on which this wire version is spoken. Comes again when another connection takes
    /// over; frames sent on the one before may be lost.
    Up(NodeId, u16),
    /// There is no connection to the peer any more.
    Down(NodeId),
    /// A frame of records from the peer.
    Frame(NodeId, Bytes),
}

/// Answers a call. `Err` is told to the caller.
pub(crate) type Answer = dyn Fn(Class, NodeId, Bytes) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync;
/// Serves a connection of a node that wants to join.
pub(crate) type ServeJoin = dyn Fn(Connection) -> BoxFuture<'static, ()> + Send + Sync;

/// What the mesh calls.
#[derive(Clone)]
pub(crate) struct Handlers {
    /// Answers calls of members.
    pub(crate) answer: Arc<Answer>,
    /// Serves joins.
    pub(crate) join: Arc<ServeJoin>,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handlers")
    }
}

/// As whom and where the mesh runs.
#[derive(Debug)]
pub(crate) struct Settings<'a> {
    /// This node's key.
    pub(crate) key: &'a NodeKey,
    /// Its certificate (DER).
    pub(crate) certificate: &'a Bytes,
    /// Whom it trusts.
    pub(crate) roots: Roots,
    /// The UDP address of the endpoint.
    pub(crate) listen: SocketAddr,
    /// Where it counts.
    pub(crate) counters: Arc<Counters>,
    /// What it speaks.
    pub(crate) wire: Versions,
    /// What the cluster agreed on.
    pub(crate) agreed: u16,
}

/// Why there is no mesh.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MeshError {
    /// Key, certificate and roots do not make a TLS configuration.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is taken, or not of this host.
    #[error("UDP {0} cannot be bound: {1}; choose another --listen address, or stop what uses it")]
    Bind(SocketAddr, std::io::Error),
}

/// A running mesh. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub(crate) struct Mesh(Arc<Shared>);

/// A handle that does not keep the mesh: for its own handlers.
#[derive(Debug, Clone)]
pub(crate) struct WeakMesh(Weak<Shared>);

impl WeakMesh {
    /// The mesh, while there is one.
    pub(crate) fn upgrade(&self) -> Option<Mesh> {
        self.0.upgrade().map(Mesh)
    }
}

/// Whom this node trusts, and as whom it dials. Replaced as a whole.
#[derive(Debug)]
struct Face {
    roots: Roots,
    client: quinn::ClientConfig,
}

impl Face {
    fn new(key: &NodeKey, certificate: &Bytes, roots: Roots) -> Result<Arc<Self>, TlsError> {
        let client = tls::member(key, certificate, &roots)?;
        Ok(Arc::new(Self { roots, client }))
    }
}

#[derive(Debug)]
struct Shared {
    own: NodeId,
    endpoint: Endpoint,
    face: Mutex<Arc<Face>>,
    handlers: Handlers,
    counters: Arc<Counters>,
    refusals: Refusals,
    table: Mutex<Table>,
    /// Nodes that were removed from the cluster; a valid certificate does not help them.
    banished: Mutex<BTreeSet<NodeId>>,
    wire: Versions,
    agreed: AtomicU16,
    dialer: Mutex<Dialer>,
    events: mpsc::Sender<Event>,
    gossip: Arc<Queue<(NodeId, Bytes)>>,
    meters: Mutex<Meters>,
    places: Places,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Mesh {
    /// Binds the endpoint and starts to listen. Nobody is dialled before [`Mesh::members`] is called.
    pub(crate) fn start(
        settings: Settings<'_>,
        handlers: Handlers,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, MeshError> {
        let Settings {
            key,
            certificate,
            roots,
            listen,
            counters,
            wire,
            agreed,
        } = settings;
        let server = tls::server(key, certificate, &roots)?;
        let bind = |error| MeshError::Bind(listen, error);
        let socket = UdpSocket::bind(listen).map_err(bind)?;
        let endpoint = Endpoint::new(tls::endpoint(key), Some(server), socket, Arc::new(TokioRuntime)).map_err(bind)?;
        let shared = Arc::new(Shared {
            own: key.id(),
            face: Mutex::new(Face::new(key, certificate, roots)?),
            endpoint,
            handlers,
            refusals: Refusals::new(counters.clone()),
            counters,
            table: Mutex::new(Table::new(key.id())),
            banished: Mutex::default(),
            wire,
            agreed: AtomicU16::new(agreed),
            dialer: Mutex::new(Dialer::new(key.id())),
            events,
            gossip: Arc::new(Queue::new(GOSSIP_WAITING)),
            meters: Mutex::default(),
            places: Places::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        shared.tasks.spawn(listen::accept(shared.clone()));
        shared.tasks.spawn(dial::run(shared.clone()));
        Ok(Self(shared))
    }

    /// Shows another certificate from here on, and trusts these roots. Connections that stand go on until
    /// [`Mesh::recheck`].
    pub(crate) fn show(&self, key: &NodeKey, certificate: &Bytes, roots: Roots) -> Result<(), TlsError> {
        let server = tls::server(key, certificate, &roots)?;
        let face = Face::new(key, certificate, roots)?;
        self.0.endpoint.set_server_config(Some(server));
        *self.0.face.lock().unwrap_or_else(PoisonError::into_inner) = face;
        Ok(())
    }

    /// Disconnects those whose certificate is of none of these roots, which are trusted since [`Mesh::show`]. Who has one of
    /// them by now, for the same key, is `vouched` for and stays connected.
    pub(crate) fn recheck(&self, roots: &Roots, vouched: &BTreeSet<NodeId>) {
        let connections = self.0.table().connections();
        for (peer, connection) in connections {
            if vouched.contains(&peer) || admission::is_of(&connection, roots) {
                continue;
            }
            let words = format!("the certificate of node {peer} is of a root that is not trusted any more");
            self.0
                .refuse(Counter::RefusedCertificate, connection.remote_address(), &words);
            Close::Certificate.close(&connection);
        }
    }

    /// A handle that does not keep it.
    pub(crate) fn downgrade(&self) -> WeakMesh {
        WeakMesh(Arc::downgrade(&self.0))
    }

    /// Where the endpoint is bound.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.0.endpoint.local_addr().ok()
    }

    /// Dials a node from the mesh's own socket, with other credentials than the mesh's.
    pub(crate) async fn connect(
        &self,
        client: quinn::ClientConfig,
        address: SocketAddr,
        node: NodeId,
        cluster: ClusterId,
    ) -> Result<Connection, JoinError> {
        dial::other(&self.0, client, address, &pki::dns_name(node, cluster)).await
    }

    /// Takes the members and where they are reached. This node itself may be among them.
    pub(crate) fn members(&self, members: BTreeMap<NodeId, Vec<SocketAddr>>) {
        self.0.dialer().members(members, wallclock::monotonic());
    }

    /// Takes the nodes that were removed from the cluster: they are refused from here on, and disconnected as soon as they
    /// could be told why.
    pub(crate) fn banish(&self, nodes: BTreeSet<NodeId>) {
        let connections: Vec<Connection> = {
            let table = self.0.table();
            *self.0.banished() = nodes.clone();
            nodes.iter().filter_map(|node| table.connection(*node)).collect()
        };
        for connection in connections {
            self.0.tasks.spawn(async move {
                let _ended = timeout(LAST_WORDS, connection.closed()).await;
                Close::Removed.close(&connection);
            });
        }
    }

    /// Takes the wire version that the cluster agreed on: who does not speak it is refused from here on, and disconnected.
    pub(crate) fn agree(&self, version: u16) {
        if self.0.agreed.swap(version, Ordering::Relaxed) == version {
            return;
        }
        let older = self.0.table().older(version);
        older.iter().for_each(|connection| Close::WireVersion.close(connection));
    }

    /// Queues a frame of records, at most [`frame::FRAME_MAX`] bytes, and returns at once. Where there is no
    /// connection or no room it is dropped, and said so.
    pub(crate) fn send(&self, to: NodeId, frame: Bytes) -> bool {
        let queue = self.0.table().queues(to).map(|queues| queues.records.clone());
        let Some(queue) = queue else { return false };
        let queued = queue.offer(frame);
        if !queued {
            self.0.counters.add(Counter::FramesDropped);
        }
        queued
    }

    /// Queues a gossip message, in place of older ones where the peer is slow, and returns at once.
    pub(crate) fn gossip(&self, to: NodeId, message: Bytes) {
        let queue = self.0.table().queues(to).map(|queues| queues.gossip.clone());
        if let Some(queue) = queue {
            self.0
                .counters
                .add_many(Counter::GossipDropped, queue.push_newest(message));
        }
    }

    /// Gossip messages with the node whose connection brought them.
    pub(crate) fn gossip_inbox(&self) -> Arc<Queue<(NodeId, Bytes)>> {
        self.0.gossip.clone()
    }

    /// Asks another node.
    pub(crate) async fn call(
        &self,
        to: NodeId,
        class: Class,
        request: Bytes,
        wait: Duration,
    ) -> Result<Bytes, CallError> {
        let connection = self.0.table().connection(to).ok_or(CallError::NotConnected(to))?;
        call::ask(&connection, to, class, request, wait).await
    }

    /// Whether there is a connection to the peer.
    pub(crate) fn has(&self, peer: NodeId) -> bool {
        self.0.table().queues(peer).is_some()
    }

    /// Whom this node is connected to, with smoothed round-trip times.
    pub(crate) fn peers(&self) -> BTreeMap<NodeId, Duration> {
        self.0.table().peers()
    }

    /// The last refusal of each reason, of the last minutes.
    pub(crate) fn refusals(&self) -> Vec<(&'static str, String)> {
        self.0.refusals.recent(wallclock::monotonic())
    }

    /// Notes a refusal that was decided elsewhere.
    pub(crate) fn refuse(&self, counter: Counter, from: SocketAddr, words: &str) {
        self.0.refuse(counter, from, words);
    }

    /// Closes the endpoint without waiting.
    pub(crate) fn abandon(&self) {
        let shared = &self.0;
        shared.stop.cancel();
        shared
            .endpoint
            .close((Close::Shutdown as u32).into(), b"the node stops");
    }

    /// Tells the peers and closes the endpoint. Bounded by 2 s.
    pub(crate) async fn close(&self) {
        let shared = &self.0;
        shared.stop.cancel();
        shared
            .endpoint
            .close((Close::Shutdown as u32).into(), b"the node stops");
        shared.tasks.close();
        let _late = timeout(CLOSE_DEADLINE, async {
            shared.tasks.wait().await;
            shared.endpoint.wait_idle().await;
        })
        .await;
    }
}

impl Shared {
    fn face(&self) -> Arc<Face> {
        self.face.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the cluster agreed on.
    fn agreed(&self) -> u16 {
        self.agreed.load(Ordering::Relaxed)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn banished(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.banished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dialer(&self) -> MutexGuard<'_, Dialer> {
        self.dialer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, counter: Counter, from: SocketAddr, words: &str) {
        self.refusals.note(counter, from, words, wallclock::monotonic());
    }

    /// Gives a connection its place, unless the pair has one that counts more, or what it was let in by holds no more. The
    /// dialer learns it under the same lock, or it would take the end of one connection for that of the next.
    async fn up(&self, peer: NodeId, dialled: Dialled, connection: Connection, wire: u16) -> Result<Seat, Close> {
        let seat = {
            let mut table = self.table();
            // Whoever changes one of these looks for connections in the table afterwards: this one is there by then, or
            // sees the change.
            if self.banished().contains(&peer) {
                return Err(Close::Removed);
            }
            if wire < self.agreed() {
                return Err(Close::WireVersion);
            }
            if !admission::is_of(&connection, &self.face().roots) {
                return Err(Close::Certificate);
            }
            let seat = table.take(peer, dialled, connection, wire).ok_or(Close::Duplicate)?;
            self.dialer().connected(peer);
            seat
        };
        self.counters.add(Counter::LinksUp);
        self.tell(Event::Up(peer, wire)).await;
        Ok(seat)
    }

    /// Frees the place, unless another connection has it.
    async fn down(&self, peer: NodeId, serial: u64) {
        {
            let mut table = self.table();
            if !table.free(peer, serial) {
                return;
            }
            self.dialer()
                .disconnected(peer, wallclock::monotonic(), &mut rand::rng());
        }
        self.counters.add(Counter::LinksDown);
        self.tell(Event::Down(peer)).await;
    }

    /// Waits while the owner is busy, so that QUIC slows the peer down. An owner that is gone needs no telling.
    async fn tell(&self, event: Event) {
        tokio::select! {
            _gone = self.events.send(event) => {}
            () = self.stop.cancelled() => {}
        }
    }

    fn gossip_came(&self, from: NodeId, connection: &Connection, message: Bytes) {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let takes = meters.takes(from, wallclock::monotonic());
        drop(meters);
        if !takes {
            let words = format!("node {from} floods this one with gossip, which is dropped");
            return self.refuse(Counter::GossipFlood, connection.remote_address(), &words);
        }
        self.counters
            .add_many(Counter::GossipDropped, self.gossip.push_newest((from, message)));
    }
}
