//! How much of `FLOWS` one workload can fill, whatever he sends and with whomever he agrees: a burst and a rate of
//! decisions that are remembered for the first time. Whoever has that much is decided about packet by packet.

use aya::maps::Map;
use datapath_common::{Bucket, LIMIT_FLOWS, LimitKey, RATE_CONNECTIONS, RATE_FLOWS, Rate};

use crate::bench::{Bench, Context};
use crate::book::{API, DB, RED, VM, WEB, Workload};
use crate::fate::{Fate, REDIRECTED, to_host_side, to_namespace};
use crate::frames::{Tunnel, tcp4_flags, udp4_ports};
use crate::rules::leaves;

const SYN: u8 = 0x02;
/// Where the ports of UDP over IPv4 stand in a frame.
const PORTS: usize = 14 + 20;
/// Another station of host B.
const NEIGHBOUR: Workload = Workload {
    mac: [0x02, 0xaa, 0, 0, 0, 0x2f],
    v4: [10, 0, 0, 0x2f],
    ..DB
};
/// Connections that a workload and the one that he agrees with make.
const MANY: u16 = 30_000;

/// Sends so many UDP packets with ports of their own.
fn spray(bench: &Bench, program: &str, frame: &[u8], inner: usize, packets: u16, back: bool) {
    let mut frame = frame.to_vec();
    for number in 0..packets {
        let (mine, his) = ((number >> 8) | 0x4000, (number & 0xff) | 0x2000);
        let ports = if back { [his, mine] } else { [mine, his] };
        let at = inner + PORTS;
        frame[at..at + 2].copy_from_slice(&ports[0].to_be_bytes());
        frame[at + 2..at + 4].copy_from_slice(&ports[1].to_be_bytes());
        let (verdict, ..) = bench.run(program, &frame, Context::default()).unwrap();
        assert_eq!(verdict, REDIRECTED, "nobody is refused");
    }
}

/// Most that a rate gave out since it was this much, at `begun` seconds of the bench's clock.
fn most(bench: &Bench, rate: Rate, had: u64, begun: u32) -> u64 {
    had + rate.second * u64::from(bench.seconds() - begun + 2)
}

fn share(endpoint: u32) -> LimitKey {
    LimitKey {
        endpoint,
        kind: LIMIT_FLOWS,
    }
}

#[test]
fn questions_alone_are_a_burst_of_connections() {
    let Some(mut bench) = Bench::new() else { return };
    let begun = bench.seconds();
    let frame = udp4_ports(&WEB, &API, (1, 1), b"?");
    spray(&bench, "from_endpoint", &frame, 0, MANY, false);
    let fair = most(&bench, RATE_CONNECTIONS, RATE_CONNECTIONS.burst, begun);
    let flows = bench.flows() as u64;
    assert!(
        (RATE_CONNECTIONS.burst..=fair).contains(&flows),
        "{flows}, not up to {fair}"
    );
}

#[test]
fn openings_of_tcp_are_not_remembered() {
    let Some(mut bench) = Bench::new() else { return };
    let mut frame = tcp4_flags(&WEB, &API, SYN);
    for port in 1000..3000_u16 {
        frame[PORTS..PORTS + 2].copy_from_slice(&port.to_be_bytes());
        bench.run("from_endpoint", &frame, Context::default()).unwrap();
    }
    assert_eq!(bench.flows(), 0);
}

