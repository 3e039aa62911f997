//! Frames for many: who gets a copy, what it looks like; frames that are not IP; what neighbours ask and tell.

use datapath_common::{
    FLOW_FLOOD, LIMIT_BROADCAST, MemberKey, Peer, Port, Reason, Rule, SEGMENT_FLOOD, Segment, mapped,
};
use etherparse::ArpOperation;

use crate::bench::{Bench, Context, peer_b4, peer_b6};
use crate::book::{
    self, ALL_NODES, ALL_NODES_MAC, API, BROADCAST, DB, DENIED, DENIED_DOMAIN, HOST_B, HOST_B_V4, HOST_C, HOST_C_V4,
    MARK, MTU, NOBODY, RED, RED_DOMAIN, UNSPECIFIED, VM, WEB, Workload, link_local, member, member_host,
};
use crate::ear::Ear;
use crate::fate::{DROPPED, Drops, REDIRECTED};
use crate::frames::{
    CE, Tunnel, arp, echo4, ethernet, icmp_error, icmp6, ip4, link_option, neighbour, solicitation, udp4, udp4_ports,
    udp6, vlan,
};
use crate::rules::{ALLOW, DENY, rules};

/// A bit for each member of [`MEMBERS`].
const ONLY_API: u64 = 0b10;
const ONLY_VM: u64 = 0b100;
const ONLY_B: u64 = 0b1000;
const HERE: u64 = ONLY_API | ONLY_VM;
const ALL: u64 = HERE | ONLY_B;

/// Red's group on this host; host C has no route.
fn members() -> [datapath_common::FloodTarget; 5] {
    [
        member(&WEB),
        member(&API),
        member(&VM),
        member_host(HOST_B),
        member_host(HOST_C),
    ]
}

fn bench() -> Option<Bench> {
    let mut bench = Bench::new()?;
    bench.members(RED, book::segment(RED_DOMAIN), &members()[..4]);
    bench.members(DENIED, book::segment(DENIED_DOMAIN), &members()[..4]);
    Some(bench)
}

fn flooding(bench: &mut Bench) {
    let segment = Segment {
        flags: SEGMENT_FLOOD,
        ..book::segment(RED_DOMAIN)
    };
    bench.members(RED, segment, &members()[..4]);
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Copies went to these members.
    Copies(u64),
    /// To one; the frame and its mark.
    One(Vec<u8>, u32),
    Dropped(Reason),
}

/// Runs a program; the outcome, the packet as the last copy was, and drops by endpoint and reason that the outcome is not.
fn send(bench: &Bench, program: &str, what: &str, frame: &[u8]) -> (Outcome, Vec<u8>, Vec<(u32, Reason)>) {
    let before = bench.drops();
    bench.forget_trace();
    let (verdict, out, mark) = bench.run(program, frame, Context::default()).unwrap();
    let changed: Drops = bench
        .drops()
        .into_iter()
        .filter(|(key, count)| before.get(key) != Some(count))
        .collect();
    let mut drops: Vec<(u32, Reason)> = changed
        .into_keys()
        .map(|(_, endpoint, reason)| (endpoint, Reason::from_number(reason).unwrap()))
        .collect();
    let trace = bench.trace();
    assert_eq!(trace.fast, 0, "{what}: nothing of this is cached");
    let outcome = match verdict {
        REDIRECTED => Outcome::One(out.clone(), mark),
        DROPPED if trace.flags & FLOW_FLOOD != 0 => {
            assert_eq!(mark, 0, "{what}: the mark is only on copies for workloads");
            Outcome::Copies(trace.copies)
        }
        DROPPED => {
            let reason = Reason::from_number(trace.reason).unwrap();
            let counted = drops.iter().position(|drop| *drop == (trace.endpoint, reason));
            drops.remove(counted.unwrap_or_else(|| panic!("{what}: {reason:?} is not counted: {drops:?}")));
            Outcome::Dropped(reason)
        }
        other => panic!("{what}: verdict {other}"),
    };
    (outcome, out, drops)
}

