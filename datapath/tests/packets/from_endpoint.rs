//! What a workload sends to others here, and what is dropped on the way.

use datapath_common::{Port, Reason, Settings};

use crate::bench::{Bench, Context};
use crate::book::{
    self, ALL_NODES_MAC, API, BLUE, BLUE_DOMAIN, BLUE_ONLY, BROADCAST, DB, DENIED, DENIED_DOMAIN, HOST_SIDE, LOST, MTU,
    NOBODY, RED, RED_DOMAIN, UNSPECIFIED, UNUSED_VNI, VM, WEB, Workload, link_local,
};
use crate::fate::{Fate, dropped, to_host_side, to_namespace, too_big};
use crate::frames::{icmp6, ip4, ip6, tcp4, udp4, udp4_ports, udp6, udp6_ports, vlan};

#[test]
fn to_workloads_on_this_host() {
    let Some(bench) = Bench::on_devices() else { return };
    let own_link_local = Workload {
        v6: link_local(WEB.mac),
        ..WEB
    };
    let padded = [udp4(&WEB, &API), vec![0; 20]].concat();
    bench.table(
        "from_endpoint",
        vec![
            ("IPv4 to a namespace", udp4(&WEB, &API), to_namespace(&udp4(&WEB, &API))),
            ("IPv6 to a namespace", udp6(&WEB, &API), to_namespace(&udp6(&WEB, &API))),
            ("IPv4 to a tap", udp4(&WEB, &VM), to_host_side(&udp4(&WEB, &VM))),
            ("IPv6 to a tap", udp6(&WEB, &VM), to_host_side(&udp6(&WEB, &VM))),
            (
                "from its link-local address",
                udp6(&own_link_local, &API),
                to_namespace(&udp6(&own_link_local, &API)),
            ),
            (
                "TCP",
                tcp4(&WEB, &API, b"GET /"),
                to_namespace(&tcp4(&WEB, &API, b"GET /")),
            ),
            ("padded", padded.clone(), to_namespace(&padded)),
            (
                "GRE",
                ip4(&WEB, &API, 47, 0, &[0; 8]),
                to_namespace(&ip4(&WEB, &API, 47, 0, &[0; 8])),
            ),
            (
                "from a DHCP client's port",
                udp4_ports(&WEB, &API, (68, 67), b""),
                to_namespace(&udp4_ports(&WEB, &API, (68, 67), b"")),
            ),
        ],
    );
}

#[test]
fn the_segment_decides_who_has_an_address() {
    let Some(mut bench) = Bench::on_devices() else { return };
    bench.station(BLUE, WEB);
    bench.port(Some(book::port(BLUE, BLUE_DOMAIN)));
    let nowhere = |reason| Fate::Dropped(reason, BLUE_DOMAIN, WEB.endpoint);
    bench.table(
        "from_endpoint",
        vec![
            (
                "blue's workload of red's address",
                udp4(&WEB, &API),
                to_namespace(&udp4(&WEB, &API)),
            ),
            (
                "red's tap is not blue's",
                udp4(&WEB, &VM),
                nowhere(Reason::UnknownDestination),
            ),
        ],
    );
}

#[test]
fn spoofs_are_dropped() {
    let Some(bench) = Bench::on_devices() else { return };
    let rows = |what, from: Workload, reason| {
        vec![
            (what, udp4(&from, &API), dropped(reason)),
            (what, udp6(&from, &API), dropped(reason)),
        ]
    };
    let as_db = Workload {
        v4: DB.v4,
        v6: DB.v6,
        ..WEB
    };
    let disguised = Workload {
        v6: datapath_common::mapped(WEB.v4),
        ..WEB
    };
    let nameless = Workload {
        v4: [0; 4],
        v6: UNSPECIFIED,
        ..WEB
    };
    bench.table(
        "from_endpoint",
        rows(
            "somebody else's MAC",
            Workload { mac: DB.mac, ..WEB },
            Reason::SourceMac,
        ),
    );
    bench.table(
        "from_endpoint",
        rows("a group's MAC", Workload { mac: BROADCAST, ..WEB }, Reason::SourceMac),
    );
    bench.table(
        "from_endpoint",
        rows("somebody else's address", as_db, Reason::SourceAddress),
    );
    bench.table(
        "from_endpoint",
        rows(
            "nobody's address",
            Workload { mac: WEB.mac, ..NOBODY },
            Reason::SourceAddress,
        ),
    );
    bench.table("from_endpoint", rows("no address", nameless, Reason::SourceAddress));
    bench.table(
        "from_endpoint",
        vec![
            (
                "its IPv4 address in an IPv6 header",
                udp6(&disguised, &API),
                dropped(Reason::SourceAddress),
            ),
            (
                "no address, to one workload",
                icmp6((WEB.mac, API.mac), (UNSPECIFIED, API.v6), 143, &[0; 4]),
                dropped(Reason::SourceAddress),
            ),
            (
                "no address, a listener report",
                icmp6(
                    (WEB.mac, [0x33, 0x33, 0, 0, 0, 0x16]),
                    (UNSPECIFIED, book::ALL_NODES),
                    143,
                    &[0; 4],
                ),
                dropped(Reason::Multicast),
            ),
            (
                "no address, an echo request to all",
                icmp6((WEB.mac, ALL_NODES_MAC), (UNSPECIFIED, book::ALL_NODES), 128, &[0; 4]),
                dropped(Reason::SourceAddress),
            ),
        ],
    );
}