#[test]
fn two_that_agree_hold_no_more_than_two_shares() {
    let Some(mut bench) = Bench::new() else { return };
    // Most of both shares is gone.
    let left = 1000;
    let station = bench.remote_station(RED, DB.mac);
    for sender in [WEB.endpoint, station] {
        let bucket = Bucket {
            tokens: left * 1000,
            filled: u64::from(bench.seconds()) * 1_000_000_000,
        };
        bench.put("LIMITS", share(sender), bucket);
    }
    let begun = bench.seconds();
    // Here the workload, elsewhere who answers him: every connection is one that both ends took part in.
    let question = udp4_ports(&WEB, &DB, (1, 1), b"?");
    let answer = Tunnel::inbound(RED).by_b(&udp4_ports(&DB, &WEB, (1, 1), b"!"));
    spray(&bench, "from_endpoint", &question, 0, MANY, false);
    spray(&bench, "from_underlay", &answer, 50, MANY, true);
    spray(&bench, "from_endpoint", &question, 0, MANY, false);
    let (flows, bound) = (bench.flows() as u64, most(&bench, RATE_FLOWS, left, begun));
    assert!(flows <= 2 * bound, "{flows} of two senders, not up to {bound} of each");
    assert!(flows >= 2 * left, "{flows}: what is left of the shares can be had");

    // He goes on, packet by packet; somebody else is remembered at once.
    bench.exhaust(WEB.endpoint, LIMIT_FLOWS);
    let frame = udp4_ports(&WEB, &DB, (7, 7), b"?");
    for what in ["the first", "the second"] {
        assert!(leaves(&bench, what, &frame));
        assert_eq!(bench.trace().fast, 0, "{what}: nothing more of his is remembered");
    }
    bench.exhaust(station, LIMIT_FLOWS);
    let mine = udp4_ports(&NEIGHBOUR, &VM, (9, 9), b"?");
    let other = Tunnel::inbound(RED).by_b(&mine);
    bench.station(RED, NEIGHBOUR);
    bench.remembered("from_underlay", vec![("of another sender", other, to_host_side(&mine))]);
}

#[test]
fn a_share_begins_with_a_quarter_of_the_table() {
    let Some(bench) = Bench::new() else { return };
    let frame = udp4_ports(&WEB, &API, (5, 5), b"?");
    bench.remembered("from_endpoint", vec![("a flow", frame.clone(), to_namespace(&frame))]);
    let held = bench.limit(share(WEB.endpoint)).unwrap().tokens;
    assert_eq!(held, (RATE_FLOWS.burst - 1) * 1000, "one is gone");
    let table = bench.loaded().map("FLOWS").map(|map| match map {
        Map::LruHashMap(map) => map.info().unwrap().max_entries(),
        other => panic!("{other:?}"),
    });
    assert_eq!(table.map(u64::from), Some(4 * RATE_FLOWS.burst));
}

#[test]
fn what_is_remembered_may_be_remembered_anew() {
    let Some(mut bench) = Bench::new() else { return };
    let frame = udp4_ports(&WEB, &API, (5, 5), b"?");
    let row = || vec![("a known flow", frame.clone(), to_namespace(&frame))];
    bench.remembered("from_endpoint", row());
    bench.exhaust(WEB.endpoint, LIMIT_FLOWS);
    // A change voids the decision: the next one takes its place and pushes nobody out.
    bench.bump(datapath_common::slot::domain(crate::book::RED_DOMAIN));
    bench.remembered("from_endpoint", row());
    let other = udp4_ports(&WEB, &API, (6, 6), b"?");
    for what in ["another flow", "again"] {
        let fate = bench.fate("from_endpoint", what, &other, Context::default());
        assert_eq!(fate, Fate::Redirected(other.clone(), 0));
        assert_eq!(bench.trace().fast, 0, "{what}");
    }
    assert_eq!(bench.flows(), 1);
}

#[test]
fn a_sender_elsewhere_has_a_share_of_his_own() {
    let Some(mut bench) = Bench::new() else { return };
    let inner = udp4_ports(&DB, &API, (5, 5), b"?");
    let packet = Tunnel::inbound(RED).by_b(&inner);
    let station = bench.remote_station(RED, DB.mac);
    bench.exhaust(station, LIMIT_FLOWS);
    for what in ["the first", "the second"] {
        let fate = bench.fate("from_underlay", what, &packet, Context::default());
        assert_eq!(fate, to_namespace(&inner));
        assert_eq!(bench.trace().fast, 0, "{what}");
    }
    assert_eq!(bench.flows(), 0);
    let mine = udp4_ports(&WEB, &API, (5, 5), b"?");
    bench.remembered(
        "from_endpoint",
        vec![("of a workload here", mine.clone(), to_namespace(&mine))],
    );
}
