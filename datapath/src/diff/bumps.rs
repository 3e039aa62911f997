//! Which slots of `GENERATIONS` a change is about, so that no decision that was made from what changed stays in force.
//!
//! An address of a station lies in prefixes of others: who loses it to another entry, or gets it back, is concerned, too.

use std::collections::BTreeSet;

use datapath_common::{Address, Neighbour, slot};

use super::{Change, Entry, Key, Operation};
use crate::tables::{PREFIX_HEAD, Prefix, Tables, vni_of};

/// The slots that these operations concern.
pub(super) fn of(change: &Change<'_>, operations: &[Operation]) -> BTreeSet<u32> {
    let mut slots = BTreeSet::new();
    for operation in operations {
        for tables in [change.installed, change.wanted] {
            concerned(key(operation), tables, &mut slots);
        }
    }
    slots
}

fn key(operation: &Operation) -> Option<Key> {
    Some(match *operation {
        Operation::Remove(key) => key,
        Operation::Bump(_) => return None,
        Operation::Put(entry) => match entry {
            Entry::Port(key, _) => Key::Port(key),
            Entry::Vtep(key, _) => Key::Vtep(key),
            Entry::Segment(key, _) => Key::Segment(key),
            Entry::Station(key, _) => Key::Station(key),
            Entry::Neighbour(key, _) => Key::Neighbour(key),
            Entry::Prefix(key, _) => Key::Prefix(key),
            Entry::Domain(key, _) => Key::Domain(key),
            Entry::Rule(key, _) => Key::Rule(key),
            Entry::Route(key, _) => Key::Route(key),
            Entry::Hop(key, _) => Key::Hop(key),
            Entry::Peer(key, _) => Key::Peer(key),
        },
    })
}

/// Adds the slots of those whom an entry is about, before or after the change.
fn concerned(key: Option<Key>, tables: &Tables, slots: &mut BTreeSet<u32>) {
    match key {
        Some(Key::Port(ifindex)) => slots.extend(tables.ports.get(&ifindex).map(|port| port.slot)),
        Some(Key::Station(key)) => slots.extend(tables.stations.get(&key).map(|station| station.slot)),
        Some(Key::Neighbour(key)) => {
            let data = key.address;
            owners(
                tables,
                key.vni,
                tables.neighbours.get(&key),
                Prefix { data, length: 128 },
                slots,
            );
        }
        Some(Key::Prefix(key)) => {
            let inner = Prefix {
                data: key.data.address,
                length: key.length.saturating_sub(PREFIX_HEAD),
            };
            owners(tables, vni_of(&key), tables.prefixes.get(&key), inner, slots);
        }
        Some(Key::Segment(vni)) => slots.extend(tables.segments.get(&vni).map(|s| slot::domain(s.domain))),
        Some(Key::Domain(number)) => {
            slots.insert(slot::domain(number));
        }
        // A set is of a domain that turns with it.
        Some(Key::Rule(_) | Key::Route(_) | Key::Hop(_)) => {
            slots.extend(tables.domains.keys().map(|number| slot::domain(*number)));
        }
        // A flow only has the number of a tunnel, and stations change with it. Its far end is checked for each packet.
        Some(Key::Peer(_) | Key::Vtep(_)) | None => {}
    }
}

fn owners(tables: &Tables, vni: u32, owner: Option<&Neighbour>, inner: Prefix<Address>, slots: &mut BTreeSet<u32>) {
    let owners = owner
        .map(|owner| owner.mac)
        .into_iter()
        .chain(tables.covering(vni, inner));
    slots.extend(owners.map(|mac| slot::station(vni, mac)));
}
