//! Tables A and N: ARP and neighbour discovery from a workload.

use std::net::Ipv6Addr;

use overlay::model::{Ingress, Reason, Verdict};

use crate::fabric::{DB, HOST_SIDE, LINK_LOCAL, WEB, drop, fabric, mac, sent, web};
use crate::frames::{BROADCAST, advertisement, arp, extended, four, solicitation, with};

#[test]
fn arp_from_a_workload() {
    let request = arp(BROADCAST, 1, (WEB, four(5)), four(6));
    let table = [
        ("A1", request[..41].to_vec(), drop(Reason::Truncated)),
        ("A2 hardware", with(&request, &[(15, 6)]), drop(Reason::Malformed)),
        ("A2 protocol", with(&request, &[(16, 0x86)]), drop(Reason::Malformed)),
        (
            "A2 hardware length",
            with(&request, &[(18, 255)]),
            drop(Reason::Malformed),
        ),
        (
            "A2 protocol length",
            with(&request, &[(19, 2)]),
            drop(Reason::Malformed),
        ),
        ("A2 operation", with(&request, &[(21, 3)]), drop(Reason::Malformed)),
        (
            "A3",
            arp(BROADCAST, 1, (DB, four(5)), four(6)),
            drop(Reason::NeighbourSpoof),
        ),
        (
            "A4",
            arp(BROADCAST, 1, (WEB, four(6)), four(7)),
            drop(Reason::NeighbourSpoof),
        ),
        (
            "A4 answer",
            arp(mac(DB).octets(), 2, (WEB, four(7)), four(6)),
            drop(Reason::NeighbourSpoof),
        ),
        (
            "A4 answer for nobody",
            arp(BROADCAST, 2, (WEB, [0; 4]), four(6)),
            drop(Reason::NeighbourSpoof),
        ),
        (
            "A5 answer",
            arp(BROADCAST, 2, (WEB, four(5)), four(6)),
            drop(Reason::Gratuitous),
        ),
        (
            "A5 announcement",
            arp(BROADCAST, 1, (WEB, four(5)), four(5)),
            drop(Reason::Gratuitous),
        ),
        (
            "A6 probe",
            arp(BROADCAST, 1, (WEB, [0; 4]), four(5)),
            drop(Reason::DadProbe),
        ),
        (
            "A7 nobody",
            arp(BROADCAST, 1, (WEB, four(5)), four(77)),
            drop(Reason::UnknownNeighbour),
        ),
        (
            "A7 the gateway",
            arp(BROADCAST, 1, (WEB, four(5)), four(1)),
            drop(Reason::UnknownNeighbour),
        ),
        (
            "P4 to the host",
            arp(mac(HOST_SIDE).octets(), 1, (WEB, four(5)), four(6)),
            drop(Reason::HostLink),
        ),
    ];
    let model = fabric();
    for (row, frame, expected) in table {
        assert_eq!(sent(&model, &web("red"), &frame), expected, "{row}");
    }
    for (asker, to) in [(four(5), BROADCAST), ([0; 4], BROADCAST), (four(5), mac(DB).octets())] {
        let frame = arp(to, 1, (WEB, asker), four(6));
        let Verdict::Reply(reply) = sent(&model, &web("red"), &frame) else {
            panic!("{asker:?}")
        };
        let seen = etherparse::SlicedPacket::from_ethernet(&reply).unwrap();
        let Some(etherparse::NetSlice::Arp(seen)) = seen.net else {
            panic!("{seen:?}")
        };
        assert_eq!(
            (&reply[..6], &reply[6..12]),
            (&mac(WEB).octets()[..], &mac(DB).octets()[..])
        );
        assert_eq!(seen.operation(), etherparse::ArpOperation::REPLY);
        assert_eq!(
            (seen.sender_hw_addr(), seen.sender_protocol_addr()),
            (&mac(DB).octets()[..], &four(6)[..])
        );
        assert_eq!(
            (seen.target_hw_addr(), seen.target_protocol_addr()),
            (&mac(WEB).octets()[..], &asker[..])
        );
        assert_eq!(reply.len(), 42);
    }
}

