//! Renewing this node's certificate: asks an anchor over the mesh, or itself if it is one, or, when the mesh does not take
//! this node any more, an anchor's door for those who join. When is for [`crate::renewal`] to say. What is taken is on
//! disk first, then in use, then said in the node's record.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use rand::seq::SliceRandom as _;
use tokio::time::{MissedTickBehavior, interval};

use super::internal::{self, Request};
use super::state::{Identity, State};
use super::{authority, decrees, own_record, registrar};
use crate::counter::Counter;
use crate::decree::Seat;
use crate::id::NodeId;
use crate::join;
use crate::mesh::{Mesh, WeakMesh};
use crate::pki::Leaf;
use crate::renewal::{Held, Renewal, Sight, Why};
use crate::wallclock;

const TICK: Duration = Duration::from_millis(500);
/// Over how long renewals are spread after a change of the root, for each member and in all.
const SPREAD_EACH: Duration = Duration::from_millis(50);
const SPREAD_MAX: Duration = Duration::from_secs(60);

/// Runs until the peer stops.
pub(super) async fn run(state: Weak<State>, mesh: WeakMesh) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut plan = Renewal::default();
    loop {
        ticks.tick().await;
        let (Some(state), Some(mesh)) = (state.upgrade(), mesh.upgrade()) else {
            return;
        };
        let stop = state.stop.clone();
        tokio::select! {
            () = stop.cancelled() => return,
            () = round(&mut plan, &state, &mesh) => {}
        }
    }
}

async fn round(plan: &mut Renewal, state: &Arc<State>, mesh: &Mesh) {
    if state.roster().is_out() {
        return;
    }
    if let Err(why) = own_record::repeat(state).await {
        tracing::debug!("this node's record could not be written: {why}");
    }
    let (held, now) = (held(state), wallclock::since_epoch());
    let spread = SPREAD_EACH.saturating_mul(u32::try_from(state.roster().len()).unwrap_or(u32::MAX));
    let due = plan.due(held, sight(state, mesh), spread.min(SPREAD_MAX), now, &mut rand::rng());
    let Some(why) = due else { return };
    match renew(state, mesh, why, held.is_over(now)).await {
        Ok(()) => {
            plan.renewed(why, wallclock::since_epoch(), &mut rand::rng());
            state.set_unrenewed(None);
        }
        Err(error) => {
            plan.failed(held, wallclock::since_epoch(), &mut rand::rng());
            tracing::debug!("the certificate was not renewed: {error}");
            state.set_unrenewed(Some(error));
        }
    }
}

/// This node's certificate, as far as its renewal is concerned.
pub(super) fn held(state: &State) -> Held {
    let identity = state.identity();
    let roots = state.trust.roots();
    Held {
        life: identity.leaf.life(),
        not_after: identity.leaf.not_after,
        of_issuing_root: roots.signer(&identity.certificate) == authority::wanted(state).as_ref(),
    }
}

fn sight(state: &State, mesh: &Mesh) -> Sight {
    let anchors = others(state);
    let refused = [Counter::RefusedCertificate, Counter::RefusedByPeer];
    Sight {
        connected: anchors.is_empty() || anchors.iter().any(|seat| mesh.has(seat.node)),
        refusals: refused.map(|counter| state.counters.value(counter)).iter().sum(),
    }
}

/// The anchors but this node, in an order of their own each time.
fn others(state: &State) -> Vec<Seat> {
    let mut seats = state.roster().standing().seats().to_vec();
    seats.retain(|seat| seat.node != state.own());
    seats.shuffle(&mut rand::rng());
    seats
}

async fn renew(state: &Arc<State>, mesh: &Mesh, why: Why, over: bool) -> Result<(), String> {
    let mut reasons = Vec::new();
    if why != Why::CutOff {
        match by_itself(state, mesh, why).await {
            Ok(()) => return Ok(()),
            Err(error) => reasons.push(error),
        }
        for seat in others(state).into_iter().filter(|seat| mesh.has(seat.node)) {
            let asked = internal::ask::<Bytes>(mesh, seat.node, &Request::Renew);
            match taken(state, mesh, why, asked.await).await {
                Ok(()) => return Ok(()),
                Err(error) => reasons.push(format!("{}: {error}", seat.node)),
            }
        }
    }
    if over || why == Why::CutOff {
        for seat in others(state) {
            match at_the_door(state, mesh, &seat).await {
                Ok(()) => return Ok(()),
                Err(error) => reasons.push(format!("{}: {error}", seat.node)),
            }
        }
    }
    Err(reasons.join("; "))
}

