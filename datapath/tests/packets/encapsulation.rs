//! What a workload sends to other hosts.

use std::collections::BTreeSet;

use datapath_common::{Peer, Reason};

use crate::bench::{Bench, Context, peer_b4, peer_b6};
use crate::book::{DB, HERE_MAC, HERE_V4, HERE_V6, HOST_B, HOST_B_V4, HOST_B_V6, NEXT_HOP_MAC, RED, UNDERLAY_MTU, WEB};
use crate::fate::{Fate, dropped, too_big};
use crate::frames::{CE, ECT_0, ECT_1, NOT_ECT, Tunnel, ip4, ip6, tcp4, udp4, udp4_ports, udp6, udp6_ports};

/// The frame as it left, with the parts of it that spread flows.
struct Sent {
    frame: Vec<u8>,
    port: u16,
    flow_label: u32,
}

fn sent(bench: &Bench, what: &str, frame: &[u8]) -> Sent {
    let Fate::Redirected(frame, mark) = bench.fate("from_endpoint", what, frame, Context::default()) else {
        panic!("{what}: not sent");
    };
    assert_eq!(mark, 0, "{what}: the mark is for workloads");
    let v6 = frame[12..14] == [0x86, 0xdd];
    let udp = if v6 { 54 } else { 34 };
    let port = u16::from_be_bytes([frame[udp], frame[udp + 1]]);
    assert!(port >= 49152, "{what}: source port {port}");
    let flow_label = if v6 {
        u32::from_be_bytes([0, frame[15] & 0xf, frame[16], frame[17]])
    } else {
        0
    };
    Sent {
        frame,
        port,
        flow_label,
    }
}

fn tunnel(ecn: u8, sent: &Sent) -> Tunnel {
    let link = (HERE_MAC, NEXT_HOP_MAC);
    Tunnel {
        link,
        port: sent.port,
        flow_label: sent.flow_label,
        ecn,
        ..Tunnel::inbound(RED)
    }
}

/// Sends inner frames of each family and ECN codepoint, and compares every byte.
fn over(bench: &Bench, outer: impl Fn(Tunnel, &[u8]) -> Vec<u8>) {
    for ecn in [NOT_ECT, ECT_0, ECT_1, CE] {
        let payload = udp4(&WEB, &DB)[34..].to_vec();
        for (what, inner) in [
            ("IPv4", ip4(&WEB, &DB, 17, ecn, &payload)),
            ("IPv6", ip6(&WEB, &DB, 17, ecn, &payload)),
        ] {
            let sent = sent(bench, what, &inner);
            assert_eq!(
                sent.frame,
                outer(tunnel(ecn, &sent), &inner),
                "{what} inside, ECN {ecn}"
            );
            bench.table("from_endpoint", vec![(what, inner, Fate::Redirected(sent.frame, 0))]);
        }
    }
}

#[test]
fn over_ipv4() {
    let Some(bench) = Bench::on_devices() else { return };
    over(&bench, |tunnel, inner| tunnel.over4(HERE_V4, HOST_B_V4, inner));
}

#[test]
fn over_ipv6() {
    let Some(mut bench) = Bench::on_devices() else { return };
    bench.peer(HOST_B, peer_b6());
    over(&bench, |tunnel, inner| tunnel.over6(HERE_V6, HOST_B_V6, inner));
}

#[test]
fn short_ipv4_frames_are_padded_in_ipv6() {
    let Some(mut bench) = Bench::new() else { return };
    let short = udp4_ports(&WEB, &DB, (1, 2), b"x");
    let over4 = sent(&bench, "over IPv4", &short);
    assert_eq!(
        over4.frame,
        tunnel(0, &over4).over4(HERE_V4, HOST_B_V4, &short),
        "as it is"
    );
    bench.peer(HOST_B, peer_b6());
    let over6 = sent(&bench, "over IPv6", &short);
    let padded = [short.clone(), vec![0; 60 - short.len()]].concat();
    assert_eq!(
        over6.frame,
        tunnel(0, &over6).over6(HERE_V6, HOST_B_V6, &padded),
        "60 bytes"
    );
}

