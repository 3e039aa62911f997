//! How the groups of entries that stay change, while rules change at once and entries one by one.
//!
//! Rules and groups always belong together: before the turn, no installed rule looks at a bit that an entry gets; behind
//! it, none of those in force looks at one that it had. One station alone may change under rules that stay. What fits
//! neither is done with the domain closed: nothing is allowed and connections that are looked at meanwhile are lost, so
//! `lower` chooses bits for which that is not needed.

use std::collections::BTreeMap;

use datapath_common::{Domain, Groups, Station, StationKey};

use super::{Change, Entry, Operation};
use crate::lower::{and, looked_at, or, without};
use crate::tables::Tables;

/// How the groups of a domain's entries change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Each in one step.
    InPlace,
    /// Each has both for a while.
    Both,
    /// While the domain is closed.
    Closed,
}

/// How the groups of each domain change.
pub(super) fn ways(change: &Change<'_>) -> BTreeMap<u32, Way> {
    let numbers = change.installed.domains.keys().chain(change.wanted.domains.keys());
    numbers.map(|number| (*number, way(change, *number))).collect()
}

/// Whether a station has all that it comes to have, before others come: of one that stays, only the groups change.
pub(super) fn has_come(change: &Change<'_>, key: &StationKey, new: &Station) -> bool {
    let old = change.installed.stations.get(key);
    let same = old.is_some_and(|old| {
        let groups = new.groups;
        change.stay.contains(&key.vni) && Station { groups, ..*old } == *new
    });
    let segment = change.installed.segments.get(&key.vni).filter(|_| same);
    segment.is_some_and(|segment| change.ways.get(&segment.domain) != Some(&Way::Both))
}

/// Step 3.
pub(super) fn come(change: &Change<'_>, operations: &mut Vec<Operation>) {
    for (number, way) in &change.ways {
        if let (Way::Closed, Some(domain)) = (way, change.installed.domains.get(number)) {
            let closed = Domain {
                flags: 0,
                egress: 0,
                egress_rules: 0,
                ingress: 0,
                ingress_rules: 0,
                ..*domain
            };
            operations.push(Operation::Put(Entry::Domain(*number, closed)));
        }
    }
    for changing in changing(change) {
        let (old, new) = (changing.before.groups, changing.groups);
        let groups = match change.ways.get(&changing.domain) {
            Some(Way::Both) => or(old, new),
            Some(Way::InPlace | Way::Closed) | None => new,
        };
        if groups != old {
            let before = changing.before;
            operations.push(Operation::Put(Entry::Station(
                changing.key,
                Station { groups, ..before },
            )));
        }
    }
}

fn way(change: &Change<'_>, number: u32) -> Way {
    let (old, new) = (Policy::of(change.installed, number), Policy::of(change.wanted, number));
    let looked_at_ever = or(old.looked_at, new.looked_at);
    let changing: Vec<_> = changing(change)
        .filter(|changing| changing.domain == number)
        .map(|changing| (changing.before.groups, changing.groups))
        .filter(|(had, has)| and(or(without(*had, *has), without(*has, *had)), looked_at_ever) != [0; 4])
        .collect();
    let unseen = changing.iter().all(|(had, has)| {
        and(without(*has, *had), old.looked_at) == [0; 4] && and(without(*had, *has), new.looked_at) == [0; 4]
    });
    match (changing.len(), old.domain == new.domain) {
        (0, _) | (1, true) => Way::InPlace,
        (_, false) if unseen => Way::Both,
        _ => Way::Closed,
    }
}

/// What a domain allows.
struct Policy {
    domain: Option<Domain>,
    /// The groups that its rules look at.
    looked_at: Groups,
}

impl Policy {
    fn of(tables: &Tables, number: u32) -> Self {
        let domain = tables.domains.get(&number).copied();
        let mut rules = Tables::default();
        for set in domain.iter().flat_map(|domain| [domain.egress, domain.ingress]) {
            rules.rules.extend(crate::tables::members(&tables.rules, set));
        }
        Self {
            domain,
            looked_at: looked_at(&rules),
        }
    }
}

/// A station that stays, of which the groups change.
struct Changing {
    domain: u32,
    key: StationKey,
    before: Station,
    /// As they come to be.
    groups: Groups,
}

fn changing(change: &Change<'_>) -> impl Iterator<Item = Changing> {
    change.installed.stations.iter().filter_map(|(key, old)| {
        let new = change.wanted.stations.get(key)?;
        let stays = old.groups != new.groups && change.stay.contains(&key.vni);
        let segment = change.installed.segments.get(&key.vni).filter(|_| stays)?;
        Some(Changing {
            domain: segment.domain,
            key: *key,
            before: *old,
            groups: new.groups,
        })
    })
}
