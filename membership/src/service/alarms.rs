//! What an operator should know, kept until it is over: some things are conditions that hold or do not, others are
//! events that are shown for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::state::State;
use super::{Alarm, cell, certificates, renewal};
use crate::gossip::Gossip;
use crate::health::Doubt;
use crate::mesh::Mesh;
use crate::pki;
use crate::wallclock;

/// How long an event is shown.
const SHOWN: Duration = Duration::from_secs(600);
/// Most events that are kept, and of one name: whoever makes many of one kind must not hide the others.
const EVENTS_MAX: usize = 64;
const SAME_MAX: usize = 8;

/// A root is to be replaced when this is left of its ten years.
const ROOT_EXPIRES_SOON: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Most nodes that the words about a rotation name.
const PENDING_NAMED: usize = 5;

/// Say that deleted objects cannot be forgotten when there are so many.
const TOMBSTONES_MANY: usize = 1_000;

/// All that holds at this moment, and the events of the last minutes.
pub(super) fn all(state: &State, mesh: &Mesh, gossip: &Gossip) -> Vec<Alarm> {
    let now = wallclock::monotonic();
    let mut alarms = state.events().shown(now);
    let conditions = [
        removed(state),
        certificate(state),
        root(state),
        rotation(state),
        wire(state),
        filling(state),
        health(state, now),
        state
            .clock_off()
            .map(|off| alarm("clock-off", format!("{off}; until then it takes no changes"))),
        anchors(state, mesh, gossip),
        gossip_ended(gossip),
    ];
    alarms.extend(conditions.into_iter().flatten());
    alarms.extend(tombstones(state));
    for (reason, words) in mesh.refusals() {
        alarms.push(alarm("peer-refused", format!("{reason}: {words}")));
    }
    for (node, offence) in gossip.offences() {
        alarms.push(alarm(
            "bad-gossip",
            format!("node {node} {offence}: look at its version and logs"),
        ));
    }
    for node in gossip.muted() {
        let why = "the gossip task ended on what it sent; it is not heard for 10 minutes: look at its version and logs";
        alarms.push(alarm("peer-muted", format!("node {node}: {why}")));
    }
    alarms
}

fn alarm(name: &str, message: String) -> Alarm {
    Alarm {
        name: name.to_owned(),
        message,
    }
}

fn removed(state: &State) -> Option<Alarm> {
    let why = "this node was removed from the cluster: nobody hears it any more; its workloads are forwarded with what it \
               knew last. Stop it and run `fabric-node reset`; it can join again with a token";
    state.roster().is_out().then(|| alarm("node-removed", why.to_owned()))
}

fn certificate(state: &State) -> Option<Alarm> {
    let (held, now) = (renewal::held(state), wallclock::since_epoch());
    let why = state.unrenewed().unwrap_or_else(|| "no anchor answered".to_owned());
    let then =
        "it goes on asking; see that an anchor runs that can be reached and holds the CA key (`fabricctl anchor list`)";
    if held.is_over(now) {
        let words =
            format!("this node's certificate has expired and peers refuse it; it was not renewed: {why}; {then}");
        return Some(alarm("certificate-expired", words));
    }
    held.is_expiring(now).then(|| {
        let left = for_people(held.left(now));
        let words = format!("this node's certificate expires in {left} and was not renewed: {why}; {then}");
        alarm("certificate-expiring", words)
    })
}

/// The root that issues is replaced by people, who need time for it.
fn root(state: &State) -> Option<Alarm> {
    let roots = state.roster().standing().roots().to_vec();
    let (_, not_after) = pki::root_validity(roots.last()?).ok()?;
    let left = not_after.saturating_sub(wallclock::since_epoch());
    (left < ROOT_EXPIRES_SOON).then(|| {
        let words = format!(
            "the cluster's CA certificate ends in {}: replace it with `fabricctl ca rotate`",
            for_people(left)
        );
        alarm("ca-expiring", words)
    })
}

fn rotation(state: &State) -> Option<Alarm> {
    if state.roster().standing().roots().len() < 2 {
        return None;
    }
    let ca = certificates::ca(state);
    let all = format!(
        "the cluster trusts two roots: {} of {} nodes",
        ca.members - ca.pending.len(),
        ca.members
    );
    let words = match &ca.pending[..] {
        [] => format!("{all} have certificates of the later one; finish with `fabricctl ca rotate --finish`"),
        pending => {
            let named: Vec<String> = pending.iter().take(PENDING_NAMED).map(ToString::to_string).collect();
            let more = if pending.len() > PENDING_NAMED { ", …" } else { "" };
            format!(
                "{all} have certificates of the later one, {}{more} not yet: start those that do not run; `fabricctl ca show`",
                named.join(", ")
            )
        }
    };
    Some(alarm("ca-rotating", words))
}

