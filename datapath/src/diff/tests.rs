//! The order of operations, and what they lead to.

use datapath_common::{PEER_RESOLVED, ROUTE_CONNECTED, slot};

use super::*;
use crate::tables::{family, trie_length};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const STATION: StationKey = StationKey {
    vni: 10,
    mac: MAC,
    zero: [0; 2],
};
const NEIGHBOUR: NeighbourKey = NeighbourKey {
    vni: 10,
    address: [9; 16],
};
const OWNER: Neighbour = Neighbour { mac: MAC, flags: 0 };
const VTEP: Address = [4; 16];
const RULE: Rule = Rule {
    policy: 0,
    version: 0,
    versions: 1,
    subject: 0xffff,
    peer: 0xffff,
    protocol: 6,
    action: 1,
    port_low: 0,
    port_high: 0xffff,
    prefix_length: 0,
    address: [0; 16],
};
const SET: MemberKey = MemberKey { set: 30, index: 0 };
const HOPS: MemberKey = MemberKey { set: 31, index: 0 };

fn route_key() -> Prefix<RouteKey> {
    let ip = std::net::IpAddr::from([10, 0, 0, 0]);
    let data = RouteKey {
        router: 32_u32.to_be_bytes(),
        family: family(ip),
        address: [0; 16],
    };
    Prefix {
        data,
        length: trie_length(ip, 8),
    }
}

fn prefix_key(vni: u32) -> Prefix<PrefixKey> {
    let ip = std::net::IpAddr::from([10, 0, 0, 0]);
    let data = PrefixKey {
        vni: vni.to_be_bytes(),
        family: family(ip),
        address: crate::tables::address(ip),
    };
    Prefix {
        data,
        length: trie_length(ip, 8),
    }
}

fn port(endpoint: u32) -> Port {
    Port {
        domain: 1,
        endpoint,
        vni: 10,
        flags: 0,
        slot: slot::station(10, MAC),
        mac: MAC,
        host_mac: [0; 6],
    }
}

fn peer(ifindex: u32) -> Peer {
    Peer {
        local: [1; 16],
        remote: VTEP,
        next_hop: VTEP,
        ifindex,
        mtu: 1500,
        flags: PEER_RESOLVED,
        source_mac: [0; 6],
        next_hop_mac: [0; 6],
    }
}

fn segment(domain: u32) -> Segment {
    Segment {
        domain,
        flags: 1,
        mtu: 1400,
        router: 32,
        router_mac: [8; 6],
        zero: [0; 2],
        gateway4: [0; 16],
        gateway6: [0; 16],
        flood: 0,
        flood_targets: 0,
    }
}

fn full() -> Tables {
    let station = Station {
        peer: 7,
        ifindex: 0,
        endpoint: 0,
        flags: 0,
        slot: slot::station(10, MAC),
        zero: 0,
        groups: [0; 4],
    };
    let domain = Domain {
        flags: 0,
        slot: slot::domain(1),
        egress: SET.set,
        egress_rules: 1,
        ingress: 0,
        ingress_rules: 0,
        chain_flow: 0,
        chain_packet: 0,
    };
    let route = Route {
        kind: ROUTE_CONNECTED,
        vni: 10,
        set: 0,
        hops: 0,
    };
    let hop = Hop {
        vni: 10,
        address: [9; 16],
    };
    Tables {
        ports: [(3, port(5))].into(),
        stations: [(STATION, station)].into(),
        neighbours: [(NEIGHBOUR, OWNER)].into(),
        prefixes: [(prefix_key(10), OWNER)].into(),
        segments: [(10, segment(1))].into(),
        domains: [(1, domain)].into(),
        rules: [(SET, RULE)].into(),
        routes: [(route_key(), route)].into(),
        hops: [(HOPS, hop)].into(),
        floods: [].into(),
        peers: [(7, peer(2))].into(),
        vteps: [(VTEP, 7)].into(),
    }
}

fn bumps(operations: &[Operation]) -> BTreeSet<u32> {
    let bumps = operations.iter().filter_map(|operation| match operation {
        Operation::Bump(slot) => Some(*slot),
        _ => None,
    });
    bumps.collect()
}

