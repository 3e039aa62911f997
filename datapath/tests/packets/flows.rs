//! What is remembered of a decision, when it is used, and what voids it.

use datapath_common::{ConnectionKey, FLOW_ENCAPSULATE, Flow, Peer, Reason, Station, StationKey, TELL, mapped, slot};

use crate::bench::{Bench, Context, peer_b4, peer_b6};
use crate::book::{self, API, DB, HERE_V4, HOST_C_V4, LOST, MTU, RED, RED_DOMAIN, VM, WEB, Workload};
use crate::fate::{Fate, dropped, other_family, to_host_side, to_namespace, too_big};
use crate::frames::{CE, ECT_0, Tunnel, echo4, echo6, ip4, sctp4, tcp4, tcp4_flags, tcp6, udp4, udp4_ports, udp6};

const IN: fn(u32) -> Tunnel = Tunnel::inbound;

#[test]
fn the_second_packet_of_a_workload_takes_the_fast_path() {
    let Some(mut bench) = Bench::new() else { return };
    for ends in [(mapped(WEB.v4), mapped(API.v4)), (WEB.v6, API.v6)] {
        bench.establish(ends, (40_001, 80));
    }
    bench.remembered(
        "from_endpoint",
        vec![
            ("UDP", udp4(&WEB, &API), to_namespace(&udp4(&WEB, &API))),
            ("UDP over IPv6", udp6(&WEB, &API), to_namespace(&udp6(&WEB, &API))),
            ("UDP to a tap", udp4(&WEB, &VM), to_host_side(&udp4(&WEB, &VM))),
            ("TCP", tcp4(&WEB, &API, b"x"), to_namespace(&tcp4(&WEB, &API, b"x"))),
            (
                "TCP over IPv6",
                tcp6(&WEB, &API, b"x"),
                to_namespace(&tcp6(&WEB, &API, b"x")),
            ),
            ("SCTP", sctp4(&WEB, &API), to_namespace(&sctp4(&WEB, &API))),
            (
                "an echo",
                echo4(&WEB, &API, 8, 7),
                to_namespace(&echo4(&WEB, &API, 8, 7)),
            ),
            (
                "an echo over IPv6",
                echo6(&WEB, &API, 128, 7),
                to_namespace(&echo6(&WEB, &API, 128, 7)),
            ),
            (
                "GRE",
                ip4(&WEB, &API, 47, 0, &[0; 8]),
                to_namespace(&ip4(&WEB, &API, 47, 0, &[0; 8])),
            ),
        ],
    );
}

#[test]
fn the_second_packet_from_a_tunnel_takes_the_fast_path() {
    let Some(bench) = Bench::on_devices() else { return };
    let ecn = |ecn| ip4(&DB, &API, 17, ecn, &udp4(&DB, &API)[34..]);
    bench.remembered(
        "from_underlay",
        vec![
            (
                "IPv4 in IPv4",
                IN(RED).by_b(&udp4(&DB, &API)),
                to_namespace(&udp4(&DB, &API)),
            ),
            ("to a tap", IN(RED).by_b(&udp4(&DB, &VM)), to_host_side(&udp4(&DB, &VM))),
            (
                "IPv6 in IPv4",
                IN(RED).by_b(&udp6(&DB, &API)),
                other_family(&udp6(&DB, &API)),
            ),
        ],
    );
    bench.table(
        "from_underlay",
        vec![
            (
                "congestion is copied from each packet of a flow",
                Tunnel { ecn: CE, ..IN(RED) }.by_b(&ecn(ECT_0)),
                to_namespace(&ecn(CE)),
            ),
            (
                "congestion that cannot be told",
                Tunnel { ecn: CE, ..IN(RED) }.by_b(&udp4(&DB, &API)),
                Fate::Dropped(Reason::Ecn, RED_DOMAIN, API.endpoint),
            ),
        ],
    );
}

#[test]
fn the_second_packet_into_a_tunnel_takes_the_fast_path() {
    let Some(mut bench) = Bench::on_devices() else { return };
    for (what, peer, overhead) in [("over IPv4", peer_b4(), 50), ("over IPv6", peer_b6(), 70)] {
        bench.forget_flows();
        bench.peer(book::HOST_B, peer);
        let mut sent = Vec::new();
        for fast in [0, 1] {
            let fate = bench.fate("from_endpoint", what, &udp4(&WEB, &DB), Context::default());
            let Fate::Redirected(frame, 0) = fate else {
                panic!("{what}: {fate:?}");
            };
            let trace = bench.trace();
            assert_eq!(
                (trace.fast, trace.flags & FLOW_ENCAPSULATE, trace.peer, trace.vni),
                (fast, FLOW_ENCAPSULATE, book::HOST_B, RED),
                "{what}"
            );
            assert_eq!(frame.len(), udp4(&WEB, &DB).len() + overhead);
            sent.push(frame);
        }
        assert_eq!(sent[0], sent[1], "{what}: both go the same way");
        bench.peer(book::HOST_B, Peer { ifindex: 0, ..peer });
        bench.table(
            "from_endpoint",
            vec![("the route is gone", udp4(&WEB, &DB), dropped(Reason::NoRoute))],
        );
    }
}

