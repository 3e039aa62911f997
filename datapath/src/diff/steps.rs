//! Random domains that become other ones: what is permitted at each step between them, and which slots that concerns.

use std::net::IpAddr;

use datapath_common::{ACTION_ALLOW, ACTION_DENY, ANY, DOMAIN_ALLOW, FLOOD_PORT, Groups, HERE, PREFIX4, slot};
use membership::id::NodeId;
use overlay::forwarding as model;
use overlay::forwarding::{Forwarding, Place};
use overlay::name::{DomainName, EndpointName};
use proptest::prelude::*;

use super::sketch::{Domains, PORTS, STATIONS, VNIS, domains, forwarding, label, mixed};
use super::*;
use crate::change;
use crate::fresh::Fresh;
use crate::installed::Installed;
use crate::lower::{Ground, Interface, Interfaces, Tunnels, keep_tunnels_of, lower, lower_some};
use crate::numbers::DomainNumbers;
use crate::tables::{address, trie_length};

/// Where group frames go.
const GROUP: Address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 224, 0, 0, 251];

/// Everything of a host: two domains that fight for the same VNIs.
struct Machine {
    installed: Installed,
    fresh: Fresh,
}

impl Machine {
    /// The operations of a change of one domain, and the part of the tables that it makes.
    fn change(&mut self, domain: u8, name: &str, sketch: &Domains) -> (Vec<Operation>, Tables) {
        let wanted = forwarding(name, domain, sketch);
        let first = u32::from(domain) * 100;
        let vnis = wanted.networks.values().map(|segment| segment.vni.get()).collect();
        let mine = self.installed.tables().part(first, &vnis);
        let mut tables = self.on(domain, &mine, |ground| lower(&wanted, ground));
        keep_tunnels_of(&self.installed.tunnels_of_others(&mine), &mine, &mut tables);
        (diff(&mine, &tables), tables)
    }

    /// The operations of a change of some stations of one domain, if it is one.
    fn change_some(&mut self, domain: u8, before: &Forwarding, after: &Forwarding) -> Option<Vec<Operation>> {
        let first = u32::from(domain) * 100;
        let here = before
            .stations
            .iter()
            .filter(|(_, station)| station.place == Place::Here);
        let here = here.map(|(key, station)| (*key, station.clone())).collect();
        let change = change_between(before, after);
        let wanted = change::with_stations(&change, here);
        let stations = change::concerned(&change, &wanted);
        let installed = self.installed.clone();
        let mine = installed.part_of(first, &wanted, &stations)?;
        let tables = self.on(domain, &mine, |ground| lower_some(&wanted, ground))?;
        change::operations(&installed, &mine, tables, &stations)
    }

    fn on<T>(&mut self, domain: u8, mine: &Tables, work: impl FnOnce(Ground<'_>) -> T) -> T {
        let first = u32::from(domain) * 100;
        let endpoints = (0..STATIONS).map(|n| (label(&format!("vm-{n}")), first + 1 + u32::from(n)));
        let numbers = DomainNumbers {
            domain: first,
            endpoints: endpoints.collect(),
        };
        let interface = |(name, number): (&EndpointName, &u32)| {
            let interface = Interface {
                ifindex: *number,
                mac: [6; 6],
                namespace: true,
            };
            (name.clone(), interface)
        };
        let interfaces: Interfaces = numbers.endpoints.iter().map(interface).collect();
        let tunnels = Tunnels {
            hosts: [(NodeId::of_key(&[7; 32]), first)].into(),
            peers: [(first, peer(domain))].into(),
        };
        work(Ground {
            numbers: &numbers,
            interfaces: &interfaces,
            tunnels: &tunnels,
            installed: mine,
            everything: self.installed.tables(),
            fresh: &mut self.fresh,
        })
    }
}

/// The stations that differ, and those who dispute an address with one of them.
fn change_between(before: &Forwarding, after: &Forwarding) -> model::Change {
    let both = || before.stations.iter().chain(&after.stations);
    let mut changed: BTreeSet<_> = both()
        .map(|(key, _)| *key)
        .filter(|key| before.stations.get(key) != after.stations.get(key))
        .collect();
    loop {
        let of_changed = both().filter(|((vni, mac), _)| changed.contains(&(*vni, *mac)));
        let disputed: BTreeSet<_> = of_changed
            .flat_map(|((vni, _), station)| station.addresses.iter().map(|ip| (*vni, *ip)))
            .collect();
        let disputes =
            both().filter(|((vni, _), station)| station.addresses.iter().any(|ip| disputed.contains(&(*vni, *ip))));
        let all: BTreeSet<_> = changed.iter().copied().chain(disputes.map(|(key, _)| *key)).collect();
        if all == changed {
            break;
        }
        changed = all;
    }
    model::Change {
        forwarding: Forwarding {
            stations: BTreeMap::new(),
            ..after.clone()
        },
        endpoints: BTreeSet::new(),
        stations: changed
            .into_iter()
            .map(|key| (key, after.stations.get(&key).cloned()))
            .collect(),
    }
}

/// Each domain has a host of its own.
fn peer(domain: u8) -> Peer {
    Peer {
        local: [9; 16],
        remote: [domain; 16],
        next_hop: [domain; 16],
        ifindex: 1,
        mtu: 1500,
        flags: 0,
        source_mac: [0; 6],
        next_hop_mac: [0; 6],
    }
}

/// Every address that a station may have.
fn universe() -> Vec<Address> {
    let own = (0..STATIONS).map(|number| [10, 0, 0, number]);
    let shared = (0..2).map(|number| [10, 0, 1, number]);
    let prefixes = (0..STATIONS).map(|number| [10, 50, number, 9]);
    own.chain(shared)
        .chain(prefixes)
        .map(|v4| address(IpAddr::from(v4)))
        .collect()
}

/// Whose an address of a segment is, by the longest match.
fn owner<'a>(tables: &'a Tables, vni: u32, ip: &Address) -> Option<&'a Neighbour> {
    let exact = tables.neighbours.get(&NeighbourKey { vni, address: *ip });
    let length = trie_length(IpAddr::from([0, 0, 0, 0]), 24);
    exact.or_else(|| {
        let prefixes = tables.prefixes.iter();
        let mut matching = prefixes.filter(|(key, _)| {
            key.data.vni == vni.to_be_bytes() && key.length == length && key.data.address[..15] == ip[..15]
        });
        matching.next().map(|(_, owner)| owner)
    })
}

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct End {
    /// Of its segment.
    domain: u32,
    /// Whose workload it is in truth.
    owner: u32,
    vni: u32,
    mac: [u8; 6],
    address: Address,
}