#[test]
fn senders_come_last() {
    use Operation::{Bump, Put};
    let operations = diff(&Tables::default(), &full());
    assert!(
        matches!(
            operations[..],
            [
                Put(Entry::Rule(..)),
                Put(Entry::Hop(..)),
                Put(Entry::Route(..)),
                Put(Entry::Domain(..)),
                Put(Entry::Peer(..)),
                Put(Entry::Segment(..)),
                Put(Entry::Station(..)),
                Put(Entry::Neighbour(..)),
                Put(Entry::Prefix(..)),
                Put(Entry::Vtep(..)),
                Put(Entry::Port(..)),
                Bump(_),
                Bump(_),
            ]
        ),
        "{operations:?}"
    );
    assert_eq!(bumps(&operations), [slot::station(10, MAC), slot::domain(1)].into());
}

#[test]
fn senders_go_first_and_what_nothing_refers_to_last() {
    use Operation::Remove;
    let operations = diff(&full(), &Tables::default());
    let (bumps, removals): (Vec<_>, Vec<_>) = operations.into_iter().partition(|o| matches!(o, Operation::Bump(_)));
    assert_eq!(
        removals,
        [
            Remove(Key::Port(3)),
            Remove(Key::Vtep(VTEP)),
            Remove(Key::Segment(10)),
            Remove(Key::Station(STATION)),
            Remove(Key::Neighbour(NEIGHBOUR)),
            Remove(Key::Prefix(prefix_key(10))),
            Remove(Key::Route(route_key())),
            Remove(Key::Domain(1)),
            Remove(Key::Hop(HOPS)),
            Remove(Key::Rule(SET)),
            Remove(Key::Peer(7)),
        ]
    );
    assert_eq!(bumps.len(), 2);
}

#[test]
fn nothing_to_do_is_nothing() {
    assert_eq!(diff(&full(), &full()), []);
}

#[test]
fn a_port_that_changes_hands_is_closed_in_between() {
    let mut wanted = full();
    wanted.ports.insert(3, port(6));
    assert_eq!(
        diff(&full(), &wanted),
        [
            Operation::Remove(Key::Port(3)),
            Operation::Put(Entry::Port(3, port(6))),
            Operation::Bump(slot::station(10, MAC))
        ]
    );
}

#[test]
fn a_next_hop_changes_in_one_step_and_voids_nothing() {
    let mut wanted = full();
    wanted.peers.insert(7, peer(4));
    assert_eq!(diff(&full(), &wanted), [Operation::Put(Entry::Peer(7, peer(4)))]);
}

#[test]
fn a_policy_turns_between_two_sets() {
    let mut wanted = full();
    let other = MemberKey { set: 40, index: 0 };
    let rule = Rule { port_low: 80, ..RULE };
    wanted.rules = [(other, rule)].into();
    let domain = Domain {
        egress: 40,
        ..wanted.domains[&1]
    };
    wanted.domains.insert(1, domain);
    assert_eq!(
        diff(&full(), &wanted),
        [
            Operation::Put(Entry::Rule(other, rule)),
            Operation::Put(Entry::Domain(1, domain)),
            Operation::Remove(Key::Rule(SET)),
            Operation::Bump(slot::domain(1)),
        ]
    );
}

#[test]
fn nobody_gets_group_frames_while_rules_and_targets_turn() {
    let target = |groups| FloodTarget {
        kind: datapath_common::FLOOD_PORT,
        target: 3,
        endpoint: 5,
        zero: 0,
        groups: [groups, 0, 0, 0],
    };
    let with = |set, groups| {
        let mut tables = full();
        let flooding = Segment {
            flood: set,
            flood_targets: 1,
            ..segment(1)
        };
        tables.segments.insert(10, flooding);
        tables.floods = [(MemberKey { set, index: 0 }, target(groups))].into();
        tables
    };
    let (installed, wanted) = (with(50, 1), with(51, 2));
    let member = |set| MemberKey { set, index: 0 };
    let put_segment = |tables: &Tables| Operation::Put(Entry::Segment(10, tables.segments[&10]));
    let put_targets = Operation::Put(Entry::Flood(member(51), target(2)));
    let remove_targets = Operation::Remove(Key::Flood(member(50)));
    assert_eq!(
        diff(&installed, &wanted),
        [put_targets, put_segment(&wanted), remove_targets],
        "no decision is kept about group frames: nothing is bumped"
    );

    let mut turned = wanted;
    let domain = Domain {
        flags: 1,
        ..turned.domains[&1]
    };
    turned.domains.insert(1, domain);
    assert_eq!(
        diff(&installed, &turned),
        [
            Operation::Put(Entry::Segment(10, segment(1))),
            put_targets,
            Operation::Put(Entry::Domain(1, domain)),
            put_segment(&turned),
            remove_targets,
            Operation::Bump(slot::domain(1)),
        ]
    );
}

