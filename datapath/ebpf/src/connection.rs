//! Connections: which one a packet belongs to, whether the rules allow it, and what it does to its state.

use core::ptr::{self, NonNull};

use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST};
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::maps::LruHashMap;
use datapath_common::connection::{ACK, State};
use datapath_common::{CROWD, Connection, ConnectionKey, FLOW_REPLY, Flow, FlowKey, Reason};

use crate::entry;
use crate::flow;
use crate::headers::protocol;
use crate::icmp::{self, Kind};
use crate::maps::{CONNECTIONS, CROWDED, HALF_OPEN};
use crate::policy::{self, Ends, Opinion};
use crate::quota;
use crate::transport::is_icmp;
use crate::walk::{IP_LATER, NANOSECONDS, Walk};

/// TCP's flags that open a connection and that end one.
const SYN_ALONE: u32 = datapath_common::connection::SYN;
const RST: u32 = datapath_common::connection::RST;
/// What the kernel answers who inserts what is there (`EEXIST`).
const EXISTS: i32 = -17;
/// What a rule sees of an ICMP connection that is open already: an echo request, as type << 8 | code.
const ECHO4: u32 = (icmp::ECHO_REQUEST as u32) << 8;
const ECHO6: u32 = (icmp::ECHO_REQUEST6 as u32) << 8;

/// Lets the packet through if its connection is allowed, and keeps the connection's state. `tunnel`: it comes from the
/// host of its source; `here`: it goes to a workload of this host.
#[inline(always)]
pub fn permit(walk: &mut Walk, tunnel: bool, here: bool) -> Result<(), Reason> {
    match icmp::kind(&walk.ip) {
        Kind::Message => message(walk, tunnel, here),
        kind => connected(walk, kind, tunnel, here),
    }
}

/// What has no connection is asked for by itself.
#[inline(always)]
fn message(walk: &mut Walk, tunnel: bool, here: bool) -> Result<(), Reason> {
    walk.cache = false;
    name(walk);
    match policy::ask(walk, walk.ip.icmp, false, ends(false, tunnel, here)) {
        Opinion::Allowed => Ok(()),
        _ => Err(Reason::Policy),
    }
}

#[inline(always)]
fn connected(walk: &mut Walk, kind: Kind, tunnel: bool, here: bool) -> Result<(), Reason> {
    name(walk);
    let (open, reply) = find_either(walk, kind);
    let (state, endpoint) = match open.and_then(|_| entry::said()) {
        Some(said) => (State::from_number(said.state), said.endpoint),
        None => (None, 0),
    };
    if state.is_none() && (kind == Kind::EchoReply || walk.ip.tcp & RST != 0) {
        return Err(Reason::Unrelated);
    }
    let port = rule_port(walk, state.is_some());
    match policy::ask(walk, port, reply, ends(reply, tunnel, here)) {
        Opinion::Allowed => {}
        opinion => {
            // It stays as it is while packets of it come: one in flight the other way would open a connection of its own,
            // whose replies would be the packets that are denied.
            if opinion == Opinion::Denied
                && let Some(open) = open
            {
                see(open, walk.now);
            }
            return Err(Reason::Policy);
        }
    }
    if reply {
        walk.flow.flags |= FLOW_REPLY;
    }
    let next = match state {
        // What a later fragment of TCP would say is not known.
        Some(state) => state.step(if walk.ip.is(IP_LATER) { 0 } else { walk.ip.tcp }, reply),
        None => State::first(walk.tuple.protocol),
    };
    walk.cache &= next.settled(reply);
    // Of one connection, for which one decision is enough, an echo could have as many as there are codes.
    walk.cache &= kind == Kind::Other || walk.ip.icmp & 0xff == 0;
    let anew = match state {
        Some(state) => state != next,
        // Of a SYN, what its answer could find is written over by that.
        None => !walk.turns(),
    };
    if anew && matches!(next, State::Opening) {
        flow::forget_both(walk);
    }
    let share = Share {
        // Where there is no room, one that both ends took part in is among the others.
        stays: state.is_some_and(State::permanent) && CONNECTIONS.get_ptr(&walk.tuple).is_some(),
        crowded: endpoint == CROWD,
        counts_for: endpoint,
        opener: quota::opener(walk, tunnel, reply, here),
    };
    match open {
        // It is where it belongs.
        Some(open) if share.stays == next.permanent() => {
            walk.cache &= share.stays || !share.crowded;
            if state == Some(next) {
                see(open, walk.now);
            } else {
                turn(walk, next, &share);
            }
        }
        _ => keep(walk, state.is_none(), next, &share),
    }
    Ok(())
}

/// Which ends of the connection are here.
#[inline(always)]
fn ends(reply: bool, tunnel: bool, here: bool) -> Ends {
    let (source, destination) = (!tunnel, here);
    if reply {
        Ends {
            initiator: destination,
            responder: source,
        }
    } else {
        Ends {
            initiator: source,
            responder: destination,
        }
    }
}

