//! The reference model, row by row of its tables. Frames are made by etherparse, not by our own header code.
//!
//! Red and blue have the same subnets, addresses and MACs. Alpha has red's web and blue's web, beta red's db, gamma
//! red's cache; beta reaches gamma over IPv6 only. Green denies; it has an endpoint on alpha and one on beta.

mod lab;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use membership::id::Label;
use overlay::cluster::Cluster;
use overlay::model::{Host, Ingress, Model, Reason, Verdict};
use overlay::name::Mac;
use overlay::view::View;

const HOSTS: &str = "
hosts:
  alpha: {ipv4: 192.0.2.1, ipv6: '2001:db8::1'}
  beta: {ipv4: 192.0.2.2, ipv6: '2001:db8::2'}
  gamma: {ipv6: '2001:db8::3'}
  delta: {ipv4: 192.0.2.4}
";

fn domain(name: &str, vni: u32, policy: &str, more: &str) -> String {
    format!(
        "domain: {name}\n{HOSTS}
objects:
  - {{stamp: 1, kind: Domain, name: {name}, spec: {{defaultPolicy: {policy}}}}}
  - {{stamp: 2, kind: Network, domain: {name}, name: lan, spec: {{subnets: [10.0.0.0/24, 'fd00::/64'], vni: {vni}}}}}
  - {{stamp: 3, kind: Endpoint, domain: {name}, name: web, spec: {{network: lan, mac: '{WEB}', addresses: [10.0.0.5, 'fd00::5']}}}}
  - {{stamp: 3, kind: Endpoint, domain: {name}, name: db, spec: {{network: lan, mac: '{DB}', addresses: [10.0.0.6, 'fd00::6']}}}}
  - {{stamp: 3, kind: Endpoint, domain: {name}, name: cache, spec: {{network: lan, mac: '{CACHE}', addresses: [10.0.0.7, 'fd00::7']}}}}
{more}"
    )
}

const WEB: &str = "02:00:00:00:00:05";
const DB: &str = "02:00:00:00:00:06";
const CACHE: &str = "02:00:00:00:00:07";
const NOBODY: &str = "02:00:00:00:00:99";
const HOST_SIDE: &str = "02:fa:b0:00:00:01";
const BROADCAST: [u8; 6] = [0xff; 6];

fn fabric() -> Model {
    let red = "attachments:
  - {endpoint: web, host: alpha, counter: 1, interface: tap0}
  - {endpoint: db, host: beta, counter: 1, interface: tap0}
  - {endpoint: cache, host: gamma, counter: 1, interface: tap0}
";
    let blue = "attachments:\n  - {endpoint: web, host: alpha, counter: 1, interface: tap1}\n";
    let green = "attachments:
  - {endpoint: web, host: alpha, counter: 1, interface: tap2}
  - {endpoint: cache, host: alpha, counter: 1, interface: tap3}
  - {endpoint: db, host: beta, counter: 1, interface: tap2}
";
    let domains = [
        domain("red", 7, "allow", red),
        domain("blue", 8, "allow", blue),
        domain("green", 9, "deny", green),
    ];
    let inputs: Vec<lab::Input> = domains.iter().map(|text| lab::Input::read(text)).collect();
    let intents: Vec<_> = inputs.iter().flat_map(lab::Input::intents).collect();
    let facts: Vec<_> = inputs.iter().flat_map(lab::Input::facts).collect();
    // Each input tells the same hosts; one telling is enough.
    let system: Vec<_> = inputs[0].facts();
    let cluster = Cluster::of(inputs[0].names(), &system, &intents);
    let mut hosts: BTreeMap<_, Host> = BTreeMap::new();
    for name in ["alpha", "beta", "gamma", "delta"].map(lab::node) {
        let host = hosts.entry(name).or_default();
        host.vtep = cluster.hosts.get(&name).cloned();
        for input in &inputs {
            let view = View::of(&input.domain, &intents, &facts, &cluster, &|_| true).unwrap();
            host.domains.insert(input.domain.clone(), overlay::compile(&view, name));
        }
    }
    Model::of(hosts)
}

fn mac(text: &str) -> Mac {
    text.parse().unwrap()
}

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn web(domain: &str) -> Ingress {
    let host_mac = Some(mac(HOST_SIDE));
    Ingress {
        host: lab::node("alpha"),
        domain: label(domain),
        endpoint: label("web"),
        host_mac,
    }
}

