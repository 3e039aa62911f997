//! Random domains, so small that they often meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use membership::id::NodeId;
use overlay::fact::Binding;
use overlay::forwarding::{self, Action, Direction, Forwarding, Place, Protocol};
use overlay::name::{EndpointName, Mac, Vni};
use overlay::object::domain::{DefaultPolicy, Encapsulation};
use proptest::prelude::*;

pub(super) const VNIS: [u32; 2] = [100, 200];
pub(super) const STATIONS: u8 = 4;
pub(super) const PORTS: [u16; 2] = [80, 443];

/// A station: in which segment, here or elsewhere, which shared address, whether it has a prefix, which groups.
type Sketch = (Option<usize>, bool, Option<u8>, bool, u8);
/// A rule: policy, version, is ingress, subject, peer, port, action.
type RuleSketch = (u8, u16, bool, Option<u16>, u8, usize, u8);

#[derive(Debug, Clone)]
pub(super) struct Domains {
    allow: bool,
    networks: [bool; 2],
    stations: Vec<Sketch>,
    rules: Vec<RuleSketch>,
    route: u8,
}

pub(super) fn domains() -> impl Strategy<Value = Domains> {
    let station = (
        proptest::option::weighted(0.8, 0..2_usize),
        any::<bool>(),
        proptest::option::of(0..2_u8),
        any::<bool>(),
        0..16_u8,
    );
    let rule = (
        0..3_u8,
        0..2_u16,
        any::<bool>(),
        proptest::option::of(0..4_u16),
        0..6_u8,
        0..2_usize,
        0..5_u8,
    );
    (
        any::<bool>(),
        any::<[bool; 2]>(),
        proptest::collection::vec(station, usize::from(STATIONS)),
        proptest::collection::vec(rule, 0..6),
        0..3_u8,
    )
        .prop_map(|(allow, networks, stations, rules, route)| Domains {
            allow,
            networks,
            stations,
            rules,
            route,
        })
}

/// Some of the one and some of the other, so that most stays as it was.
pub(super) fn mixed(a: &Domains, b: &Domains, mask: u16) -> Domains {
    let pick = |bit: usize| mask >> bit & 1 == 1;
    let stations = a.stations.iter().zip(&b.stations).enumerate();
    Domains {
        allow: if pick(0) { b.allow } else { a.allow },
        networks: if pick(1) { b.networks } else { a.networks },
        stations: stations
            .map(|(at, (a, b))| if pick(2 + at) { *b } else { *a })
            .collect(),
        rules: if pick(8) { b.rules.clone() } else { a.rules.clone() },
        route: if pick(9) { b.route } else { a.route },
    }
}

pub(super) fn label(text: &str) -> EndpointName {
    text.parse().expect("a label")
}

fn mac(domain: u8, number: u8) -> Mac {
    // Shared by both domains for the first two.
    let domain = if number < 2 { 0 } else { domain };
    Mac::try_from([2, 0, 0, 0, domain, number]).expect("a MAC address")
}