#[test]
fn a_segment_that_goes_over_to_another_domain_takes_nothing_along() {
    let mut wanted = full();
    wanted.segments.insert(10, segment(2));
    let operations = diff(&full(), &wanted);
    let removed = |key| operations.iter().position(|o| *o == Operation::Remove(key));
    let comes = operations
        .iter()
        .position(|o| matches!(o, Operation::Put(Entry::Segment(10, _))));
    for key in [
        Key::Segment(10),
        Key::Station(STATION),
        Key::Neighbour(NEIGHBOUR),
        Key::Prefix(prefix_key(10)),
    ] {
        assert!(
            removed(key).is_some() && removed(key) < comes,
            "{key:?}: {operations:?}"
        );
    }
    assert!(operations.contains(&Operation::Put(Entry::Neighbour(NEIGHBOUR, OWNER))));
}

#[test]
fn whoever_loses_or_gains_an_address_is_told() {
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    let mut installed = full();
    let wide = Neighbour { mac: OTHER, ..OWNER };
    installed.prefixes = [(prefix_key(10), wide)].into();
    let inside = NeighbourKey {
        vni: 10,
        address: crate::tables::address([10, 1, 1, 1].into()),
    };
    let mut wanted = installed.clone();
    wanted.neighbours.insert(inside, OWNER);
    let both = [slot::station(10, MAC), slot::station(10, OTHER)].into();
    assert_eq!(bumps(&diff(&installed, &wanted)), both);
    assert_eq!(bumps(&diff(&wanted, &installed)), both);

    let outside = NeighbourKey {
        vni: 10,
        address: crate::tables::address([11, 1, 1, 1].into()),
    };
    wanted.neighbours.remove(&inside);
    wanted.neighbours.insert(outside, OWNER);
    assert_eq!(bumps(&diff(&installed, &wanted)), [slot::station(10, MAC)].into());
}

#[test]
fn a_domain_is_closed_only_where_nothing_else_helps() {
    let closes = |installed: &Tables, wanted: &Tables| {
        let is_closed = |o: &Operation| matches!(o, Operation::Put(Entry::Domain(1, Domain { egress: 0, .. })));
        diff(installed, wanted).iter().any(is_closed)
    };
    let with = |subject, set, groups: [u64; 2]| {
        let mut tables = full();
        let entry = |groups, last| {
            let mac = [2, 0, 0, 0, 0, last];
            let value = Station {
                groups: [groups, 0, 0, 0],
                ..tables.stations[&STATION]
            };
            (StationKey { mac, ..STATION }, value)
        };
        tables.stations = [entry(groups[0], 1), entry(groups[1], 2)].into();
        tables.rules = [(MemberKey { set, index: 0 }, Rule { subject, ..RULE })].into();
        let domain = Domain {
            egress: set,
            ..tables.domains[&1]
        };
        tables.domains.insert(1, domain);
        tables
    };
    let table = [
        ("one station", with(0, 5, [1, 0]), with(0, 5, [1, 1]), false),
        ("two under the same rules", with(0, 5, [1, 0]), with(0, 5, [0, 1]), true),
        (
            "two that no rule looks at",
            with(0, 5, [2, 0]),
            with(0, 5, [0, 2]),
            false,
        ),
        (
            "other bits with other rules",
            with(0, 5, [1, 0]),
            with(1, 6, [0, 2]),
            false,
        ),
        (
            "the same bit with another meaning",
            with(0, 5, [1, 0]),
            with(0, 6, [0, 1]),
            true,
        ),
    ];
    for (text, installed, wanted, expected) in table {
        assert_eq!(closes(&installed, &wanted), expected, "{text}");
    }
}
