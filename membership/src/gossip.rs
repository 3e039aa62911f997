//! Gossip: who is alive, as all members see it, by chitchat's scuttlebutt and failure detector over the mesh. It carries
//! liveness only; nothing that it says changes what is agreed on. What a member makes up is sieved out as far as the nodes
//! themselves contradict it (`hearing`, `sieve`); the rest can make others look lost or alive to gossip, and to nobody else.
//!
//! chitchat ends its own task when a peer contradicts it. That is expected here: the task is started again under a
//! higher generation after a pause, and the peer whose bytes came last is not heard for a while.

mod address;
mod backoff;
mod codec;
mod config;
mod hearing;
mod pace;
mod sieve;
mod socket;
mod view;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chitchat::{Chitchat, ChitchatHandle, spawn_chitchat};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use self::backoff::Backoff;
use self::hearing::{Hearing, Offence};
use self::socket::Wire;
use crate::counter::{Counter, Counters};
use crate::home::Home;
use crate::id::{ClusterId, NodeId};
use crate::mesh::queue::Queue;
use crate::wallclock;

/// How often a member that is not live is gossiped with all the same, so that long splits heal.
const POKE_EVERY: Duration = Duration::from_secs(5);
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
            cluster,
            inbox,
            send,
            hearing,
            counters,
        };
        let (live_tx, live) = watch::channel(BTreeSet::new());
        let (ended_tx, ended) = watch::channel(None);
        let (pokes, pokes_rx) = mpsc::channel(POKES);
        let gossip = Self {
            wire: wire.clone(),
            live,
            pokes,
            ended,
        };
        let task = Task {
            wire,
            home,
            live: live_tx,
            ended: ended_tx,
            pokes: pokes_rx,
            stop,
        };
        tokio::spawn(task.supervise());
        gossip
    }

    /// Takes the members: only they are heard.
    pub(crate) fn members(&self, mut members: BTreeSet<NodeId>) {
        members.remove(&self.wire.own);
        self.wire.hearing().members(members);
    }

    /// A connection to a node came up: gossips with it soon.
    pub(crate) fn connected(&self, node: NodeId) {
        self.wire.hearing().connection(node, true);
        // When that many wait, the regular poke comes soon enough.
        let _full = self.pokes.try_send(node);
    }

    /// The connection to a node was lost.
    pub(crate) fn disconnected(&self, node: NodeId) {
        self.wire.hearing().connection(node, false);
    }

    /// The nodes that are alive, this one left out.
    pub(crate) fn live(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        self.live.clone()
    }

    /// Why the task ended, while it is not running.
    pub(crate) fn ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// What peers did in the last minutes that they must not.
    pub(crate) fn offences(&self) -> Vec<(NodeId, Offence)> {
        self.wire.hearing().offences(wallclock::monotonic())
    }

    /// Peers that are not heard.
    pub(crate) fn muted(&self) -> BTreeSet<NodeId> {
        self.wire.hearing().muted(wallclock::monotonic())
    }
}

struct Task {
    wire: Wire,
    home: Home,
    live: watch::Sender<BTreeSet<NodeId>>,
    ended: watch::Sender<Option<String>>,
    pokes: mpsc::Receiver<NodeId>,
    stop: CancellationToken,
}

impl Task {
    async fn supervise(mut self) {
        let mut backoff = Backoff::default();
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
            let ran = wallclock::monotonic().duration_since(started);
            self.blame(&why, ran);
            tokio::select! {
                () = sleep(backoff.after(ran)) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    fn blame(&self, why: &str, ran: Duration) {
        self.wire.counters.add(Counter::GossipRestarts);
        self.live.send_replace(BTreeSet::new());
        self.wire.inbox.clear();
        let last = self.wire.hearing().take_last();
        if let Some(node) = last {
            self.wire.hearing().mute(node, wallclock::monotonic() + MUTED);
        }
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
        let config = config::of(self.wire.own, self.wire.cluster, generation);
        spawn_chitchat(config, Vec::new(), &self.wire).await
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
                    self.look(&*chitchat.lock().await);
                }
                Some(node) = self.pokes.recv() => self.poke(handle, node),
                _ = ticks.tick() => {
                    self.look(&*chitchat.lock().await);
                    self.poke_missing(handle);
                }
            }
        }
    }

    fn look(&self, chitchat: &Chitchat) {
        let hearing = self.wire.hearing();
        let live = view::live(
            chitchat.node_states().keys(),
            chitchat.live_nodes(),
            self.wire.own,
            |node| hearing.generation(node),
        );
        drop(hearing);
        self.live
            .send_if_modified(|before| std::mem::replace(before, live.clone()) != live);
    }

    fn poke_missing(&self, handle: &ChitchatHandle) {
        let missing = self.wire.hearing().missing(&self.live.borrow());
        missing.into_iter().for_each(|node| self.poke(handle, node));
    }

    fn poke(&self, handle: &ChitchatHandle, node: NodeId) {
        self.wire.hearing().poked(node);
        // It fails only if the task ended, which is noticed elsewhere.
        let _ended = handle.gossip(address::of(node));
    }
}

/// Whether what is handed on of any bytes is what would be handed on of that again, and fits.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn check_sieve(bytes: &[u8]) {
    let sift = |bytes: &[u8]| sieve::sieve(bytes, "cluster", |_, said| Some(said));
    if let Ok(first) = sift(bytes) {
        assert!(first.message.len() <= crate::mesh::frame::GOSSIP_MAX);
        let again = sift(&first.message);
        assert_eq!(
            again.map(|again| (again.dropped, again.message)),
            Ok((0, first.message))
        );
    }
}

#[cfg(test)]
pub(crate) use self::sieve::tests::{syn_of, valid_messages};
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