#[test]
fn the_kernel_resolves_what_is_not_resolved() {
    let Some(mut bench) = Bench::new() else { return };
    let inner = udp6(&WEB, &DB);
    let link = ([0; 6], [0; 6]);
    bench.peer(HOST_B, Peer { flags: 0, ..peer_b4() });
    let four = sent(&bench, "over IPv4", &inner);
    assert_eq!(
        four.frame,
        Tunnel {
            link,
            ..tunnel(0, &four)
        }
        .over4(HERE_V4, HOST_B_V4, &inner)
    );
    bench.peer(HOST_B, Peer { flags: 0, ..peer_b6() });
    let six = sent(&bench, "over IPv6", &inner);
    assert_eq!(
        six.frame,
        Tunnel {
            link,
            ..tunnel(0, &six)
        }
        .over6(HERE_V6, HOST_B_V6, &inner)
    );
}

#[test]
fn flows_spread_and_each_keeps_its_port() {
    let Some(mut bench) = Bench::new() else { return };
    bench.peer(HOST_B, peer_b6());
    let flows = |of: &dyn Fn(u16) -> Vec<u8>| -> (BTreeSet<u16>, BTreeSet<u32>) {
        let all: Vec<_> = (0..64).map(|flow| sent(&bench, "a flow", &of(1000 + flow))).collect();
        let again = sent(&bench, "the first flow again", &of(1000));
        assert_eq!((again.port, again.flow_label), (all[0].port, all[0].flow_label));
        (
            all.iter().map(|sent| sent.port).collect(),
            all.iter().map(|sent| sent.flow_label).collect(),
        )
    };
    let four = flows(&|port| udp4_ports(&WEB, &DB, (port, 53), b"x"));
    let six = flows(&|port| udp6_ports(&WEB, &DB, (port, 53), b"x"));
    for (ports, labels) in [four, six] {
        assert!(ports.len() > 56, "64 flows on {} ports", ports.len());
        assert!(labels.len() > 56, "64 flows on {} labels", labels.len());
    }
}

#[test]
fn fragments_of_a_packet_stay_together() {
    let Some(bench) = Bench::new() else { return };
    let whole = udp4_ports(&WEB, &DB, (4000, 53), &[7; 64]);
    let mut first = whole.clone();
    first[20] = 0x20;
    let mut later = ip4(&WEB, &DB, 17, 0, &[9; 40]);
    later[20..22].copy_from_slice(&[0, 9]);
    let (first, later) = (sent(&bench, "the first", &first), sent(&bench, "the next", &later));
    assert_eq!(first.port, later.port);
}

#[test]
fn the_path_has_a_size() {
    let Some(mut bench) = Bench::new() else { return };
    let inner = |length: u32| udp4_ports(&WEB, &DB, (1, 2), &vec![7; length as usize - 28]);
    for (what, peer, overhead) in [("over IPv4", peer_b4(), 50), ("over IPv6", peer_b6(), 70)] {
        bench.peer(HOST_B, Peer { mtu: 1400, ..peer });
        let fits = inner(1400 - overhead);
        assert_eq!(sent(&bench, what, &fits).frame.len(), 14 + 1400);
        let large = inner(1400 - overhead + 1);
        let fate = bench.fate("from_endpoint", what, &large, Context::default());
        assert_eq!(fate, too_big(&large, 1400 - overhead), "{what}");
        let padded = [fits, vec![0; 1]].concat();
        let fate = bench.fate(
            "from_endpoint",
            "padding counts on the path",
            &padded,
            Context::default(),
        );
        assert_eq!(fate, too_big(&padded, 1400 - overhead), "{what}");
    }
    bench.peer(
        HOST_B,
        Peer {
            mtu: UNDERLAY_MTU,
            ifindex: 0,
            ..peer_b4()
        },
    );
    bench.table(
        "from_endpoint",
        vec![("the route is gone", inner(100), dropped(Reason::NoRoute))],
    );
}

#[test]
fn the_kernel_refuses() {
    let Some(bench) = Bench::new() else { return };
    // The facility makes super-packets of no protocol, which no tunnel takes.
    let context = Context {
        segment: 1000,
        ..Context::default()
    };
    let fate = bench.fate(
        "from_endpoint",
        "a super-packet of no protocol",
        &tcp4(&WEB, &DB, &[7; 3000]),
        context,
    );
    assert_eq!(fate, dropped(Reason::Kernel));
}
