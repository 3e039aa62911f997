//! Table P, and H with it: frames from a workload.

use std::time::Duration;

use overlay::model::{Ingress, Reason, Verdict};
use overlay::object::domain::Encapsulation;

use crate::fabric::{CACHE, DB, HOST_SIDE, LINK_LOCAL, NOBODY, WEB, deliver, drop, fabric, label, mac, sent, web};
use crate::frames::{BROADCAST, SOLICITED_NODE, arp, extended, four, icmp6, udp4, udp6, with};
use crate::lab;

#[test]
fn frames_from_a_workload() {
    let db = mac(DB).octets();
    let good = udp4(db, WEB, four(5), 2000, 8);
    let good6 = udp6(db, WEB, "fd00::5", 2000, 8);
    let to_beta = |v: u32| Verdict::Encapsulate {
        to: lab::node("beta"),
        vni: u64::from(v).try_into().unwrap(),
        source: "192.0.2.1".parse().unwrap(),
        destination: "192.0.2.2".parse().unwrap(),
        encapsulation: Encapsulation::Vxlan,
        frame: vec![],
    };
    let to_gamma = Verdict::Encapsulate {
        to: lab::node("gamma"),
        vni: 7u64.try_into().unwrap(),
        source: "2001:db8::1".parse().unwrap(),
        destination: "2001:db8::3".parse().unwrap(),
        encapsulation: Encapsulation::Vxlan,
        frame: vec![],
    };
    let vlan = [&good[..12], &[0x81, 0x00, 0, 5], &good[12..]].concat();
    let first_fragment = |f: &[u8]| with(f, &[(20, 0x20)]);
    let later_fragment = |f: &[u8]| with(f, &[(20, 0x00), (21, 0x01)]);
    let dhcp = udp4(db, WEB, four(5), 68, 8);
    let dhcp6 = udp6(db, WEB, "fd00::5", 546, 8);
    let ra = icmp6(db, LINK_LOCAL, 134, &[0; 8]);
    let table = [
        ("P2 too short", good[..13].to_vec(), drop(Reason::Truncated)),
        (
            "P3 another MAC",
            udp4(db, DB, four(5), 2000, 8),
            drop(Reason::SourceMac),
        ),
        (
            "P4 to the host",
            udp4(mac(HOST_SIDE).octets(), WEB, four(5), 2000, 8),
            drop(Reason::HostLink),
        ),
        (
            "P5b a service tag",
            with(&good, &[(12, 0x88), (13, 0xa8)]),
            drop(Reason::EtherType),
        ),
        ("P5b a VLAN tag", vlan, drop(Reason::EtherType)),
        (
            "P9 another address",
            udp4(db, WEB, four(6), 2000, 8),
            drop(Reason::SourceAddress),
        ),
        (
            "P9 no address",
            udp4(BROADCAST, WEB, [0; 4], 67, 8),
            drop(Reason::SourceAddress),
        ),
        (
            "P9 another IPv6 address",
            udp6(db, WEB, "fd00::6", 2000, 8),
            drop(Reason::SourceAddress),
        ),
        (
            "P9 another link-local one",
            udp6(db, WEB, "fe80::ff:fe00:6", 2000, 8),
            drop(Reason::SourceAddress),
        ),
        (
            "P9 :: that is no ND",
            udp6(SOLICITED_NODE, WEB, "::", 2000, 8),
            drop(Reason::SourceAddress),
        ),
        (
            "P9 :: to one station",
            icmp6(db, "::", 143, &[0; 4]),
            drop(Reason::SourceAddress),
        ),
        (
            "P9 :: in an echo request",
            icmp6(SOLICITED_NODE, "::", 128, &[0; 4]),
            drop(Reason::SourceAddress),
        ),
        ("P10 RA", ra.clone(), drop(Reason::RogueServer)),
        ("P10 RA behind options", extended(&ra, 60, 2), drop(Reason::RogueServer)),
        (
            "P10 RA in a first fragment",
            with(&extended(&ra, 44, 1), &[(56, 0), (57, 1)]),
            drop(Reason::RogueServer),
        ),
        ("P10 DHCP", dhcp.clone(), drop(Reason::RogueServer)),
        (
            "P10 DHCP in a first fragment",
            first_fragment(&dhcp),
            drop(Reason::RogueServer),
        ),
        (
            "P10 not in a later one",
            later_fragment(&dhcp),
            drop(Reason::FragmentState),
        ),
        ("P10 DHCPv6", dhcp6, drop(Reason::RogueServer)),
        ("P10 546 in IPv4 is nothing", udp4(db, WEB, four(5), 546, 8), to_beta(7)),
        (
            "P5a what no bridge passes on",
            udp4([1, 0x80, 0xc2, 0, 0, 14], WEB, four(5), 2000, 8),
            drop(Reason::Multicast),
        ),
        (
            "P15 to itself",
            udp4(mac(WEB).octets(), WEB, four(5), 2000, 8),
            drop(Reason::UnknownDestination),
        ),
        (
            "P15 to nobody",
            udp4(mac(NOBODY).octets(), WEB, four(5), 2000, 8),
            drop(Reason::UnknownDestination),
        ),
        (
            "P15 to 0",
            udp4([0; 6], WEB, four(5), 2000, 8),
            drop(Reason::UnknownDestination),
        ),
        ("P18 at the MTU", udp4(db, WEB, four(5), 2000, 1430 - 28), to_beta(7)),
        (
            "P18 at the MTU, IPv6",
            udp6(db, WEB, "fd00::5", 2000, 1430 - 48),
            to_beta(7),
        ),
        ("P22 IPv4", good.clone(), to_beta(7)),
        ("P22 IPv6", good6.clone(), to_beta(7)),
        ("P22 link-local", udp6(db, WEB, LINK_LOCAL, 2000, 8), to_beta(7)),
        (
            "P22 over IPv6",
            udp4(mac(CACHE).octets(), WEB, four(5), 2000, 8),
            to_gamma,
        ),
        ("P22 padding", [&good[..], &[0; 30]].concat(), to_beta(7)),
        ("H1", good[..14 + 19].to_vec(), drop(Reason::Truncated)),
        ("H1 IPv6", good6[..14 + 39].to_vec(), drop(Reason::Truncated)),
        ("H2 version", with(&good, &[(14, 0x65)]), drop(Reason::Malformed)),
        ("H2 version, IPv6", with(&good6, &[(14, 0x45)]), drop(Reason::Malformed)),
        ("H2 header length", with(&good, &[(14, 0x44)]), drop(Reason::Malformed)),
        (
            "H2 total length",
            with(&good, &[(16, 0), (17, 19)]),
            drop(Reason::Malformed),
        ),
        ("H3 header length", with(&good, &[(14, 0x4f)]), drop(Reason::Truncated)),
        (
            "H3 total length",
            with(&good, &[(16, 0), (17, 37)]),
            drop(Reason::Truncated),
        ),
        ("H3 payload length", with(&good6, &[(19, 17)]), drop(Reason::Truncated)),
        ("H4 eight", extended(&good6, 60, 8), to_beta(7)),
        ("H4 nine", extended(&good6, 0, 9), drop(Reason::Malformed)),
        (
            "H5",
            with(&extended(&good6, 43, 1), &[(55, 3)]),
            drop(Reason::Truncated),
        ),
        ("H6 UDP", with(&good, &[(16, 0), (17, 27)]), drop(Reason::Truncated)),
        ("H6 UDP, IPv6", with(&good6, &[(19, 7)]), drop(Reason::Truncated)),
        ("H6 ICMPv6", with(&ra, &[(19, 3)]), drop(Reason::Truncated)),
    ];
    let model = fabric();
    for (row, frame, expected) in table {
        let expected = carrying(expected, &frame);
        assert_eq!(sent(&model, &web("red"), &frame), expected, "{row}");
    }
}

