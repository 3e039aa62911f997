//! Whole domains and the tables that they become.

use std::collections::BTreeSet;

use overlay::forwarding::{Direction, Peer};
use overlay::object::domain::DefaultPolicy;

use super::fixture::{
    HERE_MAC, ROUTER_MAC, SEGMENT, THERE_MAC, flooding, forwarding, grouped, here, interfaces, ip, lowered, mac,
    neighbour, on, peer, routed, rule, station, station_key, to_port, tunnels, vni,
};
use super::*;
use crate::tables::{Prefix, family, trie_length};

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
            neighbour(100, "10.0.0.1", HERE_MAC, 0),
            neighbour(100, "10.0.0.2", THERE_MAC, 0),
            neighbour(100, "fe80::2", THERE_MAC, 0),
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
            grouped(here(), 1 << 1),
            grouped(station(100, THERE_MAC, 5), 1 << 3),
            station(100, ROUTER_MAC, map::ROUTER),
            station(200, ROUTER_MAC, map::ROUTER),
        ]
        .into()
    );
    assert_eq!(
        tables.neighbours,
        [
            neighbour(100, "10.0.0.1", HERE_MAC, 0),
            neighbour(100, "10.0.0.2", THERE_MAC, 0),
            neighbour(100, "fe80::2", THERE_MAC, 0),
            neighbour(100, "10.0.0.254", ROUTER_MAC, router),
            neighbour(100, "fe80::fe", ROUTER_MAC, router),
            neighbour(100, "fd00::1", ROUTER_MAC, router),
            neighbour(200, "10.1.0.254", ROUTER_MAC, router),
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
    let owner = neighbour(100, "10.0.0.1", HERE_MAC, 0).1;
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
