//! Frames for many: what keeps copies few. Rules of both ends, the quota of who sends, and that no host sends on what came
//! through a tunnel.

use datapath_common::{LIMIT_BROADCAST, MemberKey, Reason, Rule};
use etherparse::ArpOperation;

use crate::book::{
    self, ALL_NODES, API, BROADCAST, DB, HOST_B, HOST_C_V4, NOBODY, RED, RED_DOMAIN, UNSPECIFIED, VM, WEB, Workload,
    member, member_host,
};
use crate::floods::{
    ALL, EVERYBODY, MDNS, NODES, ONLY_B, ONLY_VM, Outcome, bench, expect, expect_inside, flooding, send, strange, to,
};
use crate::frames::{
    CE, Tunnel, arp, ethernet, icmp6, link_option, neighbour, solicitation, udp4, udp4_ports, udp6, vlan,
};
use crate::rules::{ALLOW, DENY, rules};

#[test]
fn both_ends_rules_are_asked() {
    let Some(mut bench) = bench() else { return };
    let group = |number: u16| {
        let mut groups = [0; 4];
        groups[usize::from(number / 64)] = 1 << (number % 64);
        groups
    };
    let set = [
        member(&WEB),
        datapath_common::FloodTarget {
            groups: group(65),
            ..member(&API)
        },
        member(&VM),
        member_host(HOST_B),
    ];
    bench.members(RED, book::segment(RED_DOMAIN), &set);
    rules(&mut bench, &[ALLOW], &[Rule { subject: 65, ..DENY }, ALLOW]);
    let (outcome, _, drops) = send(&bench, "from_endpoint", "one is closed", &udp4(&WEB, &MDNS));
    assert_eq!(
        (outcome, drops),
        (Outcome::Copies(ONLY_VM | ONLY_B), vec![(API.endpoint, Reason::Policy)])
    );
    let inside = Tunnel::inbound(RED).by_b(&udp4(&DB, &MDNS));
    let (outcome, _, drops) = send(&bench, "from_underlay", "from a tunnel", &inside);
    assert_eq!(
        (outcome, drops),
        (Outcome::Copies(0b101), vec![(API.endpoint, Reason::Policy)])
    );

    rules(
        &mut bench,
        &[ALLOW],
        &[Rule {
            port_low: 53,
            port_high: 53,
            protocol: 17,
            ..ALLOW
        }],
    );
    expect(&bench, "to the port", &udp4(&WEB, &MDNS), Outcome::Copies(ALL));
    let (outcome, _, drops) = send(
        &bench,
        "from_endpoint",
        "to another",
        &udp4_ports(&WEB, &MDNS, (1, 54), b""),
    );
    let closed = vec![(API.endpoint, Reason::Policy), (VM.endpoint, Reason::Policy)];
    assert_eq!((outcome, drops), (Outcome::Copies(ONLY_B), closed));

    rules(&mut bench, &[DENY], &[ALLOW]);
    expect(
        &bench,
        "the sender may not",
        &udp4(&WEB, &MDNS),
        Outcome::Dropped(Reason::Policy),
    );
    let (outcome, ..) = send(
        &bench,
        "from_underlay",
        "the sender's rules are its host's business",
        &inside,
    );
    assert_eq!(outcome, Outcome::Copies(0b111));
    // Nobody else gets what is for one.
    rules(&mut bench, &[ALLOW], &[ALLOW]);
    for (what, somebody) in [("a namespace", API), ("a virtual machine", VM)] {
        let all = to(BROADCAST, somebody.v4, somebody.v6);
        for frame in [udp4(&WEB, &all), udp6(&WEB, &all)] {
            expect(&bench, what, &frame, Outcome::Dropped(Reason::DestinationAddress));
        }
        for frame in [udp4(&DB, &all), udp6(&DB, &all)] {
            expect_inside(&bench, what, &frame, Outcome::Dropped(Reason::DestinationAddress));
        }
    }
    rules(&mut bench, &[], &[]);
    expect(
        &bench,
        "not IP, where the default is to deny",
        &strange(&WEB, BROADCAST),
        Outcome::Dropped(Reason::EtherType),
    );
    expect_inside(
        &bench,
        "the same from a tunnel",
        &strange(&DB, BROADCAST),
        Outcome::Dropped(Reason::EtherType),
    );
    bench.put("RULES", MemberKey { set: 1, index: 0 }, ALLOW);
}

