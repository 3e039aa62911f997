//! Which bit of the programs' tables stands for which group of a domain's rules.
//!
//! The numbers of groups are not stable from one compile to the next, and entries change one by one while rules change at
//! once. So that no packet is ever judged by rules and groups that do not belong together, a group keeps its bit only
//! while its members among the entries that stay are the same; another one gets a bit that no installed rule looks at.
//! The one exception saves most of the work: where the rules are as they were and one station changes its groups, it
//! alone is written.

use std::collections::{BTreeMap, BTreeSet};

use datapath_common::{Groups, NEIGHBOUR_ROUTER, Neighbour};
use overlay::forwarding::{Direction, Forwarding, Group, Peer};

use super::Ground;
use super::rules;
use crate::tables::{Tables, vni_of};

/// How many bits there are.
const BITS: u16 = 256;

/// The bits of the groups that rules look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Bits(BTreeMap<Group, u16>);

impl Bits {
    /// Each group has the bit of its own number.
    pub(super) fn same(groups: impl IntoIterator<Item = Group>) -> Self {
        Self(
            groups
                .into_iter()
                .filter(|g| *g < BITS)
                .map(|group| (group, group))
                .collect(),
        )
    }

    pub(super) fn of(&self, group: Group) -> Option<u16> {
        self.0.get(&group).copied()
    }

    /// The bits of the groups of a station; groups that no rule looks at have none.
    pub(super) fn all(&self, groups: &BTreeSet<Group>) -> Groups {
        let mut bits = [0; 4];
        groups
            .iter()
            .filter_map(|group| self.of(*group))
            .for_each(|bit| set(&mut bits, bit));
        bits
    }
}

/// An entry that stays: the bits that it has and the groups that its station comes to be in.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stays<'a> {
    has: Groups,
    comes: &'a BTreeSet<Group>,
    station: (u32, [u8; 6]),
}

/// Chooses the bits.
pub(super) fn choose(wanted: &Forwarding, ground: &Ground<'_>) -> Bits {
    let groups = referenced(wanted);
    let stay = entries_that_stay(wanted, ground);
    let by_rules = by_rules(wanted, ground);
    let installed = ground.installed.domains.get(&ground.numbers.domain);
    let default_stays = installed.is_some_and(|domain| domain.flags == rules::default(wanted));
    if let Some(bits) = &by_rules
        && default_stays
        && changed_stations(bits, &stay) <= 1
    {
        return bits.clone();
    }
    by_members(&groups, &stay, by_rules.as_ref(), ground)
}

/// The groups that rules look at.
fn referenced(wanted: &Forwarding) -> BTreeSet<Group> {
    let groups = wanted.rules.iter().flat_map(|rule| {
        let peer = match rule.peer {
            Peer::Group(group) => Some(group),
            Peer::Any | Peer::Prefix(_) => None,
        };
        [rule.subject, peer]
    });
    groups.flatten().collect()
}

fn entries_that_stay<'a>(wanted: &'a Forwarding, ground: &Ground<'_>) -> BTreeSet<Stays<'a>> {
    let stations: BTreeMap<(u32, [u8; 6]), &BTreeSet<Group>> = wanted
        .stations
        .iter()
        .map(|((vni, mac), station)| ((vni.get(), mac.octets()), &station.groups))
        .collect();
    let installed = ground.installed;
    let neighbours = installed.neighbours.iter().map(|(key, value)| (key.vni, value));
    let prefixes = installed.prefixes.iter().map(|(key, value)| (vni_of(key), value));
    let is_mine = |vni: &u32| {
        installed
            .segments
            .get(vni)
            .is_some_and(|s| s.domain == ground.numbers.domain)
    };
    let stays = |(vni, value): (u32, &Neighbour)| {
        let station = (vni, value.mac);
        let comes = stations.get(&station).filter(|_| value.flags & NEIGHBOUR_ROUTER == 0)?;
        Some(Stays {
            has: value.groups,
            comes,
            station,
        })
    };
    neighbours
        .chain(prefixes)
        .filter(|(vni, _)| is_mine(vni))
        .filter_map(stays)
        .collect()
}

