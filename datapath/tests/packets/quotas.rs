//! What an endpoint may cause, and that it hurts nobody else when it wants more.

use datapath_common::connection::State;
use datapath_common::{
    AUDIT_CONNECTIONS_FULL, Bucket, CROWD, Connection, ConnectionKey, ESTABLISHED_MAX, LIMIT_CONNECTIONS, LIMIT_SLOW,
    LimitKey, RATE_CONNECTIONS, Reason,
};

use crate::bench::{Bench, Context};
use crate::book::{API, DB, RED, WEB, Workload};
use crate::connections::key;
use crate::fate::{dropped, to_namespace};
use crate::frames::{Tunnel, tcp4_back, tcp4_flags, udp4, udp4_ports};
use crate::rules::{ALLOW, DENY, leaves, rules};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Where the ports of UDP over IPv4 stand in a frame.
const PORTS: usize = 14 + 20;
/// More than `HALF_OPEN` and `FLOWS` hold.
const MANY: u32 = 140_000;
/// What a table holds here, and more than that.
const FEW: u32 = 4096;
const MORE: u16 = 6000;

fn back(inner: &[u8]) -> Vec<u8> {
    Tunnel::inbound(RED).by_b(inner)
}

#[test]
fn slow_path_runs_are_limited() {
    let Some(mut bench) = Bench::new() else { return };
    let frame = udp4(&WEB, &API);
    bench.remembered("from_endpoint", vec![("known", frame.clone(), to_namespace(&frame))]);
    bench.exhaust(WEB.endpoint, LIMIT_SLOW);
    bench.table(
        "from_endpoint",
        vec![
            ("a flow that is known", frame.clone(), to_namespace(&frame)),
            (
                "one that is not",
                udp4_ports(&WEB, &API, (1, 2), b""),
                dropped(Reason::RateLimit),
            ),
        ],
    );
}

#[test]
fn beyond_the_fair_rate() {
    let Some(mut bench) = Bench::new() else { return };
    bench.exhaust(WEB.endpoint, LIMIT_CONNECTIONS);
    let tuple = key(17, &WEB, &DB, (5000, 53));
    let question = udp4_ports(&WEB, &DB, (5000, 53), b"?");
    for what in ["the first", "the second"] {
        assert!(leaves(&bench, what, &question), "{what}: nobody is refused");
        assert_eq!(bench.trace().fast, 0, "{what}: nothing is cached");
    }
    let crowded = bench.connection_in("CROWDED", tuple).unwrap();
    assert_eq!((crowded.state, crowded.endpoint), (State::OneWay as u32, CROWD));
    assert_eq!(bench.connection_in("HALF_OPEN", tuple), None);
    assert_eq!(bench.flows(), 0);

    let answer = udp4_ports(&DB, &WEB, (53, 5000), b"!");
    bench.remembered(
        "from_underlay",
        vec![("the answer", back(&answer), to_namespace(&answer))],
    );
    assert!(bench.permanent(tuple));
    assert_eq!(bench.connection_in("CROWDED", tuple), None);
    for fast in [0, 1] {
        assert!(leaves(&bench, "the next question", &question));
        assert_eq!(bench.trace().fast, fast, "cached, since both ends took part");
    }

    // A remote one's share is its own.
    let inward = udp4_ports(&DB, &WEB, (7, 8), b"?");
    let station = bench.remote_station(RED, DB.mac);
    bench.exhaust(station, LIMIT_CONNECTIONS);
    bench.table(
        "from_underlay",
        vec![("of a station elsewhere", back(&inward), to_namespace(&inward))],
    );
    assert!(bench.connection_in("CROWDED", key(17, &DB, &WEB, (7, 8))).is_some());
}

#[test]
fn a_crowded_handshake_comes_through() {
    let Some(mut bench) = Bench::new() else { return };
    bench.exhaust(WEB.endpoint, LIMIT_CONNECTIONS);
    let tuple = key(6, &WEB, &DB, (40_001, 80));
    assert!(leaves(&bench, "SYN", &tcp4_flags(&WEB, &DB, SYN)));
    let both = tcp4_back(&DB, &WEB, SYN | ACK);
    bench.table("from_underlay", vec![("SYN|ACK", back(&both), to_namespace(&both))]);
    assert_eq!(
        bench.connection_in("CROWDED", tuple).unwrap().state,
        State::Opened as u32
    );
    assert!(leaves(&bench, "ACK", &tcp4_flags(&WEB, &DB, ACK)));
    assert_eq!(
        bench.connection_in("CONNECTIONS", tuple).unwrap().state,
        State::Established as u32
    );
    assert_eq!(bench.connection_in("CROWDED", tuple), None);
    assert_eq!(bench.established(WEB.endpoint), 1);
}

