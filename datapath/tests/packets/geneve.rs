//! Geneve (RFC 8926), both ways.

use datapath_common::{Peer, Reason, SEGMENT_GENEVE, Segment, slot};

use crate::bench::{Bench, Context, peer_b6};
use crate::book::{
    self, API, DB, GENEVE, HERE_MAC, HERE_V4, HERE_V6, HOST_B, HOST_B_V4, HOST_B_V6, NEXT_HOP_MAC, RED, RED_DOMAIN, WEB,
};
use crate::fate::{Fate, other_family, to_namespace};
use crate::frames::{CE, ECT_0, Tunnel, ip4, udp4, udp6};
use crate::outer::resummed;

/// Red speaks Geneve.
fn bench(of: Option<Bench>) -> Option<Bench> {
    let mut bench = of?;
    let segment = Segment {
        flags: SEGMENT_GENEVE,
        ..book::segment(RED_DOMAIN)
    };
    bench.segment(RED, segment);
    bench.bump(slot::domain(RED_DOMAIN));
    Some(bench)
}

const HEADER: [u8; 4] = [0, 0, 0x65, 0x58];

/// A Geneve packet of host B: the header's first word, options, the inner frame.
fn geneve(header: [u8; 4], options: &[u8], inner: &[u8]) -> Vec<u8> {
    Tunnel {
        destination_port: GENEVE,
        ..Tunnel::inbound(RED)
    }
    .with(header, options)
    .by_b(inner)
}

/// The header's first word with this many bytes of options.
fn with_options(bytes: usize) -> [u8; 4] {
    [u8::try_from(bytes / 4).unwrap(), 0, 0x65, 0x58]
}

#[test]
fn sent_without_options() {
    let Some(mut bench) = bench(Bench::new()) else { return };
    for (what, frame) in [("IPv4", udp4(&WEB, &DB)), ("IPv6", udp6(&WEB, &DB))] {
        for fast in [0, 1] {
            let fate = bench.fate("from_endpoint", what, &frame, Context::default());
            let Fate::Redirected(sent, 0) = fate else {
                panic!("{what}: {fate:?}")
            };
            let tunnel = Tunnel {
                link: (HERE_MAC, NEXT_HOP_MAC),
                port: u16::from_be_bytes([sent[34], sent[35]]),
                destination_port: GENEVE,
                ..Tunnel::inbound(RED)
            };
            assert_eq!(
                sent,
                tunnel.with(HEADER, &[]).over4(HERE_V4, HOST_B_V4, &frame),
                "{what}"
            );
            assert_eq!(bench.trace().fast, fast, "{what}");
        }
    }
    bench.peer(HOST_B, peer_b6());
    let frame = udp6(&WEB, &DB);
    let fate = bench.fate("from_endpoint", "over IPv6", &frame, Context::default());
    let Fate::Redirected(sent, 0) = fate else {
        panic!("{fate:?}")
    };
    let tunnel = Tunnel {
        link: (HERE_MAC, NEXT_HOP_MAC),
        port: u16::from_be_bytes([sent[54], sent[55]]),
        flow_label: u32::from_be_bytes([0, sent[15] & 0xf, sent[16], sent[17]]),
        destination_port: GENEVE,
        ..Tunnel::inbound(RED)
    };
    assert_eq!(sent, tunnel.with(HEADER, &[]).over6(HERE_V6, HOST_B_V6, &frame));
    let Peer { mtu, .. } = peer_b6();
    assert!(sent.len() <= mtu as usize);
}

#[test]
fn received() {
    let Some(bench) = bench(Bench::on_devices()) else {
        return;
    };
    let (four, six) = (udp4(&DB, &API), udp6(&DB, &API));
    bench.remembered(
        "from_underlay",
        vec![
            ("IPv4", geneve(HEADER, &[], &four), to_namespace(&four)),
            ("IPv6", geneve(HEADER, &[], &six), other_family(&six)),
        ],
    );
    let unknown = [&[1, 2, 3, 1, 9, 9, 9, 9][..], &[1, 2, 4, 0]].concat();
    let long: Vec<u8> = (0..63).flat_map(|_| [0, 1, 0x7f, 0]).collect();
    let longest = [&[0, 1, 2, 31][..], &[7; 124], &[0, 1, 2, 30], &[7; 120]].concat();
    bench.table(
        "from_underlay",
        vec![
            (
                "options that are not critical",
                geneve(with_options(12), &unknown, &four),
                to_namespace(&four),
            ),
            (
                "63 options",
                geneve(with_options(252), &long, &four),
                to_namespace(&four),
            ),
            (
                "two long options",
                geneve(with_options(252), &longest, &four),
                to_namespace(&four),
            ),
            (
                "reserved bits",
                geneve([0, 0x3f, 0x65, 0x58], &[], &four),
                to_namespace(&four),
            ),
            (
                "congestion",
                Tunnel {
                    ecn: CE,
                    destination_port: GENEVE,
                    ..Tunnel::inbound(RED)
                }
                .with(with_options(12), &unknown)
                .by_b(&ip4(&DB, &API, 17, ECT_0, &four[34..])),
                to_namespace(&ip4(&DB, &API, 17, CE, &four[34..])),
            ),
        ],
    );
}

