//! The programs against the reference model (`overlay::model`): whatever a packet is, both must say the same. Packets are
//! valid ones with some bytes changed, cut or extended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use datapath_common::{HERE, PORT_NAMESPACE, Reason, mapped};
use etherparse::ArpOperation;
use membership::id::NodeId;
use overlay::fact::{Binding, Vtep};
use overlay::forwarding::{Forwarding, Place, Port, Segment, Station};
use overlay::model::{Host, Ingress, Model, Verdict};
use overlay::name::{Mac, Vni};
use overlay::object::domain::DefaultPolicy;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestError, TestRunner};

use crate::bench::{Bench, Context, Fate};
use crate::book::{
    self, API, BLUE, BLUE_ONLY, BROADCAST, DB, DENIED, HOST_SIDE, LOST, NOBODY, RED, UNSPECIFIED, UNUSED_VNI, VM, WEB,
    Workload, link_local,
};
use crate::frames::{CE, ECT_0, Tunnel, arp, ip4, ip6, neighbour, solicitation, tcp4, udp4, udp4_ports, udp6, vlan};

/// Least packets for each program; `PROPTEST_CASES` makes it more.
const CASES: u32 = 4000;

fn node(number: u32) -> NodeId {
    NodeId::of_key(&[number as u8; 32])
}

fn vni(number: u32) -> Vni {
    Vni::try_from(u64::from(number)).unwrap()
}

fn addresses(workload: &Workload) -> BTreeSet<IpAddr> {
    [workload.v4.into(), workload.v6.into(), link_local(workload.mac).into()].into()
}

/// One domain of the address book, as this host has to do it.
fn domain(name: &str, number: u32, default_policy: DefaultPolicy, workloads: &[Workload]) -> Forwarding {
    let mut forwarding = Forwarding {
        domain: name.parse().unwrap(),
        default_policy,
        networks: [(
            "net".parse().unwrap(),
            Segment {
                vni: vni(number),
                mtu: book::MTU as u16,
            },
        )]
        .into(),
        ports: BTreeMap::new(),
        stations: BTreeMap::new(),
        hosts: BTreeMap::new(),
        conditions: BTreeMap::new(),
    };
    for (index, workload) in workloads.iter().enumerate() {
        let endpoint: overlay::name::EndpointName = format!("workload-{index}").parse().unwrap();
        let mac = Mac::try_from(workload.mac).unwrap();
        let place = if workload.host == HERE {
            Place::Here
        } else {
            Place::Host(node(workload.host))
        };
        let station = Station {
            endpoint: endpoint.clone(),
            place,
            addresses: addresses(workload),
        };
        forwarding.stations.insert((vni(number), mac), station);
        if place == Place::Here {
            let addresses = [(workload.v4.into(), 24), (workload.v6.into(), 64)].into();
            let binding = Binding::Interface {
                name: format!("interface-{index}"),
            };
            let network = "net".parse().unwrap();
            forwarding.ports.insert(
                endpoint,
                Port {
                    network,
                    vni: vni(number),
                    mac,
                    addresses,
                    binding,
                },
            );
        }
    }
    for (host, ipv4, ipv6) in [
        (book::HOST_B, Some(book::HOST_B_V4.into()), Some(book::HOST_B_V6.into())),
        (book::HOST_C, None, None),
    ] {
        let vtep = Vtep {
            ipv4,
            ipv6,
            port: book::VXLAN,
            underlay_mtu: 1600,
        };
        forwarding.hosts.insert(node(host), vtep);
    }
    forwarding
}

