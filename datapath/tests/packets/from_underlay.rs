//! What arrives from the underlay.

use datapath_common::{Reason, Settings};

use crate::bench::Bench;
use crate::book::{
    self, ALL_NODES_MAC, API, BLUE, BLUE_DOMAIN, BROADCAST, DB, DENIED, DENIED_DOMAIN, HERE_V4, HERE_V6, HOST_B_V6,
    HOST_C_V4, LOST, NOBODY, RED, RED_DOMAIN, STRANGER_V4, STRANGER_V6, UNUSED_VNI, VM, WEB, Workload,
};
use crate::fate::{Fate, other_family, to_host_side, to_namespace};
use crate::frames::{
    CE, ECT_0, ECT_1, NOT_ECT, Tunnel, ethernet, icmp6, ip4, ip6, neighbour, solicitation, udp4, udp4_ports, udp6,
    udp6_ports, vlan,
};

const IN: fn(u32) -> Tunnel = Tunnel::inbound;

fn red(reason: Reason) -> Fate {
    Fate::Dropped(reason, RED_DOMAIN, 0)
}

fn nobody(reason: Reason) -> Fate {
    Fate::Dropped(reason, 0, 0)
}

#[test]
fn delivered_to_workloads_here() {
    let Some(bench) = Bench::on_devices() else { return };
    let families = [
        (
            "IPv4",
            udp4 as fn(&Workload, &Workload) -> Vec<u8>,
            to_namespace as fn(&[u8]) -> Fate,
            other_family as _,
        ),
        ("IPv6", udp6, other_family, to_namespace as fn(&[u8]) -> Fate),
    ];
    for (family, inner, over4, over6) in families {
        let (namespace, tap) = (inner(&DB, &API), inner(&DB, &VM));
        let padded = [inner(&DB, &API), vec![0; 9]].concat();
        println!("{family} inside");
        bench.table(
            "from_underlay",
            vec![
                ("over IPv4 to a namespace", IN(RED).by_b(&namespace), over4(&namespace)),
                ("over IPv6 to a namespace", IN(RED).by_b6(&namespace), over6(&namespace)),
                ("over IPv4 to a tap", IN(RED).by_b(&tap), to_host_side(&tap)),
                ("over IPv6 to a tap", IN(RED).by_b6(&tap), to_host_side(&tap)),
                ("padded inside", IN(RED).by_b(&padded), over4(&padded)),
                (
                    "blue's own of that address",
                    IN(BLUE).by_b(&namespace),
                    over4(&namespace),
                ),
                (
                    "reserved bits",
                    Tunnel { flags: 0xff, ..IN(RED) }.by_b(&namespace),
                    over4(&namespace),
                ),
            ],
        );
    }
}

#[test]
fn a_kernel_that_cannot_be_told_the_family() {
    let Some(mut bench) = Bench::on_devices() else { return };
    bench.settings(Settings {
        kernel: 0,
        ..book::settings()
    });
    let (four, six) = (udp4(&DB, &API), udp6(&DB, &API));
    let short = udp4_ports(&DB, &API, (1, 2), b"x");
    let short_padded = [short.clone(), vec![0; 60 - short.len()]].concat();
    bench.table(
        "from_underlay",
        vec![
            ("IPv4 in IPv4", IN(RED).by_b(&four), to_namespace(&four)),
            ("IPv6 in IPv6", IN(RED).by_b6(&six), to_namespace(&six)),
            (
                "IPv6 in IPv4 goes by the host side",
                IN(RED).by_b(&six),
                to_host_side(&six),
            ),
            (
                "IPv4 in IPv6 goes by the host side",
                IN(RED).by_b6(&four),
                to_host_side(&four),
            ),
            (
                "a short one of these is padded",
                IN(RED).by_b6(&short),
                to_host_side(&short_padded),
            ),
        ],
    );
}