#[test]
fn a_crowded_connection_comes_after_one_of_the_same_ports() {
    let Some(mut bench) = Bench::new() else { return };
    let tuple = key(6, &WEB, &DB, (40_001, 80));
    let ended = Connection {
        seen: bench.seconds().saturating_sub(State::Closed.timeout() + 5),
        state: State::Closed as u32,
        endpoint: 0,
    };
    bench.put_half_open(tuple, ended);
    bench.exhaust(WEB.endpoint, LIMIT_CONNECTIONS);
    assert!(leaves(&bench, "SYN", &tcp4_flags(&WEB, &DB, SYN)));
    let both = tcp4_back(&DB, &WEB, SYN | ACK);
    bench.table("from_underlay", vec![("SYN|ACK", back(&both), to_namespace(&both))]);
    assert!(leaves(&bench, "ACK", &tcp4_flags(&WEB, &DB, ACK)));
    assert_eq!(
        bench.connection_in("CONNECTIONS", tuple).unwrap().state,
        State::Established as u32
    );
}

#[test]
fn what_ended_is_not_cached_anew() {
    let Some(mut bench) = Bench::new() else { return };
    let tuple = key(6, &WEB, &DB, (40_001, 80));
    assert!(leaves(&bench, "SYN", &tcp4_flags(&WEB, &DB, SYN)));
    for (what, flags) in [("SYN|ACK", SYN | ACK), ("FIN|ACK", FIN | ACK)] {
        let answer = tcp4_back(&DB, &WEB, flags);
        bench.table("from_underlay", vec![(what, back(&answer), to_namespace(&answer))]);
        assert!(leaves(&bench, what, &tcp4_flags(&WEB, &DB, ACK)));
    }
    assert_eq!(bench.flows(), 2, "both ways");
    assert!(leaves(&bench, "FIN|ACK", &tcp4_flags(&WEB, &DB, FIN | ACK)));
    assert_eq!(
        bench.connection_in("CROWDED", tuple).unwrap().state,
        State::Closed as u32
    );
    assert_eq!(bench.flows(), 1, "whose FIN was the last sends no more");
    bench.forget_flows();
    let last = tcp4_back(&DB, &WEB, ACK);
    bench.table(
        "from_underlay",
        vec![("the last ACK", back(&last), to_namespace(&last))],
    );
    assert_eq!(bench.flows(), 0);
}

/// A connection from one to the other, as far as a FIN of `first`; ready for the other's.
fn half_closed(bench: &Bench, opener: &Workload, first: &Workload) {
    let web = |what: &str, flags: u8| {
        let frame = if opener.endpoint == WEB.endpoint {
            tcp4_flags(&WEB, &DB, flags)
        } else {
            tcp4_back(&WEB, &DB, flags)
        };
        assert!(leaves(bench, what, &frame));
    };
    let db = |what: &str, flags: u8| {
        let frame = if opener.endpoint == WEB.endpoint {
            tcp4_back(&DB, &WEB, flags)
        } else {
            tcp4_flags(&DB, &WEB, flags)
        };
        bench.table("from_underlay", vec![(what, back(&frame), to_namespace(&frame))]);
    };
    if opener.endpoint == WEB.endpoint {
        web("SYN", SYN);
        db("SYN|ACK", SYN | ACK);
        web("ACK", ACK);
    } else {
        db("SYN", SYN);
        web("SYN|ACK", SYN | ACK);
        db("ACK", ACK);
    }
    if first.endpoint == WEB.endpoint {
        web("FIN|ACK", FIN | ACK);
    } else {
        db("FIN|ACK", FIN | ACK);
    }
}

