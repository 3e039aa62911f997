//! The shell: one running peer. It owns the store, the mesh, the gossip task and the clock, and drives the sans-I/O
//! cores. Everything else in the process talks to membership through [`Membership`].
//!
//! Start with `start`, then `engine`, the loop. `writing` and `claiming` are what callers wait for; `handlers`,
//! `internal` and `registrar` answer other nodes; `decrees` changes the cluster record, and `warden`, `seat` and
//! `authority` do what follows from it; `renewal` and `rotation` replace certificates and roots; `history` reads back; `users` lets people in; `setup` makes data directories,
//! `restore` their first content; `cell` bounds them.

mod alarms;
mod anchors;
mod authority;
mod cell;
mod certificates;
mod claiming;
mod clocks;
mod decrees;
mod disk;
mod engine;
mod handlers;
mod history;
mod holding;
#[cfg(test)]
mod hostile;
pub(crate) mod internal;
mod own_record;
mod registrar;
mod releasing;
mod removal;
mod renewal;
mod restore;
mod roster;
mod rotation;
mod seat;
mod setup;
mod start;
mod state;
mod trust;
mod upgrade;
mod users;
mod warden;
mod writing;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

pub use self::anchors::{Anchor, AnchorList};
pub use self::certificates::{Ca, Root};
pub use self::decrees::DecreeError;
pub use self::history::HistoryError;
pub use self::holding::{Hold, forget, hold, node_of};
pub use self::removal::Void;
pub use self::restore::Restored;
pub use self::rotation::RotateError;
#[cfg(test)]
pub(crate) use self::setup::init as set_up;
pub use self::setup::{Outcome, SetupError};
use self::state::State;
pub use self::upgrade::{Upgrade, UpgradeNode};
pub use self::users::{UserCertificate, UserError};
pub use self::writing::Saw;
use crate::claim::{Claim, ClaimError};
use crate::gossip::Gossip;
use crate::hlc::Stamp;
use crate::id::{Label, NodeId, Scope};
use crate::mesh::{Class, Mesh};
use crate::node::{Cluster, NodeRecord};
use crate::pki::{PkiError, Roots};
use crate::record::{Body, Dot, Key};
use crate::replica::Replica;
use crate::sync::Tombstones;
use crate::wire::Versions;

/// Where and as whom a node runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Holds key, certificate and store; made by `init` or `join`.
    pub data: PathBuf,
    /// UDP address of the mesh endpoint.
    pub listen: SocketAddr,
    /// Where others reach it; `listen` if empty.
    pub advertise: Vec<SocketAddr>,
    /// How long the certificates live that this node makes for nodes, as an anchor: [`pki::LEAF_LIFE`] but for tests of
    /// their renewal.
    ///
    /// [`pki::LEAF_LIFE`]: crate::pki::LEAF_LIFE
    pub certificate_life: Duration,
    /// What it speaks with others: [`Versions::OWN`], or less while a cluster is being upgraded.
    pub wire: Versions,
}

/// How a member looks from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    /// Gossip hears of it in time.
    Live,
    /// Gossip lost it a moment ago, or only the mesh connection is lost.
    Suspect,
    /// Neither gossip nor the mesh has it.
    Dead,
}

/// A node of the cluster, this one included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub id: NodeId,
    /// What it says of itself.
    pub record: NodeRecord,
    /// How it looks from here; this node itself is live.
    pub liveness: Liveness,
    /// Whether anything may be decided by `liveness`: not while this node has reason to doubt itself. The same for all
    /// others, and true of this node itself.
    pub certain: bool,
    /// Smoothed round-trip time of the mesh connection, if there is one.
    pub rtt: Option<Duration>,
}

/// A write of shared intent.
#[derive(Debug, Clone)]
pub struct IntentWrite {
    /// Which object.
    pub key: Key,
    /// `None` deletes it.
    pub body: Option<Body>,
}

/// A write of a fact of this host.
#[derive(Debug, Clone)]
pub struct FactWrite {
    /// Which fact.
    pub key: Key,
    /// `None` withdraws it.
    pub body: Option<Body>,
}

/// Names a write, so that another node can be asked whether it has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mark {
    /// This host's facts up to a number.
    Facts {
        /// Whose facts.
        origin: NodeId,
        /// In which scope.
        scope: Scope,
        /// Their epoch.
        epoch: u64,
        /// Up to this one.
        seq: u64,
    },
    /// These versions of objects, or later ones that saw them.
    Intents {
        /// In which scope.
        scope: Scope,
        /// Key and version.
        versions: Vec<(Key, Dot)>,
    },
}