/// With what is carried.
fn carrying(mut verdict: Verdict, what: &[u8]) -> Verdict {
    if let Verdict::Encapsulate { frame, .. } = &mut verdict {
        *frame = what.to_vec();
    }
    verdict
}

#[test]
fn ports_that_are_none() {
    let (model, frame) = (fabric(), udp4(mac(DB).octets(), WEB, four(5), 2000, 8));
    let nowhere = [
        Ingress {
            host: lab::node("zeta"),
            ..web("red")
        },
        Ingress {
            domain: label("pink"),
            ..web("red")
        },
        Ingress {
            endpoint: label("db"),
            ..web("red")
        },
    ];
    for ingress in nowhere {
        assert_eq!(sent(&model, &ingress, &frame), drop(Reason::UnknownPort), "{ingress:?}");
    }
}

#[test]
fn policy_denies_packets_but_not_neighbours() {
    let model = fabric();
    let frame = |to: &str| udp4(mac(to).octets(), WEB, four(5), 2000, 8);
    assert_eq!(sent(&model, &web("green"), &frame(DB)), drop(Reason::Policy));
    assert_eq!(sent(&model, &web("green"), &frame(CACHE)), drop(Reason::Policy));
    assert_eq!(
        sent(&model, &web("green"), &frame(NOBODY)),
        drop(Reason::UnknownDestination)
    );
    let asked = sent(&model, &web("green"), &arp(BROADCAST, 1, (WEB, four(5)), four(6)));
    assert!(matches!(asked, Verdict::Reply(_)), "{asked:?}");
}

#[test]
fn a_way_goes_through_both_hosts() {
    let mut model = fabric();
    let mut way = |ingress: &Ingress, frame: &[u8]| model.journey(ingress, frame, Duration::ZERO);
    let frame = udp4(mac(DB).octets(), WEB, four(5), 2000, 8);
    assert_eq!(
        way(&web("red"), &frame),
        (lab::node("beta"), deliver("red", "db", &frame))
    );
    let over_ipv6 = udp6(mac(CACHE).octets(), WEB, LINK_LOCAL, 2000, 8);
    assert_eq!(
        way(&web("red"), &over_ipv6),
        (lab::node("gamma"), deliver("red", "cache", &over_ipv6))
    );
    // Blue has nobody behind these addresses, though red has.
    assert_eq!(
        way(&web("blue"), &frame),
        (lab::node("alpha"), drop(Reason::UnknownDestination))
    );
    let db = Ingress {
        host: lab::node("beta"),
        endpoint: label("db"),
        ..web("red")
    };
    let back = udp4(mac(WEB).octets(), DB, four(6), 2000, 8);
    assert_eq!(way(&db, &back), (lab::node("alpha"), deliver("red", "web", &back)));
}

#[test]
fn reasons_have_different_names() {
    let names: std::collections::BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
}
