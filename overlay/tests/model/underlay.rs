//! Table T: packets from the underlay.

use overlay::model::{Reason, Verdict};

use crate::fabric::{CACHE, DB, NOBODY, WEB, deliver, drop, fabric, mac, received};
use crate::frames::{BROADCAST, advertisement, arp, four, icmp6, summed, tunnelled, udp4, udp6, with};
use crate::lab;

const BETA: &str = "192.0.2.2";
const ALPHA: &str = "192.0.2.1";

#[test]
fn packets_from_the_underlay() {
    let to_web = mac(WEB).octets();
    let inner = udp4(to_web, DB, four(6), 2000, 8);
    let from_beta = |inner: &[u8]| tunnelled(BETA, ALPHA, 8, 7, inner);
    let good = from_beta(&inner);
    let good6 = tunnelled("2001:db8::3", "2001:db8::1", 8, 7, &inner);
    let inner_of_cache = udp4(to_web, CACHE, four(7), 2000, 8);
    let ra = with(&icmp6(to_web, "fd00::6", 134, &[0; 8]), &[(11, 6)]);
    let na = with(
        &advertisement("fd00::6", "fd00::6"),
        &[(0, 2), (1, 0), (2, 0), (5, 5), (11, 6)],
    );
    let spoof = with(
        &advertisement("fd00::6", "fd00::7"),
        &[(0, 2), (1, 0), (2, 0), (5, 5), (11, 6)],
    );
    let own_choice = with(
        &advertisement("fd00::6", "fe80::77"),
        &[(0, 2), (1, 0), (2, 0), (5, 5), (11, 6)],
    );
    let inner6 = udp6(to_web, DB, "fd00::6", 2000, 8);
    let capable = with(&inner, &[(15, 2), (25, inner[25] - 2)]);
    let marked = with(&capable, &[(15, 3), (25, inner[25] - 3)]);
    let mut arp_inner = arp(to_web, 2, (DB, four(6)), four(5));
    arp_inner[11] = 6;
    let table = [
        (
            "T1 no host",
            tunnelled("192.0.2.9", ALPHA, 8, 7, &inner),
            drop(Reason::UnknownVtep),
        ),
        (
            "T1 a host without stations here",
            tunnelled("192.0.2.4", ALPHA, 8, 7, &inner),
            drop(Reason::UnknownVtep),
        ),
        (
            "T1 ourselves",
            tunnelled(ALPHA, ALPHA, 8, 7, &inner),
            drop(Reason::UnknownVtep),
        ),
        ("T2", with(&good, &[(20, 0x20)]), drop(Reason::OuterFragment)),
        ("T2a", summed(with(&good, &[(22, 0)])), drop(Reason::OuterTtl)),
        ("T2a over IPv6", with(&good6, &[(21, 0)]), drop(Reason::OuterTtl)),
        ("T2b", with(&good, &[(24, !good[24])]), drop(Reason::OuterChecksum)),
        (
            "T3 what is there",
            good[..14 + 20 + 8 + 7].to_vec(),
            drop(Reason::Truncated),
        ),
        (
            "T3 UDP length",
            with(&good, &[(38, 0), (39, 15)]),
            drop(Reason::Truncated),
        ),
        ("T3 cut short", good[..good.len() - 1].to_vec(), drop(Reason::Truncated)),
        (
            "T3 IPv6 cut short",
            good6[..good6.len() - 1].to_vec(),
            drop(Reason::Truncated),
        ),
        (
            "T3a UDP is shorter",
            with(&good, &[(39, good[39] - 1)]),
            drop(Reason::OuterLength),
        ),
        (
            "T3a UDP is longer",
            with(&good, &[(39, good[39] + 1)]),
            drop(Reason::OuterLength),
        ),
        (
            "T3a IPv4 is shorter",
            summed(with(&good, &[(17, good[17] - 1)])),
            drop(Reason::OuterLength),
        ),
        (
            "T3a IPv6 is shorter",
            with(&good6, &[(19, good6[19] - 1)]),
            drop(Reason::OuterLength),
        ),
        (
            "behind the IP packet",
            [&good[..], &[0; 3]].concat(),
            deliver("red", "web", &[&inner[..], &[0; 3]].concat()),
        ),
        ("T4", tunnelled(BETA, ALPHA, 0xf7, 7, &inner), drop(Reason::VxlanFlags)),
        (
            "T4 reserved bits",
            tunnelled(BETA, ALPHA, 0xff, 7, &inner),
            deliver("red", "web", &inner),
        ),
        (
            "T5 not in use",
            tunnelled(BETA, ALPHA, 8, 77, &inner),
            drop(Reason::UnknownVni),
        ),
        (
            "T5 zero",
            tunnelled(BETA, ALPHA, 8, 0, &inner),
            drop(Reason::UnknownVni),
        ),
        (
            "T5 reserved",
            tunnelled(BETA, ALPHA, 8, 0xff_ffff, &inner),
            drop(Reason::UnknownVni),
        ),
        ("T6", from_beta(&inner[..13]), drop(Reason::Truncated)),
        (
            "T7 nobody",
            from_beta(&udp4(to_web, NOBODY, four(6), 2000, 8)),
            drop(Reason::WrongVtep),
        ),
        (
            "T7 lives elsewhere",
            from_beta(&udp4(to_web, CACHE, four(7), 2000, 8)),
            drop(Reason::WrongVtep),
        ),
        (
            "T7 lives here",
            from_beta(&udp4(to_web, WEB, four(5), 2000, 8)),
            drop(Reason::WrongVtep),
        ),
        (
            "T7 in another domain",
            tunnelled(BETA, ALPHA, 8, 8, &inner),
            drop(Reason::WrongVtep),
        ),
        (
            "T7b ARP that tells what is known",
            from_beta(&arp_inner),
            drop(Reason::Gratuitous),
        ),
        (
            "T7a VLAN",
            from_beta(&with(&inner, &[(12, 0x81), (13, 0)])),
            drop(Reason::EtherType),
        ),
        ("T9", from_beta(&inner[..14 + 19]), drop(Reason::Truncated)),
        (
            "T9 version",
            from_beta(&with(&inner, &[(14, 0x55)])),
            drop(Reason::Malformed),
        ),
        (
            "T10",
            from_beta(&udp4(to_web, DB, four(7), 2000, 8)),
            drop(Reason::WrongVtep),
        ),
        (
            "T10 ::",
            from_beta(&udp6(to_web, DB, "::", 2000, 8)),
            drop(Reason::WrongVtep),
        ),
        ("T11 RA", from_beta(&ra), drop(Reason::RogueServer)),
        (
            "T11 DHCP",
            from_beta(&udp4(to_web, DB, four(6), 68, 8)),
            drop(Reason::RogueServer),
        ),
        (
            "T12 for one",
            from_beta(&own_choice),
            deliver("red", "web", &own_choice),
        ),
        ("T12 of what is known", from_beta(&na), drop(Reason::Gratuitous)),
        ("T12 of another's", from_beta(&spoof), drop(Reason::NeighbourSpoof)),
        (
            "T16",
            from_beta(&udp4(mac(NOBODY).octets(), DB, four(6), 2000, 8)),
            drop(Reason::UnknownDestination),
        ),
        (
            "T17",
            from_beta(&udp4(mac(CACHE).octets(), DB, four(6), 2000, 8)),
            drop(Reason::NotHere),
        ),
        ("T19", tunnelled(BETA, ALPHA, 8, 9, &inner), drop(Reason::Policy)),
        ("T20", summed(with(&good, &[(15, 3)])), drop(Reason::Ecn)),
        (
            "T20 capable",
            summed(with(&from_beta(&capable), &[(15, 3)])),
            deliver("red", "web", &marked),
        ),
        ("T21", good.clone(), deliver("red", "web", &inner)),
        ("T21 IPv6", from_beta(&inner6), deliver("red", "web", &inner6)),
        (
            "T1 the family that the tunnel to the host is not in",
            tunnelled("2001:db8::2", "2001:db8::1", 8, 7, &inner),
            drop(Reason::UnknownVtep),
        ),
        (
            "T21 over IPv6",
            tunnelled("2001:db8::3", "2001:db8::1", 8, 7, &inner_of_cache),
            deliver("red", "web", &inner_of_cache),
        ),
        ("not to us", tunnelled(BETA, "192.0.2.3", 8, 7, &inner), Verdict::Pass),
        ("another port", with(&good, &[(37, 0)]), Verdict::Pass),
        ("not UDP", with(&good, &[(23, 6)]), Verdict::Pass),
        ("a later fragment", with(&good, &[(21, 1)]), Verdict::Pass),
        (
            "a VLAN",
            [&good[..12], &[0x81, 0, 0, 5], &good[12..]].concat(),
            Verdict::Pass,
        ),
        ("no UDP header", good[..14 + 20 + 7].to_vec(), Verdict::Pass),
        ("ARP", arp(BROADCAST, 1, (WEB, four(5)), four(6)), Verdict::Pass),
    ];
    let model = fabric();
    for (row, packet, expected) in table {
        assert_eq!(received(&model, lab::node("alpha"), &packet), expected, "{row}");
    }
    assert_eq!(received(&model, lab::node("zeta"), &good), Verdict::Pass);
}

#[test]
fn a_strict_host_refuses_reserved_bits() {
    let inner = udp4(mac(WEB).octets(), DB, four(6), 2000, 8);
    let good = tunnelled(BETA, ALPHA, 8, 7, &inner);
    let header = 14 + 20 + 8;
    for strict in [false, true] {
        let mut model = fabric();
        model.host_mut(lab::node("alpha")).unwrap().strict = strict;
        assert_eq!(
            received(&model, lab::node("alpha"), &good),
            deliver("red", "web", &inner),
            "nothing is reserved in it"
        );
        for (at, byte) in [(0, 0x88), (0, 0x09), (1, 1), (2, 1), (3, 0x80), (7, 1)] {
            let expected = if strict {
                drop(Reason::VxlanReserved)
            } else {
                deliver("red", "web", &inner)
            };
            let packet = with(&good, &[(header + at, byte)]);
            assert_eq!(received(&model, lab::node("alpha"), &packet), expected, "byte {at}");
        }
    }
}