/// Why a write was not taken. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// More or larger records than a batch or a record may have.
    #[error("{0}")]
    TooLarge(String),
    /// The disk refused.
    #[error("the store could not be written: {0}")]
    Store(String),
    /// This node does not take intent writes (`intent = false`).
    #[error("this node does not take changes; ask another one")]
    NotHere,
    /// The object is not what the caller saw.
    #[error("{0} was changed meanwhile")]
    Changed(Key),
    /// This node's clock is wrong, as most others say.
    #[error("{0}")]
    Clock(String),
    /// The node is shutting down.
    #[error("the node is shutting down")]
    Closed,
}

/// Why a call to another node failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no connection to it now.
    #[error("node {0} is not connected")]
    NotConnected(NodeId),
    /// It did not answer in time.
    #[error("node {0} did not answer in time")]
    Timeout(NodeId),
    /// It answered that it cannot.
    #[error("node {0} refused: {1}")]
    Refused(NodeId, String),
}

/// Something an operator should know, shown until it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Stable name, as `peer-refused`.
    pub name: String,
    /// What happened and what to do.
    pub message: String,
}

/// Answers the opaque calls of other nodes. `Err` is told to the caller as the reason.
pub type CallHandler = Arc<dyn Fn(NodeId, Bytes) -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;

/// A running peer. Clones are handles to the same one; it stops when the last one is dropped, or in order with
/// [`Membership::shutdown`].
#[derive(Debug, Clone)]
pub struct Membership(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    state: Arc<State>,
    mesh: Mesh,
    gossip: Gossip,
    engine: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.state.stop.cancel();
        self.mesh.abandon();
    }
}

impl Membership {
    /// Opens the data directory, binds the mesh endpoint and starts. Returns once the endpoint listens and this node's
    /// own record is on disk; peers are dialled behind it. `handler` answers calls of other nodes; it may be cancelled
    /// at any await, when its caller is gone.
    pub async fn start(config: Config, handler: CallHandler) -> Result<Self, StartError> {
        start::start(config, handler).await
    }

    /// This node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.0.state.own()
    }

    /// The cluster record as this node has it.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        self.0.state.roster().cluster().clone()
    }

    /// All nodes of the cluster, by id.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let round_trips = self.0.mesh.peers();
        self.0.state.roster().members(&round_trips)
    }

    /// Told when `members` would answer differently (round-trip times apart), or [`Membership::may_act_on_liveness`].
    #[must_use]
    pub fn members_changed(&self) -> watch::Receiver<u64> {
        self.0.state.members_changed.subscribe()
    }

    /// Whether anything may be decided by how members look, such as moving a gateway or leaving out a backend. Not while
    /// this node's own ticks come late, or it lost so many peers at once that it may be the one that is cut off; an alarm
    /// then says why. Reachability is never decided by liveness: that is what probes on the data path say.
    #[must_use]
    pub fn may_act_on_liveness(&self) -> bool {
        self.0.state.may_act_on_liveness()
    }

    /// Reads the replica. The closure must be short: merges wait for it.
    pub fn read<R>(&self, f: impl FnOnce(&Replica) -> R) -> R {
        f(self.0.state.core().replica())
    }

    /// Told which scope changed. A receiver that lags must read all scopes again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Scope> {
        self.0.state.changes.subscribe()
    }

    /// A stamp of this node's clock.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.0.state.stamp()
    }

    /// Writes objects of one scope as one batch: all or nothing. When it returns, the batch is on this node's disk.
    /// Each version replaces all versions of its key that the replica holds at that moment. A write that has begun is
    /// finished even if its caller does not wait. A node whose clock differs by more than 5 s from most others' takes none.
    /// After a start it waits, as `write_facts` does: an old disk may hold
    /// what was deleted.
    pub async fn write_intent(&self, scope: Scope, author: &str, writes: Vec<IntentWrite>) -> Result<Mark, WriteError> {
        self.write_intent_if(scope, author, writes, Vec::new()).await
    }

    /// Writes facts of this host in one scope as one batch: all or nothing, on disk when it returns. After a start it
    /// waits until what one peer holds was compared, at most 3 s, so that a restored disk does not contradict what was
    /// told before; a node without peers does not wait.
    pub async fn write_facts(&self, scope: Scope, writes: Vec<FactWrite>) -> Result<Mark, WriteError> {
        writing::facts(&self.0.state, scope, writes).await
    }

    /// Whether the replica holds what a mark names.
    #[must_use]
    pub fn holds(&self, mark: &Mark) -> bool {
        self.read(|replica| match mark {
            Mark::Facts {
                origin,
                scope,
                epoch,
                seq,
            } => replica.has_facts(scope, *origin, *epoch, *seq),
            Mark::Intents { scope, versions } => {
                versions.iter().all(|(key, dot)| replica.has_version(scope, key, *dot))
            }
        })
    }

    /// Claims an exclusive key for this node. Claiming what this node holds already gives the same claim again.
    pub async fn claim(&self, scope: Scope, key: &str) -> Result<Claim, ClaimError> {
        claiming::claim(&self.0.state, &self.0.mesh, scope, key).await
    }

    /// Asks another node, or this one; both sides bound the bytes at 1 MiB and the time at `timeout` or a minute.
    pub async fn call(&self, to: NodeId, request: Bytes, timeout: Duration) -> Result<Bytes, CallError> {
        if to != self.id() {
            return self.0.mesh.call(to, Class::Application, request, timeout).await;
        }
        match tokio::time::timeout(timeout, (self.0.state.handler)(to, request)).await {
            Ok(answer) => answer.map_err(|why| CallError::Refused(to, why)),
            Err(_) => Err(CallError::Timeout(to)),
        }
    }

    /// Makes a token with which `uses` nodes can join within `ttl`. Only an anchor can.
    pub async fn create_token(&self, uses: u32, ttl: Duration) -> Result<String, TokenError> {
        registrar::create(&self.0.state, uses, ttl).await
    }

    /// A certificate for who made `request` (PKCS #10 as PEM), with which `name` may use the API of every node for `life`.
    /// Only an anchor can.
    pub fn issue_user(&self, name: &Label, request: &str, life: Duration) -> Result<UserCertificate, UserError> {
        users::issue(&self.0.state, name, request, life)
    }

    /// How this node serves its API to others, and whom it trusts there.
    pub fn api_tls(&self) -> Result<(ServerConfig, Roots), PkiError> {
        users::api_tls(&self.0.state)
    }

    /// What an operator should know now.
    #[must_use]
    pub fn alarms(&self) -> Vec<Alarm> {
        alarms::all(&self.0.state, &self.0.mesh, &self.0.gossip)
    }

    /// Named counters, for `status` and metrics: refused connections by reason, records merged, rejected, …
    #[must_use]
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.0.state.counted()
    }

    /// What is left of deleted objects, and which members it waits for.
    #[must_use]
    pub fn tombstones(&self) -> Tombstones {
        self.0.state.core().tombstones()
    }

    /// Leaves the gossip, closes connections and the store. Bounded by 5 s.
    pub async fn shutdown(&self) {
        let inner = &self.0;
        inner.state.stop.cancel();
        let engine = state::lock(&inner.engine).take();
        let all = async {
            inner.mesh.close().await;
            if let Some(engine) = engine {
                // It returns at its next turn; a panic in it was reported already.
                let _ended = engine.await;
            }
            inner.state.disk.close().await;
        };
        if tokio::time::timeout(SHUTDOWN, all).await.is_err() {
            tracing::warn!("shutting down takes too long; what is on disk is whole");
        }
    }
}