#[test]
fn what_is_never_remembered() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let mut first = udp4_ports(&WEB, &API, (9, 9), &[7; 64]);
    first[20] = 0x20;
    let mut options = ip4(&WEB, &API, 47, 0, &[1; 12]);
    options[14] = 0x46;
    let (mut coded, mut coded6) = (echo4(&WEB, &API, 8, 7), echo6(&WEB, &API, 128, 7));
    coded[14 + 20 + 1] = 9;
    coded6[14 + 40 + 1] = 9;
    let any_local = Workload {
        v6: [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        ..WEB
    };
    for (what, frame) in [
        ("a SYN", tcp4_flags(&WEB, &API, 0x02)),
        ("a FIN", tcp4_flags(&WEB, &API, 0x11)),
        ("a first fragment", first),
        ("IPv4 options", options),
        ("an ICMP timestamp", echo4(&WEB, &API, 13, 7)),
        ("an echo with a code", coded),
        ("an ICMPv6 echo with a code", coded6),
        ("a link-local address that anybody may take", udp6(&any_local, &API)),
        (
            "an address that nobody has",
            udp4(
                &WEB,
                &Workload {
                    v4: [9, 9, 9, 9],
                    ..API
                },
            ),
        ),
    ] {
        for _ in 0..2 {
            let fate = bench.fate("from_endpoint", what, &frame, Context::default());
            assert_eq!(fate, to_namespace(&frame), "{what}");
            assert_eq!(bench.trace().fast, 0, "{what}");
        }
        assert_eq!(bench.flows(), 0, "{what}");
    }
    bench.table(
        "from_endpoint",
        vec![
            ("a drop", udp4(&WEB, &book::NOBODY), dropped(Reason::UnknownDestination)),
            (
                "a reset of nothing",
                tcp4_flags(&WEB, &VM, 0x04),
                dropped(Reason::Unrelated),
            ),
        ],
    );
    assert_eq!(bench.flows(), 0);
}

#[test]
fn each_change_voids_the_decision() {
    let Some(mut bench) = Bench::new() else { return };
    let (out, inward) = (udp4(&WEB, &API), IN(RED).by_b(&udp4(&DB, &API)));
    let red = |workload: Workload| slot::station(RED, workload.mac);
    for (program, frame, source) in [("from_endpoint", &out, red(WEB)), ("from_underlay", &inward, red(DB))] {
        let fast = |bench: &Bench| {
            let fate = bench.fate(program, "a packet", frame, Context::default());
            assert!(matches!(fate, Fate::Redirected(..)), "{fate:?}");
            bench.trace().fast
        };
        fast(&bench);
        for (what, slot) in [
            ("sender", source),
            ("receiver", red(API)),
            ("domain", slot::domain(RED_DOMAIN)),
        ] {
            assert_eq!(fast(&bench), 1, "{program}: before the {what}'s change");
            bench.bump(slot);
            assert_eq!(fast(&bench), 0, "{program}: after the {what}'s change");
        }
        assert_eq!(fast(&bench), 1);
        bench.bump(red(VM));
        assert_eq!(fast(&bench), 1, "{program}: somebody else's change");
    }
}

#[test]
fn a_packet_that_only_looks_alike_is_decided_anew() {
    let Some(bench) = Bench::on_devices() else { return };
    let frame = udp4(&WEB, &API);
    bench.remembered("from_endpoint", vec![("the flow", frame.clone(), to_namespace(&frame))]);
    let other = |workload: Workload| Workload {
        mac: workload.mac,
        ..API
    };
    bench.table(
        "from_endpoint",
        vec![
            (
                "to another MAC",
                udp4(&WEB, &other(VM)),
                dropped(Reason::DestinationAddress),
            ),
            (
                "to nobody's MAC",
                udp4(&WEB, &other(book::NOBODY)),
                dropped(Reason::UnknownDestination),
            ),
            (
                "from another MAC",
                udp4(&Workload { mac: VM.mac, ..WEB }, &API),
                dropped(Reason::SourceMac),
            ),
        ],
    );
    let inner = udp4(&DB, &API);
    bench.remembered(
        "from_underlay",
        vec![("the flow", IN(RED).by_b(&inner), to_namespace(&inner))],
    );
    let red = |reason| Fate::Dropped(reason, RED_DOMAIN, 0);
    bench.table(
        "from_underlay",
        vec![
            (
                "from another host",
                IN(RED).over4(HOST_C_V4, HERE_V4, &inner),
                red(Reason::WrongVtep),
            ),
            (
                "from nobody",
                IN(RED).over4(book::STRANGER_V4, HERE_V4, &inner),
                Fate::Dropped(Reason::UnknownVtep, 0, 0),
            ),
            (
                "from another MAC",
                IN(RED).by_b(&udp4(&Workload { mac: LOST.mac, ..DB }, &API)),
                red(Reason::WrongVtep),
            ),
            (
                "without the I flag",
                Tunnel { flags: 0, ..IN(RED) }.by_b(&inner),
                Fate::Dropped(Reason::VxlanFlags, 0, 0),
            ),
        ],
    );
}

