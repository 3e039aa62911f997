//! Routing, and what the router says itself.

use std::collections::BTreeMap;

use datapath_common::{
    FLOW_ROUTED, Hop, MemberKey, Neighbour, Peer, Port, ROUTE_BLACKHOLE, ROUTE_VIA, Reason, Route, Segment, mapped,
    slot,
};

use crate::bench::{Bench, Context, Fate, dropped, peer_b4, to_host_side, to_namespace};
use crate::book::{
    self, API, APP, BLUE_DOMAIN, DB, FAR_GATEWAY, GATEWAY, GREEN, HERE_V4, HOST_B, HOST_C_V4, LOST, NOBODY, RED,
    RED_DOMAIN, ROUTER_MAC, SHOP, STORE, VACANT, VM, WEB, Workload,
};
use crate::frames::{
    Tunnel, arp, echo4, echo6, icmp_error, ip4, ip6, link_option, neighbour, routed, solicitation, tcp4, tcp4_flags,
    udp4, udp4_ports, udp6, udp6_ports, with_ttl,
};

fn bench() -> Option<Bench> {
    let mut bench = Bench::new()?;
    bench.router();
    Some(bench)
}

/// What the router says about a frame of `WEB`.
fn says(reason: Reason, frame: &[u8], v4: (u8, u8), v6: (u8, u8), rest: u32) -> Fate {
    let (router, kind) = if frame[12..14] == [0x08, 0] {
        (mapped(GATEWAY.v4), v4)
    } else {
        (GATEWAY.v6, v6)
    };
    Fate::Answered(reason, icmp_error(frame, Some(router), kind, rest))
}

#[test]
fn to_a_workload_of_the_other_segment_here() {
    let Some(bench) = bench() else { return };
    let frames = [
        ("UDP", udp4(&WEB, &APP.routed())),
        ("UDP over IPv6", udp6(&WEB, &APP.routed())),
        ("TCP", tcp4(&WEB, &APP.routed(), b"GET /")),
        ("an echo", echo4(&WEB, &APP.routed(), 8, 3)),
        ("with TTL 2", with_ttl(&udp4(&WEB, &APP.routed()), 2)),
        ("with hop limit 2", with_ttl(&udp6(&WEB, &APP.routed()), 2)),
    ];
    for (what, frame) in frames {
        for _ in 0..2 {
            let fate = bench.fate("from_endpoint", what, &frame, Context::default());
            assert_eq!(fate, to_namespace(&routed(&frame, &APP)), "{what}");
            let trace = bench.trace();
            assert_eq!(
                (trace.vni, trace.endpoint, trace.flags & FLOW_ROUTED),
                (GREEN, APP.endpoint, FLOW_ROUTED)
            );
        }
        assert_eq!(bench.trace().fast, 1, "{what}");
    }
}

#[test]
fn to_a_workload_of_the_other_segment_on_another_host() {
    let Some(bench) = bench() else { return };
    for (what, frame) in [
        ("IPv4", udp4(&WEB, &STORE.routed())),
        ("IPv6", udp6(&WEB, &STORE.routed())),
    ] {
        for fast in [0, 1] {
            let fate = bench.fate("from_endpoint", what, &frame, Context::default());
            let Fate::Redirected(sent, 0) = fate else {
                panic!("{what}: {fate:?}")
            };
            assert_eq!(&sent[50..], routed(&frame, &STORE), "{what}");
            assert_eq!(
                sent[46..49],
                GREEN.to_be_bytes()[1..],
                "{what}: the VNI of the segment it leaves in"
            );
            assert_eq!(bench.trace().fast, fast, "{what}");
        }
    }
}