pub(super) fn forwarding(name: &str, domain: u8, sketch: &Domains) -> Forwarding {
    let vni = |index: usize| Vni::try_from(u64::from(VNIS[index])).expect("a VNI");
    let mut wanted = Forwarding {
        domain: label(name),
        default_policy: if sketch.allow {
            DefaultPolicy::Allow
        } else {
            DefaultPolicy::Deny
        },
        encapsulation: Encapsulation::default(),
        networks: BTreeMap::new(),
        routers: BTreeMap::new(),
        rules: rules(&sketch.rules),
        ports: BTreeMap::new(),
        stations: BTreeMap::new(),
        hosts: BTreeMap::new(),
        conditions: BTreeMap::new(),
    };
    for index in (0..2).filter(|index| sketch.networks[*index]) {
        let segment = forwarding::Segment {
            vni: vni(index),
            mtu: 1400,
            router: Some(label("gw")),
            flood: index == 1,
            members: [].into(),
        };
        wanted.networks.insert(label(&format!("net-{index}")), segment);
    }
    let routes = |networks: &BTreeMap<EndpointName, forwarding::Segment>| {
        let prefix = |at: usize| format!("10.{at}.0.0/{}", 24 - sketch.route).parse().expect("a prefix");
        let connected = networks.keys().enumerate();
        connected
            .map(|(at, name)| (prefix(at), forwarding::Route::Connected(name.clone())))
            .collect()
    };
    let router = forwarding::Router {
        mac: mac(domain, 99),
        addresses: BTreeMap::new(),
        routes: routes(&wanted.networks),
    };
    wanted.routers.insert(label("gw"), router);
    for (number, (network, here, shared, has_prefix, groups)) in (0..).zip(&sketch.stations) {
        let Some(index) = network.filter(|index| sketch.networks[*index]) else {
            continue;
        };
        add_station(
            &mut wanted,
            domain,
            (number, index),
            (*here, *shared, *has_prefix, *groups),
        );
    }
    wanted
}

fn add_station(
    wanted: &mut Forwarding,
    domain: u8,
    (number, index): (u8, usize),
    (here, shared, has_prefix, groups): (bool, Option<u8>, bool, u8),
) {
    let vni = Vni::try_from(u64::from(VNIS[index])).expect("a VNI");
    let endpoint = label(&format!("vm-{number}"));
    let mut addresses: BTreeSet<IpAddr> = [IpAddr::from([10, 0, 0, number])].into();
    addresses.extend(shared.map(|shared| IpAddr::from([10, 0, 1, shared])));
    let prefix = format!("10.50.{number}.0/24").parse().expect("a prefix");
    let station = forwarding::Station {
        endpoint: endpoint.clone(),
        place: if here {
            Place::Here
        } else {
            Place::Host(NodeId::of_key(&[7; 32]))
        },
        addresses,
        prefixes: has_prefix.then_some(prefix).into_iter().collect(),
        groups: (0..4).filter(|group| groups >> group & 1 == 1).collect(),
    };
    wanted.stations.insert((vni, mac(domain, number)), station);
    if !here && let Some(segment) = wanted.networks.get_mut(&label(&format!("net-{index}"))) {
        segment.members.insert(NodeId::of_key(&[7; 32]));
    }
    if here {
        let port = forwarding::Port {
            network: label(&format!("net-{index}")),
            vni,
            mac: mac(domain, number),
            addresses: BTreeMap::new(),
            gateways: BTreeSet::new(),
            binding: Binding::Namespace {
                path: PathBuf::from("/"),
                interface: "eth0".into(),
            },
        };
        wanted.ports.insert(endpoint, port);
    }
}

fn rules(sketches: &[RuleSketch]) -> Vec<forwarding::Rule> {
    let mut sketches = sketches.to_vec();
    sketches.sort_by_key(|(policy, version, ..)| (*policy, *version));
    let versions = |policy| {
        1 + sketches
            .iter()
            .filter(|s| s.0 == policy)
            .map(|s| s.1)
            .max()
            .unwrap_or(0)
    };
    let rule = |(policy, version, ingress, subject, peer, port, action): &RuleSketch| forwarding::Rule {
        policy: label(&format!("p{policy}")),
        number: 0,
        version: *version,
        versions: versions(*policy),
        direction: if *ingress {
            Direction::Ingress
        } else {
            Direction::Egress
        },
        subject: *subject,
        peer: match peer {
            0..=3 => forwarding::Peer::Group((*peer).into()),
            4 => forwarding::Peer::Prefix("10.0.0.0/30".parse().expect("a prefix")),
            _ => forwarding::Peer::Any,
        },
        protocol: Protocol::Tcp(PORTS[*port]..=PORTS[*port]),
        action: match action {
            0 | 1 => Action::Allow,
            2 | 3 => Action::Deny,
            _ => Action::Audit,
        },
    };
    sketches.iter().map(rule).collect()
}