/// How long a shutdown may take.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory holds no node.
    #[error("{0} holds no node: make a cluster with `fabric-node init` or join one with `fabric-node join TOKEN`")]
    NoNode(PathBuf),
    /// Another process has it.
    #[error("the store in {0} is in use by another process")]
    InUse(PathBuf),
    /// It was copied from another machine: two nodes with one key would contradict each other.
    #[error(
        "{0} belongs to another machine (its machine id is not this one's): a copied node must not run. Remove the \
         directory and join with a token; if this machine just got another id, and the node runs nowhere else, remove \
         the line \"machine\" from node.json"
    )]
    Cloned(PathBuf),
    /// A file of the directory cannot be read or written.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] std::io::Error),
    /// The endpoint could not be bound, the store is broken, …
    #[error("{0}")]
    Other(String),
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Tokens are made where they can be redeemed: on these nodes.
    #[error("only an anchor can make tokens")]
    NotAnchor(Vec<NodeId>),
    /// It became one a moment ago.
    #[error("this anchor does not hold the cluster's CA key yet; try again in a moment")]
    NoKey,
    /// The disk refused.
    #[error("the token could not be stored: {0}")]
    Store(String),
    /// No uses, or a life of zero or of more than 30 days.
    #[error("{0}")]
    Invalid(String),
}

/// Makes a cluster of one node in `config.data`.
#[expect(
    clippy::unused_async,
    reason = "the same shape as `join`; the caller need not know that it does no waiting"
)]
pub async fn init(config: &Config, node_name: Label, cluster_name: Label) -> Result<Outcome, SetupError> {
    setup::init(config, node_name, cluster_name, None)
}

/// The same, with the objects of a backup: they are this node's versions, under their authors and with their stamps.
#[expect(
    clippy::unused_async,
    reason = "the same shape as `join`; the caller need not know that it does no waiting"
)]
pub async fn init_from(
    config: &Config,
    node_name: Label,
    cluster_name: Label,
    objects: Vec<Restored>,
) -> Result<Outcome, SetupError> {
    setup::init(config, node_name, cluster_name, Some(objects))
}

/// Joins the cluster that the token is of. A second try after a lost answer gets what the first one was given.
pub async fn join(config: &Config, node_name: Label, token: &str) -> Result<Outcome, SetupError> {
    setup::join(config, node_name, token).await
}