#[test]
fn who_closes_pays_nothing() {
    let Some(mut bench) = Bench::new() else { return };
    half_closed(&bench, &DB, &DB);
    let tuple = key(6, &DB, &WEB, (40_001, 80));
    assert!(bench.permanent(tuple));
    bench.exhaust(WEB.endpoint, LIMIT_CONNECTIONS);
    assert!(leaves(&bench, "FIN|ACK", &tcp4_back(&WEB, &DB, FIN | ACK)));
    let closed = bench.connection_in("CROWDED", tuple).unwrap();
    assert_eq!((closed.state, closed.endpoint), (State::Closed as u32, CROWD));
    assert_eq!(bench.connection_in("HALF_OPEN", tuple), None);

    let theirs = LimitKey {
        endpoint: bench.remote_station(RED, DB.mac),
        kind: LIMIT_CONNECTIONS,
    };
    let held = Bucket {
        tokens: 5000,
        filled: u64::MAX,
    };
    bench.put("LIMITS", theirs, held);
    let ours = LimitKey {
        endpoint: WEB.endpoint,
        ..theirs
    };
    bench.put("LIMITS", ours, held);
    half_closed(&bench, &WEB, &WEB);
    let finish = tcp4_back(&DB, &WEB, FIN | ACK);
    bench.table(
        "from_underlay",
        vec![("their FIN|ACK", back(&finish), to_namespace(&finish))],
    );
    let tuple = key(6, &WEB, &DB, (40_001, 80));
    assert_eq!(
        bench.connection_in("CROWDED", tuple).unwrap().state,
        State::Closed as u32
    );
    assert_eq!(bench.connection_in("HALF_OPEN", tuple), None);
    assert_eq!(bench.limit(theirs).unwrap().tokens, 5000, "who closed");
    assert_eq!(bench.limit(ours).unwrap().tokens, 4000, "who opened, once");
}

#[test]
fn what_is_closed_leaves_those_alone_that_open() {
    let Some(mut bench) = Bench::sized(&[("HALF_OPEN", FEW), ("CROWDED", FEW)]) else {
        return;
    };
    let theirs = udp4_ports(&DB, &WEB, (7, 8), b"?");
    bench.table("from_underlay", vec![("before", back(&theirs), to_namespace(&theirs))]);
    let halfway = Connection {
        seen: bench.seconds(),
        state: State::ClosingByResponder as u32,
        endpoint: WEB.endpoint,
    };
    let mut finish = tcp4_flags(&WEB, &DB, FIN | ACK);
    for port in 0..MORE {
        let tuple = key(6, &WEB, &DB, (port, 80));
        bench.put("CONNECTIONS", tuple, halfway);
        finish[PORTS..PORTS + 2].copy_from_slice(&port.to_be_bytes());
        let (verdict, ..) = bench.run("from_endpoint", &finish, Context::default()).unwrap();
        assert_eq!(verdict, 7, "it can be closed: {port}");
        assert!(!bench.permanent(tuple), "it is closed: {port}");
    }
    assert!(
        bench.connection_in("HALF_OPEN", key(17, &DB, &WEB, (7, 8))).is_some(),
        "what they began is there"
    );
}

#[test]
fn the_tuple_of_what_was_closed_opens_another_one() {
    let Some(bench) = Bench::new() else { return };
    half_closed(&bench, &WEB, &WEB);
    let finish = tcp4_back(&DB, &WEB, FIN | ACK);
    bench.table(
        "from_underlay",
        vec![("their FIN|ACK", back(&finish), to_namespace(&finish))],
    );
    let tuple = key(6, &WEB, &DB, (40_001, 80));
    assert!(!bench.permanent(tuple));
    assert_eq!(bench.established(WEB.endpoint), 0);
    half_closed(&bench, &WEB, &DB);
    assert_eq!(
        bench.connection_in("CONNECTIONS", tuple).unwrap().state,
        State::ClosingByResponder as u32
    );
    assert_eq!(bench.connection_in("CROWDED", tuple), None);
    assert_eq!(bench.established(WEB.endpoint), 1);
}