fn drop(reason: Reason) -> Verdict {
    Verdict::Drop(reason)
}

fn deliver(domain: &str, endpoint: &str) -> Verdict {
    Verdict::Deliver {
        domain: label(domain),
        endpoint: label(endpoint),
    }
}

/// UDP over IPv4.
fn udp4(to: [u8; 6], from: &str, source: [u8; 4], port: u16, payload: usize) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac(from).octets(), to)
        .ipv4(source, [10, 0, 0, 6], 64)
        .udp(1000, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0; payload]).unwrap();
    frame
}

fn udp6(to: [u8; 6], from: &str, source: &str, port: u16, payload: usize) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().unwrap();
    let target: Ipv6Addr = "fd00::6".parse().unwrap();
    let builder = PacketBuilder::ethernet2(mac(from).octets(), to)
        .ipv6(source.octets(), target.octets(), 64)
        .udp(1000, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0; payload]).unwrap();
    frame
}

/// ICMPv6 of a type and with a body, from an address.
fn icmp6(to: [u8; 6], source: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().unwrap();
    let target: Ipv6Addr = "ff02::1".parse().unwrap();
    let builder = PacketBuilder::ethernet2(mac(WEB).octets(), to)
        .ipv6(source.octets(), target.octets(), 255)
        .icmpv6_raw(kind, 0, [0; 4]);
    let mut frame = Vec::new();
    builder.write(&mut frame, body).unwrap();
    frame
}

const SOLICITED_NODE: [u8; 6] = [0x33, 0x33, 0xff, 0, 0, 6];

fn solicitation(source: &str, target: &str) -> Vec<u8> {
    icmp6(
        SOLICITED_NODE,
        source,
        135,
        &target.parse::<Ipv6Addr>().unwrap().octets(),
    )
}

fn advertisement(source: &str, target: &str) -> Vec<u8> {
    icmp6(
        SOLICITED_NODE,
        source,
        136,
        &target.parse::<Ipv6Addr>().unwrap().octets(),
    )
}

fn arp(to: [u8; 6], operation: u16, sender: (&str, [u8; 4]), target: [u8; 4]) -> Vec<u8> {
    let packet = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        etherparse::EtherType::IPV4,
        etherparse::ArpOperation(operation),
        &mac(sender.0).octets(),
        &sender.1,
        &[0; 6],
        &target,
    )
    .unwrap();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac(WEB).octets(), to)
        .arp(packet)
        .write(&mut frame)
        .unwrap();
    frame
}

/// The frame with some bytes changed.
fn with(frame: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for (at, byte) in changes {
        frame[*at] = *byte;
    }
    frame
}

/// The IPv6 frame with extension headers of a kind before its upper layer.
fn extended(frame: &[u8], kind: u8, count: usize) -> Vec<u8> {
    let (mut extensions, upper) = (Vec::new(), frame[20]);
    for n in 0..count {
        let next = if n + 1 == count { upper } else { kind };
        extensions.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    }
    let length = u16::from_be_bytes([frame[18], frame[19]]) + extensions.len() as u16;
    let head = with(
        &frame[..54],
        &[(18, (length >> 8) as u8), (19, length as u8), (20, kind)],
    );
    [&head, &extensions, &frame[54..]].concat()
}

fn four(last: u8) -> [u8; 4] {
    [10, 0, 0, last]
}

