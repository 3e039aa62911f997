//! What the router says itself: echo replies, ARP and ND, ICMP errors.

use std::collections::BTreeMap;

use datapath_common::{Peer, Port, ROUTE_BLACKHOLE, Reason, Route, Segment, mapped, slot};

use crate::bench::{Bench, Context, peer_b4};
use crate::book::{
    self, API, APP, FAR_GATEWAY, GATEWAY, GREEN, HOST_B, NOBODY, RED, RED_DOMAIN, ROUTER_MAC, STORE, VACANT, WEB,
    Workload,
};
use crate::fate::{Fate, dropped, to_host_side, to_namespace};
use crate::frames::{
    arp, echo4, echo6, icmp_error, ip4, ip6, link_option, neighbour, routed, solicitation, udp4, udp4_ports, udp6,
    udp6_ports, with_ttl,
};
use crate::routes::{bench, with_router};

/// What the router says about a frame of `WEB`.
pub(crate) fn says(reason: Reason, frame: &[u8], v4: (u8, u8), v6: (u8, u8), rest: u32) -> Fate {
    let (router, kind) = if frame[12..14] == [0x08, 0] {
        (mapped(GATEWAY.v4), v4)
    } else {
        (GATEWAY.v6, v6)
    };
    Fate::Answered(reason, icmp_error(frame, Some(router), kind, rest))
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
    // By interfaces it would be more errors than an endpoint is sent in a second.
    let Some(mut bench) = with_router(Bench::new()) else {
        return;
    };
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
    // Emulated, tokens come while packets are sent.
    for _ in 0..4000 {
        if fates.get(&false) >= Some(&100) {
            break;
        }
        let said = match bench.fate("from_endpoint", "TTL 1", &frame, Context::default()) {
            Fate::Answered(Reason::TtlExceeded, _) => true,
            Fate::Dropped(Reason::TtlExceeded, ..) => false,
            fate => panic!("{fate:?}"),
        };
        *fates.entry(said).or_insert(0) += 1;
    }
    assert!(fates[&true] >= 100, "the burst: {fates:?}");
    assert!(fates.get(&false) >= Some(&100), "beyond it, only the drop: {fates:?}");
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
fn a_segment_without_a_router_has_none() {
    let Some(mut bench) = Bench::on_devices() else { return };
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
