//! Whole domains and the tables that they become.

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
use crate::tables::{Prefix, family, trie_length};

pub(super) const HERE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const THERE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

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

fn numbers() -> DomainNumbers {
    DomainNumbers {
        domain: 11,
        endpoints: [(label("web"), 12)].into(),
    }
}

fn interfaces() -> Interfaces {
    let interface = Interface {
        ifindex: 33,
        mac: [6; 6],
        namespace: true,
    };
    [(label("web"), interface)].into()
}

fn tunnels() -> Tunnels {
    Tunnels {
        hosts: [(there(), 5)].into(),
        peers: [(5, peer("192.0.2.2"))].into(),
    }
}

fn lowered(wanted: &Forwarding, interfaces: &Interfaces, tunnels: &Tunnels, installed: &Tables) -> Tables {
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

fn station_key(vni: u32, mac: [u8; 6]) -> map::StationKey {
    map::StationKey { vni, mac, zero: [0; 2] }
}

pub(super) fn neighbour(
    vni: u32,
    text: &str,
    mac: [u8; 6],
    flags: u16,
    groups: u64,
) -> (map::NeighbourKey, map::Neighbour) {
    let key = map::NeighbourKey {
        vni,
        address: address(ip(text)),
    };
    let groups = [groups, 0, 0, 0];
    (key, map::Neighbour { mac, flags, groups })
}

fn station(vni: u32, mac: [u8; 6], peer: u32) -> (map::StationKey, map::Station) {
    let value = map::Station {
        peer,
        ifindex: 0,
        endpoint: 0,
        flags: 0,
        slot: map::slot::station(vni, mac),
    };
    (station_key(vni, mac), value)
}

fn here() -> (map::StationKey, map::Station) {
    let (key, value) = station(100, HERE_MAC, map::HERE);
    let value = map::Station {
        ifindex: 33,
        endpoint: 12,
        flags: map::PORT_NAMESPACE,
        ..value
    };
    (key, value)
}

const SEGMENT: map::Segment = map::Segment {
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
fn flooding(flood: u32, flood_targets: u32) -> map::Segment {
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

#[test]
fn a_domain_becomes_these_tables() {
    let port = map::Port {
        domain: 11,
        endpoint: 12,
        vni: 100,
        flags: map::PORT_NAMESPACE,
        slot: map::slot::station(100, HERE_MAC),
        mac: HERE_MAC,
        host_mac: [6; 6],
    };
    let domain = map::Domain {
        flags: map::DOMAIN_ALLOW,
        slot: map::slot::domain(11),
        egress: 0,
        egress_rules: 0,
        ingress: 0,
        ingress_rules: 0,
        chain_flow: 0,
        chain_packet: 0,
    };
    let expected = Tables {
        ports: [(33, port)].into(),
        stations: [here(), station(100, THERE_MAC, 5)].into(),
        neighbours: [
            neighbour(100, "10.0.0.1", HERE_MAC, 0, 0),
            neighbour(100, "10.0.0.2", THERE_MAC, 0, 0),
            neighbour(100, "fe80::2", THERE_MAC, 0, 0),
        ]
        .into(),
        segments: [(100, flooding(71, 1))].into(),
        floods: [(map::MemberKey { set: 71, index: 0 }, to_port(33, 0))].into(),
        domains: [(11, domain)].into(),
        peers: [(5, peer("192.0.2.2"))].into(),
        vteps: [(address(ip("192.0.2.2")), 5)].into(),
        ..Tables::default()
    };
    assert_eq!(on(&Tables::default(), &forwarding("red")), expected);
}

#[test]
fn a_router_is_a_station_of_its_segments() {
    let tables = on(&Tables::default(), &routed("red"));
    let router = map::NEIGHBOUR_ROUTER;
    assert_eq!(
        tables.stations,
        [
            here(),
            station(100, THERE_MAC, 5),
            station(100, ROUTER_MAC, map::ROUTER),
            station(200, ROUTER_MAC, map::ROUTER),
        ]
        .into()
    );
    assert_eq!(
        tables.neighbours,
        [
            neighbour(100, "10.0.0.1", HERE_MAC, 0, 1 << 1),
            neighbour(100, "10.0.0.2", THERE_MAC, 0, 1 << 3),
            neighbour(100, "fe80::2", THERE_MAC, 0, 1 << 3),
            neighbour(100, "10.0.0.254", ROUTER_MAC, router, 0),
            neighbour(100, "fe80::fe", ROUTER_MAC, router, 0),
            neighbour(100, "fd00::1", ROUTER_MAC, router, 0),
            neighbour(200, "10.1.0.254", ROUTER_MAC, router, 0),
        ]
        .into(),
        "group 9, of which no rule speaks, has no bit"
    );
    let number = tables.segments[&100].router;
    let segment = map::Segment {
        router: number,
        router_mac: ROUTER_MAC,
        ..SEGMENT
    };
    let flood = tables.segments[&100].flood;
    assert_eq!(tables.targets_of(flood), [to_port(33, 1 << 1)]);
    let near = map::Segment {
        flood,
        flood_targets: 1,
        gateway4: address(ip("10.0.0.254")),
        gateway6: address(ip("fd00::1")),
        ..segment
    };
    let far = map::Segment {
        mtu: 1400,
        gateway4: address(ip("10.1.0.254")),
        ..segment
    };
    assert_eq!(tables.segments, [(100, near), (200, far)].into());
}

#[test]
fn routes_become_a_trie_and_sets_of_hops() {
    let tables = on(&Tables::default(), &routed("red"));
    let router = tables.segments[&100].router;
    let key = |text: &str, length| Prefix {
        data: map::RouteKey {
            router: router.to_be_bytes(),
            family: family(ip(text)),
            address: address(ip(text)),
        },
        length: trie_length(ip(text), length),
    };
    let route = |kind, vni, set, hops| map::Route { kind, vni, set, hops };
    let via = tables.routes[&key("0.0.0.0", 0)].set;
    assert_eq!(
        tables.routes,
        [
            (key("10.0.0.0", 24), route(map::ROUTE_CONNECTED, 100, 0, 0)),
            (key("10.1.0.0", 24), route(map::ROUTE_CONNECTED, 200, 0, 0)),
            (key("0.0.0.0", 0), route(map::ROUTE_VIA, 0, via, 2)),
            (key("10.9.0.0", 16), route(map::ROUTE_BLACKHOLE, 0, 0, 0)),
            (key("fd00:9::", 32), route(map::ROUTE_VIA, 0, 0, 0)),
        ]
        .into()
    );
    let hop = |index, text| {
        let hop = map::Hop {
            vni: 100,
            address: address(ip(text)),
        };
        (map::MemberKey { set: via, index }, hop)
    };
    assert_eq!(tables.hops, [hop(0, "10.0.0.1"), hop(1, "10.0.0.2")].into());
    assert_eq!(key("10.0.0.0", 24).length, 32 + 32 + 96 + 24);
    assert_eq!(key("fd00:9::", 32).length, 32 + 32 + 32);
}

#[test]
fn each_direction_has_a_set_of_rules() {
    let tables = on(&Tables::default(), &routed("red"));
    let domain = tables.domains[&11];
    assert_eq!((domain.egress_rules, domain.ingress_rules), (1, 1));
    let rules = |set| {
        tables
            .rules_of(set)
            .iter()
            .map(|r| (r.subject, r.peer, r.port_low))
            .collect::<Vec<_>>()
    };
    assert_eq!(rules(domain.egress), [(3, map::ANY, 53)]);
    assert_eq!(rules(domain.ingress), [(1, 3, 80)]);
    let mut numbers = vec![domain.egress, domain.ingress, tables.segments[&100].router];
    numbers.extend(tables.hops.keys().map(|key| key.set).collect::<BTreeSet<_>>());
    let distinct: BTreeSet<u32> = numbers.iter().copied().collect();
    assert!(
        distinct.len() == 4 && numbers.iter().all(|number| *number > 70),
        "{numbers:?}"
    );
}

#[test]
fn extra_prefixes_are_sources() {
    let mut wanted = routed("red");
    let web = wanted
        .stations
        .get_mut(&(vni(100), mac(HERE_MAC)))
        .expect("it is there");
    web.prefixes = ["10.5.0.0/16", "fd05::/16"]
        .map(|text| text.parse().expect("a prefix"))
        .into();
    let tables = on(&Tables::default(), &wanted);
    let owner = neighbour(100, "10.0.0.1", HERE_MAC, 0, 1 << 1).1;
    let key = |text: &str, length| Prefix {
        data: map::PrefixKey {
            vni: 100_u32.to_be_bytes(),
            family: family(ip(text)),
            address: address(ip(text)),
        },
        length,
    };
    assert_eq!(
        tables.prefixes,
        [(key("10.5.0.0", 64 + 96 + 16), owner), (key("fd05::", 64 + 16), owner)].into()
    );
}

#[test]
fn a_port_without_an_interface_leaves_the_rest() {
    let tables = lowered(&forwarding("red"), &Interfaces::new(), &tunnels(), &Tables::default());
    assert!(tables.ports.is_empty());
    assert_eq!(
        tables.stations.keys().copied().collect::<Vec<_>>(),
        [station_key(100, THERE_MAC)]
    );
    assert_eq!(tables.neighbours.len(), 3);
}

#[test]
fn a_station_without_a_tunnel_is_nowhere() {
    let tables = lowered(
        &forwarding("red"),
        &interfaces(),
        &Tunnels::default(),
        &Tables::default(),
    );
    assert_eq!(tables.stations[&station_key(100, THERE_MAC)].peer, NOWHERE);
    assert!(tables.vteps.is_empty());
}

#[test]
fn deny_is_the_absence_of_allow() {
    let wanted = Forwarding {
        default_policy: DefaultPolicy::Deny,
        ..forwarding("red")
    };
    assert_eq!(on(&Tables::default(), &wanted).domains[&11].flags, 0);
}

#[test]
fn more_groups_than_bits_deny_everything() {
    let mut wanted = routed("red");
    wanted.rules = (0..300)
        .map(|group| rule(Direction::Ingress, Some(group), Peer::Any, 1))
        .collect();
    let tables = on(&Tables::default(), &wanted);
    let domain = tables.domains[&11];
    assert_eq!((domain.flags, domain.ingress_rules, tables.rules.len()), (0, 0, 0));
}

#[test]
fn nothing_wanted_is_nothing() {
    let wanted = Forwarding {
        networks: BTreeMap::new(),
        routers: BTreeMap::new(),
        ports: BTreeMap::new(),
        stations: BTreeMap::new(),
        hosts: BTreeMap::new(),
        ..routed("red")
    };
    let tables = lowered(&wanted, &Interfaces::new(), &Tunnels::default(), &Tables::default());
    assert_eq!(tables, Tables::default());
}
