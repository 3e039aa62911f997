//! Frames for many: who gets a copy, and what it looks like.

use datapath_common::{FLOW_FLOOD, Peer, Reason, SEGMENT_FLOOD, Segment, mapped};

use crate::bench::{Bench, Context, peer_b4, peer_b6};
use crate::book::{
    self, ALL_NODES, ALL_NODES_MAC, API, BROADCAST, DB, DENIED, DENIED_DOMAIN, HOST_B, HOST_B_V4, HOST_C, MTU, RED,
    RED_DOMAIN, UNSPECIFIED, VM, WEB, Workload, member, member_host,
};
use crate::ear::Ear;
use crate::fate::{DROPPED, Drops, REDIRECTED};
use crate::frames::{Tunnel, echo4, ethernet, icmp_error, icmp6, ip4, udp4, udp4_ports, udp6, vlan};

/// A bit for each member of [`MEMBERS`].
const ONLY_API: u64 = 0b10;
pub(crate) const ONLY_VM: u64 = 0b100;
pub(crate) const ONLY_B: u64 = 0b1000;
const HERE: u64 = ONLY_API | ONLY_VM;
pub(crate) const ALL: u64 = HERE | ONLY_B;

/// Red's group on this host; host C has no route.
pub(crate) fn members() -> [datapath_common::FloodTarget; 5] {
    [
        member(&WEB),
        member(&API),
        member(&VM),
        member_host(HOST_B),
        member_host(HOST_C),
    ]
}

pub(crate) fn bench() -> Option<Bench> {
    let mut bench = Bench::new()?;
    bench.members(RED, book::segment(RED_DOMAIN), &members()[..4]);
    bench.members(DENIED, book::segment(DENIED_DOMAIN), &members()[..4]);
    Some(bench)
}

pub(crate) fn flooding(bench: &mut Bench) {
    let segment = Segment {
        flags: SEGMENT_FLOOD,
        ..book::segment(RED_DOMAIN)
    };
    bench.members(RED, segment, &members()[..4]);
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Copies went to these members.
    Copies(u64),
    /// To one; the frame and its mark.
    One(Vec<u8>, u32),
    Dropped(Reason),
}

/// Runs a program; the outcome, the packet as the last copy was, and drops by endpoint and reason that the outcome is not.
pub(crate) fn send(bench: &Bench, program: &str, what: &str, frame: &[u8]) -> (Outcome, Vec<u8>, Vec<(u32, Reason)>) {
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
pub(crate) fn expect(bench: &Bench, what: &str, frame: &[u8], outcome: Outcome) {
    assert_eq!(send(bench, "from_endpoint", what, frame).0, outcome, "{what}");
}

#[track_caller]
pub(crate) fn expect_inside(bench: &Bench, what: &str, frame: &[u8], outcome: Outcome) {
    let packet = Tunnel::inbound(RED).by_b(frame);
    assert_eq!(send(bench, "from_underlay", what, &packet).0, outcome, "{what}");
}

pub(crate) const fn to(mac: [u8; 6], v4: [u8; 4], v6: [u8; 16]) -> Workload {
    Workload { mac, v4, v6, ..API }
}

pub(crate) const EVERYBODY: Workload = to(BROADCAST, [255; 4], ALL_NODES);
pub(crate) const MDNS: Workload = to([1, 0, 0x5e, 0, 0, 251], [224, 0, 0, 251], ALL_NODES);
const SUBNET: Workload = to(BROADCAST, [10, 0, 0, 255], ALL_NODES);
pub(crate) const NODES: Workload = to(ALL_NODES_MAC, [224, 0, 0, 1], ALL_NODES);

/// A frame that is not IP.
pub(crate) fn strange(from: &Workload, to: [u8; 6]) -> Vec<u8> {
    ethernet(from.mac, to, 0x8863, &[9; 46])
}

/// What is left of a packet behind an outer IPv4 header to host B.
#[track_caller]
pub(crate) fn inside_b(packet: &[u8]) -> &[u8] {
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