/// The destination port of the initiator's packets; for ICMP, type << 8 | code.
#[inline(always)]
fn rule_port(walk: &Walk, open: bool) -> u32 {
    match (is_icmp(walk.tuple.protocol, walk.ip.v4()), open) {
        (false, _) => walk.tuple.ports & 0xffff,
        (true, false) => walk.ip.icmp,
        (true, true) if walk.ip.v4() => ECHO4,
        (true, true) => ECHO6,
    }
}

/// The packet's own tuple.
#[inline(always)]
pub fn name(walk: &mut Walk) {
    let key = &walk.key;
    let ports = if is_icmp(key.protocol, walk.ip.v4()) {
        echo(key.ports)
    } else {
        key.ports
    };
    walk.tuple = ConnectionKey {
        domain: walk.owner.domain,
        ports,
        protocol: key.protocol,
        source: key.source,
        destination: key.destination,
    };
}

/// The identifier twice.
#[inline(always)]
pub fn echo(ports: u32) -> u32 {
    ports << 16 | ports & 0xffff
}

/// The tuple of the other direction.
#[inline(always)]
fn reverse(tuple: &mut ConnectionKey) {
    tuple.ports = tuple.ports.rotate_left(16);
    core::mem::swap(&mut tuple.source, &mut tuple.destination);
}

/// Notes when a packet of a connection was seen last.
#[inline(always)]
fn see(open: NonNull<Connection>, now: u32) {
    // SAFETY: one word of an element of the map, that may be written whatever stands in it (`entry::connection`).
    unsafe { ptr::write_volatile(&raw mut (*open.as_ptr()).seen, now) };
}

/// Gives a connection another state where it stands. By its key: the element may be another's by now.
#[inline(always)]
fn turn(walk: &Walk, next: State, share: &Share) {
    let connection = Connection {
        seen: walk.now,
        state: next as u32,
        endpoint: share.counts_for,
    };
    // Where it fails, it stays as it is, and the packets to come turn it.
    let _ = match share {
        Share { stays: true, .. } => CONNECTIONS.insert(&walk.tuple, connection, BPF_EXIST.into()),
        Share { crowded: true, .. } => CROWDED.insert(&walk.tuple, connection, BPF_EXIST.into()),
        _ => HALF_OPEN.insert(&walk.tuple, connection, BPF_EXIST.into()),
    };
}

/// The live connection of a packet, and whether the packet goes from the responder to the initiator. Leaves the tuple
/// as the initiator's. An echo says itself which it is: else who is asked could ask back against the rules.
#[inline(always)]
fn find_either(walk: &mut Walk, kind: Kind) -> (Option<NonNull<Connection>>, bool) {
    if kind != Kind::EchoReply
        && let Some(connection) = find(&walk.tuple, walk.now)
    {
        return (Some(connection), false);
    }
    if kind == Kind::EchoRequest {
        return (None, false);
    }
    reverse(&mut walk.tuple);
    if let Some(connection) = find(&walk.tuple, walk.now) {
        let tcp = walk.tuple.protocol == protocol::TCP.into();
        let syn = tcp && walk.ip.tcp & (SYN_ALONE | ACK) == SYN_ALONE;
        let closed = entry::said().is_some_and(|said| said.state == State::Closed as u32);
        if !(syn && closed) {
            return (Some(connection), true);
        }
        // The responder opens one of its own after the end of the other, or tries to; what it may now, that one may not.
        forget(&walk.tuple);
        flow::forget_both(walk);
    }
    reverse(&mut walk.tuple);
    (None, false)
}

/// The live connection that an ICMP error quotes a packet of, in either direction; `walk.tuple` is the quoted packet's.
#[inline(always)]
pub fn quoted(walk: &mut Walk) -> bool {
    if find(&walk.tuple, walk.now).is_some() {
        return true;
    }
    reverse(&mut walk.tuple);
    find(&walk.tuple, walk.now).is_some()
}

/// The live connection with this tuple; `entry::said` is what it said.
#[inline(never)]
fn find(tuple: &ConnectionKey, now: u32) -> Option<NonNull<Connection>> {
    if let Some(found) = entry::connection(&CONNECTIONS, tuple) {
        let said = entry::said()?;
        if live(&said, now) {
            return Some(found);
        }
        release(tuple, said.endpoint);
    }
    // One that is over may stand in the first where its successor stands in the second.
    match among(&HALF_OPEN, tuple, now) {
        None => among(&CROWDED, tuple, now),
        found => found,
    }
}

