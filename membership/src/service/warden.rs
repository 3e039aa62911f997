//! What a peer does by itself about the cluster record: keeps it on disk, says the decrees as an anchor so that all hear
//! them, takes its seat, fetches or drops the authority, and lets the first cluster grow to three anchors.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::roster::decree_fact;
use super::state::State;
use super::{FactWrite, authority, decrees, seat, writing};
use crate::decree::{Act, DEFAULT_ANCHORS};
use crate::id::{NodeId, Scope};
use crate::mesh::{Mesh, WeakMesh};
use crate::node::CLUSTER_KIND;
use crate::pki::Leaf;
use crate::record::{BATCH_RECORDS_MAX, Digest, Key};

const TICK: Duration = Duration::from_secs(1);
/// Ticks between two tries to make one more anchor.
const GROW_TICKS: u32 = 3;

/// What a warden remembers between its rounds.
#[derive(Debug, Default)]
struct Warden {
    kept: Option<Digest>,
    /// Those who are out and whose claims were freed.
    released: BTreeSet<NodeId>,
    until_growing: u32,
}

/// Runs until the peer stops.
pub(super) async fn run(state: Weak<State>, mesh: WeakMesh) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut warden = Warden::default();
    loop {
        ticks.tick().await;
        let (Some(state), Some(mesh)) = (state.upgrade(), mesh.upgrade()) else {
            return;
        };
        let stop = state.stop.clone();
        tokio::select! {
            () = stop.cancelled() => return,
            () = warden.round(&state, &mesh) => {}
        }
    }
}

impl Warden {
    async fn round(&mut self, state: &Arc<State>, mesh: &Mesh) {
        self.keep(state).await;
        if state.roster().is_out() {
            return;
        }
        let anchor = state.roster().standing().seat(state.own()).is_some();
        if !anchor {
            trouble(state, "authority-not-dropped", authority::drop_all(state));
            return;
        }
        trouble(state, "decrees-not-said", say(state).await);
        if let Err(why) = authority::fetch(state, mesh).await {
            tracing::debug!("the key of the authority is not here yet: {why}");
        }
        trouble(state, "authority-not-dropped", authority::tidy(state));
        self.release(state).await;
        if let Err(why) = seat::take(state, mesh).await {
            tracing::debug!("the seat is not taken yet: {why}");
        }
        self.grow(state, mesh).await;
    }

    async fn keep(&mut self, state: &State) {
        let digest = state.roster().standing().digest();
        if self.kept == Some(digest) {
            return;
        }
        match decrees::keep(state).await {
            Ok(()) => self.kept = Some(digest),
            Err(error) => state.note("store-failed", error.to_string()),
        }
    }

    /// What those had claimed who are out, others may have.
    async fn release(&mut self, state: &State) {
        let out = state.roster().banished();
        if out == self.released {
            return;
        }
        let gone = out.clone();
        match state.disk.run(move |store| store.release_all(&gone)).await {
            Ok(_) => self.released = out,
            Err(error) => state.note("store-failed", error.to_string()),
        }
    }

    /// The first three that joined become anchors. With two nodes there is one: two anchors would bear no loss at all.
    async fn grow(&mut self, state: &Arc<State>, mesh: &Mesh) {
        if !state.roster().standing().grows() || seat::witnesses_for(state).is_none() || !is_first(state, mesh) {
            return;
        }
        if self.until_growing > 0 {
            self.until_growing -= 1;
            return;
        }
        self.until_growing = GROW_TICKS;
        let (seats, candidates) = {
            let roster = state.roster();
            (roster.standing().seats().len(), roster.candidates())
        };
        let wanted = DEFAULT_ANCHORS - seats;
        let mut ready = Vec::new();
        for node in candidates {
            if ready.len() < wanted && decrees::knows_decrees(state, mesh, node).await {
                ready.push(node);
            }
        }
        // One at a time; the others with the next ones, once this one is in.
        let Some(key) = ready
            .first()
            .filter(|_| ready.len() == wanted)
            .and_then(|node| key_of(state, *node))
        else {
            return;
        };
        match decrees::decide(state, mesh, Act::AddAnchor(key)).await {
            Ok(()) => {
                tracing::info!(node = %NodeId::of_key(&key), "one more node is an anchor");
                self.until_growing = 0;
            }
            Err(error) => tracing::debug!("no further anchor: {error}"),
        }
    }
}

fn trouble(state: &State, name: &str, done: Result<(), String>) {
    if let Err(why) = done {
        state.note(name, why);
    }
}

/// Whether this anchor is the one to act where one is enough.
fn is_first(state: &State, mesh: &Mesh) -> bool {
    let seats: Vec<NodeId> = state.roster().standing().seats().iter().map(|seat| seat.node).collect();
    let there = seats.into_iter().find(|node| *node == state.own() || mesh.has(*node));
    there == Some(state.own())
}

/// The public key of a member.
pub(super) fn key_of(state: &State, node: NodeId) -> Option<[u8; 32]> {
    let roster = state.roster();
    let leaf = Leaf::parse(&roster.record(node)?.certificate).ok()?;
    Some(leaf.key)
}

/// Says the decrees of the window as facts, and takes back those before it.
async fn say(state: &Arc<State>) -> Result<(), String> {
    let steps = state.roster().decrees().steps().to_vec();
    let mut writes: Vec<FactWrite> = {
        let core = state.core();
        let said = core.replica().facts_from(&Scope::System, state.own());
        let said = said
            .filter(|fact| &*fact.key.kind == CLUSTER_KIND)
            .map(|fact| &fact.key);
        let wanted = |key: &Key| steps.iter().any(|step| *key.name == *step.decree.version.to_string());
        let gone = said.filter(|key| !wanted(key)).cloned();
        gone.map(|key| FactWrite { key, body: None }).collect()
    };
    for sealed in &steps {
        let Some((key, body)) = decree_fact(sealed) else {
            continue;
        };
        let said = {
            let core = state.core();
            core.replica().fact(&Scope::System, state.own(), &key).is_some()
        };
        if !said {
            writes.push(FactWrite { key, body: Some(body) });
        }
    }
    writes.truncate(BATCH_RECORDS_MAX);
    if writes.is_empty() {
        return Ok(());
    }
    let written = writing::facts(state, Scope::System, writes).await;
    written.map(|_| ()).map_err(|error| error.to_string())
}
