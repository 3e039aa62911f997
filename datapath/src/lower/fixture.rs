//! A domain, its tunnels and interfaces, and what they are lowered to, for tests.

use std::collections::BTreeSet;
use std::path::PathBuf;

use membership::id::NodeId;
use overlay::fact::{Binding, Vtep};
use overlay::forwarding::{
    Action, Direction, Group, Peer, Place, Port, Protocol, Route, Router, Rule, Segment, Station,
};
use overlay::name::{Mac, Vni};
use overlay::object::domain::DefaultPolicy;

use super::*;

pub(super) const HERE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const THERE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(super) const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

pub(super) fn there() -> NodeId {
    NodeId::of_key(&[2; 32])
}

pub(super) fn vni(number: u64) -> Vni {
    Vni::try_from(number).expect("a VNI")
}

pub(super) fn mac(octets: [u8; 6]) -> Mac {
    Mac::try_from(octets).expect("a MAC address")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(super) fn label(text: &str) -> EndpointName {
    text.parse().expect("a label")
}

/// A domain with `web` here (10.0.0.1) and `db` on another host (10.0.0.2).
pub(crate) fn forwarding(domain: &str) -> Forwarding {
    let vtep = Vtep {
        ipv4: Some([192, 0, 2, 2].into()),
        ipv6: None,
        port: 4789,
        underlay_mtu: 1500,
    };
    let segment = Segment {
        vni: vni(100),
        mtu: 1430,
        router: None,
        flood: false,
        members: [].into(),
    };
    let port = Port {
        network: label("net"),
        vni: vni(100),
        mac: mac(HERE_MAC),
        addresses: [(ip("10.0.0.1"), 24)].into(),
        gateways: BTreeSet::new(),
        binding: Binding::Namespace {
            path: PathBuf::from("/run/netns/web"),
            interface: "eth0".into(),
        },
    };
    let station = |endpoint, place, addresses| Station {
        endpoint: label(endpoint),
        place,
        addresses,
        prefixes: BTreeSet::new(),
        groups: BTreeSet::new(),
    };
    let web = station("web", Place::Here, [ip("10.0.0.1")].into());
    let db = station("db", Place::Host(there()), [ip("10.0.0.2"), ip("fe80::2")].into());
    Forwarding {
        domain: label(domain),
        default_policy: DefaultPolicy::Allow,
        encapsulation: Encapsulation::default(),
        networks: [(label("net"), segment)].into(),
        routers: BTreeMap::new(),
        rules: Vec::new(),
        ports: [(label("web"), port)].into(),
        stations: [((vni(100), mac(HERE_MAC)), web), ((vni(100), mac(THERE_MAC)), db)].into(),
        hosts: [(there(), vtep)].into(),
        conditions: BTreeMap::new(),
    }
}

/// The domain with a router between its network and `far` (10.1.0.0/24), a default route, and rules.
pub(super) fn routed(domain: &str) -> Forwarding {
    let mut wanted = forwarding(domain);
    let far = Segment {
        vni: vni(200),
        mtu: 1400,
        router: Some(label("gw")),
        flood: false,
        members: [].into(),
    };
    wanted.networks.insert(label("far"), far);
    wanted.networks.get_mut(&label("net")).expect("it is there").router = Some(label("gw"));
    let prefix = |text: &str| text.parse().expect("a prefix");
    let via = [(label("net"), ip("10.0.0.2")), (label("net"), ip("10.0.0.1"))];
    let router = Router {
        mac: mac(ROUTER_MAC),
        addresses: [
            (
                label("net"),
                [(ip("10.0.0.254"), 24), (ip("fe80::fe"), 128), (ip("fd00::1"), 64)].into(),
            ),
            (label("far"), [(ip("10.1.0.254"), 24)].into()),
        ]
        .into(),
        routes: [
            (prefix("10.0.0.0/24"), Route::Connected(label("net"))),
            (prefix("10.1.0.0/24"), Route::Connected(label("far"))),
            (prefix("0.0.0.0/0"), Route::Via(via.into())),
            (prefix("10.9.0.0/16"), Route::Blackhole),
            (prefix("fd00:9::/32"), Route::Via(BTreeSet::new())),
        ]
        .into(),
    };
    wanted.routers.insert(label("gw"), router);
    wanted.rules = vec![
        rule(Direction::Ingress, Some(1), Peer::Group(3), 80),
        rule(Direction::Egress, Some(3), Peer::Any, 53),
    ];
    group(&mut wanted, "web", [1]);
    group(&mut wanted, "db", [3, 9]);
    wanted
}

pub(super) fn rule(direction: Direction, subject: Option<Group>, peer: Peer, port: u16) -> Rule {
    Rule {
        policy: label("policy"),
        number: 0,
        version: 0,
        versions: 1,
        direction,
        subject,
        peer,
        protocol: Protocol::Tcp(port..=port),
        action: Action::Allow,
    }
}

pub(super) fn group<const N: usize>(wanted: &mut Forwarding, endpoint: &str, groups: [Group; N]) {
    let station = wanted
        .stations
        .values_mut()
        .find(|station| station.endpoint == label(endpoint));
    station.expect("it is there").groups = groups.into();
}

pub(crate) fn peer(remote: &str) -> map::Peer {
    map::Peer {
        local: address(ip("192.0.2.1")),
        remote: address(ip(remote)),
        next_hop: address(ip(remote)),
        ifindex: 2,
        mtu: 1500,
        flags: 0,
        source_mac: [0; 6],
        next_hop_mac: [0; 6],
    }
}

pub(super) fn numbers() -> DomainNumbers {
    DomainNumbers {
        domain: 11,
        endpoints: [(label("web"), 12)].into(),
    }
}

pub(super) fn interfaces() -> Interfaces {
    let interface = Interface {
        ifindex: 33,
        mac: [6; 6],
        namespace: true,
    };
    [(label("web"), interface)].into()
}

pub(super) fn tunnels() -> Tunnels {
    Tunnels {
        hosts: [(there(), 5)].into(),
        peers: [(5, peer("192.0.2.2"))].into(),
    }
}

pub(super) fn lowered(wanted: &Forwarding, interfaces: &Interfaces, tunnels: &Tunnels, installed: &Tables) -> Tables {
    let ground = Ground {
        numbers: &numbers(),
        interfaces,
        tunnels,
        installed,
        everything: installed,
        fresh: &mut Fresh::above(installed.highest_number().max(70)),
    };
    lower(wanted, ground)
}

/// As it becomes on top of what is installed.
pub(super) fn on(installed: &Tables, wanted: &Forwarding) -> Tables {
    lowered(wanted, &interfaces(), &tunnels(), installed)
}

pub(super) fn station_key(vni: u32, mac: [u8; 6]) -> map::StationKey {
    map::StationKey { vni, mac, zero: [0; 2] }
}

pub(super) fn neighbour(vni: u32, text: &str, mac: [u8; 6], flags: u16) -> (map::NeighbourKey, map::Neighbour) {
    let key = map::NeighbourKey {
        vni,
        address: address(ip(text)),
    };
    (key, map::Neighbour { mac, flags })
}

pub(super) fn station(vni: u32, mac: [u8; 6], peer: u32) -> (map::StationKey, map::Station) {
    let value = map::Station {
        peer,
        ifindex: 0,
        endpoint: 0,
        flags: 0,
        slot: map::slot::station(vni, mac),
        zero: 0,
        groups: [0; 4],
    };
    (station_key(vni, mac), value)
}

/// The station in groups.
pub(super) fn grouped((key, value): (map::StationKey, map::Station), groups: u64) -> (map::StationKey, map::Station) {
    let groups = [groups, 0, 0, 0];
    (key, map::Station { groups, ..value })
}

pub(super) fn here() -> (map::StationKey, map::Station) {
    let (key, value) = station(100, HERE_MAC, map::HERE);
    let value = map::Station {
        ifindex: 33,
        endpoint: 12,
        flags: map::PORT_NAMESPACE,
        ..value
    };
    (key, value)
}

pub(super) const SEGMENT: map::Segment = map::Segment {
    domain: 11,
    flags: 0,
    mtu: 1430,
    router: 0,
    router_mac: [0; 6],
    zero: [0; 2],
    gateway4: [0; 16],
    gateway6: [0; 16],
    flood: 0,
    flood_targets: 0,
};

/// The only segment, with a set of those who get its group frames.
pub(super) fn flooding(flood: u32, flood_targets: u32) -> map::Segment {
    map::Segment {
        flood,
        flood_targets,
        ..SEGMENT
    }
}

pub(super) fn to_port(ifindex: u32, groups: u64) -> map::FloodTarget {
    map::FloodTarget {
        kind: map::FLOOD_PORT,
        target: ifindex,
        endpoint: 12,
        zero: 0,
        groups: [groups, 0, 0, 0],
    }
}