#[test]
fn destinations_that_get_nothing() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let host = Workload { mac: HOST_SIDE, ..API };
    let all = Workload {
        mac: BROADCAST,
        v4: [255; 4],
        v6: book::ALL_NODES,
        ..API
    };
    let group = Workload {
        mac: ALL_NODES_MAC,
        v4: [224, 0, 0, 1],
        v6: book::ALL_NODES,
        ..API
    };
    bench.table(
        "from_endpoint",
        vec![
            (
                "the host's side of its link",
                udp4(&WEB, &host),
                dropped(Reason::HostLink),
            ),
            (
                "the host's side over IPv6",
                udp6(&WEB, &host),
                dropped(Reason::HostLink),
            ),
            ("nobody", udp4(&WEB, &NOBODY), dropped(Reason::UnknownDestination)),
            (
                "whom only blue has",
                udp4(&WEB, &BLUE_ONLY),
                dropped(Reason::UnknownDestination),
            ),
            ("itself", udp4(&WEB, &WEB), dropped(Reason::Martian)),
            (
                "its own MAC",
                udp4(&WEB, &Workload { mac: WEB.mac, ..API }),
                dropped(Reason::UnknownDestination),
            ),
            ("all, IPv4", udp4(&WEB, &all), dropped(Reason::Multicast)),
            ("a group, IPv6", udp6(&WEB, &group), dropped(Reason::Multicast)),
            ("a host without a route", udp4(&WEB, &LOST), dropped(Reason::NoRoute)),
            (
                "a DHCP client",
                udp4_ports(&WEB, &API, (67, 68), b"offer"),
                dropped(Reason::RogueServer),
            ),
            (
                "a DHCPv6 client",
                udp6_ports(&WEB, &API, (547, 546), b"reply"),
                dropped(Reason::RogueServer),
            ),
            (
                "a DHCP client, from another port",
                udp4_ports(&WEB, &API, (9, 68), b"offer"),
                dropped(Reason::RogueServer),
            ),
        ],
    );
    bench.port(Some(Port {
        host_mac: [0; 6],
        ..book::port(RED, RED_DOMAIN)
    }));
    let zero = Workload { mac: [0; 6], ..API };
    bench.table(
        "from_endpoint",
        vec![(
            "a tap's host side has no MAC to reach",
            udp4(&WEB, &zero),
            dropped(Reason::UnknownDestination),
        )],
    );
}

#[test]
fn ports_segments_and_policy() {
    let Some(mut bench) = Bench::on_devices() else { return };
    bench.port(Some(book::port(DENIED, DENIED_DOMAIN)));
    let denied = |reason| Fate::Dropped(reason, DENIED_DOMAIN, WEB.endpoint);
    bench.table(
        "from_endpoint",
        vec![
            ("denied by default, here", udp4(&WEB, &API), denied(Reason::Policy)),
            (
                "denied by default, on another host",
                udp6(&WEB, &DB),
                denied(Reason::Policy),
            ),
            (
                "nobody has the destination, which comes first",
                udp4(&WEB, &NOBODY),
                denied(Reason::UnknownDestination),
            ),
        ],
    );
    bench.port(Some(book::port(UNUSED_VNI, RED_DOMAIN)));
    bench.table(
        "from_endpoint",
        vec![("its segment is gone", udp4(&WEB, &API), dropped(Reason::UnknownVni))],
    );
    bench.port(None);
    let nobody = Fate::Dropped(Reason::UnknownPort, 0, 0);
    bench.table("from_endpoint", vec![("its port is gone", udp4(&WEB, &API), nobody)]);
}

