//! From installed tables to wanted ones, in an order in which nobody can do more at any moment than before or after.
//!
//! ```text
//!  1. permissions that go:   PORTS, VTEPS, SEGMENTS, STATIONS, NEIGHBOURS, PREFIXES, ROUTES into a segment that goes over
//!                            to another domain; who gets the group frames of a segment whose domain turns
//!  2. sets:                  RULES, HOPS, ROUTES, FLOODS, under numbers that nothing refers to
//!  3. groups that change:    STATIONS that stay                                                  (see `groups`)
//!  4. the turn:              DOMAINS, PEERS, SEGMENTS refer to the other sets
//!  5. ways that come:        STATIONS, NEIGHBOURS, PREFIXES
//!  6. permissions that come: VTEPS, PORTS
//!  7. what nothing refers to: DOMAINS, ROUTES, HOPS, RULES, FLOODS, PEERS
//!  8. generations:           of every station and domain that one of these is about
//! ```
//! A value that changes under its key is replaced in one step, except where it would hand a permission to another
//! owner: that one is removed in 1 and comes in 5 or 6.

mod bumps;
mod groups;
#[cfg(test)]
mod sketch;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use datapath_common::{
    Address, Domain, FloodTarget, Hop, MemberKey, Neighbour, NeighbourKey, Peer, Port, PrefixKey, Route, RouteKey,
    Rule, Segment, Station, StationKey,
};

use crate::tables::{Prefix, Tables, vni_of};

/// One change of one map. Each is idempotent, but for a bump, of which one more does no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Insert or replace.
    Put(Entry),
    /// Remove, if it is there.
    Remove(Key),
    /// Count up a slot of `GENERATIONS`.
    Bump(u32),
}

/// A key of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Port(u32),
    Vtep(Address),
    Segment(u32),
    Station(StationKey),
    Neighbour(NeighbourKey),
    Prefix(Prefix<PrefixKey>),
    Domain(u32),
    Rule(MemberKey),
    Route(Prefix<RouteKey>),
    Hop(MemberKey),
    Flood(MemberKey),
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
    Prefix(Prefix<PrefixKey>, Neighbour),
    Domain(u32, Domain),
    Rule(MemberKey, Rule),
    Route(Prefix<RouteKey>, Route),
    Hop(MemberKey, Hop),
    Flood(MemberKey, FloodTarget),
    Peer(u32, Peer),
}

/// The operations that make `installed` into `wanted`, in the order in which to apply them.
pub(crate) fn diff(installed: &Tables, wanted: &Tables) -> Vec<Operation> {
    let change = Change::new(installed, wanted);
    let mut operations = Vec::new();
    change.permissions_go(&mut operations);
    change.sets_come(&mut operations);
    groups::come(&change, &mut operations);
    change.turn(&mut operations);
    change.ways_come(&mut operations);
    change.leftovers_go(&mut operations);
    operations.extend(bumps::of(&change, &operations).into_iter().map(Operation::Bump));
    operations
}

/// Two tables, and what of them is about the same segments.
struct Change<'a> {
    installed: &'a Tables,
    wanted: &'a Tables,
    /// Segments that stay in their domain.
    stay: BTreeSet<u32>,
    /// How groups change, by domain.
    ways: BTreeMap<u32, groups::Way>,
}

impl<'a> Change<'a> {
    fn new(installed: &'a Tables, wanted: &'a Tables) -> Self {
        let stays = |(vni, old): (&u32, &Segment)| {
            let new = wanted.segments.get(vni)?;
            (new.domain == old.domain).then_some(*vni)
        };
        let mut change = Self {
            installed,
            wanted,
            stay: installed.segments.iter().filter_map(stays).collect(),
            ways: BTreeMap::new(),
        };
        change.ways = groups::ways(&change);
        change
    }

    /// Whether an entry of a segment goes over to another owner: another station or another domain.
    fn is_handed_on(&self, vni: u32, old: &Neighbour, new: &Neighbour) -> bool {
        !self.stay.contains(&vni) || (old.mac, old.flags) != (new.mac, new.flags)
    }