/// The entry, if its connection lives.
#[inline(always)]
fn among(map: &LruHashMap<ConnectionKey, Connection>, tuple: &ConnectionKey, now: u32) -> Option<NonNull<Connection>> {
    let found = entry::connection(map, tuple)?;
    if live(&entry::said()?, now) { Some(found) } else { None }
}

#[inline(always)]
fn live(connection: &Connection, now: u32) -> bool {
    match State::from_number(connection.state) {
        Some(state) => state.live(connection.seen, now),
        None => false,
    }
}

/// Removes a connection, wherever it is.
#[inline(never)]
fn forget(tuple: &ConnectionKey) {
    if entry::connection(&CONNECTIONS, tuple).is_some()
        && let Some(said) = entry::said()
    {
        release(tuple, said.endpoint);
    }
    // Each fails where there is nothing.
    let _ = HALF_OPEN.remove(tuple);
    let _ = CROWDED.remove(tuple);
}

/// Removes a connection from those that stay.
#[inline(always)]
fn release(tuple: &ConnectionKey, counts_for: u32) {
    // Fails where another CPU was faster.
    if CONNECTIONS.remove(tuple).is_ok() {
        quota::leave(tuple.domain, counts_for);
    }
}

/// Whose share of the connections one is.
struct Share {
    /// It stands in `CONNECTIONS`.
    stays: bool,
    /// It stands in `CROWDED`.
    crowded: bool,
    /// Whom it counts for, if it stands in `CONNECTIONS`.
    counts_for: u32,
    /// Whom it will count for.
    opener: u32,
}

/// Writes the connection with its next state where it belongs.
#[inline(always)]
fn keep(walk: &mut Walk, begins: bool, next: State, share: &Share) {
    let mut connection = Connection {
        seen: walk.now,
        state: next as u32,
        endpoint: 0,
    };
    if next.permanent() {
        connection.endpoint = share.opener;
        let domain = walk.tuple.domain;
        let entered = quota::has_room(domain, share.opener)
            && match CONNECTIONS.insert(&walk.tuple, connection, BPF_NOEXIST.into()) {
                Ok(()) => {
                    quota::enter(domain, share.opener);
                    true
                }
                // Another CPU was faster and counted it.
                Err(EXISTS) => CONNECTIONS.insert(&walk.tuple, connection, BPF_EXIST.into()).is_ok(),
                Err(_) => false,
            };
        if entered {
            // Fails where another CPU was faster.
            let _ = if share.crowded {
                CROWDED.remove(&walk.tuple)
            } else {
                HALF_OPEN.remove(&walk.tuple)
            };
            return;
        }
        policy::count_full(walk.ip.end.saturating_sub(walk.ip.start));
    } else if share.stays {
        release(&walk.tuple, share.counts_for);
    }
    let crowded = if share.stays && next == State::Closed {
        // Who closes it did not open it and pays nothing; it is soon over.
        true
    } else if begins || share.stays {
        !quota::fair(walk)
    } else {
        share.crowded
    };
    // Where it fails, the packets to come are new ones.
    if crowded {
        walk.cache &= next.permanent();
        connection.endpoint = CROWD;
        let _ = CROWDED.insert(&walk.tuple, connection, 0);
    } else {
        connection.endpoint = 0;
        let _ = HALF_OPEN.insert(&walk.tuple, connection, 0);
    }
}

/// Tells a flow's connection that it lives, or that the first of its ends has no more to say (`flags`: FIN|ACK, else ACK);
/// false if it does not live, or if that makes it one of another map: the slow path decides.
#[inline(never)]
pub fn tell(flow: &Flow, key: &FlowKey, v4: bool, flags: u32) -> bool {
    // SAFETY: no arguments.
    let now = (unsafe { bpf_ktime_get_coarse_ns() } / NANOSECONDS) as u32;
    let icmp = is_icmp(key.protocol, v4);
    let mut tuple = ConnectionKey {
        domain: flow.domain,
        ports: if icmp { echo(key.ports) } else { key.ports },
        protocol: key.protocol,
        source: key.source,
        destination: key.destination,
    };
    let reply = flow.flags & FLOW_REPLY != 0;
    if reply {
        reverse(&mut tuple);
    }
    let (Some(open), Some(said)) = (find(&tuple, now), entry::said()) else {
        return false;
    };
    let Some(state) = State::from_number(said.state) else {
        return false;
    };
    let flags = if key.protocol == protocol::TCP.into() { flags } else { 0 };
    let next = state.step(flags, reply);
    if next == state {
        see(open, now);
        return true;
    }
    let connection = Connection {
        seen: now,
        state: next as u32,
        endpoint: said.endpoint,
    };
    // Where there is no room for it, it stands with those that count for nobody.
    let counts = said.endpoint != 0 && said.endpoint != CROWD;
    counts && state.permanent() && next.permanent() && CONNECTIONS.insert(&tuple, connection, BPF_EXIST.into()).is_ok()
}
