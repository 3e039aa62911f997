//! The loop that drives replication and liveness: events of the mesh, own batches and ticks in, effects out, all by one
//! task, so that effects happen in the order in which they were decided.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

use super::state::{Command, State};
use super::{decrees, releasing, removal, renewal, writing};
use crate::batch::Batch;
use crate::counter::Counter;
use crate::gossip::Gossip;
use crate::id::Scope;
use crate::liveness::Watch;
use crate::mesh::{self, Mesh};
use crate::sync::{Effect, Event, TICK};
use crate::wallclock;

/// Others' records are made durable every so many ticks.
const FLUSH_TICKS: u32 = 8;

/// The loop's own state.
#[derive(Debug)]
pub(super) struct Engine {
    state: Arc<State>,
    mesh: Mesh,
    gossip: Gossip,
    watch: Watch,
    started: Instant,
    /// Reclaims under way.
    reclaims: TaskTracker,
    /// Confirmations that are being written.
    confirms: TaskTracker,
    /// Ticks since the last flush, if there was something to flush.
    unflushed: Option<u32>,
}

impl Engine {
    pub(super) async fn new(state: Arc<State>, mesh: Mesh, gossip: Gossip) -> Self {
        let started = wallclock::monotonic();
        let mut engine = Self {
            state,
            mesh,
            gossip,
            watch: Watch::default(),
            started,
            reclaims: TaskTracker::new(),
            confirms: TaskTracker::new(),
            unflushed: None,
        };
        engine.refresh_members().await;
        engine
    }

    /// Runs until the peer stops.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<mesh::Event>, mut commands: mpsc::Receiver<Command>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut live = self.gossip.live();
        let stop = self.state.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.tick().await,
                Ok(()) = live.changed() => {
                    let live = live.borrow_and_update().clone();
                    self.watch.gossip(live, wallclock::monotonic());
                    self.weigh();
                    self.look();
                }
                Some(command) = commands.recv() => self.command(command).await,
                Some(event) = events.recv() => self.mesh_event(event).await,
            }
        }
    }

    async fn tick(&mut self) {
        if self.state.health().beat(wallclock::monotonic()) {
            self.state.counters.add(Counter::TicksLate);
        }
        self.handle(Event::Tick).await;
        self.look();
        self.flush().await;
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Local(batch, done) => self.local(*batch, done).await,
            Command::Look => self.refresh_members().await,
        }
    }

    async fn local(&mut self, batch: Batch, done: oneshot::Sender<()>) {
        self.handle(Event::LocalBatch(batch)).await;
        // Whoever wrote it may have gone.
        let _gone = done.send(());
    }

    async fn mesh_event(&mut self, event: mesh::Event) {
        match event {
            // A connection that came later is there still, or is gone already; its own event says so.
            mesh::Event::Up(peer, _) if !self.mesh.has(peer) => {}
            mesh::Event::Down(peer) if self.mesh.has(peer) => {}
            mesh::Event::Up(peer, wire) => {
                self.state.core().speaks(peer, wire);
                self.watch.connected(peer);
                self.gossip.connected(peer);
                self.handle(Event::PeerUp(peer)).await;
                self.look();
            }
            mesh::Event::Down(peer) => {
                self.watch.disconnected(peer);
                self.gossip.disconnected(peer);
                self.handle(Event::PeerDown(peer)).await;
                self.look();
            }
            mesh::Event::Frame(peer, frame) => self.handle(Event::Frame(peer, frame)).await,
        }
    }

    async fn handle(&mut self, event: Event) {
        let effects = self.state.core().handle(event, self.now(), &mut rand::rng());
        for effect in effects {
            self.obey(effect).await;
        }
        if !self.state.is_settled() && self.reclaims.is_empty() && self.state.core().has_met() {
            self.state.settle();
        }
    }

    fn now(&self) -> Duration {
        wallclock::monotonic().duration_since(self.started)
    }

    async fn obey(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, frame } => {
                // What is dropped here, repair brings.
                let _queued = self.mesh.send(to, frame);
            }
            Effect::Persist(change) => {
                self.unflushed.get_or_insert(0);
                // It fails only when the disk is closed, at the end.
                let _closed = self.state.disk.commit_later(change).await;
            }
            Effect::ScopeChanged(scope) => {
                if scope == Scope::System {
                    self.refresh_members().await;
                }
                // Nobody may listen.
                let _unheard = self.state.changes.send(scope);
            }
            Effect::Reclaim(theirs) => {
                let state = self.state.clone();
                self.reclaims.spawn(async move {
                    if let Err(error) = releasing::doubt(&state).await {
                        state.note("store-failed", error.to_string());
                    }
                    writing::reclaim(&state, theirs).await
                });
            }
            Effect::Confirm(scope, body) => {
                let state = self.state.clone();
                self.confirms
                    .spawn(async move { writing::confirm(&state, scope, body).await });
            }
            Effect::Alarm(trouble) => self.state.note(trouble.name(), trouble.to_string()),
            Effect::Void(version) => removal::keep_void(&self.state, version),
            Effect::Count(name, n) => self.state.count(name, n),
        }
    }

    async fn refresh_members(&mut self) {
        let refreshed = {
            let core = self.state.core();
            self.state.roster().refresh(core.replica())
        };
        decrees::note(&self.state, refreshed.decrees);
        for scope in removal::apply(&self.state, self.now()).await {
            // Nobody may listen.
            let _unheard = self.state.changes.send(scope);
        }
        self.mesh.banish(self.state.roster().banished());
        renewal::follow(&self.state, &self.mesh);
        let agreed = self.state.roster().standing().wire();
        self.state.core().agree(agreed);
        self.mesh.agree(agreed);
        let (others, addresses) = {
            let roster = self.state.roster();
            (roster.others(), roster.addresses())
        };
        self.watch.members(&others, wallclock::monotonic());
        self.weigh();
        self.gossip.members(others);
        self.mesh.members(addresses);
        if refreshed.members || refreshed.decrees.changed {
            self.state.members_changed();
        }
        self.look();
    }

    /// Asks whether those who were lost are likely to be dead, or this node cut off.
    fn weigh(&self) {
        let heard = self.watch.heard();
        self.state
            .health()
            .hears(heard, |id| self.watch.has(id), wallclock::monotonic());
    }

    /// Tells how the members look and whether that is certain, if either changed.
    fn look(&self) {
        let now = wallclock::monotonic();
        let (liveness, certain) = (self.watch.all(now), self.state.may_act_on_liveness());
        if self.state.roster().looks(liveness, certain) {
            self.state.members_changed();
        }
    }

    async fn flush(&mut self) {
        self.unflushed = match self.unflushed {
            Some(FLUSH_TICKS) => {
                let flushed = tokio::time::timeout(Duration::from_secs(5), self.state.disk.run(|store| store.flush()));
                if let Ok(Err(error)) = flushed.await {
                    self.state.note("store-failed", error.to_string());
                }
                None
            }
            ticks => ticks.map(|ticks| ticks + 1),
        };
    }
}
