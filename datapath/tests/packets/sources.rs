//! Whose a source address is: extra prefixes, and routed frames from tunnels.

use datapath_common::{
    ACTION_ALLOW, ANY, Domain, Hop, MemberKey, Neighbour, ROUTE_VIA, Reason, Route, Rule, mapped, slot,
};

use crate::bench::{Bench, Context, domain_without_rules};
use crate::book::{
    self, API, APP, DB, FAR_GATEWAY, GREEN, HERE_V4, HOST_C_V4, LOST, NOBODY, RED, RED_DOMAIN, SHOP, STORE, VACANT, VM,
    WEB, Workload,
};
use crate::fate::{Fate, dropped, to_host_side, to_namespace};
use crate::frames::{Tunnel, arp, tcp4_flags, udp4, udp6};
use crate::routes::bench;

/// As host B sends `WEB` a routed packet of `from`.
fn from_b(from: &Workload, build: impl Fn(&Workload, &Workload) -> Vec<u8>) -> Vec<u8> {
    build(&from.routed(), &WEB)
}

#[test]
fn extra_prefixes_are_sources_of_their_station_only() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let owner = |workload: Workload| Neighbour {
        mac: workload.mac,
        flags: 0,
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
fn a_frame_for_one_is_not_for_another() {
    let Some(mut bench) = bench() else { return };
    let astray = Fate::Dropped(Reason::DestinationAddress, RED_DOMAIN, WEB.endpoint);
    let tunnel = Tunnel::inbound(RED);
    let for_web = |of: &Workload| WEB.with(of.v4, of.v6);
    let nobody = udp4(&DB, &for_web(&NOBODY));
    let mut table = vec![("nobody's address", tunnel.by_b(&nobody), to_namespace(&nobody))];
    for (what, of) in [
        ("a namespace's", API),
        ("one's elsewhere", LOST),
        ("the router's", book::GATEWAY),
    ] {
        let to = for_web(&of);
        for frame in [
            udp4(&DB, &to),
            udp6(&DB, &to),
            from_b(&STORE, |from, _| udp4(from, &to)),
        ] {
            table.push((what, tunnel.by_b(&frame), astray.clone()));
        }
    }
    bench.table("from_underlay", table);
    // A route says that it goes by this one first.
    let hop = Hop {
        vni: RED,
        address: mapped(WEB.v4),
    };
    bench.put("HOPS", MemberKey { set: 72, index: 0 }, hop);
    let via = Route {
        kind: ROUTE_VIA,
        vni: 0,
        set: 72,
        hops: 1,
    };
    bench.route(4, mapped(API.v4), 96 + 32, via);
    let by_web = from_b(&STORE, |from, _| udp4(from, &for_web(&API)));
    bench.remembered(
        "from_underlay",
        vec![("which the router sends on", tunnel.by_b(&by_web), to_namespace(&by_web))],
    );
    // Whoever has the address behind it, or nobody.
    bench.route(4, mapped([198, 51, 100, 0]), 96 + 24, via);
    let behind = from_b(&STORE, |from, _| udp4(from, &WEB.with([198, 51, 100, 1], WEB.v6)));
    bench.remembered(
        "from_underlay",
        vec![(
            "to nobody's address behind it",
            tunnel.by_b(&behind),
            to_namespace(&behind),
        )],
    );
    let lie = udp4(&DB, &for_web(&API));
    bench.table(
        "from_underlay",
        vec![("which a workload sends itself", tunnel.by_b(&lie), astray)],
    );
    let to_api = dropped(Reason::DestinationAddress);
    bench.table(
        "from_endpoint",
        vec![
            ("to a namespace", udp4(&WEB, &VM.with(API.v4, API.v6)), to_api.clone()),
            ("to another host", udp6(&WEB, &DB.with(API.v4, API.v6)), to_api.clone()),
            ("for the router", udp4(&WEB, &VM.with(book::GATEWAY.v4, VM.v6)), to_api),
        ],
    );
}

#[test]
fn rules_see_the_owner_of_a_routed_source() {
    let Some(mut bench) = bench() else { return };
    let allow = Rule {
        policy: 1,
        version: 0,
        versions: 1,
        subject: ANY,
        peer: 7,
        protocol: ANY,
        action: ACTION_ALLOW,
        port_low: 0,
        port_high: 0xffff,
        prefix_length: 0,
        address: [0; 16],
    };
    bench.put("RULES", MemberKey { set: 1, index: 0 }, allow);
    let domain = Domain {
        ingress: 1,
        ingress_rules: 1,
        egress: 1,
        egress_rules: 1,
        ..domain_without_rules(RED_DOMAIN)
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