#[test]
fn sizes_count_on_the_fast_path() {
    let Some(bench) = Bench::on_devices() else { return };
    let sized = |length: u32| udp4_ports(&WEB, &API, (1, 2), &vec![7; length as usize - 28]);
    bench.remembered(
        "from_endpoint",
        vec![("it fits", sized(MTU), to_namespace(&sized(MTU)))],
    );
    bench.table(
        "from_endpoint",
        vec![
            (
                "of the same flow, one byte more",
                sized(MTU + 1),
                too_big(&sized(MTU + 1), MTU),
            ),
            ("it fits again", sized(MTU), to_namespace(&sized(MTU))),
        ],
    );
}

#[test]
fn a_flow_tells_its_connection_and_ends_with_it() {
    let Some(mut bench) = Bench::new() else { return };
    let frame = udp4(&WEB, &API);
    bench.remembered("from_endpoint", vec![("the flow", frame.clone(), to_namespace(&frame))]);
    let tuple = ConnectionKey {
        domain: RED_DOMAIN,
        ports: 40_000 << 16 | 53,
        protocol: 17,
        source: mapped(WEB.v4),
        destination: mapped(API.v4),
    };
    let mut connection = bench.connection(tuple).expect("it is half open");
    connection.seen = connection.seen.wrapping_sub(1);
    bench.put_half_open(tuple, connection);
    let age = |bench: &mut Bench| {
        bench.change_flows(|flow: &mut Flow| flow.told -= TELL);
    };
    age(&mut bench);
    let fate = bench.fate("from_endpoint", "it is told", &frame, Context::default());
    assert_eq!((fate, bench.trace().fast), (to_namespace(&frame), 1));
    let told = bench.connection(tuple).expect("it is still there");
    assert!(told.seen > connection.seen, "{told:?} after {connection:?}");

    bench.remove_connection(tuple);
    let fate = bench.fate("from_endpoint", "not asked yet", &frame, Context::default());
    assert_eq!((fate, bench.trace().fast), (to_namespace(&frame), 1));
    age(&mut bench);
    let fate = bench.fate("from_endpoint", "it is gone", &frame, Context::default());
    assert_eq!((fate, bench.trace().fast), (to_namespace(&frame), 0));
    assert!(bench.connection(tuple).is_some(), "the packet opened another one");
}

#[test]
fn without_a_slow_path_nothing_unknown_passes() {
    let Some(mut bench) = Bench::new() else { return };
    let frame = udp4(&WEB, &API);
    bench.remembered("from_endpoint", vec![("the flow", frame.clone(), to_namespace(&frame))]);
    bench.clear_slot(datapath_common::SLOT_SLOW_ENDPOINT);
    bench.clear_slot(datapath_common::SLOT_SLOW_UNDERLAY);
    bench.table(
        "from_endpoint",
        vec![
            ("what is known", frame.clone(), to_namespace(&frame)),
            ("what is not", udp4(&WEB, &VM), dropped(Reason::NoProgram)),
        ],
    );
    bench.table(
        "from_underlay",
        vec![(
            "what is not",
            IN(RED).by_b(&udp4(&DB, &API)),
            Fate::Dropped(Reason::NoProgram, 0, 0),
        )],
    );
}

#[test]
fn a_station_that_moved_is_followed_after_the_change() {
    let Some(mut bench) = Bench::new() else { return };
    let frame = udp4(&WEB, &API);
    bench.remembered("from_endpoint", vec![("the flow", frame.clone(), to_namespace(&frame))]);
    let key = StationKey {
        vni: RED,
        mac: API.mac,
        zero: [0; 2],
    };
    let slot = slot::station(RED, API.mac);
    let there = Station {
        peer: book::HOST_B,
        ifindex: 0,
        endpoint: 0,
        flags: 0,
        slot,
        zero: 0,
        groups: [0; 4],
    };
    bench.put("STATIONS", key, there);
    bench.bump(slot);
    let fate = bench.fate("from_endpoint", "it moved", &frame, Context::default());
    let Fate::Redirected(sent, 0) = fate else {
        panic!("{fate:?}")
    };
    assert_eq!(sent.len(), frame.len() + 50);
    assert_eq!((bench.trace().fast, bench.trace().peer), (0, book::HOST_B));
}