#[test]
fn neighbour_discovery_from_a_workload() {
    let good = solicitation("fd00::5", "fd00::6");
    let host = mac(HOST_SIDE).link_local().to_string();
    let table = [
        ("N1 hop limit", with(&good, &[(21, 254)]), drop(Reason::Malformed)),
        ("N1 code", with(&good, &[(55, 1)]), drop(Reason::Malformed)),
        ("N1 behind options", extended(&good, 60, 1), drop(Reason::Malformed)),
        (
            "N1 in a fragment",
            with(&extended(&good, 44, 1), &[(56, 0), (57, 1)]),
            drop(Reason::Malformed),
        ),
        ("N2", with(&good, &[(19, 23)]), drop(Reason::Truncated)),
        ("N3", solicitation("fd00::5", "ff02::1"), drop(Reason::Malformed)),
        ("N4", advertisement("fd00::5", "fd00::5"), drop(Reason::Gratuitous)),
        (
            "N4 link-local",
            advertisement(LINK_LOCAL, LINK_LOCAL),
            drop(Reason::Gratuitous),
        ),
        ("N5", advertisement("fd00::5", "fd00::6"), drop(Reason::NeighbourSpoof)),
        ("N6 probe", solicitation("::", "fd00::5"), drop(Reason::DadProbe)),
        (
            "N6 probe of the link-local one",
            solicitation("::", LINK_LOCAL),
            drop(Reason::DadProbe),
        ),
        ("N6 own", solicitation("fd00::5", LINK_LOCAL), drop(Reason::DadProbe)),
        ("N7", solicitation(LINK_LOCAL, &host), drop(Reason::HostLink)),
        (
            "N8",
            solicitation("fd00::5", "fd00::77"),
            drop(Reason::UnknownNeighbour),
        ),
        ("P9", solicitation("fd00::6", "fd00::7"), drop(Reason::SourceAddress)),
    ];
    let model = fabric();
    for (row, frame, expected) in table {
        assert_eq!(sent(&model, &web("red"), &frame), expected, "{row}");
    }
    let tap = Ingress {
        host_mac: None,
        ..web("red")
    };
    let asked = sent(&model, &tap, &solicitation(LINK_LOCAL, &host));
    assert!(
        matches!(asked, Verdict::Flood { .. }),
        "nobody knows a link-local address: {asked:?}"
    );
}

#[test]
fn advertisements_are_right() {
    let model = fabric();
    let all_nodes = ([0x33, 0x33, 0, 0, 0, 1], "ff02::1".parse::<Ipv6Addr>().unwrap(), 0x20);
    let to_asker = |address: &str| (mac(WEB).octets(), address.parse::<Ipv6Addr>().unwrap(), 0x60);
    let table = [
        ("fd00::5", "fd00::6", to_asker("fd00::5")),
        (LINK_LOCAL, "fe80::ff:fe00:6", to_asker(LINK_LOCAL)),
        ("::", "fd00::6", all_nodes),
    ];
    for (asker, target, (to_mac, to, flags)) in table {
        let verdict = sent(&model, &web("red"), &solicitation(asker, target));
        let Verdict::Reply(reply) = verdict else {
            panic!("{asker} {target}: {verdict:?}")
        };
        let seen = etherparse::SlicedPacket::from_ethernet(&reply).unwrap();
        let (Some(etherparse::NetSlice::Ipv6(ip)), Some(etherparse::TransportSlice::Icmpv6(icmp))) =
            (&seen.net, &seen.transport)
        else {
            panic!("{seen:?}")
        };
        let target: Ipv6Addr = target.parse().unwrap();
        let header = ip.header();
        assert_eq!((&reply[..6], &reply[6..12]), (&to_mac[..], &mac(DB).octets()[..]));
        assert_eq!(
            (header.source_addr(), header.destination_addr(), header.hop_limit()),
            (target, to, 255)
        );
        assert!(icmp.is_checksum_valid(header.source(), header.destination()));
        assert_eq!(
            (icmp.type_u8(), icmp.code_u8(), icmp.bytes5to8()),
            (136, 0, [flags, 0, 0, 0])
        );
        assert_eq!(
            icmp.payload(),
            [&target.octets()[..], &[2, 1], &mac(DB).octets()].concat()
        );
    }
}