fn ends(tables: &Tables) -> Vec<(End, Groups)> {
    let mut ends = Vec::new();
    for (vni, segment) in &tables.segments {
        for address in universe() {
            let Some(owner) = owner(tables, *vni, &address) else {
                continue;
            };
            let key = StationKey {
                vni: *vni,
                mac: owner.mac,
                zero: [0; 2],
            };
            if let Some(station) = tables.stations.get(&key) {
                let end = End {
                    domain: segment.domain,
                    owner: if station.peer == HERE {
                        station.endpoint / 100 * 100
                    } else {
                        station.peer
                    },
                    vni: *vni,
                    mac: owner.mac,
                    address,
                };
                ends.push((end, station.groups));
            }
        }
    }
    ends
}

/// Whether an end can send at all.
fn sends(tables: &Tables, end: &End) -> bool {
    let key = StationKey {
        vni: end.vni,
        mac: end.mac,
        zero: [0; 2],
    };
    let station = tables.stations[&key];
    if station.peer != HERE {
        return tables.vteps.values().any(|peer| *peer == station.peer);
    }
    let port = tables.ports.get(&station.ifindex);
    port.is_some_and(|port| (port.domain, port.vni, port.mac) == (end.domain, end.vni, end.mac))
}

fn permitted(tables: &Tables) -> BTreeSet<(End, End, u16)> {
    let mut permitted = BTreeSet::new();
    let ends = ends(tables);
    for (source, source_groups) in &ends {
        if !sends(tables, source) {
            continue;
        }
        for (destination, groups) in &ends {
            let one_station = (source.vni, source.mac) == (destination.vni, destination.mac);
            if one_station || source.domain != destination.domain {
                continue;
            }
            let Some(domain) = tables.domains.get(&source.domain) else {
                continue;
            };
            for port in PORTS {
                let leaves = evaluate(
                    tables,
                    domain,
                    domain.egress,
                    (source_groups, groups, &destination.address),
                    port,
                );
                let enters = evaluate(
                    tables,
                    domain,
                    domain.ingress,
                    (groups, source_groups, &source.address),
                    port,
                );
                if leaves && enters {
                    permitted.insert((*source, *destination, port));
                }
            }
        }
    }
    permitted
}