#[track_caller]
fn expect(bench: &Bench, what: &str, frame: &[u8], outcome: Outcome) {
    assert_eq!(send(bench, "from_endpoint", what, frame).0, outcome, "{what}");
}

#[track_caller]
fn expect_inside(bench: &Bench, what: &str, frame: &[u8], outcome: Outcome) {
    let packet = Tunnel::inbound(RED).by_b(frame);
    assert_eq!(send(bench, "from_underlay", what, &packet).0, outcome, "{what}");
}

const fn to(mac: [u8; 6], v4: [u8; 4], v6: [u8; 16]) -> Workload {
    Workload { mac, v4, v6, ..API }
}

const EVERYBODY: Workload = to(BROADCAST, [255; 4], ALL_NODES);
const MDNS: Workload = to([1, 0, 0x5e, 0, 0, 251], [224, 0, 0, 251], ALL_NODES);
const SUBNET: Workload = to(BROADCAST, [10, 0, 0, 255], ALL_NODES);
const NODES: Workload = to(ALL_NODES_MAC, [224, 0, 0, 1], ALL_NODES);

/// A frame that is not IP.
fn strange(from: &Workload, to: [u8; 6]) -> Vec<u8> {
    ethernet(from.mac, to, 0x8863, &[9; 46])
}

/// What is left of a packet behind an outer IPv4 header to host B.
#[track_caller]
fn inside_b(packet: &[u8]) -> &[u8] {
    assert_eq!(
        (&packet[12..14], &packet[30..34]),
        (&[8, 0][..], &HOST_B_V4[..]),
        "to host B"
    );
    let length = usize::from(u16::from_be_bytes([packet[16], packet[17]]));
    assert_eq!(length + 14, packet.len(), "the outer IP header's length");
    assert_eq!(
        u16::from_be_bytes([packet[38], packet[39]]) as usize + 34,
        packet.len(),
        "the outer UDP header's length"
    );
    assert_eq!(packet[42..50], [8, 0, 0, 0, 0, 0, 100, 0], "VXLAN with red's VNI");
    &packet[50..]
}

#[test]
fn group_frames_go_to_all_others() {
    let Some(bench) = bench() else { return };
    for (what, frame) in [
        ("broadcast", udp4(&WEB, &EVERYBODY)),
        ("a subnet's broadcast", udp4(&WEB, &SUBNET)),
        ("IPv4 multicast", udp4(&WEB, &MDNS)),
        ("IPv6 multicast", udp6(&WEB, &NODES)),
        ("a ping to all", echo4(&WEB, &EVERYBODY, 8, 1)),
        (
            "a listener report of a host without an address",
            icmp6((WEB.mac, NODES.mac), (UNSPECIFIED, ALL_NODES), 143, &[0; 8]),
        ),
        ("PPPoE discovery", strange(&WEB, BROADCAST)),
        ("IEEE 802.3", ethernet(WEB.mac, BROADCAST, 46, &[1; 46])),
    ] {
        for again in [false, true] {
            let (outcome, out, drops) = send(&bench, "from_endpoint", what, &frame);
            assert_eq!((outcome, drops), (Outcome::Copies(ALL), vec![]), "{what}, {again}");
            assert_eq!(inside_b(&out), frame, "{what}: as host B gets it");
        }
    }
}

#[test]
fn copies_leave_as_they_are() {
    let Some(mut bench) = bench() else { return };
    bench.members(RED, book::segment(RED_DOMAIN), &members());
    bench.peer(HOST_C, peer_b6());
    let ear = Ear::new();
    let mark = b"a frame of which there are copies".as_slice();
    for (what, frame) in [
        ("IP", udp4_ports(&WEB, &MDNS, (1, 2), mark)),
        (
            "not IP",
            ethernet(WEB.mac, BROADCAST, 0x8863, &[mark, &[1; 20]].concat()),
        ),
    ] {
        expect(&bench, what, &frame, Outcome::Copies(ALL | 0b1_0000));
        let copies = ear.heard(mark);
        assert_eq!(copies.len(), 4, "{what}");
        assert_eq!((&copies[0], &copies[1]), (&frame, &frame), "{what}: for workloads");
        assert_eq!(inside_b(&copies[2]), frame, "{what}: for host B");
        assert_eq!(copies[3][70..], frame, "{what}: for host C");
        assert_eq!(copies[3][12..14], [0x86, 0xdd], "{what}: for host C");
    }
    let inner = udp4_ports(&DB, &MDNS, (1, 2), mark);
    expect_inside(&bench, "out of a tunnel", &inner, Outcome::Copies(0b111));
    assert_eq!(ear.heard(mark), vec![inner; 3]);
}

