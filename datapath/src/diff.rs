//! From installed tables to wanted ones, in an order in which nobody can do more at any moment than before or after.
//!
//! ```text
//!  1. permissions that go:   PORTS, VTEPS, SEGMENTS, STATIONS, NEIGHBOURS
//!  2. ways that come:        PEERS, SEGMENTS, STATIONS, NEIGHBOURS     (each may refer to what stands left of it)
//!  3. permissions that come: VTEPS, PORTS
//!  4. ways that go:          PEERS                                     (nothing refers to them)
//! ```
//! A value that changes under its key is replaced in one step, except where it would hand a permission to another
//! owner: that one is removed in 1 and added in 3.

use std::collections::BTreeMap;

use datapath_common::{Address, Neighbour, NeighbourKey, Peer, Port, Segment, Station, StationKey};

use crate::tables::Tables;

/// One change of one map. Each is idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Insert or replace.
    Put(Entry),
    /// Remove, if it is there.
    Remove(Key),
}

/// A key of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Port(u32),
    Vtep(Address),
    Segment(u32),
    Station(StationKey),
    Neighbour(NeighbourKey),
    Peer(u32),
}

/// A key of a map with its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    Port(u32, Port),
    Vtep(Address, u32),
    Segment(u32, Segment),
    Station(StationKey, Station),
    Neighbour(NeighbourKey, Neighbour),
    Peer(u32, Peer),
}

/// The operations that make `installed` into `wanted`, in the order in which to apply them.
pub(crate) fn diff(installed: &Tables, wanted: &Tables) -> Vec<Operation> {
    let handed_on = |old: &Port, new: &Port| (old.domain, old.endpoint, old.vni) != (new.domain, new.endpoint, new.vni);
    let mut operations = Vec::new();
    operations.extend(gone(&installed.ports, &wanted.ports, handed_on).map(|k| Operation::Remove(Key::Port(k))));
    operations.extend(gone(&installed.vteps, &wanted.vteps, |a, b| a != b).map(|k| Operation::Remove(Key::Vtep(k))));
    let moved = |old: &Segment, new: &Segment| old.domain != new.domain;
    operations.extend(gone(&installed.segments, &wanted.segments, moved).map(|k| Operation::Remove(Key::Segment(k))));
    let stays = |_: &_, _: &_| false;
    operations.extend(gone(&installed.stations, &wanted.stations, stays).map(|k| Operation::Remove(Key::Station(k))));
    let stays = |_: &_, _: &_| false;
    operations
        .extend(gone(&installed.neighbours, &wanted.neighbours, stays).map(|k| Operation::Remove(Key::Neighbour(k))));

    let put = Operation::Put;
    operations.extend(come(&installed.peers, &wanted.peers).map(|(k, v)| put(Entry::Peer(k, v))));
    operations.extend(come(&installed.segments, &wanted.segments).map(|(k, v)| put(Entry::Segment(k, v))));
    operations.extend(come(&installed.stations, &wanted.stations).map(|(k, v)| put(Entry::Station(k, v))));
    operations.extend(come(&installed.neighbours, &wanted.neighbours).map(|(k, v)| put(Entry::Neighbour(k, v))));

    operations.extend(come(&installed.vteps, &wanted.vteps).map(|(k, v)| put(Entry::Vtep(k, v))));
    operations.extend(come(&installed.ports, &wanted.ports).map(|(k, v)| put(Entry::Port(k, v))));

    let stays = |_: &_, _: &_| false;
    operations.extend(gone(&installed.peers, &wanted.peers, stays).map(|k| Operation::Remove(Key::Peer(k))));
    operations
}

/// Keys that are not wanted, or whose value changes in a way that `apart` does not let happen in one step.
fn gone<'a, K: Ord + Copy, V>(
    installed: &'a BTreeMap<K, V>,
    wanted: &'a BTreeMap<K, V>,
    apart: impl Fn(&V, &V) -> bool + 'a,
) -> impl Iterator<Item = K> + 'a {
    installed
        .iter()
        .filter(move |(key, old)| wanted.get(key).is_none_or(|new| apart(old, new)))
        .map(|(key, _)| *key)
}

/// Entries that are not installed as they are wanted.
fn come<'a, K: Ord + Copy, V: Copy + PartialEq>(
    installed: &'a BTreeMap<K, V>,
    wanted: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = (K, V)> + 'a {
    wanted
        .iter()
        .filter(|(key, new)| installed.get(key) != Some(new))
        .map(|(key, new)| (*key, *new))
}