#[test]
fn headers_that_are_refused() {
    let Some(bench) = bench(Bench::on_devices()) else {
        return;
    };
    let inner = udp4(&DB, &API);
    let refused =
        |what, reason, header, options: &[u8]| (what, geneve(header, options, &inner), Fate::Dropped(reason, 0, 0));
    let critical = [1, 2, 0x83, 1, 9, 9, 9, 9];
    let beyond = [1, 2, 3, 2, 9, 9, 9, 9];
    let cut = geneve([63, 0, 0x65, 0x58], &[], &inner[..20]);
    bench.table(
        "from_underlay",
        vec![
            refused("version 1", Reason::GeneveVersion, [0x40, 0, 0x65, 0x58], &[]),
            refused(
                "version 1 comes before O",
                Reason::GeneveVersion,
                [0x40, 0x80, 0x65, 0x58],
                &[],
            ),
            refused("O", Reason::GeneveControl, [0, 0x80, 0x65, 0x58], &[]),
            refused("C", Reason::GeneveOption, [0, 0x40, 0x65, 0x58], &[]),
            refused("a critical option", Reason::GeneveOption, with_options(8), &critical),
            refused(
                "a critical option behind another",
                Reason::GeneveOption,
                with_options(12),
                &[&[1, 2, 3, 0][..], &critical].concat(),
            ),
            refused(
                "an option longer than all",
                Reason::GeneveOption,
                with_options(8),
                &beyond,
            ),
            refused("another protocol", Reason::GeneveProtocol, [0, 0, 0x08, 0], &[]),
            refused(
                "options come before the protocol",
                Reason::GeneveOption,
                [2, 0, 0x08, 0],
                &critical,
            ),
            (
                "options beyond the packet",
                cut,
                Fate::Dropped(Reason::GeneveOption, 0, 0),
            ),
        ],
    );
}

#[test]
fn each_segment_speaks_one_of_the_two() {
    let Some(mut bench) = bench(Bench::on_devices()) else {
        return;
    };
    let inner = udp4(&DB, &API);
    let nobody = Fate::Dropped(Reason::UnknownVni, 0, 0);
    let (vxlan, geneve) = (Tunnel::inbound(RED).by_b(&inner), geneve(HEADER, &[], &inner));
    bench.remembered("from_underlay", vec![("Geneve", geneve.clone(), to_namespace(&inner))]);
    bench.table(
        "from_underlay",
        vec![("VXLAN of the same flow", vxlan.clone(), nobody.clone())],
    );
    bench.segment(RED, book::segment(RED_DOMAIN));
    bench.bump(slot::domain(RED_DOMAIN));
    bench.remembered("from_underlay", vec![("VXLAN", vxlan, to_namespace(&inner))]);
    bench.table("from_underlay", vec![("Geneve of the same flow", geneve, nobody)]);
}

/// A packet over IPv4 that ends early, as its outer headers say.
fn shortened(packet: &[u8], length: usize) -> Vec<u8> {
    let mut packet = packet[..length].to_vec();
    for (field, before) in [(16, 14), (38, 34)] {
        packet[field..field + 2].copy_from_slice(&u16::try_from(length - before).unwrap().to_be_bytes());
    }
    resummed(packet)
}

#[test]
fn every_truncation() {
    let Some(bench) = bench(Bench::new()) else { return };
    let inner = udp4(&DB, &API);
    let frame = geneve(with_options(8), &[1, 2, 3, 1, 9, 9, 9, 9], &inner);
    for length in 34..frame.len() {
        let what = format!("{length} bytes");
        let fate = bench.fate("from_underlay", &what, &frame[..length], Context::default());
        let expected = match length - 34 {
            ..8 => Fate::Passed,
            _ => Fate::Dropped(Reason::Truncated, 0, 0),
        };
        assert_eq!(fate, expected, "{what}");
    }
    for length in 42..frame.len() {
        let what = format!("{length} bytes, of which the headers know");
        let fate = bench.fate("from_underlay", &what, &shortened(&frame, length), Context::default());
        let expected = match length - 42 {
            ..8 => Fate::Dropped(Reason::Truncated, 0, 0),
            8..16 => Fate::Dropped(Reason::GeneveOption, 0, 0),
            _ => Fate::Dropped(Reason::Truncated, RED_DOMAIN, 0),
        };
        assert_eq!(fate, expected, "{what}");
    }
}