#[test]
fn hosts_over_both_families() {
    let Some(mut bench) = bench() else { return };
    bench.members(RED, book::segment(RED_DOMAIN), &members());
    let (outcome, _, drops) = send(&bench, "from_endpoint", "one without a route", &udp4(&WEB, &MDNS));
    assert_eq!(
        (outcome, drops),
        (Outcome::Copies(ALL), vec![(WEB.endpoint, Reason::NoRoute)])
    );
    bench.peer(HOST_C, peer_b6());
    for (what, frame) in [
        ("IPv4", udp4(&WEB, &MDNS)),
        ("IPv6", udp6(&WEB, &NODES)),
        ("not IP", strange(&WEB, BROADCAST)),
    ] {
        let (outcome, out, drops) = send(&bench, "from_endpoint", what, &frame);
        assert_eq!((outcome, drops), (Outcome::Copies(ALL | 0b1_0000), vec![]), "{what}");
        let sent = Tunnel {
            link: (book::HERE_MAC, book::NEXT_HOP_MAC),
            port: u16::from_be_bytes([out[54], out[55]]),
            flow_label: u32::from_be_bytes([0, out[15] & 0xf, out[16], out[17]]),
            ..Tunnel::inbound(RED)
        };
        assert!(sent.port >= 49152);
        assert_eq!(
            out,
            sent.over6(book::HERE_V6, book::HOST_B_V6, &frame),
            "{what}: the last copy is host C's"
        );
    }
    bench.peer(HOST_B, peer_b6());
    let (outcome, out, _) = send(&bench, "from_endpoint", "only IPv6", &strange(&WEB, BROADCAST));
    assert_eq!((outcome, out.len()), (Outcome::Copies(ALL | 0b1_0000), 60 + 70));
    let unresolved = Peer { flags: 0, ..peer_b4() };
    bench.peer(HOST_B, unresolved);
    let (outcome, _, drops) = send(&bench, "from_endpoint", "no neighbour", &udp4(&WEB, &MDNS));
    assert_eq!(
        (outcome, drops),
        (Outcome::Copies(HERE | 0b1_0000), vec![(WEB.endpoint, Reason::NoRoute)])
    );
}

