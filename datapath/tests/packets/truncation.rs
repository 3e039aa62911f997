//! Every truncation of a valid frame: never forwarded, always counted.

use datapath_common::Reason;

use crate::bench::{Bench, Context};
use crate::book::{API, BROADCAST, DB, RED, WEB};
use crate::fate::{Fate, dropped};
use crate::frames::{Tunnel, arp, solicitation, tcp4, udp4, udp6};

/// What the facility takes at least, by ethertype.
fn least(frame: &[u8]) -> usize {
    match frame[12..14] {
        [0x08, 0x00] => 34,
        [0x86, 0xdd] => 54,
        _ => 14,
    }
}

#[test]
fn from_a_workload() {
    let Some(bench) = Bench::new() else { return };
    let who_has = arp(
        (WEB.mac, BROADCAST),
        etherparse::ArpOperation::REQUEST,
        (WEB.mac, WEB.v4),
        ([0; 6], DB.v4),
    );
    for (what, frame) in [
        ("UDP over IPv4", udp4(&WEB, &API)),
        ("UDP over IPv6 to another host", udp6(&WEB, &DB)),
        ("TCP over IPv4 to another host", tcp4(&WEB, &DB, b"GET /")),
        ("ARP", who_has),
        ("a neighbour solicitation", solicitation(&WEB, WEB.v6, DB.v6)),
    ] {
        for length in 14..frame.len() {
            let what = format!("{length} bytes of {what}");
            if length < least(&frame) {
                bench
                    .run("from_endpoint", &frame[..length], Context::default())
                    .expect_err(&what);
                continue;
            }
            let fate = bench.fate("from_endpoint", &what, &frame[..length], Context::default());
            assert_eq!(fate, dropped(Reason::Truncated), "{what}");
        }
    }
}

#[test]
fn from_the_underlay() {
    let Some(bench) = Bench::new() else { return };
    let tunnel = Tunnel::inbound(RED);
    for (what, frame, udp) in [
        ("IPv4 in IPv4", tunnel.by_b(&udp4(&DB, &API)), 34),
        ("IPv6 in IPv4", tunnel.by_b(&udp6(&DB, &API)), 34),
        ("IPv4 in IPv6", tunnel.by_b6(&udp4(&DB, &API)), 54),
        ("IPv6 in IPv6", tunnel.by_b6(&udp6(&DB, &API)), 54),
    ] {
        for length in 14..frame.len() {
            let what = format!("{length} bytes of {what}");
            if length < least(&frame) {
                bench
                    .run("from_underlay", &frame[..length], Context::default())
                    .expect_err(&what);
                continue;
            }
            let fate = bench.fate("from_underlay", &what, &frame[..length], Context::default());
            let expected = match length - udp {
                // Without a port nobody can say whose it is.
                ..8 => Fate::Passed,
                // The outer IP header says that there was more.
                _ => Fate::Dropped(Reason::Truncated, 0, 0),
            };
            assert_eq!(fate, expected, "{what}");
        }
    }
}
