//! Routing: where packets for the router's MAC address go.

use std::collections::BTreeMap;

use datapath_common::{FLOW_ROUTED, Hop, MemberKey, Neighbour, ROUTE_VIA, Reason, Route, mapped, slot};

use crate::bench::{Bench, Context};
use crate::book::{self, APP, BLUE_DOMAIN, GREEN, RED_DOMAIN, SHOP, STORE, VACANT, WEB};
use crate::fate::{Fate, to_namespace};
use crate::frames::{echo4, routed, tcp4, udp4, udp4_ports, udp6, with_ttl};
use crate::router::says;

/// With red's router.
pub(crate) fn bench() -> Option<Bench> {
    with_router(Bench::on_devices())
}

/// As [`bench`], on a bench that is there.
pub(crate) fn with_router(bench: Option<Bench>) -> Option<Bench> {
    let mut bench = bench?;
    bench.router();
    Some(bench)
}

#[test]
fn to_a_workload_of_the_other_segment_here() {
    let Some(mut bench) = bench() else { return };
    bench.establish((mapped(WEB.v4), mapped(APP.v4)), (40_001, 80));
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
    assert_eq!(bench.flows(), 200, "whatever the address, it is known who gets it");

    let owner = Neighbour {
        mac: STORE.mac,
        flags: 0,
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
    let owner = Neighbour { mac: APP.mac, flags: 0 };
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