#[test]
fn group_frames_that_nobody_gets() {
    let Some(mut bench) = bench() else { return };
    let source = Workload { v4: MDNS.v4, ..WEB };
    let asked = udp4_ports(&DB, &WEB, (53, 40_000), b"!");
    let error = icmp_error(&asked, Some(mapped(WEB.v4)), (3, 3), 0);
    let error = [&BROADCAST[..], &WEB.mac, &error[12..]].concat();
    for (what, frame, reason) in [
        (
            "a spanning tree's",
            ethernet(WEB.mac, [1, 0x80, 0xc2, 0, 0, 0], 38, &[0; 46]),
            Reason::Multicast,
        ),
        (
            "the last that no bridge passes on",
            ethernet(WEB.mac, [1, 0x80, 0xc2, 0, 0, 0xf], 0x88cc, &[0; 46]),
            Reason::Multicast,
        ),
        ("from somebody else's MAC", udp4(&DB, &MDNS), Reason::SourceMac),
        (
            "from somebody else's address",
            udp4(&Workload { v4: DB.v4, ..WEB }, &MDNS),
            Reason::SourceAddress,
        ),
        ("from a group", udp4(&source, &MDNS), Reason::SourceAddress),
        (
            "from no address",
            udp4(&Workload { v4: [0; 4], ..WEB }, &EVERYBODY),
            Reason::SourceAddress,
        ),
        (
            "to this network",
            udp4(&WEB, &to(BROADCAST, [0; 4], ALL_NODES)),
            Reason::Martian,
        ),
        (
            "to the loopback",
            udp4(&WEB, &to(BROADCAST, [127, 0, 0, 1], ALL_NODES)),
            Reason::Martian,
        ),
        (
            "to what is reserved",
            udp4(&WEB, &to(BROADCAST, [240, 0, 0, 1], ALL_NODES)),
            Reason::Martian,
        ),
        (
            "to itself",
            udp4(&WEB, &to(BROADCAST, WEB.v4, ALL_NODES)),
            Reason::Martian,
        ),
        (
            "to no address over IPv6",
            udp6(&WEB, &to(ALL_NODES_MAC, [0; 4], UNSPECIFIED)),
            Reason::Martian,
        ),
        (
            "multicast to one MAC",
            udp4(&WEB, &to(API.mac, [224, 0, 0, 1], ALL_NODES)),
            Reason::Martian,
        ),
        ("with a tag", vlan(&WEB, &EVERYBODY), Reason::EtherType),
        ("an ICMP error", error, Reason::Unrelated),
        (
            "longer than the segment takes",
            ip4(&WEB, &MDNS, 17, 0, &vec![0; MTU as usize - 19]),
            Reason::Mtu,
        ),
        (
            "longer, and not IP",
            ethernet(WEB.mac, BROADCAST, 0x8863, &vec![0; MTU as usize + 1]),
            Reason::Mtu,
        ),
    ] {
        expect(&bench, what, &frame, Outcome::Dropped(reason));
    }
    let whole = ip4(&WEB, &MDNS, 17, 0, &vec![0; MTU as usize - 20]);
    expect(&bench, "as long as the segment takes", &whole, Outcome::Copies(ALL));
    bench.peer(
        HOST_B,
        Peer {
            mtu: MTU + 49,
            ..peer_b4()
        },
    );
    let (outcome, _, drops) = send(&bench, "from_endpoint", "longer than a path takes", &whole);
    assert_eq!(
        (outcome, drops),
        (Outcome::Copies(HERE), vec![(WEB.endpoint, Reason::Mtu)])
    );

    bench.members(RED, book::segment(RED_DOMAIN), &members()[..1]);
    expect(&bench, "alone", &udp4(&WEB, &MDNS), Outcome::Dropped(Reason::Multicast));
    bench.members(RED, book::segment(RED_DOMAIN), &members()[4..]);
    let (outcome, _, drops) = send(&bench, "from_endpoint", "without a route", &udp4(&WEB, &MDNS));
    assert_eq!(
        (outcome, drops),
        (
            Outcome::Dropped(Reason::Multicast),
            vec![(WEB.endpoint, Reason::NoRoute)]
        )
    );
    bench.segment(RED, book::segment(RED_DOMAIN));
    expect(
        &bench,
        "without a set",
        &udp4(&WEB, &MDNS),
        Outcome::Dropped(Reason::Multicast),
    );
}

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
    // Its address's owner counts, whatever MAC address the frame is for.
    rules(&mut bench, &[Rule { peer: 65, ..DENY }, ALLOW], &[ALLOW]);
    let hidden = udp4(&WEB, &to(BROADCAST, API.v4, ALL_NODES));
    expect(
        &bench,
        "to whom it may not, in a group frame",
        &hidden,
        Outcome::Dropped(Reason::Policy),
    );
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
    for (what, frame) in [
        ("broadcast", udp4(&WEB, &EVERYBODY)),
        ("not IP", strange(&WEB, BROADCAST)),
        ("unknown unicast", udp4(&WEB, &NOBODY)),
        ("a question", unknown),
        ("a question over IPv6", solicitation(&WEB, WEB.v6, NOBODY.v6)),
    ] {
        expect(&bench, what, &frame, Outcome::Dropped(Reason::RateLimit));
    }
    let (outcome, ..) = send(&bench, "from_endpoint", "to one", &udp4(&WEB, &API));
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

