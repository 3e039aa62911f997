//! What is installed, in memory: read from the kernel once and kept along with every operation that was done.

use std::collections::{BTreeMap, BTreeSet};

use datapath_common::{Address, HERE, Neighbour, NeighbourKey, ROUTER};

use crate::diff::{Entry, Key, Operation};
use crate::lower::NOWHERE;
use crate::tables::Tables;

/// A station: its segment and its MAC address.
pub(crate) type StationOf = (u32, [u8; 6]);

/// All tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Installed {
    tables: Tables,
    /// How many stations each tunnel leads to.
    stations: BTreeMap<u32, usize>,
    /// Whose which address is: the keys of `NEIGHBOURS` by station.
    addresses: BTreeSet<(StationOf, Address)>,
}

impl Installed {
    pub(crate) fn new(tables: Tables) -> Self {
        let addresses = tables
            .neighbours
            .iter()
            .map(|(key, owner)| ((key.vni, owner.mac), key.address));
        Self {
            stations: tunnels_in_use(&tables),
            addresses: addresses.collect(),
            tables,
        }
    }

    /// The addresses of a station.
    pub(crate) fn addresses_of(&self, station: StationOf) -> impl Iterator<Item = NeighbourKey> {
        let all = self.addresses.range((station, [0; 16])..=(station, [0xff; 16]));
        all.map(|((vni, _), address)| NeighbourKey {
            vni: *vni,
            address: *address,
        })
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Tunnels to stations that are not in `part`.
    pub(crate) fn tunnels_of_others(&self, part: &Tables) -> BTreeSet<u32> {
        let mine = tunnels_in_use(part);
        let others = |(peer, all): &(&u32, &usize)| mine.get(peer).unwrap_or(&0) < all;
        self.stations.iter().filter(others).map(|(peer, _)| *peer).collect()
    }

    /// Keeps in mind that an operation was done.
    pub(crate) fn note(&mut self, operation: &Operation) {
        let tables = &mut self.tables;
        match *operation {
            Operation::Bump(_) => {}
            Operation::Put(entry) => match entry {
                Entry::Port(k, v) => drop(tables.ports.insert(k, v)),
                Entry::Vtep(k, v) => drop(tables.vteps.insert(k, v)),
                Entry::Segment(k, v) => drop(tables.segments.insert(k, v)),
                Entry::Station(k, v) => {
                    let before = tables.stations.insert(k, v);
                    self.count(before.map(|station| station.peer), Some(v.peer));
                }
                Entry::Neighbour(k, v) => {
                    let before = tables.neighbours.insert(k, v);
                    self.own_address(k, before, Some(v));
                }
                Entry::Prefix(k, v) => drop(tables.prefixes.insert(k, v)),
                Entry::Domain(k, v) => drop(tables.domains.insert(k, v)),
                Entry::Rule(k, v) => drop(tables.rules.insert(k, v)),
                Entry::Route(k, v) => drop(tables.routes.insert(k, v)),
                Entry::Hop(k, v) => drop(tables.hops.insert(k, v)),
                Entry::Flood(k, v) => drop(tables.floods.insert(k, v)),
                Entry::Peer(k, v) => drop(tables.peers.insert(k, v)),
            },
            Operation::Remove(key) => match key {
                Key::Port(k) => drop(tables.ports.remove(&k)),
                Key::Vtep(k) => drop(tables.vteps.remove(&k)),
                Key::Segment(k) => drop(tables.segments.remove(&k)),
                Key::Station(k) => {
                    let before = tables.stations.remove(&k);
                    self.count(before.map(|station| station.peer), None);
                }
                Key::Neighbour(k) => {
                    let before = tables.neighbours.remove(&k);
                    self.own_address(k, before, None);
                }
                Key::Prefix(k) => drop(tables.prefixes.remove(&k)),
                Key::Domain(k) => drop(tables.domains.remove(&k)),
                Key::Rule(k) => drop(tables.rules.remove(&k)),
                Key::Route(k) => drop(tables.routes.remove(&k)),
                Key::Hop(k) => drop(tables.hops.remove(&k)),
                Key::Flood(k) => drop(tables.floods.remove(&k)),
                Key::Peer(k) => drop(tables.peers.remove(&k)),
            },
        }
    }

    fn own_address(&mut self, key: NeighbourKey, before: Option<Neighbour>, after: Option<Neighbour>) {
        let entry = |owner: Neighbour| ((key.vni, owner.mac), key.address);
        before.map(|owner| self.addresses.remove(&entry(owner)));
        after.map(|owner| self.addresses.insert(entry(owner)));
    }

    fn count(&mut self, before: Option<u32>, after: Option<u32>) {
        if let Some(peer) = after.filter(|peer| is_tunnel(*peer)) {
            *self.stations.entry(peer).or_default() += 1;
        }
        if let Some(peer) = before.filter(|peer| is_tunnel(*peer))
            && let Some(stations) = self.stations.get_mut(&peer)
        {
            *stations = stations.saturating_sub(1);
            if *stations == 0 {
                self.stations.remove(&peer);
            }
        }
    }
}

fn is_tunnel(peer: u32) -> bool {
    ![HERE, ROUTER, NOWHERE].contains(&peer)
}

fn tunnels_in_use(tables: &Tables) -> BTreeMap<u32, usize> {
    let mut stations = BTreeMap::new();
    for station in tables.stations.values().filter(|station| is_tunnel(station.peer)) {
        *stations.entry(station.peer).or_default() += 1;
    }
    stations
}

#[cfg(test)]
mod tests {
    use datapath_common::{Station, StationKey};

