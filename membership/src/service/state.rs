//! What the tasks of one peer share. It holds no connections: those who answer other nodes hold this.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::CallHandler;
use super::alarms::Events;
use super::disk::Disk;
use super::roster::Roster;
use super::trust::Trust;
use crate::batch::Batch;
use crate::clocks::Clocks;
use crate::counter::Counters;
use crate::health::Health;
use crate::hlc::{Clock, Stamp};
use crate::home::Home;
use crate::id::{NodeId, Scope};
use crate::identity::NodeKey;
use crate::node::NodeRecord;
use crate::pki::{Authority, Leaf};
use crate::record::Digest;
use crate::sync::{Sync, TICK};
use crate::wallclock;
use crate::wire::Versions;

/// How far ahead of this node's clock another one's stamp may be to be followed.
const STAMP_BOUND: Duration = Duration::from_secs(5);

/// How long after the start own facts wait for a peer to be heard. A disk that is older than what was told would
/// contradict it.
const SETTLE: Duration = Duration::from_secs(3);

/// What the engine is asked by other tasks.
#[derive(Debug)]
pub(super) enum Command {
    /// Merge and spread an own batch that is on disk; tell when it can be read.
    Local(Box<Batch>, oneshot::Sender<()>),
    /// The cluster record changed: look who the members are.
    Look,
}

/// The shared state of one peer.
pub(super) struct State {
    pub(super) key: NodeKey,
    own: NodeId,
    pub(super) home: Home,
    pub(super) disk: Disk,
    pub(super) handler: CallHandler,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) trust: Arc<Trust>,
    /// Of the certificates that this node makes for nodes.
    pub(super) certificate_life: Duration,
    /// Held while this node proposes a decree: one at a time.
    pub(super) deciding: tokio::sync::Mutex<()>,
    /// Held from making an own batch until it is merged: each builds on the one before.
    pub(super) writing: tokio::sync::Mutex<()>,
    /// Read while keys are freed, written while the disk is doubted: it may say of keys in use that they were given up.
    pub(super) freeing: tokio::sync::RwLock<()>,
    pub(super) changes: broadcast::Sender<Scope>,
    pub(super) members_changed: watch::Sender<u64>,
    pub(super) credentials_changed: watch::Sender<u64>,
    pub(super) counters: Arc<Counters>,
    /// What this node speaks with others.
    pub(super) wire: Versions,
    pub(super) stop: CancellationToken,
    /// Own facts may go on from what is held.
    settled: watch::Sender<bool>,
    /// When own facts go on in any case.
    settled_by: Instant,
    core: Mutex<Sync>,
    clock: Mutex<Clock>,
    roster: Mutex<Roster>,
    events: Arc<Mutex<Events>>,
    health: Mutex<Health>,
    clocks: Mutex<Clocks>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    identity: Mutex<Arc<Identity>>,
    /// What this node says of itself, once it does.
    record: Mutex<Option<NodeRecord>>,
    /// Why the last try to renew the certificate came to nothing.
    unrenewed: Mutex<Option<String>>,
    /// On anchors only.
    authorities: Mutex<Vec<Kept>>,
    /// Held while an authority is put on disk or taken from there.
    pub(super) keeping: Mutex<()>,
    /// The version that gave this node the seat for which it holds the claims of those before it.
    seated: Mutex<Option<u64>>,
}

/// An authority that lies here.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) authority: Arc<Authority>,
    /// Of one that was made to be trusted beside another: for which anchors and roots.
    pub(super) made_for: Option<Digest>,
}

/// As whom this node speaks.
#[derive(Debug)]
pub(super) struct Identity {
    /// Its certificate.
    pub(super) leaf: Leaf,
    /// The same as DER.
    pub(super) certificate: Bytes,
}

/// What [`State::new`] takes.
pub(super) struct Parts {
    pub(super) home: Home,
    pub(super) key: NodeKey,
    pub(super) identity: Identity,
    pub(super) trust: Arc<Trust>,
    pub(super) certificate_life: Duration,
    pub(super) authorities: Vec<Kept>,
    pub(super) seated: Option<u64>,
    pub(super) disk: Disk,
    pub(super) handler: CallHandler,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) counters: Arc<Counters>,
    pub(super) core: Sync,
    pub(super) wire: Versions,
    pub(super) roster: Roster,
    pub(super) events: Arc<Mutex<Events>>,
}

/// Scope changes that a slow reader may lag behind before it must read all again.
const CHANGES: usize = 256;