#[test]
fn unknown_unicast() {
    let Some(mut bench) = bench() else { return };
    let unknown = Outcome::Dropped(Reason::UnknownDestination);
    expect(&bench, "IPv4", &udp4(&WEB, &NOBODY), unknown);
    expect(
        &bench,
        "not IP",
        &strange(&WEB, NOBODY.mac),
        Outcome::Dropped(Reason::UnknownDestination),
    );
    flooding(&mut bench);
    expect(&bench, "IPv4, flooded", &udp4(&WEB, &NOBODY), Outcome::Copies(ALL));
    expect(
        &bench,
        "not IP, flooded",
        &strange(&WEB, NOBODY.mac),
        Outcome::Copies(ALL),
    );
    let own = Workload { mac: WEB.mac, ..NOBODY };
    expect(
        &bench,
        "to its own MAC",
        &udp4(&WEB, &own),
        Outcome::Dropped(Reason::UnknownDestination),
    );
    rules(&mut bench, &[ALLOW], &[DENY]);
    let (outcome, ..) = send(&bench, "from_endpoint", "rules are asked", &udp4(&WEB, &NOBODY));
    assert_eq!(outcome, Outcome::Copies(ONLY_B));
}

#[test]
fn frames_that_are_not_ip_to_one() {
    let Some(mut bench) = bench() else { return };
    let near = strange(&WEB, API.mac);
    expect(&bench, "to a workload here", &near, Outcome::One(near.clone(), MARK));
    let far = strange(&WEB, DB.mac);
    let (outcome, out, _) = send(&bench, "from_endpoint", "to another host", &far);
    assert!(matches!(outcome, Outcome::One(_, 0)), "{outcome:?}");
    assert_eq!(inside_b(&out), far);
    bench.peer(HOST_B, peer_b6());
    let (_, out, _) = send(&bench, "from_endpoint", "to another host over IPv6", &far);
    assert_eq!(out[70..], far);
    let back = strange(&DB, WEB.mac);
    for packet in [Tunnel::inbound(RED).by_b(&back), Tunnel::inbound(RED).by_b6(&back)] {
        let (outcome, ..) = send(&bench, "from_underlay", "from a tunnel", &packet);
        assert_eq!(outcome, Outcome::One(back.clone(), MARK));
    }
    bench.port(Some(book::port(DENIED, DENIED_DOMAIN)));
    expect(
        &bench,
        "where the default is to deny",
        &near,
        Outcome::Dropped(Reason::EtherType),
    );
    bench.port(Some(book::port(RED, RED_DOMAIN)));
    bench.router();
    let router = strange(&WEB, book::ROUTER_MAC);
    expect(&bench, "to the router", &router, Outcome::Dropped(Reason::RouterPort));
}

/// An address that only `DB`, or `WEB`, may have, and nobody answers for.
const EXTRA: [u8; 4] = [10, 0, 0, 200];

fn extra(bench: &mut Bench, owner: &Workload) {
    let owner = datapath_common::Neighbour {
        mac: owner.mac,
        flags: 0,
        groups: [0; 4],
    };
    bench.prefix(RED, 4, mapped(EXTRA), 96 + 32, owner);
}