/// A time in its largest unit.
fn for_people(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} minutes", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} hours", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn wire(state: &State) -> Option<Alarm> {
    let agreed = state.roster().standing().wire();
    (agreed > state.wire.max()).then(|| {
        let words = format!(
            "the cluster speaks wire version {agreed} and this node only {}: nobody hears it any more, its workloads are \
             forwarded with what it knew last; upgrade its software, or raise `max` under [wire]",
            state.wire
        );
        alarm("wire-version-too-old", words)
    })
}

fn filling(state: &State) -> Option<Alarm> {
    cell::filling(state.roster().len()).map(|words| alarm("cell-filling", words))
}

fn tombstones(state: &State) -> Option<Alarm> {
    let held = state.core().tombstones();
    let absent: Vec<String> = held.waiting_for.iter().map(ToString::to_string).collect();
    (held.count >= TOMBSTONES_MANY && !absent.is_empty()).then(|| {
        let what = format!("{} deleted objects are remembered ({} bytes)", held.count, held.bytes);
        let absent = absent.join(", ");
        alarm(
            "tombstones-held-back",
            format!(
                "{what} until these members confirm: {absent}; bring them back, or remove those that are gone for good"
            ),
        )
    })
}

fn health(state: &State, now: Instant) -> Option<Alarm> {
    let until = "until its ticks came in time for 10 s it decides nothing by how others look";
    let doubt = state.health().doubt(now)?;
    Some(match doubt {
        Doubt::Late => alarm(
            "ticks-late",
            format!("this node's own ticks came late: it was stopped, or has too little processor time; {until}"),
        ),
        Doubt::MassDeath { died, knew } => alarm(
            "mass-death",
            format!(
                "{died} of {knew} peers were lost at once: this node may be the one that is cut off, look at its underlay; \
                 {until}"
            ),
        ),
    })
}

/// Whether those that can be reached from here could decide anything.
fn anchors(state: &State, mesh: &Mesh, gossip: &Gossip) -> Option<Alarm> {
    let (live, roster) = (gossip.live(), state.roster());
    let (standing, live) = (roster.standing(), live.borrow());
    // Who has just started is connected before gossip has heard enough of it.
    let is_here = |node| node == state.own() || mesh.has(node) || live.contains(&node);
    let lost: Vec<_> = standing
        .seats()
        .iter()
        .map(|seat| seat.node)
        .filter(|node| !is_here(*node))
        .collect();
    let all = standing.seats().len();
    (all - lost.len() < standing.majority()).then(|| {
        let named: Vec<String> = lost.iter().map(ToString::to_string).collect();
        let words = format!(
            "{} of {all} anchors cannot be reached from here ({}): until a majority can, no node joins or is taken out, and \
             hosts get no further allocated IPv4 addresses; start them, or look at the underlay",
            lost.len(),
            named.join(", ")
        );
        alarm("anchors-unreachable", words)
    })
}

fn gossip_ended(gossip: &Gossip) -> Option<Alarm> {
    gossip
        .ended()
        .map(|why| alarm("gossip-ended", format!("gossip ended and is started again soon: {why}")))
}

/// The events of one peer.
#[derive(Debug, Default)]
pub(super) struct Events {
    last: BTreeMap<(String, String), Instant>,
}

impl Events {
    /// Notes an event. The same one again counts as one. Says whether it was not shown already.
    pub(super) fn note(&mut self, name: &str, message: String, now: Instant) -> bool {
        self.last.retain(|_, at| now.duration_since(*at) < SHOWN);
        let key = (name.to_owned(), message);
        let same = self.last.keys().filter(|(of, _)| of == name).count();
        if (self.last.len() >= EVENTS_MAX || same >= SAME_MAX) && !self.last.contains_key(&key) {
            return false;
        }
        self.last.insert(key, now).is_none()
    }

    /// Those that are shown.
    pub(super) fn shown(&self, now: Instant) -> Vec<Alarm> {
        let fresh = self.last.iter().filter(|(_, at)| now.duration_since(**at) < SHOWN);
        fresh
            .map(|((name, message), _)| Alarm {
                name: name.clone(),
                message: message.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test needs some point in time to count from")]
    fn events_are_shown_once_for_a_while_and_bounded() {
        let (now, mut events) = (Instant::now(), Events::default());
        assert!(events.note("store-failed", "full".to_owned(), now));
        assert!(!events.note("store-failed", "full".to_owned(), now + SHOWN / 2));
        assert_eq!(events.shown(now + SHOWN).len(), 1);
        assert_eq!(events.shown(now + 2 * SHOWN), []);
        let later = now + SHOWN / 2;
        for n in 0..1_000 {
            events.note("bad-frame", n.to_string(), later);
        }
        assert_eq!(events.shown(later).len(), 1 + SAME_MAX);
        assert!(
            events.note("origin-forked", String::new(), later),
            "the others are not hidden"
        );
        for n in 0..1_000 {
            events.note(&n.to_string(), String::new(), later);
        }
        assert_eq!(events.shown(later).len(), EVENTS_MAX);
    }
}