fn model() -> Model {
    let red = [WEB, API, VM, DB, LOST];
    let domains = [
        domain("red", RED, DefaultPolicy::Allow, &red),
        domain("blue", BLUE, DefaultPolicy::Allow, &[API, DB, BLUE_ONLY]),
        domain("denied", DENIED, DefaultPolicy::Deny, &red),
    ];
    let vtep = Vtep {
        ipv4: Some(book::HERE_V4.into()),
        ipv6: Some(book::HERE_V6.into()),
        port: book::VXLAN,
        underlay_mtu: 1600,
    };
    let domains = domains
        .into_iter()
        .map(|domain| (domain.domain.clone(), domain))
        .collect();
    Model::of([(
        node(HERE),
        Host {
            vtep: Some(vtep),
            domains,
        },
    )])
}

/// `WEB`, whose frames `from_endpoint` gets.
fn ingress() -> Ingress {
    Ingress {
        host: node(HERE),
        domain: "red".parse().unwrap(),
        endpoint: "workload-0".parse().unwrap(),
        host_mac: Some(Mac::try_from(HOST_SIDE).unwrap()),
    }
}

/// Frames of `from` to near and far, of each kind that the tables tell apart.
fn seeds(from: &Workload) -> Vec<Vec<u8>> {
    let hop = |next: u8| [&[next, 0, 1, 4, 0, 0, 0, 0][..], &udp6(from, &API)[54..]].concat();
    let own = link_local(from.mac);
    let mut seeds = vec![
        arp(
            (from.mac, BROADCAST),
            ArpOperation::REQUEST,
            (from.mac, from.v4),
            ([0; 6], DB.v4),
        ),
        arp(
            (from.mac, DB.mac),
            ArpOperation::REPLY,
            (from.mac, from.v4),
            (DB.mac, DB.v4),
        ),
        solicitation(from, from.v6, DB.v6),
        solicitation(from, own, link_local(API.mac)),
        solicitation(from, own, link_local(HOST_SIDE)),
        solicitation(from, UNSPECIFIED, DB.v6),
        crate::frames::icmp6(
            (from.mac, API.mac),
            (from.v6, API.v6),
            136,
            &neighbour(0x60, from.v6, &[]),
        ),
        ip6(from, &API, 0, 0, &hop(17)),
        ip6(from, &API, 60, ECT_0, &hop(17)),
        ip6(from, &API, 44, 0, &hop(17)),
        ip6(from, &API, 51, 0, &hop(58)),
        ip4(from, &API, 17, CE, &udp4(from, &API)[34..]),
        udp4_ports(from, &API, (67, 68), b"offer"),
        tcp4(from, &DB, b"GET /"),
        vlan(from, &API),
    ];
    for to in [&API, &VM, &DB, &LOST, &NOBODY, &BLUE_ONLY, from] {
        seeds.extend([udp4(from, to), udp6(from, to)]);
    }
    seeds
}

/// Tunnel packets around the frames of `DB`, and of whom it may not speak for.
fn tunnels() -> Vec<Vec<u8>> {
    let mut inner = seeds(&DB);
    inner.extend([udp4(&LOST, &API), udp6(&WEB, &API), udp4(&NOBODY, &API)]);
    let mut tunnels = Vec::new();
    for frame in &inner {
        for number in [RED, BLUE, DENIED, UNUSED_VNI] {
            let tunnel = Tunnel::inbound(number);
            tunnels.extend([
                tunnel.by_b(frame),
                tunnel.by_b6(frame),
                Tunnel { ecn: CE, ..tunnel }.by_b(frame),
            ]);
        }
    }
    tunnels
}

/// A packet of `seeds` with a few of its first 120 bytes changed, cut or extended.
fn changed(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        any::<u8>(),
        // Numbers that mean something: protocols, types, ports, lengths, flags, MAC and address ends.
        prop::sample::select(vec![
            0, 1, 2, 4, 5, 6, 8, 17, 20, 43, 44, 51, 58, 60, 64, 68, 69, 133, 134, 135, 136, 255
        ]),
        prop::sample::select(vec![
            0x11_u8, 0x12, 0x13, 0x21, 0x31, 0x45, 0x46, 0x60, 0x77, 0x86, 0xdd
        ]),
    ];
    let bytes = prop::collection::vec((0..120_usize, byte), 0..4);
    (
        prop::sample::select(seeds),
        bytes,
        prop_oneof![4 => Just(0_i32), 1 => -60..40_i32],
    )
        .prop_map(|(mut packet, bytes, length)| {
            for (offset, byte) in bytes {
                if let Some(at) = packet.get_mut(offset) {
                    *at = byte;
                }
            }
            let length = packet.len().saturating_add_signed(length as isize);
            packet.resize(length.max(14), 0);
            packet
        })
}