#[cfg(test)]
mod tests {
    use super::*;

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
    const VTEP: Address = [4; 16];

    fn port(endpoint: u32) -> Port {
        Port {
            domain: 1,
            endpoint,
            vni: 10,
            flags: 0,
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
            flags: 0,
            source_mac: [0; 6],
            next_hop_mac: [0; 6],
        }
    }

    fn full() -> Tables {
        Tables {
            ports: [(3, port(5))].into(),
            stations: [(
                STATION,
                Station {
                    peer: 7,
                    ifindex: 0,
                    endpoint: 0,
                    flags: 0,
                },
            )]
            .into(),
            neighbours: [(NEIGHBOUR, Neighbour { mac: MAC, zero: [0; 2] })].into(),
            segments: [(
                10,
                Segment {
                    domain: 1,
                    flags: 1,
                    mtu: 1400,
                },
            )]
            .into(),
            peers: [(7, peer(2))].into(),
            vteps: [(VTEP, 7)].into(),
        }
    }

    /// What a list of operations makes of tables.
    fn applied(mut tables: Tables, operations: &[Operation]) -> Tables {
        for operation in operations {
            match *operation {
                Operation::Put(Entry::Port(k, v)) => drop(tables.ports.insert(k, v)),
                Operation::Put(Entry::Vtep(k, v)) => drop(tables.vteps.insert(k, v)),
                Operation::Put(Entry::Segment(k, v)) => drop(tables.segments.insert(k, v)),
                Operation::Put(Entry::Station(k, v)) => drop(tables.stations.insert(k, v)),
                Operation::Put(Entry::Neighbour(k, v)) => drop(tables.neighbours.insert(k, v)),
                Operation::Put(Entry::Peer(k, v)) => drop(tables.peers.insert(k, v)),
                Operation::Remove(Key::Port(k)) => drop(tables.ports.remove(&k)),
                Operation::Remove(Key::Vtep(k)) => drop(tables.vteps.remove(&k)),
                Operation::Remove(Key::Segment(k)) => drop(tables.segments.remove(&k)),
                Operation::Remove(Key::Station(k)) => drop(tables.stations.remove(&k)),
                Operation::Remove(Key::Neighbour(k)) => drop(tables.neighbours.remove(&k)),
                Operation::Remove(Key::Peer(k)) => drop(tables.peers.remove(&k)),
            }
        }
        tables
    }

    #[test]
    fn senders_come_last() {
        use Operation::Put;
        let operations = diff(&Tables::default(), &full());
        assert!(
            matches!(
                operations[..],
                [
                    Put(Entry::Peer(..)),
                    Put(Entry::Segment(..)),
                    Put(Entry::Station(..)),
                    Put(Entry::Neighbour(..)),
                    Put(Entry::Vtep(..)),
                    Put(Entry::Port(..))
                ]
            ),
            "{operations:?}"
        );
    }

    #[test]
    fn senders_go_first_and_hosts_last() {
        use Operation::Remove;
        let operations = diff(&full(), &Tables::default());
        assert_eq!(
            operations,
            [
                Remove(Key::Port(3)),
                Remove(Key::Vtep(VTEP)),
                Remove(Key::Segment(10)),
                Remove(Key::Station(STATION)),
                Remove(Key::Neighbour(NEIGHBOUR)),
                Remove(Key::Peer(7)),
            ]
        );
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
            [Operation::Remove(Key::Port(3)), Operation::Put(Entry::Port(3, port(6)))]
        );
    }

    #[test]
    fn a_next_hop_changes_in_one_step() {
        let mut wanted = full();
        wanted.peers.insert(7, peer(4));
        assert_eq!(diff(&full(), &wanted), [Operation::Put(Entry::Peer(7, peer(4)))]);
    }

    #[test]
    fn the_operations_lead_to_what_is_wanted() {
        let mut other = full();
        other.ports.insert(4, port(8));
        other.segments.insert(
            10,
            Segment {
                domain: 2,
                flags: 0,
                mtu: 1300,
            },
        );
        other.vteps.insert(VTEP, 9);
        other.stations.clear();
        let cases = [
            (Tables::default(), full()),
            (full(), Tables::default()),
            (full(), other.clone()),
            (other, full()),
        ];
        for (installed, wanted) in cases {
            assert_eq!(applied(installed.clone(), &diff(&installed, &wanted)), wanted);
        }
    }
}
