//! The outer headers of tunnel packets: what no host sends, and what is ignored of what others may send.

use aya::maps::{MapData, PerCpuHashMap};
use datapath_common::{AUDIT_VXLAN_RESERVED, Count, KERNEL_STRICT, MemberKey, Reason, Settings};

use crate::bench::{Bench, Context};
use crate::book::{self, API, DB, HERE_V4, HERE_V6, RED, RED_DOMAIN};
use crate::fate::{Fate, other_family, to_namespace};
use crate::frames::{Tunnel, udp4, udp6, with_ttl};

/// Where fields stand in a packet over IPv4 without options, and over IPv6.
const TOTAL_LENGTH: usize = 16;
const TTL: usize = 22;
const CHECKSUM: usize = 24;
const UDP_LENGTH4: usize = 38;
const PAYLOAD_LENGTH: usize = 18;
const HOP_LIMIT: usize = 21;
const UDP_LENGTH6: usize = 58;
const VXLAN4: usize = 42;
const VXLAN6: usize = 62;

fn nobody(reason: Reason) -> Fate {
    Fate::Dropped(reason, 0, 0)
}

fn over4() -> Vec<u8> {
    Tunnel::inbound(RED).by_b(&udp4(&DB, &API))
}

fn over6() -> Vec<u8> {
    Tunnel::inbound(RED).by_b6(&udp6(&DB, &API))
}

/// With the right checksum in its IPv4 header.
pub(crate) fn resummed(packet: Vec<u8>) -> Vec<u8> {
    with_ttl(&packet, packet[TTL])
}

/// With another number in a field of two bytes.
fn with(mut packet: Vec<u8>, at: usize, change: impl Fn(u16) -> u16) -> Vec<u8> {
    let field = &mut packet[at..at + 2];
    let number = change(u16::from_be_bytes([field[0], field[1]]));
    field.copy_from_slice(&number.to_be_bytes());
    packet
}

fn with_byte(mut packet: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    packet[at] = byte;
    packet
}

/// What is wrong with packets, which else are of flows that are known, and why they are dropped.
fn wrong() -> Vec<(&'static str, Vec<u8>, Fate)> {
    let ttl = resummed(with_byte(over4(), TTL, 0));
    let shorter = resummed(with(over4(), TOTAL_LENGTH, |length| length - 1));
    let none = resummed(with(over4(), TOTAL_LENGTH, |_| 10));
    let beyond = resummed(with(
        with(over4(), TOTAL_LENGTH, |length| length + 1),
        UDP_LENGTH4,
        |length| length + 1,
    ));
    let beyond6 = with(
        with(over6(), PAYLOAD_LENGTH, |length| length + 1),
        UDP_LENGTH6,
        |length| length + 1,
    );
    vec![
        ("TTL 0", ttl, nobody(Reason::OuterTtl)),
        (
            "hop limit 0",
            with_byte(over6(), HOP_LIMIT, 0),
            nobody(Reason::OuterTtl),
        ),
        (
            "a wrong checksum",
            with(over4(), CHECKSUM, |sum| sum ^ 0x100),
            nobody(Reason::OuterChecksum),
        ),
        (
            "a bit that the checksum does not know of",
            with_byte(over4(), 15, 1),
            nobody(Reason::OuterChecksum),
        ),
        (
            "UDP longer than IP",
            with(over4(), UDP_LENGTH4, |length| length + 1),
            nobody(Reason::OuterLength),
        ),
        (
            "UDP shorter than IP",
            with(over4(), UDP_LENGTH4, |length| length - 1),
            nobody(Reason::OuterLength),
        ),
        ("IP shorter than UDP", shorter, nobody(Reason::OuterLength)),
        ("IP shorter than its header", none, nobody(Reason::OuterLength)),
        (
            "UDP longer than IPv6",
            with(over6(), UDP_LENGTH6, |length| length + 1),
            nobody(Reason::OuterLength),
        ),
        (
            "IPv6 shorter than UDP",
            with(over6(), PAYLOAD_LENGTH, |length| length - 1),
            nobody(Reason::OuterLength),
        ),
        ("IP that ends behind the frame", beyond, nobody(Reason::Truncated)),
        ("IPv6 that ends behind the frame", beyond6, nobody(Reason::Truncated)),
    ]
}

#[test]
fn what_no_host_sends_is_dropped_by_name() {
    let Some(bench) = Bench::on_devices() else { return };
    bench.table("from_underlay", wrong());
}

#[test]
fn a_known_flow_lets_nothing_of_it_pass() {
    let Some(bench) = Bench::new() else { return };
    bench.remembered(
        "from_underlay",
        vec![
            ("over IPv4", over4(), to_namespace(&udp4(&DB, &API))),
            ("over IPv6", over6(), to_namespace(&udp6(&DB, &API))),
        ],
    );
    bench.table("from_underlay", wrong());
}

#[test]
fn a_header_with_options_is_summed_whole() {
    let Some(bench) = Bench::on_devices() else { return };
    let inner = udp4(&DB, &API);
    let mut packet = over4();
    packet[14] = 0x47;
    packet.splice(34..34, [1, 1, 1, 1, 1, 1, 1, 0]);
    let right = resummed(with(packet, TOTAL_LENGTH, |length| length + 8));
    let wrong = with_byte(right.clone(), 38, 0);
    bench.table(
        "from_underlay",
        vec![
            ("right", right, to_namespace(&inner)),
            ("wrong in the options", wrong, nobody(Reason::OuterChecksum)),
        ],
    );
}