const LINK_LOCAL: &str = "fe80::ff:fe00:5";

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
    };
    let to_gamma = Verdict::Encapsulate {
        to: lab::node("gamma"),
        vni: 7u64.try_into().unwrap(),
        source: "2001:db8::1".parse().unwrap(),
        destination: "2001:db8::3".parse().unwrap(),
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
            "P7 IPX",
            with(&good, &[(12, 0x81), (13, 0x37)]),
            drop(Reason::EtherType),
        ),
        ("P7 a VLAN tag", vlan, drop(Reason::EtherType)),
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
        (
            "P9 :: in an MLD report",
            icmp6(SOLICITED_NODE, "::", 143, &[0; 4]),
            drop(Reason::Multicast),
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
        ("P10 not in a later one", later_fragment(&dhcp), to_beta(7)),
        ("P10 DHCPv6", dhcp6, drop(Reason::RogueServer)),
        ("P10 546 in IPv4 is nothing", udp4(db, WEB, four(5), 546, 8), to_beta(7)),
        (
            "P12 broadcast",
            udp4(BROADCAST, WEB, four(5), 2000, 8),
            drop(Reason::Multicast),
        ),
        (
            "P12 router solicitation",
            icmp6(SOLICITED_NODE, LINK_LOCAL, 133, &[]),
            drop(Reason::Multicast),
        ),
        (
            "P13 to itself",
            udp4(mac(WEB).octets(), WEB, four(5), 2000, 8),
            drop(Reason::UnknownDestination),
        ),
        (
            "P13 to nobody",
            udp4(mac(NOBODY).octets(), WEB, four(5), 2000, 8),
            drop(Reason::UnknownDestination),
        ),
        (
            "P13 to 0",
            udp4([0; 6], WEB, four(5), 2000, 8),
            drop(Reason::UnknownDestination),
        ),
        ("P15 at the MTU", udp4(db, WEB, four(5), 2000, 1430 - 28), to_beta(7)),
        (
            "P15 over it",
            udp4(db, WEB, four(5), 2000, 1430 - 27),
            drop(Reason::Mtu),
        ),
        (
            "P15 at the MTU, IPv6",
            udp6(db, WEB, "fd00::5", 2000, 1430 - 48),
            to_beta(7),
        ),
        (
            "P15 over it, IPv6",
            udp6(db, WEB, "fd00::5", 2000, 1430 - 47),
            drop(Reason::Mtu),
        ),
        ("P18 IPv4", good.clone(), to_beta(7)),
        ("P18 IPv6", good6.clone(), to_beta(7)),
        ("P18 link-local", udp6(db, WEB, LINK_LOCAL, 2000, 8), to_beta(7)),
        (
            "P18 over IPv6",
            udp4(mac(CACHE).octets(), WEB, four(5), 2000, 8),
            to_gamma,
        ),
        ("P18 padding", [&good[..], &[0; 30]].concat(), to_beta(7)),
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
        ("H4 four", extended(&good6, 60, 4), to_beta(7)),
        ("H4 five", extended(&good6, 0, 5), drop(Reason::Malformed)),
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
        assert_eq!(model.from_endpoint(&web("red"), &frame), expected, "{row}");
    }
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
        assert_eq!(
            model.from_endpoint(&ingress, &frame),
            drop(Reason::UnknownPort),
            "{ingress:?}"
        );
    }
}