#[test]
fn what_is_not_ours_passes() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let inner = udp4(&DB, &API);
    let host_b = Workload {
        v4: book::HOST_B_V4,
        v6: HOST_B_V6,
        ..DB
    };
    let here = Workload {
        v4: HERE_V4,
        v6: HERE_V6,
        ..WEB
    };
    let mut later = IN(RED).by_b(&inner);
    later[20..22].copy_from_slice(&[0, 5]);
    let mut behind_options = vec![17, 0, 1, 4, 0, 0, 0, 0];
    behind_options.extend_from_slice(&IN(RED).by_b6(&inner)[54..]);
    bench.table(
        "from_underlay",
        vec![
            (
                "another port",
                Tunnel {
                    destination_port: 8472,
                    ..IN(RED)
                }
                .by_b(&inner),
                Fate::Passed,
            ),
            (
                "another port over IPv6",
                Tunnel {
                    destination_port: 8472,
                    ..IN(RED)
                }
                .by_b6(&inner),
                Fate::Passed,
            ),
            (
                "another address",
                IN(RED).over4(book::HOST_B_V4, [192, 0, 2, 77], &inner),
                Fate::Passed,
            ),
            (
                "another address over IPv6",
                IN(RED).over6(HOST_B_V6, STRANGER_V6, &inner),
                Fate::Passed,
            ),
            (
                "TCP to that port",
                ip4(&host_b, &here, 6, 0, &[0x12, 0xb5].repeat(10)),
                Fate::Passed,
            ),
            ("a later fragment", later, Fate::Passed),
            (
                "behind an extension header",
                ip6(&host_b, &here, 60, 0, &behind_options),
                Fate::Passed,
            ),
            ("a tag", vlan(&host_b, &here), Fate::Passed),
            ("ARP", ethernet(DB.mac, BROADCAST, 0x0806, &[0; 28]), Fate::Passed),
            (
                "ICMP",
                ip4(&host_b, &here, 1, 0, &[8, 0, 0, 0, 0, 0, 0, 0]),
                Fate::Passed,
            ),
        ],
    );
    bench.settings(Settings {
        ipv4: [0; 16],
        ipv6: [0; 16],
        ..book::settings()
    });
    bench.table(
        "from_underlay",
        vec![
            ("we have no IPv4 address", IN(RED).by_b(&inner), Fate::Passed),
            ("we have no IPv6 address", IN(RED).by_b6(&inner), Fate::Passed),
            (
                "we have no address, to none",
                IN(RED).over6(HOST_B_V6, [0; 16], &inner),
                Fate::Passed,
            ),
        ],
    );
}

#[test]
fn tunnels_that_are_refused() {
    let Some(bench) = Bench::on_devices() else { return };
    let inner = udp4(&DB, &API);
    let mut short = IN(RED).by_b(&inner);
    short[39] = 12;
    short[38] = 0;
    bench.table(
        "from_underlay",
        vec![
            (
                "from a stranger",
                IN(RED).over4(STRANGER_V4, HERE_V4, &inner),
                nobody(Reason::UnknownVtep),
            ),
            (
                "from a stranger over IPv6",
                IN(RED).over6(STRANGER_V6, HERE_V6, &inner),
                nobody(Reason::UnknownVtep),
            ),
            (
                "in fragments",
                Tunnel {
                    more_fragments: true,
                    ..IN(RED)
                }
                .by_b(&inner),
                nobody(Reason::OuterFragment),
            ),
            (
                "without the I flag",
                Tunnel { flags: 0, ..IN(RED) }.by_b(&inner),
                nobody(Reason::VxlanFlags),
            ),
            (
                "with other flags only",
                Tunnel { flags: 0xf7, ..IN(RED) }.by_b(&inner),
                nobody(Reason::VxlanFlags),
            ),
            (
                "of a VNI not in use",
                IN(UNUSED_VNI).by_b(&inner),
                nobody(Reason::UnknownVni),
            ),
            ("of VNI 0", IN(0).by_b(&inner), nobody(Reason::UnknownVni)),
            ("a UDP length that ends in VXLAN", short, nobody(Reason::Truncated)),
            ("nothing inside", IN(RED).by_b(&[]), red(Reason::Truncated)),
            ("13 bytes inside", IN(RED).by_b(&inner[..13]), red(Reason::Truncated)),
        ],
    );
}