/// The bits that make the wanted rules the installed ones, if there are such.
fn by_rules(wanted: &Forwarding, ground: &Ground<'_>) -> Option<Bits> {
    let domain = ground.installed.domains.get(&ground.numbers.domain)?;
    let same = Bits::same(referenced(wanted));
    let (mut bits, mut given) = (BTreeMap::new(), BTreeMap::new());
    let mut agree = |group: u16, bit: u16| {
        if group >= BITS || bit >= BITS {
            return group == bit;
        }
        *bits.entry(group).or_insert(bit) == bit && *given.entry(bit).or_insert(group) == group
    };
    for (direction, set) in [(Direction::Egress, domain.egress), (Direction::Ingress, domain.ingress)] {
        let wanted = rules::list(&wanted.rules, direction, &same)?;
        let installed = ground.installed.rules_of(set);
        if wanted.len() != installed.len() {
            return None;
        }
        for (new, old) in wanted.iter().zip(&installed) {
            let named = datapath_common::Rule {
                subject: old.subject,
                peer: old.peer,
                ..*new
            };
            if named != *old || !agree(new.subject, old.subject) || !agree(new.peer, old.peer) {
                return None;
            }
        }
    }
    Some(Bits(bits))
}

/// How many stations have other groups than these bits say.
fn changed_stations(bits: &Bits, stay: &BTreeSet<Stays<'_>>) -> usize {
    let mut looked_at = [0; 4];
    bits.0.values().for_each(|bit| set(&mut looked_at, *bit));
    let differs = |stays: &&Stays<'_>| and(stays.has, looked_at) != bits.all(stays.comes);
    let changed: BTreeSet<_> = stay.iter().filter(differs).map(|stays| stays.station).collect();
    changed.len()
}

fn by_members(groups: &BTreeSet<Group>, stay: &BTreeSet<Stays<'_>>, hint: Option<&Bits>, ground: &Ground<'_>) -> Bits {
    let patterns: BTreeSet<(Groups, &BTreeSet<Group>)> = stay.iter().map(|stays| (stays.has, stays.comes)).collect();
    let mut free: BTreeSet<u16> = (0..BITS).collect();
    let mut bits = BTreeMap::new();
    let mut others = Vec::new();
    for group in groups {
        let kept = patterns.iter().fold([u64::MAX; 4], |kept, (has, comes)| {
            and(
                kept,
                if comes.contains(group) {
                    *has
                } else {
                    has.map(|word| !word)
                },
            )
        });
        let hinted = hint.and_then(|hint| hint.of(*group));
        let candidates = hinted.into_iter().chain([*group]).chain(free.iter().copied());
        match candidates.into_iter().find(|bit| free.contains(bit) && has(kept, *bit)) {
            Some(bit) => {
                free.remove(&bit);
                bits.insert(*group, bit);
            }
            None => others.push(*group),
        }
    }
    let mut used = looked_at(ground.installed);
    patterns.iter().for_each(|(has, _)| used = or(used, *has));
    // Where no bit is left that means nothing, one that does is taken; the domain is closed while it changes its meaning.
    let (unused, last): (Vec<u16>, Vec<u16>) = free.into_iter().partition(|bit| !has(used, *bit));
    bits.extend(others.into_iter().zip(unused.into_iter().chain(last)));
    Bits(bits)
}

/// The bits that rules look at.
pub(crate) fn looked_at(tables: &Tables) -> Groups {
    let mut bits = [0; 4];
    for rule in tables.rules.values() {
        set(&mut bits, rule.subject);
        set(&mut bits, rule.peer);
    }
    bits
}

fn set(bits: &mut Groups, bit: u16) {
    if let Some(word) = bits.get_mut(usize::from(bit / 64)) {
        *word |= 1 << (bit % 64);
    }
}

fn has(bits: Groups, bit: u16) -> bool {
    bits.get(usize::from(bit / 64))
        .is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

pub(crate) fn and(a: Groups, b: Groups) -> Groups {
    [a[0] & b[0], a[1] & b[1], a[2] & b[2], a[3] & b[3]]
}

pub(crate) fn or(a: Groups, b: Groups) -> Groups {
    [a[0] | b[0], a[1] | b[1], a[2] | b[2], a[3] | b[3]]
}

/// What is in `a` and not in `b`.
pub(crate) fn without(a: Groups, b: Groups) -> Groups {
    and(a, b.map(|word| !word))
}