#[test]
fn policy_denies_packets_but_not_neighbours() {
    let model = fabric();
    let frame = |to: &str| udp4(mac(to).octets(), WEB, four(5), 2000, 8);
    assert_eq!(model.from_endpoint(&web("green"), &frame(DB)), drop(Reason::Policy));
    assert_eq!(model.from_endpoint(&web("green"), &frame(CACHE)), drop(Reason::Policy));
    assert_eq!(
        model.from_endpoint(&web("green"), &frame(NOBODY)),
        drop(Reason::UnknownDestination)
    );
    let asked = model.from_endpoint(&web("green"), &arp(BROADCAST, 1, (WEB, four(5)), four(6)));
    assert!(matches!(asked, Verdict::Reply(_)), "{asked:?}");
}

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
        assert_eq!(model.from_endpoint(&web("red"), &frame), expected, "{row}");
    }
    for (asker, to) in [(four(5), BROADCAST), ([0; 4], BROADCAST), (four(5), mac(DB).octets())] {
        let frame = arp(to, 1, (WEB, asker), four(6));
        let Verdict::Reply(reply) = model.from_endpoint(&web("red"), &frame) else {
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
        assert_eq!(model.from_endpoint(&web("red"), &frame), expected, "{row}");
    }
    let tap = Ingress {
        host_mac: None,
        ..web("red")
    };
    assert_eq!(
        model.from_endpoint(&tap, &solicitation(LINK_LOCAL, &host)),
        drop(Reason::UnknownNeighbour)
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
        let verdict = model.from_endpoint(&web("red"), &solicitation(asker, target));
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

/// A packet from the underlay: outer headers, a VXLAN header with flags and VNI, an inner frame.
fn tunnelled(source: &str, destination: &str, flags: u8, vni: u32, inner: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let payload = [&[flags, 0, 0, 0, a, b, c, 0][..], inner].concat();
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let builder = match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => ethernet.ipv4(Ipv4Addr::octets(&s), Ipv4Addr::octets(&d), 64),
        (IpAddr::V6(s), IpAddr::V6(d)) => ethernet.ipv6(Ipv6Addr::octets(&s), Ipv6Addr::octets(&d), 64),
        other => panic!("{other:?}"),
    };
    let mut packet = Vec::new();
    builder.udp(50_000, 4789).write(&mut packet, &payload).unwrap();
    packet
}

const BETA: &str = "192.0.2.2";
const ALPHA: &str = "192.0.2.1";

#[test]
fn packets_from_the_underlay() {
    let to_web = mac(WEB).octets();
    let inner = udp4(to_web, DB, four(6), 2000, 8);
    let from_beta = |inner: &[u8]| tunnelled(BETA, ALPHA, 8, 7, inner);
    let good = from_beta(&inner);
    let ra = with(&icmp6(to_web, "fd00::6", 134, &[0; 8]), &[(11, 6)]);
    let na = with(
        &advertisement("fd00::6", "fd00::6"),
        &[(0, 2), (1, 0), (2, 0), (5, 5), (11, 6)],
    );
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
        ("T4", tunnelled(BETA, ALPHA, 0xf7, 7, &inner), drop(Reason::VxlanFlags)),
        (
            "T4 reserved bits",
            tunnelled(BETA, ALPHA, 0xff, 7, &inner),
            deliver("red", "web"),
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
        ("T8 ARP", from_beta(&arp_inner), drop(Reason::EtherType)),
        (
            "T8 VLAN",
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
        ("T12", from_beta(&na), drop(Reason::NeighbourSpoof)),
        (
            "T13",
            from_beta(&udp4(BROADCAST, DB, four(6), 2000, 8)),
            drop(Reason::Multicast),
        ),
        (
            "T14",
            from_beta(&udp4(mac(NOBODY).octets(), DB, four(6), 2000, 8)),
            drop(Reason::UnknownDestination),
        ),
        (
            "T15",
            from_beta(&udp4(mac(CACHE).octets(), DB, four(6), 2000, 8)),
            drop(Reason::NotHere),
        ),
        ("T16", tunnelled(BETA, ALPHA, 8, 9, &inner), drop(Reason::Policy)),
        ("T17", with(&good, &[(15, 3)]), drop(Reason::Ecn)),
        (
            "T17 capable",
            with(&from_beta(&with(&inner, &[(15, 2)])), &[(15, 3)]),
            deliver("red", "web"),
        ),
        ("T18", good.clone(), deliver("red", "web")),
        (
            "T18 IPv6",
            from_beta(&udp6(to_web, DB, "fd00::6", 2000, 8)),
            deliver("red", "web"),
        ),
        (
            "T18 over IPv6",
            tunnelled("2001:db8::2", "2001:db8::1", 8, 7, &inner),
            deliver("red", "web"),
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
        assert_eq!(model.from_underlay(lab::node("alpha"), &packet), expected, "{row}");
    }
    assert_eq!(model.from_underlay(lab::node("zeta"), &good), Verdict::Pass);
}

#[test]
fn a_way_goes_through_both_hosts() {
    let model = fabric();
    let frame = udp4(mac(DB).octets(), WEB, four(5), 2000, 8);
    assert_eq!(
        model.journey(&web("red"), &frame),
        (lab::node("beta"), deliver("red", "db"))
    );
    let over_ipv6 = udp6(mac(CACHE).octets(), WEB, LINK_LOCAL, 2000, 8);
    assert_eq!(
        model.journey(&web("red"), &over_ipv6),
        (lab::node("gamma"), deliver("red", "cache"))
    );
    // Blue has nobody behind these addresses, though red has.
    assert_eq!(
        model.journey(&web("blue"), &frame),
        (lab::node("alpha"), drop(Reason::UnknownDestination))
    );
    let db = Ingress {
        host: lab::node("beta"),
        endpoint: label("db"),
        ..web("red")
    };
    let back = udp4(mac(WEB).octets(), DB, four(6), 2000, 8);
    assert_eq!(model.journey(&db, &back), (lab::node("alpha"), deliver("red", "web")));
}

#[test]
fn reasons_have_different_names() {
    let names: std::collections::BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), Reason::ALL.len());
}