impl State {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            home,
            key,
            identity,
            trust,
            certificate_life,
            authorities,
            seated,
            disk,
            handler,
            commands,
            counters,
            core,
            wire,
            roster,
            events,
        } = parts;
        Self {
            home,
            own: key.id(),
            key,
            trust,
            certificate_life,
            identity: Mutex::new(Arc::new(identity)),
            record: Mutex::default(),
            unrenewed: Mutex::default(),
            authorities: Mutex::new(authorities),
            keeping: Mutex::default(),
            seated: Mutex::new(seated),
            disk,
            handler,
            commands,
            deciding: tokio::sync::Mutex::new(()),
            writing: tokio::sync::Mutex::new(()),
            freeing: tokio::sync::RwLock::new(()),
            changes: broadcast::Sender::new(CHANGES),
            members_changed: watch::Sender::new(0),
            credentials_changed: watch::Sender::new(0),
            counters,
            wire,
            stop: CancellationToken::new(),
            settled: watch::Sender::new(false),
            settled_by: wallclock::monotonic() + SETTLE,
            core: Mutex::new(core),
            clock: Mutex::default(),
            roster: Mutex::new(roster),
            events,
            health: Mutex::new(Health::new(TICK)),
            clocks: Mutex::default(),
            counts: Mutex::default(),
        }
    }

    pub(super) fn own(&self) -> NodeId {
        self.own
    }

    /// As whom this node speaks at the moment.
    pub(super) fn identity(&self) -> Arc<Identity> {
        lock(&self.identity).clone()
    }

    pub(super) fn set_identity(&self, identity: Identity) {
        *lock(&self.identity) = Arc::new(identity);
    }

    pub(super) fn record(&self) -> Option<NodeRecord> {
        lock(&self.record).clone()
    }

    pub(super) fn set_record(&self, record: NodeRecord) {
        *lock(&self.record) = Some(record);
    }

    /// Why the certificate could not be renewed, if it should have been.
    pub(super) fn unrenewed(&self) -> Option<String> {
        lock(&self.unrenewed).clone()
    }

    pub(super) fn set_unrenewed(&self, why: Option<String>) {
        *lock(&self.unrenewed) = why;
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Sync> {
        lock(&self.core)
    }

    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        lock(&self.roster)
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    /// The clocks of others.
    pub(super) fn clocks(&self) -> MutexGuard<'_, Clocks> {
        lock(&self.clocks)
    }

    /// Whether anything may be decided by how members look.
    pub(super) fn may_act_on_liveness(&self) -> bool {
        self.health().doubt(wallclock::monotonic()).is_none()
    }

    pub(super) fn events(&self) -> MutexGuard<'_, Events> {
        lock(&self.events)
    }

    /// The authorities that lie here, trusted or not.
    pub(super) fn authorities(&self) -> Vec<Kept> {
        lock(&self.authorities).clone()
    }

    /// Takes an authority.
    pub(super) fn add_authority(&self, kept: Kept) {
        let mut held = lock(&self.authorities);
        held.retain(|other| other.authority.certificate() != kept.authority.certificate());
        held.push(kept);
    }

    /// Lets go of those authorities that are not to be kept.
    pub(super) fn keep_authorities(&self, keep: impl Fn(&Authority) -> bool) {
        lock(&self.authorities).retain(|kept| keep(&kept.authority));
    }

    /// The seat for which this anchor has what it needs to witness claims.
    pub(super) fn seated(&self) -> Option<u64> {
        *lock(&self.seated)
    }

    pub(super) fn sit(&self, since: u64) {
        *lock(&self.seated) = Some(since);
    }

    /// Own facts may go on: a peer was heard, and what this node had lost was said again.
    pub(super) fn settle(&self) {
        self.settled
            .send_if_modified(|settled| !std::mem::replace(settled, true));
    }

    pub(super) fn is_settled(&self) -> bool {
        *self.settled.borrow()
    }

    /// Waits until own facts may go on. A node without peers has nobody to contradict.
    pub(super) async fn settled(&self) {
        if self.roster().others().is_empty() {
            return;
        }
        let mut settled = self.settled.subscribe();
        tokio::select! {
            _ended = settled.wait_for(|settled| *settled) => {}
            () = tokio::time::sleep_until(self.settled_by.into()) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// A stamp later than all this node gave or took note of.
    pub(super) fn stamp(&self) -> Stamp {
        lock(&self.clock).tick(wallclock::since_epoch())
    }

    /// Takes note of another node's stamp.
    pub(super) fn observe(&self, stamp: Stamp) {
        lock(&self.clock).observe(stamp, wallclock::since_epoch(), STAMP_BOUND);
    }

    /// Notes something an operator should know, and logs it unless it is known.
    pub(super) fn note(&self, name: &str, message: String) {
        if self.events().note(name, message.clone(), wallclock::monotonic()) {
            tracing::warn!(alarm = name, "{message}");
        }
    }

    /// Adds to a counter of the replication.
    pub(super) fn count(&self, name: &'static str, n: u64) {
        *lock(&self.counts).entry(name).or_default() += n;
    }

    /// All counters.
    pub(super) fn counted(&self) -> Vec<(&'static str, u64)> {
        let mut all = self.counters.all();
        all.extend(lock(&self.counts).iter().map(|(name, n)| (*name, *n)));
        all
    }

    pub(super) fn members_changed(&self) {
        self.members_changed.send_modify(|version| *version += 1);
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("own", &self.own())
            .finish_non_exhaustive()
    }
}

/// Nothing panics while one of these locks is held but a defect; what they guard stays whole even then.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