#[test]
fn those_that_stay_are_counted() {
    let Some(mut bench) = Bench::new() else { return };
    rules(&mut bench, &[ALLOW], &[ALLOW]);
    let most = u64::from(ESTABLISHED_MAX);
    let open = |bench: &Bench, port: u16| -> ConnectionKey {
        assert!(leaves(bench, "a question", &udp4_ports(&WEB, &DB, (port, 53), b"?")));
        let answer = udp4_ports(&DB, &WEB, (53, port), b"!");
        bench.table(
            "from_underlay",
            vec![("its answer", back(&answer), to_namespace(&answer))],
        );
        key(17, &WEB, &DB, (port, 53))
    };
    let first = open(&bench, 1000);
    assert_eq!(
        bench.connection_in("CONNECTIONS", first).unwrap().endpoint,
        WEB.endpoint
    );
    assert_eq!(bench.established(WEB.endpoint), 1);
    let inward = udp4_ports(&DB, &WEB, (7, 8), b"?");
    bench.table(
        "from_underlay",
        vec![("of another host", back(&inward), to_namespace(&inward))],
    );
    assert!(leaves(&bench, "its answer", &udp4_ports(&WEB, &DB, (8, 7), b"!")));
    assert!(bench.permanent(key(17, &DB, &WEB, (7, 8))));
    assert_eq!(bench.established(WEB.endpoint), 1, "they count where they were opened");

    bench.put("ESTABLISHED", WEB.endpoint, most);
    let beyond = open(&bench, 1001);
    assert!(!bench.permanent(beyond), "no room, and not refused");
    bench.forget_flows();
    assert!(leaves(
        &bench,
        "decided once more",
        &udp4_ports(&WEB, &DB, (1001, 53), b"?")
    ));
    assert!(!bench.permanent(beyond), "it goes on without");
    assert_eq!(
        bench.connection_in("HALF_OPEN", beyond).unwrap().state,
        State::TwoWay as u32
    );
    let full = (AUDIT_CONNECTIONS_FULL.set, AUDIT_CONNECTIONS_FULL.index);
    assert!(bench.audits()[&full] > 0);
    bench.put("ESTABLISHED", WEB.endpoint, most - 1);
    let last = open(&bench, 1002);
    assert!(bench.permanent(last));
    assert_eq!(bench.established(WEB.endpoint), most);
    rules(&mut bench, &[DENY], &[ALLOW]);
    assert!(!leaves(&bench, "denied", &udp4_ports(&WEB, &DB, (1002, 53), b"?")));
    assert!(bench.permanent(last), "else its other end's packet would open one");
    assert_eq!(bench.established(WEB.endpoint), most);
}

/// Both ports of the packet with this number; none is a server's.
fn ports(number: u32) -> [u8; 4] {
    ((number >> 15) << 16 | 0x8000 | number & 0x7fff).to_be_bytes()
}

#[test]
fn a_scan_leaves_others_alone() {
    let Some(mut bench) = Bench::new() else { return };
    // Host B's workload has begun a connection, and a flow of it is known.
    let theirs = udp4_ports(&DB, &WEB, (7, 8), b"?");
    bench.remembered("from_underlay", vec![("before", back(&theirs), to_namespace(&theirs))]);
    let mut frame = udp4_ports(&WEB, &API, (0, 0), b"");
    for number in 0..MANY {
        if u64::from(number) == RATE_CONNECTIONS.burst {
            // An emulated machine is slower than the rate at which the bucket fills.
            bench.exhaust(WEB.endpoint, LIMIT_CONNECTIONS);
        }
        frame[PORTS..PORTS + 4].copy_from_slice(&ports(number));
        let (verdict, ..) = bench.run("from_endpoint", &frame, Context::default()).unwrap();
        assert_eq!(verdict, 7, "nobody is refused: {number}");
    }
    let tuple = key(17, &DB, &WEB, (7, 8));
    assert!(
        bench.connection_in("HALF_OPEN", tuple).is_some(),
        "their connection is there"
    );
    bench.table("from_underlay", vec![("after", back(&theirs), to_namespace(&theirs))]);
    assert_eq!(bench.trace().fast, 1, "and so is their flow");
    let [a, b, c, d] = ports(MANY - 1);
    let crowded = key(17, &WEB, &API, (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])));
    assert!(
        bench.connection_in("CROWDED", crowded).is_some(),
        "the last of {MANY} was beyond {RATE_CONNECTIONS:?}"
    );
}