#[test]
fn arp_of_what_is_not_known() {
    let Some(mut bench) = bench() else { return };
    let ask = |from: &Workload, target| {
        arp(
            (from.mac, BROADCAST),
            ArpOperation::REQUEST,
            (from.mac, from.v4),
            ([0; 6], target),
        )
    };
    let tell = |from: &Workload, to: [u8; 6]| {
        arp(
            (from.mac, to),
            ArpOperation::REPLY,
            (from.mac, EXTRA),
            (WEB.mac, WEB.v4),
        )
    };
    expect(
        &bench,
        "unknown",
        &ask(&WEB, EXTRA),
        Outcome::Dropped(Reason::UnknownNeighbour),
    );
    extra(&mut bench, &WEB);
    expect(
        &bench,
        "an answer where nobody asks",
        &tell(&WEB, API.mac),
        Outcome::Dropped(Reason::Gratuitous),
    );
    flooding(&mut bench);
    let question = ask(&WEB, EXTRA);
    let (outcome, out, _) = send(&bench, "from_endpoint", "unknown, flooded", &question);
    assert_eq!(outcome, Outcome::Copies(ALL));
    assert_eq!(inside_b(&out), question);
    let own = arp(
        (WEB.mac, BROADCAST),
        ArpOperation::REQUEST,
        (WEB.mac, EXTRA),
        ([0; 6], EXTRA),
    );
    expect(
        &bench,
        "an announcement of an extra address",
        &own,
        Outcome::Copies(ALL),
    );
    let answer = tell(&WEB, DB.mac);
    let (outcome, out, _) = send(&bench, "from_endpoint", "an answer", &answer);
    assert!(matches!(outcome, Outcome::One(_, 0)), "{outcome:?}");
    assert_eq!(inside_b(&out), answer);
    extra(&mut bench, &DB);
    expect(
        &bench,
        "another's address",
        &tell(&WEB, DB.mac),
        Outcome::Dropped(Reason::NeighbourSpoof),
    );

    let padded = |frame: Vec<u8>| [frame, vec![0; 18]].concat();
    let answer = tell(&DB, WEB.mac);
    expect_inside(
        &bench,
        "his answer",
        &answer,
        Outcome::One(padded(answer.clone()), MARK),
    );
    expect_inside(&bench, "his question", &ask(&DB, NOBODY.v4), Outcome::Copies(0b111));
    let probe = arp(
        (DB.mac, BROADCAST),
        ArpOperation::REQUEST,
        (DB.mac, [0; 4]),
        ([0; 6], NOBODY.v4),
    );
    expect_inside(&bench, "his probe", &probe, Outcome::Copies(0b111));
    let wrong = Outcome::Dropped(Reason::WrongVtep);
    expect_inside(
        &bench,
        "of another's address",
        &ask(&Workload { v4: WEB.v4, ..DB }, NOBODY.v4),
        wrong,
    );
    let forged = arp(
        (DB.mac, BROADCAST),
        ArpOperation::REQUEST,
        (API.mac, DB.v4),
        ([0; 6], NOBODY.v4),
    );
    expect_inside(&bench, "of another's MAC", &forged, Outcome::Dropped(Reason::WrongVtep));
    let told = arp(
        (DB.mac, WEB.mac),
        ArpOperation::REPLY,
        (DB.mac, DB.v4),
        (WEB.mac, WEB.v4),
    );
    expect_inside(&bench, "of what is known", &told, Outcome::Dropped(Reason::Gratuitous));
    expect_inside(&bench, "cut off", &answer[..41], Outcome::Dropped(Reason::Truncated));
}

#[test]
fn what_a_foreign_tunnel_end_asks_is_answered() {
    let Some(bench) = bench() else { return };
    let question = arp(
        (DB.mac, BROADCAST),
        ArpOperation::REQUEST,
        (DB.mac, DB.v4),
        ([0; 6], WEB.v4),
    );
    expect_inside(&bench, "his question", &question, Outcome::Copies(0b111));
    let answer = |from: &Workload, to: &Workload| {
        arp(
            (from.mac, to.mac),
            ArpOperation::REPLY,
            (from.mac, from.v4),
            (to.mac, to.v4),
        )
    };
    let said = answer(&WEB, &DB);
    let (outcome, out, _) = send(&bench, "from_endpoint", "the answer", &said);
    assert!(matches!(outcome, Outcome::One(_, 0)), "{outcome:?}");
    assert_eq!(inside_b(&out), said);
    let gratuitous = || Outcome::Dropped(Reason::Gratuitous);
    expect(&bench, "to one of this host", &answer(&WEB, &API), gratuitous());
    expect(
        &bench,
        "to nobody",
        &answer(&WEB, &Workload { mac: NOBODY.mac, ..DB }),
        gratuitous(),
    );
    let forged = answer(&Workload { v4: API.v4, ..WEB }, &DB);
    expect(
        &bench,
        "of another's address",
        &forged,
        Outcome::Dropped(Reason::NeighbourSpoof),
    );

    expect_inside(
        &bench,
        "his solicitation",
        &solicitation(&DB, DB.v6, WEB.v6),
        Outcome::Copies(0b111),
    );
    let advertised = |target, to: &Workload| {
        let body = neighbour(0x60, target, &[&link_option(2, WEB.mac)]);
        icmp6((WEB.mac, to.mac), (WEB.v6, to.v6), 136, &body)
    };
    let said = advertised(WEB.v6, &DB);
    let (outcome, out, _) = send(&bench, "from_endpoint", "the advertisement", &said);
    assert!(matches!(outcome, Outcome::One(_, 0)), "{outcome:?}");
    assert_eq!(inside_b(&out), said);
    expect(&bench, "one to this host", &advertised(WEB.v6, &API), gratuitous());
    expect(
        &bench,
        "one of another's address",
        &advertised(API.v6, &DB),
        Outcome::Dropped(Reason::NeighbourSpoof),
    );
}