#[test]
fn the_router_answers_echoes_to_all_its_addresses() {
    let Some(bench) = bench() else { return };
    let answered = |to: Workload| {
        let request = with_ttl(&echo4(&WEB, &to, 8, 9), 1);
        let reply = echo4(&to, &WEB, 0, 9);
        let request6 = with_ttl(&echo6(&WEB, &to, 128, 9), 1);
        let reply6 = echo6(&to, &WEB, 129, 9);
        bench.table(
            "from_endpoint",
            vec![
                ("an echo", request, to_host_side(&reply)),
                ("an echo over IPv6", request6, to_host_side(&reply6)),
            ],
        );
    };
    answered(GATEWAY);
    answered(FAR_GATEWAY);
    let own = Workload {
        v6: book::link_local(ROUTER_MAC),
        ..GATEWAY
    };
    let me = Workload {
        v6: book::link_local(WEB.mac),
        ..WEB
    };
    bench.table(
        "from_endpoint",
        vec![
            (
                "its link-local address",
                echo6(&me, &own, 128, 9),
                to_host_side(&echo6(&own, &me, 129, 9)),
            ),
            ("anything else", udp4(&WEB, &GATEWAY), dropped(Reason::RouterPort)),
            (
                "anything else over IPv6",
                udp6(&WEB, &FAR_GATEWAY),
                dropped(Reason::RouterPort),
            ),
            (
                "an echo reply",
                echo4(&WEB, &GATEWAY, 0, 9),
                dropped(Reason::RouterPort),
            ),
        ],
    );
}

#[test]
fn the_router_is_a_neighbour() {
    let Some(bench) = bench() else { return };
    let who_has = arp(
        (WEB.mac, book::BROADCAST),
        etherparse::ArpOperation::REQUEST,
        (WEB.mac, WEB.v4),
        ([0; 6], GATEWAY.v4),
    );
    let is_at = arp(
        (ROUTER_MAC, WEB.mac),
        etherparse::ArpOperation::REPLY,
        (ROUTER_MAC, GATEWAY.v4),
        (WEB.mac, WEB.v4),
    );
    let body = neighbour(0xe0, GATEWAY.v6, &[&link_option(2, ROUTER_MAC)]);
    let advertisement = crate::frames::icmp6((ROUTER_MAC, WEB.mac), (GATEWAY.v6, WEB.v6), 136, &body);
    bench.table(
        "from_endpoint",
        vec![
            ("ARP", who_has, to_host_side(&is_at)),
            (
                "a solicitation is answered with the Router flag",
                solicitation(&WEB, WEB.v6, GATEWAY.v6),
                to_host_side(&advertisement),
            ),
            (
                "nobody takes the router's address",
                udp4(&WEB.with(GATEWAY.v4, GATEWAY.v6), &API),
                dropped(Reason::SourceAddress),
            ),
            (
                "nor its address in another segment",
                udp4(&WEB.with(FAR_GATEWAY.v4, FAR_GATEWAY.v6), &API),
                dropped(Reason::SourceAddress),
            ),
        ],
    );
}

