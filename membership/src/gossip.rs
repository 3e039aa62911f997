//! Gossip: who is alive, as all members see it, by chitchat's scuttlebutt and failure detector over the mesh. It carries
//! liveness only; nothing that it says changes what is agreed on, since any member can say anything in it.
//!
//! chitchat ends its own task when a peer contradicts it. That is expected here: the task is started again under a
//! higher generation after a pause, and the peer whose bytes came last is not heard for a while.

mod address;
mod codec;
mod socket;
mod view;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, ProtocolVersion, spawn_chitchat};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use self::socket::{Hearing, Wire};
use crate::counter::{Counter, Counters};
use crate::home::Home;
use crate::id::{ClusterId, NodeId};
use crate::mesh::queue::Queue;
use crate::wallclock;

/// Time between two rounds of gossip.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);
/// How often a member that is not live is gossiped with all the same, so that long splits heal.
const POKE_EVERY: Duration = Duration::from_secs(5);
/// A dead node is forgotten after that.
const DEAD_GRACE: Duration = Duration::from_secs(120);
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// How long the peer whose bytes ended the task is not heard.
const MUTED: Duration = Duration::from_secs(600);
/// Pokes that may wait.
const POKES: usize = 64;

/// Where gossip runs.
pub(crate) struct Settings {
    pub(crate) own: NodeId,
    pub(crate) cluster: ClusterId,
    /// Keeps the generation.
    pub(crate) home: Home,
    /// Messages of peers.
    pub(crate) inbox: Arc<Queue<(NodeId, Bytes)>>,
    /// Takes messages to peers.
    pub(crate) send: Arc<socket::Send>,
    pub(crate) counters: Arc<Counters>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

/// A running gossip task. Clones are handles to the same one.
#[derive(Debug, Clone)]
pub(crate) struct Gossip {
    wire: Wire,
    members: Arc<Mutex<BTreeSet<NodeId>>>,
    live: watch::Receiver<BTreeSet<NodeId>>,
    pokes: mpsc::Sender<NodeId>,
    ended: watch::Receiver<Option<String>>,
}

impl Gossip {
    /// Starts to gossip; it ends with `stop`.
    pub(crate) fn start(settings: Settings, stop: CancellationToken) -> Self {
        let Settings {
            own,
            cluster,
            home,
            inbox,
            send,
            counters,
        } = settings;
        let hearing = Arc::new(Mutex::new(Hearing::default()));
        let wire = Wire {
            own,
            inbox,
            send,
            hearing,
            counters,
        };
        let members = Arc::new(Mutex::default());
        let (live_tx, live) = watch::channel(BTreeSet::new());
        let (ended_tx, ended) = watch::channel(None);
        let (pokes, pokes_rx) = mpsc::channel(POKES);
        let gossip = Self {
            wire: wire.clone(),
            members: members.clone(),
            live,
            pokes,
            ended,
        };
        let task = Task {
            wire,
            cluster,
            home,
            members,
            live: live_tx,
            ended: ended_tx,
            pokes: pokes_rx,
            stop,
        };
        tokio::spawn(task.supervise());
        gossip
    }

    /// Takes the members: only they are heard.
    pub(crate) fn members(&self, members: BTreeSet<NodeId>) {
        self.wire.hearing().members(members.clone());
        *self.members.lock().unwrap_or_else(PoisonError::into_inner) = members;
    }

    /// Gossips with a node soon: a connection to it came up.
    pub(crate) fn poke(&self, node: NodeId) {
        // When that many wait, the regular poke comes soon enough.
        let _full = self.pokes.try_send(node);
    }

    /// The nodes that are alive, this one left out.
    pub(crate) fn live(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        self.live.clone()
    }