#[test]
fn neighbour_discovery_of_what_is_not_known() {
    let Some(mut bench) = bench() else { return };
    let hidden = link_local([0x02, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let question = solicitation(&WEB, WEB.v6, hidden);
    let (outcome, out, _) = send(&bench, "from_endpoint", "a link-local address", &question);
    assert_eq!(outcome, Outcome::Copies(ALL));
    assert_eq!(inside_b(&out), question);
    expect(
        &bench,
        "whether anybody has it",
        &solicitation(&WEB, UNSPECIFIED, hidden),
        Outcome::Copies(ALL),
    );
    let unknown = solicitation(&WEB, WEB.v6, NOBODY.v6);
    expect(
        &bench,
        "another address",
        &unknown,
        Outcome::Dropped(Reason::UnknownNeighbour),
    );
    let says = |from: &Workload, mac, to, target| {
        icmp6(
            (from.mac, mac),
            (from.v6, to),
            136,
            &neighbour(0x60, target, &[&link_option(2, from.mac)]),
        )
    };
    let answer = says(&WEB, DB.mac, DB.v6, hidden);
    let (outcome, out, _) = send(&bench, "from_endpoint", "an answer", &answer);
    assert!(matches!(outcome, Outcome::One(_, 0)), "{outcome:?}");
    assert_eq!(inside_b(&out), answer);
    let defence = says(&WEB, ALL_NODES_MAC, ALL_NODES, hidden);
    expect(&bench, "that it has it", &defence, Outcome::Copies(ALL));
    let here = says(&WEB, API.mac, API.v6, hidden);
    expect(
        &bench,
        "an answer to a workload here",
        &here,
        Outcome::One(here.clone(), MARK),
    );
    let spoof = says(&WEB, API.mac, API.v6, link_local(DB.mac));
    expect(&bench, "of another's", &spoof, Outcome::Dropped(Reason::NeighbourSpoof));

    let asked = solicitation(&DB, DB.v6, hidden);
    expect_inside(&bench, "his question", &asked, Outcome::Copies(0b111));
    expect_inside(
        &bench,
        "whether anybody here has it",
        &solicitation(&DB, UNSPECIFIED, hidden),
        Outcome::Copies(0b111),
    );
    let answer = says(&DB, WEB.mac, WEB.v6, hidden);
    let packet = Tunnel::inbound(RED).by_b(&answer);
    assert_eq!(
        send(&bench, "from_underlay", "his answer", &packet).0,
        Outcome::One(answer, MARK)
    );
    let spoof = says(&DB, WEB.mac, WEB.v6, link_local(API.mac));
    expect_inside(
        &bench,
        "of another's address",
        &spoof,
        Outcome::Dropped(Reason::NeighbourSpoof),
    );
    flooding(&mut bench);
    expect(&bench, "another address, flooded", &unknown, Outcome::Copies(ALL));
    bench.port(Some(Port {
        host_mac: WEB.mac,
        ..book::port(RED, RED_DOMAIN)
    }));
}