#[test]
fn inner_frames_that_are_refused() {
    let Some(bench) = Bench::on_devices() else { return };
    let as_nobody = Workload { mac: DB.mac, ..NOBODY };
    let as_lost = Workload {
        v4: LOST.v4,
        v6: LOST.v6,
        ..DB
    };
    let disguised = Workload {
        v6: datapath_common::mapped(DB.v4),
        ..DB
    };
    let group = Workload {
        mac: ALL_NODES_MAC,
        v6: book::ALL_NODES,
        ..API
    };
    let to_api = |reason| Fate::Dropped(reason, RED_DOMAIN, API.endpoint);
    let denied = |reason| Fate::Dropped(reason, DENIED_DOMAIN, API.endpoint);
    let mut version = udp4(&DB, &API);
    version[14] = 0x65;
    let hello = neighbour(0x20, API.v6, &[]);
    bench.table(
        "from_underlay",
        vec![
            (
                "a MAC that lives elsewhere",
                IN(RED).by_b(&udp4(&LOST, &API)),
                red(Reason::WrongVtep),
            ),
            (
                "a MAC that lives here",
                IN(RED).by_b(&udp4(&WEB, &API)),
                red(Reason::WrongVtep),
            ),
            (
                "a MAC nobody has",
                IN(RED).by_b(&udp4(&NOBODY, &API)),
                red(Reason::WrongVtep),
            ),
            (
                "host B's MAC, from host C",
                IN(RED).over4(HOST_C_V4, HERE_V4, &udp4(&DB, &API)),
                red(Reason::WrongVtep),
            ),
            (
                "an address that lives elsewhere",
                IN(RED).by_b(&udp4(&as_lost, &API)),
                red(Reason::WrongVtep),
            ),
            (
                "an address nobody has",
                IN(RED).by_b(&udp6(&as_nobody, &API)),
                red(Reason::WrongVtep),
            ),
            (
                "an IPv4 address in disguise",
                IN(RED).by_b(&udp6(&disguised, &API)),
                red(Reason::WrongVtep),
            ),
            (
                "blue's VNI for whom only red has",
                IN(BLUE).by_b(&udp4(&DB, &VM)),
                Fate::Dropped(Reason::UnknownDestination, BLUE_DOMAIN, 0),
            ),
            (
                "to nobody",
                IN(RED).by_b(&udp4(&DB, &NOBODY)),
                red(Reason::UnknownDestination),
            ),
            (
                "to whom another host has (split horizon)",
                IN(RED).by_b(&udp4(&DB, &LOST)),
                red(Reason::NotHere),
            ),
            ("to itself", IN(RED).by_b(&udp4(&DB, &DB)), red(Reason::Martian)),
            ("to a group", IN(RED).by_b(&udp6(&DB, &group)), red(Reason::Multicast)),
            (
                "ARP",
                IN(RED).by_b(&ethernet(DB.mac, API.mac, 0x0806, &[0; 28])),
                red(Reason::Malformed),
            ),
            ("a tag", IN(RED).by_b(&vlan(&DB, &API)), red(Reason::EtherType)),
            ("the wrong version", IN(RED).by_b(&version), red(Reason::Malformed)),
            (
                "a solicitation, where nobody gets group frames",
                IN(RED).by_b(&solicitation(&DB, DB.v6, API.v6)),
                red(Reason::Multicast),
            ),
            (
                "an advertisement of somebody else's address",
                IN(RED).by_b(&icmp6((DB.mac, API.mac), (DB.v6, API.v6), 136, &hello)),
                red(Reason::NeighbourSpoof),
            ),
            (
                "a router advertisement",
                IN(RED).by_b(&icmp6((DB.mac, API.mac), (DB.v6, API.v6), 134, &[0; 12])),
                red(Reason::RogueServer),
            ),
            (
                "a DHCP server",
                IN(RED).by_b(&udp4_ports(&DB, &API, (67, 68), b"offer")),
                red(Reason::RogueServer),
            ),
            (
                "a DHCPv6 server",
                IN(RED).by_b6(&udp6_ports(&DB, &API, (547, 546), b"reply")),
                red(Reason::RogueServer),
            ),
            (
                "denied by default",
                IN(DENIED).by_b(&udp4(&DB, &API)),
                denied(Reason::Policy),
            ),
            (
                "congestion that cannot be told",
                Tunnel { ecn: CE, ..IN(RED) }.by_b(&udp4(&DB, &API)),
                to_api(Reason::Ecn),
            ),
            (
                "congestion that cannot be told, IPv6",
                Tunnel { ecn: CE, ..IN(RED) }.by_b6(&udp6(&DB, &API)),
                to_api(Reason::Ecn),
            ),
        ],
    );
}

#[test]
fn congestion_is_copied_inside() {
    let Some(bench) = Bench::on_devices() else { return };
    let payload = udp4(&DB, &API)[34..].to_vec();
    let four = |ecn| ip4(&DB, &API, 17, ecn, &payload);
    let six = |ecn| ip6(&DB, &API, 17, ecn, &payload);
    for (inner, outer, expected) in [
        (NOT_ECT, ECT_0, NOT_ECT),
        (NOT_ECT, ECT_1, NOT_ECT),
        (ECT_0, NOT_ECT, ECT_0),
        (ECT_0, ECT_1, ECT_1),
        (ECT_0, CE, CE),
        (ECT_1, ECT_0, ECT_1),
        (ECT_1, CE, CE),
        (CE, NOT_ECT, CE),
        (CE, CE, CE),
    ] {
        println!("{inner:02b} inside, {outer:02b} outside");
        let tunnel = Tunnel { ecn: outer, ..IN(RED) };
        bench.table(
            "from_underlay",
            vec![
                ("IPv4 in IPv4", tunnel.by_b(&four(inner)), to_namespace(&four(expected))),
                (
                    "IPv4 in IPv6",
                    tunnel.by_b6(&four(inner)),
                    other_family(&four(expected)),
                ),
                ("IPv6 in IPv4", tunnel.by_b(&six(inner)), other_family(&six(expected))),
                ("IPv6 in IPv6", tunnel.by_b6(&six(inner)), to_namespace(&six(expected))),
            ],
        );
    }
}

#[test]
fn a_host_that_left_sends_no_tunnels() {
    let Some(mut bench) = Bench::on_devices() else { return };
    bench.forget_vtep(datapath_common::mapped(book::HOST_B_V4));
    let inner = udp4(&DB, &API);
    bench.table(
        "from_underlay",
        vec![
            ("from where it was", IN(RED).by_b(&inner), nobody(Reason::UnknownVtep)),
            ("from its other address", IN(RED).by_b6(&inner), other_family(&inner)),
        ],
    );
}