#[test]
fn a_storm_is_cut() {
    let Some(mut bench) = bench() else { return };
    flooding(&mut bench);
    bench.exhaust(WEB.endpoint, LIMIT_BROADCAST);
    let unknown = arp(
        (WEB.mac, BROADCAST),
        ArpOperation::REQUEST,
        (WEB.mac, WEB.v4),
        ([0; 6], NOBODY.v4),
    );
    let answer = arp(
        (WEB.mac, DB.mac),
        ArpOperation::REPLY,
        (WEB.mac, WEB.v4),
        (DB.mac, DB.v4),
    );
    let body = neighbour(0x60, WEB.v6, &[&link_option(2, WEB.mac)]);
    let advertised = icmp6((WEB.mac, DB.mac), (WEB.v6, DB.v6), 136, &body);
    for (what, frame) in [
        ("broadcast", udp4(&WEB, &EVERYBODY)),
        ("not IP", strange(&WEB, BROADCAST)),
        ("unknown unicast", udp4(&WEB, &NOBODY)),
        ("a question", unknown),
        ("a question over IPv6", solicitation(&WEB, WEB.v6, NOBODY.v6)),
        ("an answer to one that is known", answer),
        ("an answer over IPv6 to one that is known", advertised),
    ] {
        expect(&bench, what, &frame, Outcome::Dropped(Reason::RateLimit));
    }
    let (outcome, ..) = send(&bench, "from_endpoint", "to one", &udp4(&WEB, &API));
    assert!(matches!(outcome, Outcome::One(..)), "{outcome:?}");
    let (outcome, ..) = send(&bench, "from_endpoint", "not IP, to one", &strange(&WEB, API.mac));
    assert!(matches!(outcome, Outcome::One(..)), "{outcome:?}");
    expect_inside(
        &bench,
        "others' are not",
        &udp4(&DB, &EVERYBODY),
        Outcome::Copies(0b111),
    );
}

#[test]
fn from_a_tunnel_only_to_workloads_here() {
    let Some(mut bench) = bench() else { return };
    let all_here = Outcome::Copies(0b111);
    for (what, frame) in [
        ("IPv4", udp4(&DB, &MDNS)),
        ("IPv6", udp6(&DB, &NODES)),
        ("not IP", strange(&DB, BROADCAST)),
        (
            "without an address",
            icmp6((DB.mac, NODES.mac), (UNSPECIFIED, ALL_NODES), 143, &[0; 8]),
        ),
    ] {
        for (over, packet) in [
            ("IPv4", Tunnel::inbound(RED).by_b(&frame)),
            ("IPv6", Tunnel::inbound(RED).by_b6(&frame)),
        ] {
            let (outcome, out, drops) = send(&bench, "from_underlay", what, &packet);
            assert_eq!((&outcome, drops), (&all_here, vec![]), "{what} over {over}");
            assert_eq!(out[..frame.len()], frame, "{what} over {over}: as it was sent");
            assert!(
                out[frame.len()..].iter().all(|byte| *byte == 0),
                "{what} over {over}: padding"
            );
        }
    }
    let short = ethernet(DB.mac, BROADCAST, 0x8863, &[7; 2]);
    let (outcome, out, _) = send(&bench, "from_underlay", "short", &Tunnel::inbound(RED).by_b6(&short));
    assert_eq!((outcome, out), (all_here, [short, vec![0; 44]].concat()));
    let marked = Tunnel {
        ecn: CE,
        ..Tunnel::inbound(RED)
    };
    for (what, packet, reason) in [
        ("congested", marked.by_b(&udp4(&DB, &MDNS)), Reason::Ecn),
        (
            "of a MAC that is not his",
            Tunnel::inbound(RED).over4(HOST_C_V4, book::HERE_V4, &udp4(&DB, &MDNS)),
            Reason::WrongVtep,
        ),
        (
            "of an address that is not his",
            Tunnel::inbound(RED).by_b(&udp4(&Workload { v4: API.v4, ..DB }, &MDNS)),
            Reason::WrongVtep,
        ),
        (
            "a spanning tree's",
            Tunnel::inbound(RED).by_b(&strange(&DB, [1, 0x80, 0xc2, 0, 0, 0])),
            Reason::Multicast,
        ),
        (
            "with a tag",
            Tunnel::inbound(RED).by_b(&vlan(&DB, &EVERYBODY)),
            Reason::EtherType,
        ),
    ] {
        let (outcome, ..) = send(&bench, "from_underlay", what, &packet);
        assert_eq!(outcome, Outcome::Dropped(reason), "{what}");
    }
    expect_inside(
        &bench,
        "to nobody",
        &udp4(&DB, &NOBODY),
        Outcome::Dropped(Reason::UnknownDestination),
    );
    flooding(&mut bench);
    expect_inside(
        &bench,
        "to nobody, flooded",
        &udp4(&DB, &NOBODY),
        Outcome::Copies(0b111),
    );
    expect_inside(
        &bench,
        "to another host's",
        &udp4(&DB, &book::LOST),
        Outcome::Dropped(Reason::NotHere),
    );
}