/// Whether what the kernel did is what the model says.
fn agrees(verdict: &Verdict, fate: &Fate, packet: &[u8]) -> bool {
    match (verdict, fate) {
        (Verdict::Pass, Fate::Passed) => true,
        (Verdict::Drop(reason), Fate::Dropped(counted, ..)) => reason.name() == counted.name(),
        // Padding behind a request returns with the answer.
        (Verdict::Reply(answer), Fate::Redirected(frame, book::MARK)) => frame.starts_with(answer),
        // Only a workload in a namespace, whose family the kernel was told, gets its packets without the mark.
        (Verdict::Deliver { .. }, Fate::Redirected(frame, _)) => delivered(frame, packet),
        (Verdict::Encapsulate { .. }, Fate::Redirected(frame, 0)) => frame.len() == packet.len() + 50,
        _ => false,
    }
}

/// Whether a delivered frame is what was sent, or was in the tunnel. Congestion may have been written into the IP header, and
/// its checksum; a kernel that cannot be told the family pads to the 60 bytes of a wire.
fn delivered(frame: &[u8], packet: &[u8]) -> bool {
    [0, 50, 70].into_iter().any(|tunnel| {
        let sent = packet.get(tunnel..).unwrap_or_default();
        let padding = frame.get(sent.len()..).unwrap_or_default();
        let same = sent.len() >= 26 && frame.len() >= sent.len() && frame[26..sent.len()] == sent[26..];
        same && (padding.is_empty() || (frame.len() == 60 && padding.iter().all(|byte| *byte == 0)))
    })
}

fn compare(program: &str, seeds: Vec<Vec<u8>>, says: impl Fn(&Model, &[u8]) -> Verdict) {
    let Some(mut bench) = Bench::new() else { return };
    // To the model, a host without a route has no tunnel end.
    bench.forget_vtep(mapped(book::HOST_C_V4));
    let model = model();
    let cases = Config::default().cases.max(CASES);
    let config = Config {
        cases,
        failure_persistence: None,
        max_global_rejects: 20 * cases,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&changed(seeds), |packet| {
        let least = match packet[12..14] {
            [0x08, 0x00] => 34,
            [0x86, 0xdd] => 54,
            _ => 14,
        };
        // The facility does not take it.
        prop_assume!(packet.len() >= least);
        let verdict = says(&model, &packet);
        let fate = bench.fate(program, "as the model", &packet, Context::default());
        prop_assert!(
            agrees(&verdict, &fate, &packet),
            "the model says {verdict:?}, the kernel did {fate:?}"
        );
        Ok(())
    });
    if let Err(TestError::Fail(why, packet)) = &result {
        panic!("{program}: {why}\n{packet:02x?}");
    }
    result.unwrap();
}

#[test]
fn from_endpoint_does_as_the_model() {
    compare("from_endpoint", seeds(&WEB), |model, frame| {
        model.from_endpoint(&ingress(), frame)
    });
}

#[test]
fn from_underlay_does_as_the_model() {
    compare("from_underlay", tunnels(), |model, packet| {
        model.from_underlay(node(HERE), packet)
    });
}

#[test]
fn the_model_has_every_reason_by_its_name() {
    let names: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.name()).collect();
    for reason in overlay::model::Reason::ALL {
        assert!(names.contains(reason.name()), "{reason:?}");
    }
    assert_ne!(WEB.flags & PORT_NAMESPACE, 0);
}