    /// Why the task ended, while it is not running.
    pub(crate) fn ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Peers that are not heard.
    pub(crate) fn muted(&self) -> BTreeSet<NodeId> {
        self.wire.hearing().muted(wallclock::monotonic())
    }
}

struct Task {
    wire: Wire,
    cluster: ClusterId,
    home: Home,
    members: Arc<Mutex<BTreeSet<NodeId>>>,
    live: watch::Sender<BTreeSet<NodeId>>,
    ended: watch::Sender<Option<String>>,
    pokes: mpsc::Receiver<NodeId>,
    stop: CancellationToken,
}

impl Task {
    async fn supervise(mut self) {
        let mut backoff = BACKOFF_MIN;
        while !self.stop.is_cancelled() {
            let started = wallclock::monotonic();
            let why = match self.spawn().await {
                Ok(handle) => {
                    self.ended.send_replace(None);
                    let why = self.watch(&handle).await;
                    handle.abort();
                    why
                }
                Err(error) => format!("{error:#}"),
            };
            if self.stop.is_cancelled() {
                return;
            }
            self.blame(&why, started);
            if wallclock::monotonic().duration_since(started) > BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            tokio::select! {
                () = sleep(backoff) => {}
                () = self.stop.cancelled() => return,
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    fn blame(&self, why: &str, started: Instant) {
        self.wire.counters.add(Counter::GossipRestarts);
        self.live.send_replace(BTreeSet::new());
        self.wire.inbox.clear();
        let last = self.wire.hearing().take_last();
        if let Some(node) = last {
            self.wire.hearing().mute(node, wallclock::monotonic() + MUTED);
        }
        let ran = wallclock::monotonic().duration_since(started);
        tracing::error!(muted = ?last, ?ran, "gossip ended, it is started again: {why}");
        self.ended.send_replace(Some(why.to_owned()));
    }

    async fn spawn(&self) -> anyhow::Result<ChitchatHandle> {
        let nanos = u64::try_from(wallclock::since_epoch().as_nanos()).unwrap_or(u64::MAX);
        let home = self.home.clone();
        let kept = tokio::task::spawn_blocking(move || home.next_generation(nanos)).await?;
        // A full disk must not make a node look dead, and the clock alone is higher than last time as a rule.
        let generation = kept.unwrap_or_else(|error| {
            tracing::warn!("the number of this start was not kept: {error}");
            nanos
        });
        spawn_chitchat(self.config(generation), Vec::new(), &self.wire).await
    }

    fn config(&self, generation: u64) -> ChitchatConfig {
        let own = address::of(self.wire.own);
        ChitchatConfig {
            chitchat_id: ChitchatId::new(self.wire.own.as_str(), generation, own),
            cluster_id: self.cluster.to_string(),
            gossip_interval: INTERVAL,
            listen_addr: own,
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: 8.0,
                sampling_window_size: 1_000,
                max_interval: Duration::from_secs(10),
                initial_interval: Duration::from_secs(1),
                dead_node_grace_period: DEAD_GRACE,
            },
            marked_for_deletion_grace_period: DEAD_GRACE,
            catchup_callback: None,
            extra_liveness_predicate: None,
            protocol_version: ProtocolVersion::V1,
        }
    }

    /// Follows a running task until it ends, or gossip stops. Says why.
    async fn watch(&mut self, handle: &ChitchatHandle) -> String {
        let chitchat = handle.chitchat();
        let mut changes = chitchat.lock().await.live_nodes_watcher();
        let mut ended = std::pin::pin!(handle.termination_watcher());
        let mut ticks = interval(POKE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                end = &mut ended => return end.map_or_else(|error| error.to_string(), |()| "it was stopped".to_owned()),
                () = self.stop.cancelled() => return "the node stops".to_owned(),
                changed = changes.changed() => {
                    if changed.is_err() {
                        return "its state is gone".to_owned();
                    }
                    changes.mark_unchanged();
                    let chitchat = chitchat.lock().await;
                    let live = view::live(chitchat.node_states().keys(), chitchat.live_nodes(), self.wire.own);
                    drop(chitchat);
                    self.live.send_if_modified(|before| std::mem::replace(before, live.clone()) != live);
                }
                Some(node) = self.pokes.recv() => poke(handle, node),
                _ = ticks.tick() => self.poke_missing(handle),
            }
        }
    }

    fn poke_missing(&self, handle: &ChitchatHandle) {
        let live = self.live.borrow();
        let members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        members
            .difference(&live)
            .filter(|node| **node != self.wire.own)
            .for_each(|node| poke(handle, *node));
    }
}

fn poke(handle: &ChitchatHandle, node: NodeId) {
    // It fails only if the task ended, which is noticed elsewhere.
    let _ended = handle.gossip(address::of(node));
}

#[cfg(test)]
mod tests;