async fn by_itself(state: &Arc<State>, mesh: &Mesh, why: Why) -> Result<(), String> {
    let made = registrar::renew(state, &state.key.public());
    taken(state, mesh, why, made.map_err(|denied| denied.to_string())).await
}

/// The way for those whom the mesh does not take: the anchor is known by its key as the cluster record has it, whatever
/// its certificate, and this node by its own.
async fn at_the_door(state: &Arc<State>, mesh: &Mesh, seat: &Seat) -> Result<(), String> {
    let (cluster, since, addresses) = {
        let roster = state.roster();
        let addresses = roster.record(seat.node).map(|record| record.addresses.clone());
        let standing = roster.standing();
        (standing.cluster().id, standing.version(), addresses.unwrap_or_default())
    };
    let client = join::renewing(cluster, &seat.key).map_err(|error| error.to_string())?;
    let mut why = "no address of it is known".to_owned();
    for address in addresses {
        let asked = async {
            let connection = mesh.connect(client.clone(), address, seat.node, cluster).await?;
            join::renew(&connection, &state.key, since).await
        };
        match asked.await {
            Ok(renewed) => {
                decrees::learn(state, &renewed.decrees).await;
                // The roots may have changed by that.
                follow(state, mesh);
                return take(state, mesh, renewed.certificate).await;
            }
            Err(error) => why = format!("{address}: {error}"),
        }
    }
    Err(why)
}

async fn taken(state: &Arc<State>, mesh: &Mesh, why: Why, answer: Result<Bytes, String>) -> Result<(), String> {
    let certificate = answer?;
    let signer = state.trust.roots().signer(&certificate).cloned();
    if why == Why::Root && signer != authority::wanted(state) {
        return Err("the key of the root that issues is not there yet".to_owned());
    }
    take(state, mesh, certificate).await
}

/// Has a certificate on disk, then in use, then said.
async fn take(state: &Arc<State>, mesh: &Mesh, certificate: Bytes) -> Result<(), String> {
    let checked = state.trust.roots().check(&certificate, wallclock::since_epoch());
    let leaf: Leaf = checked.map_err(|error| error.to_string())?;
    if leaf.key != state.key.public() {
        return Err("it is another node's".to_owned());
    }
    let (home, kept) = (state.home.clone(), certificate.clone());
    let written = tokio::task::spawn_blocking(move || home.keep_certificate(&kept)).await;
    written
        .map_err(|error| error.to_string())?
        .map_err(|error| error.to_string())?;
    tracing::info!(
        left_s = (leaf.not_after.saturating_sub(wallclock::since_epoch())).as_secs(),
        "the certificate was renewed"
    );
    state.set_identity(Identity { leaf, certificate });
    show(state, mesh);
    own_record::repeat(state).await
}

/// Trusts what the cluster record says. Nothing happens if that is trusted already.
pub(super) fn follow(state: &State, mesh: &Mesh) {
    let roots = state.roster().standing().roots().to_vec();
    match state.trust.trust(&roots) {
        Ok(false) => {}
        Ok(true) => {
            tracing::info!(roots = roots.len(), "the trusted roots changed");
            show(state, mesh);
            // A connection shows the certificate that it was made with: members may have another one since.
            mesh.recheck(&state.trust.roots(), &certified(state));
        }
        Err(error) => state.note(
            "root-unusable",
            format!("a root of the cluster record cannot be used: {error}"),
        ),
    }
}

/// The members whose records have a certificate of a root that is trusted.
fn certified(state: &State) -> BTreeSet<NodeId> {
    let roots = state.trust.roots();
    let members = state.roster().members(&Default::default());
    let checked = members.into_iter().filter_map(|member| {
        let leaf = roots.check_record(&member.record.certificate).ok()?;
        (leaf.node == member.id).then_some(member.id)
    });
    checked.collect()
}

fn show(state: &State, mesh: &Mesh) {
    if let Err(error) = mesh.show(&state.key, &state.identity().certificate, state.trust.roots()) {
        state.note("certificate-unusable", error.to_string());
    }
    state.credentials_changed.send_modify(|version| *version += 1);
}