    fn permissions_go(&self, operations: &mut Vec<Operation>) {
        let (old, new) = (self.installed, self.wanted);
        let remove = Operation::Remove;
        let handed_on = |_: &u32, a: &Port, b: &Port| (a.domain, a.endpoint, a.vni) != (b.domain, b.endpoint, b.vni);
        operations.extend(gone(&old.ports, &new.ports, handed_on).map(|k| remove(Key::Port(k))));
        operations.extend(gone(&old.vteps, &new.vteps, |_, a, b| a != b).map(|k| remove(Key::Vtep(k))));
        let moved = |vni: &u32, _: &Segment, _: &Segment| !self.stay.contains(vni);
        operations.extend(gone(&old.segments, &new.segments, moved).map(|k| remove(Key::Segment(k))));
        let moved = |key: &StationKey, _: &Station, _: &Station| !self.stay.contains(&key.vni);
        operations.extend(gone(&old.stations, &new.stations, moved).map(|k| remove(Key::Station(k))));
        let moved = |key: &NeighbourKey, a: &Neighbour, b: &Neighbour| self.is_handed_on(key.vni, a, b);
        operations.extend(gone(&old.neighbours, &new.neighbours, moved).map(|k| remove(Key::Neighbour(k))));
        let moved = |key: &Prefix<PrefixKey>, a: &Neighbour, b: &Neighbour| self.is_handed_on(vni_of(key), a, b);
        operations.extend(gone(&old.prefixes, &new.prefixes, moved).map(|k| remove(Key::Prefix(k))));
        let stale = self.stale_routes(|route| self.leads_astray(route));
        operations.extend(stale.map(|k| remove(Key::Route(k))));
        operations.extend(self.silenced().map(|(k, v)| Operation::Put(Entry::Segment(k, v))));
    }

    /// Segments in which nobody gets group frames until the turn: targets have groups, and neither the old ones meet the
    /// rules to come nor the other way round.
    fn silenced(&self) -> impl Iterator<Item = (u32, Segment)> {
        let stays = self
            .installed
            .segments
            .iter()
            .filter(|(vni, _)| self.stay.contains(vni));
        let changing = stays.filter(|(vni, old)| {
            let new = self.wanted.segments.get(vni);
            let turns = self.installed.domains.get(&old.domain) != self.wanted.domains.get(&old.domain);
            old.flood != 0 && turns && new.is_some_and(|new| new.flood != old.flood)
        });
        changing.map(|(vni, old)| {
            let silent = Segment {
                flood: 0,
                flood_targets: 0,
                ..*old
            };
            (*vni, silent)
        })
    }

    fn sets_come(&self, operations: &mut Vec<Operation>) {
        let (old, new) = (self.installed, self.wanted);
        let put = Operation::Put;
        operations.extend(come(&old.rules, &new.rules, never).map(|(k, v)| put(Entry::Rule(k, v))));
        operations.extend(come(&old.hops, &new.hops, never).map(|(k, v)| put(Entry::Hop(k, v))));
        operations.extend(come(&old.floods, &new.floods, never).map(|(k, v)| put(Entry::Flood(k, v))));
        operations.extend(come(&old.routes, &new.routes, never).map(|(k, v)| put(Entry::Route(k, v))));
    }

    fn turn(&self, operations: &mut Vec<Operation>) {
        let (old, new) = (self.installed, self.wanted);
        let put = Operation::Put;
        let closed = |number: &u32, _: &Domain, _: &Domain| self.ways.get(number) == Some(&groups::Way::Closed);
        operations.extend(come(&old.domains, &new.domains, closed).map(|(k, v)| put(Entry::Domain(k, v))));
        operations.extend(come(&old.peers, &new.peers, never).map(|(k, v)| put(Entry::Peer(k, v))));
        let moved = |vni: &u32, _: &Segment, _: &Segment| !self.stay.contains(vni);
        operations.extend(come(&old.segments, &new.segments, moved).map(|(k, v)| put(Entry::Segment(k, v))));
    }