/// Who hears whose group frames: the sender, the endpoint that hears, the port. Nobody hears itself.
fn heard(tables: &Tables) -> BTreeSet<(End, u32, u16)> {
    let mut heard = BTreeSet::new();
    for (source, source_groups) in &ends(tables) {
        let segment = &tables.segments[&source.vni];
        let Some(domain) = tables.domains.get(&segment.domain).filter(|_| sends(tables, source)) else {
            continue;
        };
        let key = StationKey {
            vni: source.vni,
            mac: source.mac,
            zero: [0; 2],
        };
        let sender = tables.stations[&key];
        let others = tables.targets_of(segment.flood).into_iter();
        for target in others.filter(|target| sender.peer != HERE || target.endpoint != sender.endpoint) {
            let receives = tables
                .ports
                .get(&target.target)
                .is_some_and(|port| port.vni == source.vni);
            for port in PORTS.iter().filter(|_| target.kind == FLOOD_PORT && receives) {
                let leaves = evaluate(tables, domain, domain.egress, (source_groups, &[0; 4], &GROUP), *port);
                let from = (&target.groups, source_groups, &source.address);
                if leaves && evaluate(tables, domain, domain.ingress, from, *port) {
                    heard.insert((*source, target.endpoint, *port));
                }
            }
        }
    }
    heard
}

/// Whether a list allows: subject's groups, far end's groups and address.
fn evaluate(tables: &Tables, domain: &Domain, set: u32, ends: (&Groups, &Groups, &Address), port: u16) -> bool {
    let is_in = |groups: &Groups, group: u16| groups[usize::from(group / 64)] >> (group % 64) & 1 == 1;
    let matches = |rule: &Rule| {
        let subject = rule.subject == ANY || is_in(ends.0, rule.subject);
        let peer = match rule.peer {
            ANY => true,
            PREFIX4 => ends.2[..15] == rule.address[..15] && ends.2[15] < 4,
            group => is_in(ends.1, group),
        };
        subject && peer && (rule.port_low..=rule.port_high).contains(&port)
    };
    let rules = tables.rules_of(set);
    for run in rules.chunk_by(|a, b| a.policy == b.policy) {
        let first = |version| {
            run.iter()
                .find(|r| r.version == version && matches(r) && [ACTION_ALLOW, ACTION_DENY].contains(&r.action))
        };
        let found: Vec<_> = (0..run[0].versions)
            .map(|version| first(version).map(|rule| rule.action))
            .collect();
        if found.contains(&Some(ACTION_DENY)) {
            return false;
        }
        if found.iter().all(|action| *action == Some(ACTION_ALLOW)) {
            return true;
        }
    }
    domain.flags & DOMAIN_ALLOW != 0
}

/// The slots of whatever decides otherwise after than before.
fn concerned(before: &Tables, after: &Tables) -> BTreeSet<u32> {
    let mut slots = BTreeSet::new();
    for vni in VNIS {
        for ip in universe() {
            let (old, new) = (owner(before, vni, &ip), owner(after, vni, &ip));
            if old != new {
                slots.extend([old, new].iter().flatten().map(|owner| slot::station(vni, owner.mac)));
            }
        }
        let segment = |tables: &Tables| {
            let segment = tables.segments.get(&vni)?;
            Some(Segment {
                flood: 0,
                flood_targets: 0,
                ..*segment
            })
        };
        let (old, new) = (segment(before), segment(after));
        let routes = |tables: &Tables, s: Option<Segment>| -> Vec<_> {
            let routes = s.into_iter().flat_map(|s| tables.routes_of(s.router));
            routes
                .map(|(key, route)| (key.data.address, key.length, route.kind, route.vni))
                .collect()
        };
        if old != new || routes(before, old) != routes(after, new) {
            slots.extend([old, new].iter().flatten().map(|segment| slot::domain(segment.domain)));
        }
    }
    let stations = before.stations.keys().chain(after.stations.keys());
    let changed = stations.filter(|key| before.stations.get(key) != after.stations.get(key));
    slots.extend(changed.map(|key| slot::station(key.vni, key.mac)));
    for ifindex in before.ports.keys().chain(after.ports.keys()) {
        let ports = [before, after].map(|tables| tables.ports.get(ifindex));
        if ports[0] != ports[1] {
            slots.extend(ports.iter().flatten().map(|port| slot::station(port.vni, port.mac)));
        }
    }
    let policy = |tables: &Tables, number| {
        let domain = tables.domains.get(number)?;
        Some((
            domain.flags,
            tables.rules_of(domain.egress),
            tables.rules_of(domain.ingress),
        ))
    };
    let numbers = before.domains.keys().chain(after.domains.keys());
    slots.extend(
        numbers
            .filter(|n| policy(before, n) != policy(after, n))
            .map(|n| slot::domain(*n)),
    );
    slots
}