#[test]
fn what_goes_nowhere_is_said() {
    let Some(mut bench) = bench() else { return };
    let blackhole = Route {
        kind: ROUTE_BLACKHOLE,
        vni: 0,
        set: 0,
        hops: 0,
    };
    let black = VACANT.routed().with(
        [198, 51, 100, 7],
        [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
    );
    bench.route(4, mapped([198, 51, 100, 0]), 96 + 24, blackhole);
    bench.route(6, black.v6, 64, blackhole);
    let nowhere = VACANT
        .routed()
        .with([203, 0, 113, 7], [0x20, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    let local = VACANT.routed().with([169, 254, 0, 7], book::link_local(APP.mac));
    let me = Workload {
        v6: book::link_local(WEB.mac),
        ..WEB
    };
    let exceeded = |frame: &[u8]| says(Reason::TtlExceeded, frame, (11, 0), (3, 0), 0);
    let unroutable = |frame: &[u8]| says(Reason::Unroutable, frame, (3, 0), (1, 0), 0);
    let unknown = |frame: &[u8]| says(Reason::UnknownNeighbour, frame, (3, 1), (1, 3), 0);
    let old4 = with_ttl(&udp4(&WEB, &APP.routed()), 1);
    let old6 = with_ttl(&udp6(&WEB, &APP.routed()), 0);
    let (nowhere4, nowhere6) = (udp4(&WEB, &nowhere), udp6(&WEB, &nowhere));
    let (vacant4, vacant6) = (udp4(&WEB, &VACANT.routed()), udp6(&WEB, &VACANT.routed()));
    let large = udp4_ports(&WEB, &nowhere, (1, 2), &[7; 1200]);
    let short = udp4_ports(&WEB, &nowhere, (1, 2), b"");
    bench.table(
        "from_endpoint",
        vec![
            ("TTL 1", old4.clone(), exceeded(&old4)),
            ("hop limit 0", old6.clone(), exceeded(&old6)),
            ("no route", nowhere4.clone(), unroutable(&nowhere4)),
            ("no route over IPv6", nowhere6.clone(), unroutable(&nowhere6)),
            ("nobody there", vacant4.clone(), unknown(&vacant4)),
            ("nobody there over IPv6", vacant6.clone(), unknown(&vacant6)),
            ("no route, large", large.clone(), unroutable(&large)),
            ("no route, short", short.clone(), unroutable(&short)),
            ("a blackhole", udp4(&WEB, &black), dropped(Reason::Blackhole)),
            ("a blackhole over IPv6", udp6(&WEB, &black), dropped(Reason::Blackhole)),
            (
                "a link-local destination",
                udp4(&WEB, &local),
                dropped(Reason::Unroutable),
            ),
            (
                "a link-local destination over IPv6",
                udp6(&WEB, &local),
                dropped(Reason::Unroutable),
            ),
            (
                "a link-local source",
                udp6(&me, &APP.routed()),
                dropped(Reason::Unroutable),
            ),
            (
                "back to oneself",
                udp4(&WEB, &VACANT.routed().with([10, 0, 0, 77], NOBODY.v6)),
                unknown(&udp4(&WEB, &VACANT.routed().with([10, 0, 0, 77], NOBODY.v6))),
            ),
        ],
    );
}

#[test]
fn no_error_is_said_about_an_error() {
    let Some(bench) = bench() else { return };
    let nowhere = VACANT
        .routed()
        .with([203, 0, 113, 7], [0x20, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    let mut rows = Vec::new();
    for kind in [3, 4, 5, 11, 12] {
        rows.push((
            "an ICMP error",
            echo4(&WEB, &nowhere, kind, 0),
            dropped(Reason::Unroutable),
        ));
    }
    for kind in [1, 4, 127, 137] {
        rows.push((
            "an ICMPv6 error",
            echo6(&WEB, &nowhere, kind, 0),
            dropped(Reason::Unroutable),
        ));
    }
    bench.table("from_endpoint", rows);
}

#[test]
fn errors_are_rationed() {
    let Some(bench) = bench() else { return };
    let frame = with_ttl(&udp4(&WEB, &APP.routed()), 1);
    let mut fates = BTreeMap::new();
    for _ in 0..400 {
        let said = match bench.fate("from_endpoint", "TTL 1", &frame, Context::default()) {
            Fate::Answered(Reason::TtlExceeded, _) => true,
            Fate::Dropped(Reason::TtlExceeded, ..) => false,
            fate => panic!("{fate:?}"),
        };
        *fates.entry(said).or_insert(0) += 1;
    }
    assert!(fates[&true] >= 100, "the burst: {fates:?}");
    assert!(fates[&false] >= 100, "beyond it, only the drop: {fates:?}");
}

#[test]
fn sizes_of_the_segment_it_leaves_in() {
    let Some(mut bench) = bench() else { return };
    let segment = Segment {
        mtu: 1300,
        ..book::segment(RED_DOMAIN)
    };
    bench.segment(GREEN, segment);
    bench.bump(slot::domain(RED_DOMAIN));
    let (app, store) = (APP.routed(), STORE.routed());
    let sized = |to: &Workload, length: usize| udp4_ports(&WEB, to, (1, 2), &vec![7; length - 28]);
    let sized6 = |to: &Workload, length: usize| udp6_ports(&WEB, to, (1, 2), &vec![7; length - 48]);
    let too_big = |frame: &[u8], mtu| says(Reason::Mtu, frame, (3, 4), (2, 0), mtu);
    bench.remembered(
        "from_endpoint",
        vec![(
            "it fits",
            sized(&app, 1300),
            to_namespace(&routed(&sized(&app, 1300), &APP)),
        )],
    );
    bench.table(
        "from_endpoint",
        vec![
            ("one byte more", sized(&app, 1301), too_big(&sized(&app, 1301), 1300)),
            (
                "one byte more over IPv6",
                sized6(&app, 1301),
                too_big(&sized6(&app, 1301), 1300),
            ),
        ],
    );
    bench.peer(HOST_B, Peer { mtu: 1200, ..peer_b4() });
    bench.table(
        "from_endpoint",
        vec![
            (
                "the path is smaller",
                sized(&store, 1151),
                too_big(&sized(&store, 1151), 1150),
            ),
            (
                "for IPv6, too",
                sized6(&store, 1151),
                too_big(&sized6(&store, 1151), 1150),
            ),
        ],
    );
    assert!(matches!(
        bench.fate(
            "from_endpoint",
            "it fits the path",
            &sized(&store, 1150),
            Context::default()
        ),
        Fate::Redirected(..)
    ));
}

#[test]
fn a_route_by_stations_spreads_flows_over_them() {
    let Some(mut bench) = bench() else { return };
    let outside = VACANT.routed().with(
        [192, 0, 2, 200],
        [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
    );
    let via = Route {
        kind: ROUTE_VIA,
        vni: 0,
        set: 70,
        hops: 2,
    };
    for (index, hop) in (0..).zip([STORE, SHOP]) {
        let hop = Hop {
            vni: GREEN,
            address: mapped(hop.v4),
        };
        bench.put("HOPS", MemberKey { set: 70, index }, hop);
    }
    bench.route(4, [0; 16], 0, via);
    bench.route(6, [0; 16], 0, via);
    let mut hops = BTreeMap::new();
    for port in 0..200 {
        let frame = udp4_ports(&WEB, &outside, (port, 53), b"x");
        let mut ends = Vec::new();
        for _ in 0..2 {
            let fate = bench.fate("from_endpoint", "by a route", &frame, Context::default());
            let Fate::Redirected(sent, 0) = fate else {
                panic!("{fate:?}")
            };
            ends.push(sent[50..56].to_vec());
        }
        assert_eq!(ends[0], ends[1], "a flow keeps its hop");
        *hops.entry(ends.remove(0)).or_insert(0) += 1;
    }
    assert_eq!(hops.len(), 2, "{hops:?}");
    assert!(hops.values().all(|flows| *flows > 60), "{hops:?}");
    assert_eq!(bench.flows(), 0, "whose groups nobody's station has are not remembered");

    let owner = Neighbour {
        mac: STORE.mac,
        flags: 0,
        groups: [0; 4],
    };
    bench.prefix(GREEN, 4, [0; 16], 0, owner);
    bench.put(
        "HOPS",
        MemberKey { set: 71, index: 0 },
        Hop {
            vni: GREEN,
            address: mapped(STORE.v4),
        },
    );
    bench.route(
        4,
        [0; 16],
        0,
        Route {
            set: 71,
            hops: 1,
            ..via
        },
    );
    let frame = udp4(&WEB, &outside);
    for fast in [0, 1] {
        let fate = bench.fate(
            "from_endpoint",
            "by the owner of the prefix",
            &frame,
            Context::default(),
        );
        assert!(matches!(fate, Fate::Redirected(..)), "{fate:?}");
        assert_eq!(bench.trace().fast, fast);
    }
    let unknown = says(Reason::UnknownNeighbour, &frame, (3, 1), (1, 3), 0);
    bench.route(4, [0; 16], 0, Route { set: 0, hops: 0, ..via });
    bench.table(
        "from_endpoint",
        vec![("no hop is left", frame.clone(), unknown.clone())],
    );
    bench.put(
        "HOPS",
        MemberKey { set: 72, index: 0 },
        Hop {
            vni: GREEN,
            address: mapped(VACANT.v4),
        },
    );
    bench.route(
        4,
        [0; 16],
        0,
        Route {
            set: 72,
            hops: 1,
            ..via
        },
    );
    bench.table("from_endpoint", vec![("nobody is the hop", frame, unknown)]);
}

#[test]
fn a_prefix_inside_a_subnet_is_reached_at_its_station() {
    let Some(mut bench) = bench() else { return };
    let inside = APP.with([10, 0, 1, 130], VACANT.v6);
    let owner = Neighbour {
        mac: APP.mac,
        flags: 0,
        groups: [0; 4],
    };
    bench.prefix(GREEN, 4, mapped([10, 0, 1, 128]), 96 + 25, owner);
    let frame = udp4(&WEB, &inside.routed());
    bench.remembered(
        "from_endpoint",
        vec![("behind it", frame.clone(), to_namespace(&routed(&frame, &APP)))],
    );
}

#[test]
fn a_half_applied_change_leads_into_no_other_domain() {
    let Some(mut bench) = bench() else { return };
    bench.segment(GREEN, book::segment(BLUE_DOMAIN));
    bench.bump(slot::domain(RED_DOMAIN));
    let frame = udp4(&WEB, &APP.routed());
    bench.table(
        "from_endpoint",
        vec![(
            "a foreign segment",
            frame.clone(),
            says(Reason::Unroutable, &frame, (3, 0), (1, 0), 0),
        )],
    );
}

#[test]
fn extra_prefixes_are_sources_of_their_station_only() {
    let Some(mut bench) = Bench::new() else { return };
    let owner = |workload: Workload| Neighbour {
        mac: workload.mac,
        flags: 0,
        groups: [0; 4],
    };
    bench.prefix(RED, 4, mapped([172, 16, 0, 0]), 96 + 16, owner(WEB));
    bench.prefix(RED, 4, mapped([172, 16, 9, 0]), 96 + 24, owner(API));
    bench.prefix(RED, 4, mapped([10, 0, 0, 0]), 96 + 8, owner(WEB));
    let from = |v4| udp4(&WEB.with(v4, WEB.v6), &VM);
    let refused = dropped(Reason::SourceAddress);
    bench.remembered(
        "from_endpoint",
        vec![(
            "of its prefix",
            from([172, 16, 1, 1]),
            to_host_side(&from([172, 16, 1, 1])),
        )],
    );
    let local = |last| {
        let mut address = book::link_local(NOBODY.mac);
        address[15] = last;
        udp6(&WEB.with(WEB.v4, address), &VM)
    };
    bench.table(
        "from_endpoint",
        vec![
            ("of somebody's longer prefix", from([172, 16, 9, 1]), refused.clone()),
            ("somebody's own in its prefix", from(API.v4), refused.clone()),
            (
                "any other in its prefix",
                from([10, 7, 7, 7]),
                to_host_side(&from([10, 7, 7, 7])),
            ),
            ("of no prefix", from([172, 17, 0, 1]), refused.clone()),
            ("a link-local address of its choice", local(1), to_host_side(&local(1))),
            (
                "somebody's link-local address",
                udp6(&WEB.with(WEB.v4, book::link_local(API.mac)), &VM),
                refused,
            ),
            (
                "ARP for a third, in the name of its prefix",
                arp(
                    (WEB.mac, book::BROADCAST),
                    etherparse::ArpOperation::REQUEST,
                    (WEB.mac, [172, 16, 1, 1]),
                    ([0; 6], VM.v4),
                ),
                to_host_side(&arp(
                    (VM.mac, WEB.mac),
                    etherparse::ArpOperation::REPLY,
                    (VM.mac, VM.v4),
                    (WEB.mac, [172, 16, 1, 1]),
                )),
            ),
        ],
    );
}

/// As host B sends `WEB` a routed packet of `from`.
fn from_b(from: &Workload, build: impl Fn(&Workload, &Workload) -> Vec<u8>) -> Vec<u8> {
    build(&from.routed(), &WEB)
}

#[test]
fn routed_frames_from_a_tunnel_belong_to_where_their_source_lives() {
    let Some(mut bench) = bench() else { return };
    let wrong = Fate::Dropped(Reason::WrongVtep, RED_DOMAIN, 0);
    let tunnel = Tunnel::inbound(RED);
    let (four, six) = (from_b(&STORE, udp4), from_b(&STORE, udp6));
    bench.remembered(
        "from_underlay",
        vec![("of its segment", tunnel.by_b(&four), to_namespace(&four))],
    );
    let near = from_b(&DB, udp4);
    bench.table(
        "from_underlay",
        vec![
            ("over IPv6", tunnel.by_b6(&six), to_namespace(&six)),
            ("of the same segment", tunnel.by_b(&near), to_namespace(&near)),
            (
                "from another host",
                tunnel.over4(HOST_C_V4, HERE_V4, &four),
                wrong.clone(),
            ),
            (
                "of a workload elsewhere",
                tunnel.by_b(&from_b(&LOST, udp4)),
                wrong.clone(),
            ),
            ("of a workload here", tunnel.by_b(&from_b(&APP, udp4)), wrong.clone()),
            ("of nobody", tunnel.by_b(&from_b(&VACANT, udp4)), wrong.clone()),
            ("of the router", tunnel.by_b(&from_b(&FAR_GATEWAY, udp4)), wrong.clone()),
            (
                "of beyond",
                tunnel.by_b(&from_b(&VACANT.with([192, 0, 2, 200], VACANT.v6), udp4)),
                wrong.clone(),
            ),
            (
                "for the router",
                tunnel.by_b(&udp4(&DB, &APP.routed())),
                Fate::Dropped(Reason::NotHere, RED_DOMAIN, 0),
            ),
        ],
    );
    // A route by stations: what they may send for others.
    let via = Route {
        kind: ROUTE_VIA,
        vni: 0,
        set: 70,
        hops: 2,
    };
    for (index, hop) in (0..).zip([APP, SHOP]) {
        bench.put(
            "HOPS",
            MemberKey { set: 70, index },
            Hop {
                vni: GREEN,
                address: mapped(hop.v4),
            },
        );
    }
    bench.route(4, [0; 16], 0, via);
    let beyond = from_b(&VACANT.with([192, 0, 2, 200], VACANT.v6), udp4);
    bench.table(
        "from_underlay",
        vec![("nobody may send it", tunnel.by_b(&beyond), wrong.clone())],
    );
    let owner = Neighbour {
        mac: SHOP.mac,
        flags: 0,
        groups: [0; 4],
    };
    bench.prefix(GREEN, 4, [0; 16], 0, owner);
    bench.remembered(
        "from_underlay",
        vec![("the second hop may", tunnel.by_b(&beyond), to_namespace(&beyond))],
    );
    bench.table(
        "from_underlay",
        vec![("not by another host", tunnel.over4(HOST_C_V4, HERE_V4, &beyond), wrong)],
    );
}

#[test]
fn rules_see_the_owner_of_a_routed_source() {
    let Some(mut bench) = bench() else { return };
    let allow = datapath_common::Rule {
        policy: 1,
        version: 0,
        versions: 1,
        subject: datapath_common::ANY,
        peer: 7,
        protocol: datapath_common::ANY,
        action: datapath_common::ACTION_ALLOW,
        port_low: 0,
        port_high: 0xffff,
        prefix_length: 0,
        address: [0; 16],
    };
    bench.put("RULES", MemberKey { set: 1, index: 0 }, allow);
    let domain = datapath_common::Domain {
        ingress: 1,
        ingress_rules: 1,
        egress: 1,
        egress_rules: 1,
        ..crate::bench::domain_without_rules(RED_DOMAIN)
    };
    bench.domain(RED_DOMAIN, domain);
    bench.bump(slot::domain(RED_DOMAIN));
    bench.groups(GREEN, STORE, &[7]);
    let four = from_b(&STORE, udp4);
    let shop = from_b(&SHOP, udp4);
    let denied = Fate::Dropped(Reason::Policy, RED_DOMAIN, WEB.endpoint);
    let tunnel = Tunnel::inbound(RED);
    bench.table(
        "from_underlay",
        vec![
            ("of the group", tunnel.by_b(&four), to_namespace(&four)),
            ("not of the group", tunnel.by_b(&shop), denied.clone()),
        ],
    );
    assert!(matches!(
        bench.fate(
            "from_endpoint",
            "to the group",
            &tcp4_flags(&WEB, &STORE.routed(), 2),
            Context::default()
        ),
        Fate::Redirected(..)
    ));
    bench.table("from_endpoint", vec![("to others", udp4(&WEB, &SHOP.routed()), denied)]);
}

#[test]
fn a_segment_without_a_router_has_none() {
    let Some(mut bench) = Bench::new() else { return };
    bench.table(
        "from_endpoint",
        vec![(
            "its MAC is nobody's",
            udp4(&WEB, &APP.routed()),
            dropped(Reason::UnknownDestination),
        )],
    );
    bench.router();
    bench.port(Some(Port {
        host_mac: [0; 6],
        ..book::port(RED, RED_DOMAIN)
    }));
    let exotic = ip6(
        &WEB,
        &GATEWAY,
        0,
        0,
        &[&[58, 0, 1, 4, 0, 0, 0, 0][..], &echo6(&WEB, &GATEWAY, 128, 1)[54..]].concat(),
    );
    let mut options = ip4(
        &WEB,
        &GATEWAY,
        1,
        0,
        &[&[1, 1, 1, 1][..], &echo4(&WEB, &GATEWAY, 8, 1)[34..]].concat(),
    );
    options[14] = 0x46;
    bench.table(
        "from_endpoint",
        vec![
            (
                "an echo behind an extension header",
                exotic,
                dropped(Reason::RouterPort),
            ),
            ("an echo behind options", options, dropped(Reason::RouterPort)),
        ],
    );
}