#[test]
fn sizes() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let sized = |length: u32| udp4_ports(&WEB, &API, (1, 2), &vec![7; length as usize - 28]);
    let too_big = |frame: &[u8]| too_big(frame, MTU);
    let sized6 = |length: u32| udp6_ports(&WEB, &API, (1, 2), &vec![7; length as usize - 48]);
    bench.table(
        "from_endpoint",
        vec![
            ("IPv4 of the MTU", sized(MTU), to_namespace(&sized(MTU))),
            ("IPv4 of one byte more", sized(MTU + 1), too_big(&sized(MTU + 1))),
            ("IPv6 of the MTU", sized6(MTU), to_namespace(&sized6(MTU))),
            ("IPv6 of one byte more", sized6(MTU + 1), too_big(&sized6(MTU + 1))),
        ],
    );
    let large = tcp4(&WEB, &API, &[7; 3000]);
    let segmented = |segment| Context {
        segment,
        ..Context::default()
    };
    let fate = bench.fate(
        "from_endpoint",
        "a super-packet of fitting segments",
        &large,
        segmented(MTU - 40),
    );
    assert_eq!(fate, to_namespace(&large));
    let fate = bench.fate(
        "from_endpoint",
        "a super-packet of segments too large",
        &large,
        segmented(MTU - 39),
    );
    assert_eq!(fate, too_big(&large));
    bench.settings(Settings {
        mark: 7,
        ..book::settings()
    });
    let fate = bench.fate(
        "from_endpoint",
        "a super-packet to a tap",
        &tcp4(&WEB, &VM, &[7; 3000]),
        segmented(1000),
    );
    assert_eq!(fate, Fate::Redirected(tcp4(&WEB, &VM, &[7; 3000]), 7));
}

#[test]
fn headers_that_contradict_themselves() {
    let Some(bench) = Bench::on_devices() else { return };
    let broken = |frame: Vec<u8>, offset: usize, value: u8| {
        let mut frame = frame;
        frame[offset] = value;
        frame
    };
    let (four, six) = (udp4(&WEB, &API), udp6(&WEB, &API));
    let chain = |length: usize| {
        let mut chain: Vec<u8> = (0..length).flat_map(|_| [60, 0, 1, 4, 0, 0, 0, 0]).collect();
        chain[8 * (length - 1)] = 17;
        chain.extend_from_slice(&six[54..]);
        chain
    };
    let walked = ip6(&WEB, &API, 60, 0, &chain(8));
    bench.table(
        "from_endpoint",
        vec![
            (
                "version 6 under ethertype IPv4",
                broken(four.clone(), 14, 0x65),
                dropped(Reason::Malformed),
            ),
            (
                "version 4 under ethertype IPv6",
                broken(six.clone(), 14, 0x40),
                dropped(Reason::Malformed),
            ),
            (
                "a header of 16 bytes",
                broken(four.clone(), 14, 0x44),
                dropped(Reason::Malformed),
            ),
            (
                "a total length of 19",
                broken(broken(four.clone(), 16, 0), 17, 19),
                dropped(Reason::Malformed),
            ),
            (
                "a total length of one byte more than there is",
                longer(&four, 17),
                dropped(Reason::Truncated),
            ),
            (
                "a payload length of one byte more than there is",
                longer(&six, 19),
                dropped(Reason::Truncated),
            ),
            (
                "a UDP header of 4 bytes",
                ip4(&WEB, &API, 17, 0, &[0; 4]),
                dropped(Reason::Truncated),
            ),
            (
                "a UDP header of 4 bytes over IPv6",
                ip6(&WEB, &API, 17, 0, &[0; 4]),
                dropped(Reason::Truncated),
            ),
            (
                "an ICMPv6 header of 3 bytes",
                ip6(&WEB, &API, 58, 0, &[0; 3]),
                dropped(Reason::Truncated),
            ),
            ("eight extension headers", walked.clone(), to_namespace(&walked)),
            (
                "nine extension headers",
                ip6(&WEB, &API, 60, 0, &chain(9)),
                dropped(Reason::Malformed),
            ),
            (
                "an extension header that ends behind",
                ip6(&WEB, &API, 60, 0, &[17, 9, 0, 0, 0, 0, 0, 0]),
                dropped(Reason::Truncated),
            ),
            (
                "half an extension header",
                ip6(&WEB, &API, 60, 0, &[17, 0, 0]),
                dropped(Reason::Truncated),
            ),
            ("a tag", vlan(&WEB, &API), dropped(Reason::EtherType)),
        ],
    );
}

/// The frame with a length at `offset` that is one too large.
fn longer(frame: &[u8], offset: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[offset] += 1;
    frame
}