    fn ways_come(&self, operations: &mut Vec<Operation>) {
        let (old, new) = (self.installed, self.wanted);
        let put = Operation::Put;
        let moved = |key: &StationKey, _: &Station, _: &Station| !self.stay.contains(&key.vni);
        let others =
            come(&old.stations, &new.stations, moved).filter(|(key, value)| !groups::has_come(self, key, value));
        operations.extend(others.map(|(k, v)| put(Entry::Station(k, v))));
        let moved = |key: &NeighbourKey, a: &Neighbour, b: &Neighbour| self.is_handed_on(key.vni, a, b);
        operations.extend(come(&old.neighbours, &new.neighbours, moved).map(|(k, v)| put(Entry::Neighbour(k, v))));
        let moved = |key: &Prefix<PrefixKey>, a: &Neighbour, b: &Neighbour| self.is_handed_on(vni_of(key), a, b);
        operations.extend(come(&old.prefixes, &new.prefixes, moved).map(|(k, v)| put(Entry::Prefix(k, v))));
        operations.extend(come(&old.vteps, &new.vteps, never).map(|(k, v)| put(Entry::Vtep(k, v))));
        let handed_on = |_: &u32, a: &Port, b: &Port| (a.domain, a.endpoint, a.vni) != (b.domain, b.endpoint, b.vni);
        operations.extend(come(&old.ports, &new.ports, handed_on).map(|(k, v)| put(Entry::Port(k, v))));
    }

    fn leftovers_go(&self, operations: &mut Vec<Operation>) {
        let (old, new) = (self.installed, self.wanted);
        let remove = Operation::Remove;
        operations.extend(gone(&old.domains, &new.domains, never).map(|k| remove(Key::Domain(k))));
        let stale = self.stale_routes(|route| !self.leads_astray(route));
        operations.extend(stale.map(|k| remove(Key::Route(k))));
        operations.extend(gone(&old.hops, &new.hops, never).map(|k| remove(Key::Hop(k))));
        operations.extend(gone(&old.rules, &new.rules, never).map(|k| remove(Key::Rule(k))));
        operations.extend(gone(&old.floods, &new.floods, never).map(|k| remove(Key::Flood(k))));
        operations.extend(gone(&old.peers, &new.peers, never).map(|k| remove(Key::Peer(k))));
    }

    /// Installed routes that are not wanted.
    fn stale_routes(&self, which: impl Fn(&Route) -> bool) -> impl Iterator<Item = Prefix<RouteKey>> {
        let routes = self.installed.routes.iter();
        let stale = routes.filter(move |(key, route)| !self.wanted.routes.contains_key(key) && which(route));
        stale.map(|(key, _)| *key)
    }

    /// Whether a route leads into a segment that does not stay in its domain.
    fn leads_astray(&self, route: &Route) -> bool {
        !self.installed.leads_to(route).is_subset(&self.stay)
    }
}

fn never<K, V>(_: &K, _: &V, _: &V) -> bool {
    false
}

/// Keys that are not wanted, or whose value changes in a way that `apart` does not let happen in one step.
fn gone<'a, K: Ord + Copy, V>(
    installed: &'a BTreeMap<K, V>,
    wanted: &'a BTreeMap<K, V>,
    apart: impl Fn(&K, &V, &V) -> bool + 'a,
) -> impl Iterator<Item = K> + 'a {
    installed
        .iter()
        .filter(move |(key, old)| wanted.get(key).is_none_or(|new| apart(key, old, new)))
        .map(|(key, _)| *key)
}

/// Entries that are not installed as they are wanted, or that were removed because of `apart`.
fn come<'a, K: Ord + Copy, V: Copy + PartialEq>(
    installed: &'a BTreeMap<K, V>,
    wanted: &'a BTreeMap<K, V>,
    apart: impl Fn(&K, &V, &V) -> bool + 'a,
) -> impl Iterator<Item = (K, V)> + 'a {
    wanted
        .iter()
        .filter(move |(key, new)| installed.get(key).is_none_or(|old| old != *new || apart(key, old, new)))
        .map(|(key, new)| (*key, *new))
}