fn names() -> [(u8, DomainName); 2] {
    [(1, label("red")), (2, label("blue"))]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_step_permits_what_neither_end_permits_and_every_slot_is_bumped(
        first in domains(), second in domains(), third in domains(), mask in any::<u16>(), who in 0..2_usize,
    ) {
        let mut machine = Machine { installed: Installed::default(), fresh: Fresh::above(0) };
        for ((number, name), sketch) in names().iter().zip([&first, &second]) {
            let (operations, _) = machine.change(*number, name.as_str(), sketch);
            operations.iter().for_each(|operation| machine.installed.note(operation));
        }
        let base = [&first, &second][who];
        let (number, name) = &names()[who];
        let sketch = mixed(base, &third, mask);
        let before = machine.installed.tables().clone();
        let numbers_before: BTreeSet<u32> = before.rules.keys().chain(before.hops.keys()).map(|key| key.set).collect();
        let (operations, wanted) = machine.change(*number, name.as_str(), &sketch);

        let mut steps = Vec::new();
        for operation in &operations {
            machine.installed.note(operation);
            if !matches!(operation, Operation::Bump(_)) {
                let tables = machine.installed.tables();
                steps.push((operation, permitted(tables), heard(tables)));
            }
            if let Operation::Put(Entry::Rule(key, value)) = operation {
                prop_assert!(before.rules.get(key).is_none_or(|old| old == value) && !numbers_before.contains(&key.set));
            }
        }
        let after = machine.installed.tables();
        let ends: BTreeSet<_> = permitted(&before).union(&permitted(after)).copied().collect();
        let hearers: BTreeSet<_> = heard(&before).union(&heard(after)).copied().collect();
        for (operation, permitted, heard) in steps {
            let more: Vec<_> = permitted.difference(&ends).collect();
            prop_assert!(more.is_empty(), "{operation:?} of {operations:?} permits {more:?}");
            let more: Vec<_> = heard.difference(&hearers).collect();
            prop_assert!(more.is_empty(), "{operation:?} of {operations:?} lets hear {more:?}");
        }

        let vnis = wanted.segments.keys().copied().collect();
        prop_assert_eq!(&after.part(u32::from(*number) * 100, &vnis), &wanted);
        let (again, _) = machine.change(*number, name.as_str(), &sketch);
        prop_assert_eq!(again, vec![]);

        let bumped: BTreeSet<u32> = operations.iter().filter_map(|o| match o {
            Operation::Bump(slot) => Some(*slot),
            _ => None,
        }).collect();
        let needed = concerned(&before, machine.installed.tables());
        prop_assert!(needed.is_subset(&bumped), "{needed:?} {bumped:?}");
        let bumps_last = operations.iter().skip_while(|o| !matches!(o, Operation::Bump(_)));
        prop_assert!(bumps_last.into_iter().all(|o| matches!(o, Operation::Bump(_))));
    }

    #[test]
    fn a_change_of_some_stations_does_what_the_whole_would_do(
        first in domains(), second in domains(), third in domains(), mask in 0..16_u16, who in 0..2_usize,
    ) {
        let mut machine = Machine { installed: Installed::default(), fresh: Fresh::above(0) };
        for ((number, name), sketch) in names().iter().zip([&first, &second]) {
            let (operations, _) = machine.change(*number, name.as_str(), sketch);
            operations.iter().for_each(|operation| machine.installed.note(operation));
        }
        let base = [&first, &second][who];
        let (number, name) = &names()[who];
        // Bits 2 to 5 are the stations.
        let sketch = mixed(base, &third, mask << 2);
        let [from, to] = [base, &sketch].map(|sketch| forwarding(name.as_str(), *number, sketch));
        let before = machine.installed.tables().clone();
        let Some(operations) = machine.change_some(*number, &from, &to) else {
            return Err(TestCaseError::reject("it is no change of some stations"));
        };
        let mut steps = Vec::new();
        for operation in &operations {
            machine.installed.note(operation);
            let tables = machine.installed.tables();
            steps.push((operation, permitted(tables), heard(tables)));
        }
        let after = machine.installed.tables().clone();
        let ends: BTreeSet<_> = permitted(&before).union(&permitted(&after)).copied().collect();
        let hearers: BTreeSet<_> = heard(&before).union(&heard(&after)).copied().collect();
        for (operation, permitted, heard) in steps {
            prop_assert!(permitted.is_subset(&ends), "{operation:?} of {operations:?}");
            prop_assert!(heard.is_subset(&hearers), "{operation:?} of {operations:?}");
        }
        let bumped: BTreeSet<u32> = operations.iter().filter_map(|o| match o {
            Operation::Bump(slot) => Some(*slot),
            _ => None,
        }).collect();
        let needed = concerned(&before, &after);
        prop_assert!(needed.is_subset(&bumped), "{needed:?} {bumped:?}");
        let (left, _) = machine.change(*number, name.as_str(), &sketch);
        prop_assert_eq!(left, vec![], "after {:?}", operations);
    }
}