    use super::*;

    fn station(vni: u32, peer: u32) -> (StationKey, Station) {
        let mac = [2, 0, 0, 0, 0, 1];
        let key = StationKey { vni, mac, zero: [0; 2] };
        let station = Station {
            peer,
            ifindex: 0,
            endpoint: 0,
            flags: 0,
            slot: 0,
            zero: 0,
            groups: [0; 4],
        };
        (key, station)
    }

    #[test]
    fn addresses_are_known_by_their_station() {
        let key = |last| NeighbourKey {
            vni: 1,
            address: [last; 16],
        };
        let owner = |last| Neighbour {
            mac: [2, 0, 0, 0, 0, last],
            flags: 0,
        };
        let put = |address, mac| Operation::Put(Entry::Neighbour(key(address), owner(mac)));
        let mut installed = Installed::default();
        let operations = [
            put(1, 1),
            put(2, 1),
            put(0xff, 1),
            put(3, 2),
            put(2, 2),
            Operation::Remove(Key::Neighbour(key(1))),
        ];
        for operation in &operations {
            installed.note(operation);
            assert_eq!(installed, Installed::new(installed.tables().clone()), "{operation:?}");
        }
        let of = |mac| installed.addresses_of((1, owner(mac).mac)).collect::<Vec<_>>();
        assert_eq!((of(1), of(2)), (vec![key(0xff)], vec![key(2), key(3)]));
    }

    #[test]
    fn tunnels_are_counted_along() {
        let mut installed = Installed::default();
        let put = |(key, station)| Operation::Put(Entry::Station(key, station));
        let operations = [
            put(station(1, 5)),
            put(station(2, 5)),
            put(station(3, 6)),
            put(station(3, 7)),
            put(station(4, ROUTER)),
            put(station(5, HERE)),
            Operation::Remove(Key::Station(station(2, 5).0)),
            Operation::Remove(Key::Station(station(9, 5).0)),
        ];
        for operation in &operations {
            installed.note(operation);
            assert_eq!(installed, Installed::new(installed.tables().clone()), "{operation:?}");
        }
        assert_eq!(installed.tunnels_of_others(&Tables::default()), [5, 7].into());
        let part = Tables {
            stations: [station(1, 5)].into(),
            ..Tables::default()
        };
        assert_eq!(installed.tunnels_of_others(&part), [7].into());
    }
}
