//! Which slots of `GENERATIONS` a change is about, so that no decision that was made from what changed stays in force.
//!
//! An address of a station lies in prefixes of others: who loses it to another entry, or gets it back, is concerned, too.

use std::collections::BTreeSet;

use datapath_common::{Segment, slot};

use super::{Change, Entry, Key, Operation};
use crate::covering::Covering;
use crate::tables::{Tables, vni_of};

/// The slots that these operations concern.
pub(super) fn of(change: &Change<'_>, operations: &[Operation]) -> BTreeSet<u32> {
    let mut slots = BTreeSet::new();
    for tables in [change.installed, change.wanted] {
        let covering = Covering::of(tables);
        for key in operations.iter().filter_map(key) {
            if matches!(key, Key::Segment(vni) if as_it_was(change, vni)) {
                continue;
            }
            concerned(&key, tables, &covering, &mut slots);
        }
    }
    slots
}

/// Whether nothing of a segment changes but who gets its group frames: no decision about those is kept.
fn as_it_was(change: &Change<'_>, vni: u32) -> bool {
    let without_floods = |tables: &Tables| {
        let segment = tables.segments.get(&vni)?;
        Some(Segment {
            flood: 0,
            flood_targets: 0,
            ..*segment
        })
    };
    without_floods(change.installed) == without_floods(change.wanted)
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
            Entry::Flood(key, _) => Key::Flood(key),
            Entry::Peer(key, _) => Key::Peer(key),
        },
    })
}

/// Adds the slots of those whom an entry is about, before or after the change.
fn concerned(key: &Key, tables: &Tables, covering: &Covering<'_>, slots: &mut BTreeSet<u32>) {
    match key {
        Key::Port(ifindex) => slots.extend(tables.ports.get(ifindex).map(|port| port.slot)),
        Key::Station(key) => slots.extend(tables.stations.get(key).map(|station| station.slot)),
        Key::Neighbour(key) => {
            let owner = tables.neighbours.get(key).map(|owner| owner.mac);
            let owners = owner.into_iter().chain(covering.address(key));
            slots.extend(owners.map(|mac| slot::station(key.vni, mac)));
        }
        Key::Prefix(key) => {
            let vni = vni_of(key);
            slots.extend(covering.prefix(*key).map(|mac| slot::station(vni, mac)));
        }
        Key::Segment(vni) => slots.extend(tables.segments.get(vni).map(|s| slot::domain(s.domain))),
        Key::Domain(number) => {
            slots.insert(slot::domain(*number));
        }
        // A set is of a domain that turns with it.
        Key::Rule(_) | Key::Route(_) | Key::Hop(_) => {
            slots.extend(tables.domains.keys().map(|number| slot::domain(*number)));
        }
        // A flow only has the number of a tunnel, and stations change with it. Its far end is checked for each packet.
        Key::Peer(_) | Key::Vtep(_) => {}
        // See `as_it_was`.
        Key::Flood(_) => {}
    }
}