#[test]
fn an_outer_source_that_nobody_can_have_is_no_hosts() {
    let Some(bench) = Bench::on_devices() else { return };
    let inner = udp4(&DB, &API);
    let four = [
        [0, 0, 0, 0],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [240, 0, 0, 1],
        [255; 4],
        HERE_V4,
    ];
    let mut multicast = HERE_V6;
    multicast[..2].copy_from_slice(&[0xff, 2]);
    let mut loopback = [0; 16];
    loopback[15] = 1;
    let six = [
        [0; 16],
        loopback,
        multicast,
        datapath_common::mapped(book::HOST_B_V4),
        HERE_V6,
    ];
    let tunnel = Tunnel::inbound(RED);
    let four = four.map(|source| ("over IPv4", tunnel.over4(source, HERE_V4, &inner)));
    let six = six.map(|source| ("over IPv6", tunnel.over6(source, HERE_V6, &inner)));
    for (what, packet) in four.into_iter().chain(six) {
        let source = format!("{what}: {:?}", &packet[26..42]);
        let fate = bench.fate("from_underlay", &source, &packet, Context::default());
        assert_eq!(fate, nobody(Reason::UnknownVtep), "{source}");
    }
}

/// Bits that RFC 7348 section 5 reserves, each by its byte.
const RESERVED: [(usize, u8); 6] = [(0, 0x80), (0, 0x01), (1, 0x40), (2, 1), (3, 0x80), (7, 1)];

fn reserved() -> Vec<(Vec<u8>, Fate)> {
    let bit = |packet: Vec<u8>, header: usize, (byte, bit): (usize, u8)| {
        let before = packet[header + byte];
        with_byte(packet, header + byte, before | bit)
    };
    let four = RESERVED.map(|at| (bit(over4(), VXLAN4, at), to_namespace(&udp4(&DB, &API))));
    let six = RESERVED.map(|at| (bit(over6(), VXLAN6, at), to_namespace(&udp6(&DB, &API))));
    four.into_iter().chain(six).collect()
}

/// Packets and bytes of VXLAN whose reserved bits were ignored.
fn ignored(bench: &mut Bench) -> (u64, u64) {
    let map = bench.map("AUDITS");
    let map = PerCpuHashMap::<&mut MapData, MemberKey, Count>::try_from(map).unwrap();
    let Ok(counts) = map.get(&AUDIT_VXLAN_RESERVED, 0) else {
        return (0, 0);
    };
    let sum = |of: fn(&Count) -> u64| counts.iter().map(of).sum();
    (sum(|count| count.packets), sum(|count| count.bytes))
}

#[test]
fn reserved_bits_are_ignored_and_counted() {
    let Some(mut bench) = Bench::new() else { return };
    let plain = vec![
        ("over IPv4", over4(), to_namespace(&udp4(&DB, &API))),
        ("over IPv6", over6(), to_namespace(&udp6(&DB, &API))),
    ];
    bench.remembered("from_underlay", plain);
    assert_eq!(ignored(&mut bench), (0, 0), "nothing is reserved in what hosts send");
    let mut expected = (0, 0);
    for (packet, fate) in reserved() {
        for what in ["of a known flow", "again"] {
            assert_eq!(bench.fate("from_underlay", what, &packet, Context::default()), fate);
            expected = (expected.0 + 1, expected.1 + packet.len() as u64);
            assert_eq!(ignored(&mut bench), expected, "{what}: {:02x?}", &packet[VXLAN4..]);
        }
    }
}

#[test]
fn a_strict_host_drops_reserved_bits() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let kernel = bench.kernel() | KERNEL_STRICT;
    bench.settings(Settings {
        kernel,
        ..book::settings()
    });
    let plain = vec![("nothing reserved", over4(), to_namespace(&udp4(&DB, &API)))];
    bench.table("from_underlay", plain);
    let rows = reserved();
    let rows = rows
        .into_iter()
        .map(|(packet, _)| ("reserved", packet, nobody(Reason::VxlanReserved)));
    bench.table("from_underlay", rows.collect());
    assert_eq!(ignored(&mut bench), (0, 0), "what is dropped is not ignored");
}

#[test]
fn lengths_of_a_super_packet_are_its_segments() {
    let Some(bench) = Bench::new() else { return };
    let context = Context {
        segment: 1000,
        ..Context::default()
    };
    // What does not fit into 16 bits is written as the most that does.
    let four = resummed(with(with(over4(), TOTAL_LENGTH, |_| 0xffff), UDP_LENGTH4, |_| 0xffff));
    let six = with(with(over6(), PAYLOAD_LENGTH, |_| 0), UDP_LENGTH6, |_| 0xffff);
    for (what, packet) in [("IPv4", four), ("IPv6", six)] {
        let fate = bench.fate("from_underlay", what, &packet, context);
        // The facility cannot take it out of its tunnel: that is tried for a workload, which is behind all that is asked here.
        let tried = Fate::Dropped(Reason::Kernel, RED_DOMAIN, API.endpoint);
        assert!(
            matches!(fate, Fate::Redirected(..)) || fate == tried,
            "{what}: {fate:?}"
        );
    }
}

#[test]
fn padding_behind_the_outer_packet_is_no_contradiction() {
    let Some(bench) = Bench::on_devices() else { return };
    let inner = udp4(&DB, &API);
    let padded = |packet: Vec<u8>| [packet, vec![0; 4]].concat();
    let frame = padded(inner.clone());
    bench.table(
        "from_underlay",
        vec![
            ("over IPv4", padded(over4()), to_namespace(&frame)),
            (
                "over IPv6",
                padded(Tunnel::inbound(RED).by_b6(&inner)),
                other_family(&frame),
            ),
        ],
    );
}
