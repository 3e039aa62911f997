//! Which bit of the programs' tables stands for which group of a domain's rules.
//!
//! The numbers of groups are not stable from one compile to the next, and entries change one by one while rules change at
//! once. So that no packet is ever judged by rules and groups that do not belong together, a group keeps its bit only
//! while its members among the entries that stay are the same; another one gets a bit that no installed rule looks at.
//! The one exception saves most of the work: where the rules are as they were and one station changes its groups, it
//! alone is written.

use std::collections::{BTreeMap, BTreeSet};

use datapath_common::{Groups, ROUTER};
use overlay::forwarding::{Direction, Forwarding, Group, Peer};

use super::Ground;
use super::rules;
use crate::tables::Tables;

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

/// A station: its segment and its MAC address.
type StationOf = (u32, [u8; 6]);

/// The entries that stay, by the bits that they have and the groups (bit by bit) that they come to be in: one of the
/// stations that are so, and whether there are more.
type Stay = BTreeMap<(Groups, Groups), (StationOf, bool)>;

/// Chooses the bits.
pub(super) fn choose(wanted: &Forwarding, ground: &Ground<'_>) -> Bits {
    let groups = referenced(wanted);
    let stay = entries_that_stay(wanted, ground, &groups);
    let by_rules = by_rules(wanted, ground);
    let installed = ground.installed.domains.get(&ground.numbers.domain);
    let default_stays = installed.is_some_and(|domain| domain.flags == rules::default(wanted));
    if let Some(bits) = &by_rules
        && default_stays
        && one_changes(bits, &stay)
    {
        return bits.clone();
    }
    by_members(&groups, &stay, by_rules.as_ref(), ground)
}

/// The bits where nothing changes but some stations, which are all that `wanted` and `ground` have; none where that is not
/// enough to know.
pub(super) fn choose_for_some(wanted: &Forwarding, ground: &Ground<'_>) -> Option<Bits> {
    let bits = by_rules(wanted, ground)?;
    let domain = ground.installed.domains.get(&ground.numbers.domain)?;
    let stay = entries_that_stay(wanted, ground, &referenced(wanted));
    (domain.flags == rules::default(wanted) && one_changes(&bits, &stay)).then_some(bits)
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

fn entries_that_stay(wanted: &Forwarding, ground: &Ground<'_>, groups: &BTreeSet<Group>) -> Stay {
    let same = Bits::same(groups.iter().copied());
    let stations = wanted.stations.iter();
    let comes: BTreeMap<StationOf, Groups> = stations
        .map(|((vni, mac), station)| ((vni.get(), mac.octets()), same.all(&station.groups)))
        .collect();
    let installed = ground.installed;
    let is_mine = |vni: u32| {
        installed
            .segments
            .get(&vni)
            .is_some_and(|s| s.domain == ground.numbers.domain)
    };
    let mut stay = Stay::new();
    for (key, value) in &installed.stations {
        let station = (key.vni, key.mac);
        if let Some(comes) = comes.get(&station)
            && value.peer != ROUTER
            && is_mine(key.vni)
        {
            let (first, are_more) = stay.entry((value.groups, *comes)).or_insert((station, false));
            *are_more |= *first != station;
        }
    }
    stay
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

/// Whether at most one station has other groups than these bits say.
fn one_changes(bits: &Bits, stay: &Stay) -> bool {
    let mut looked_at = [0; 4];
    bits.0.values().for_each(|bit| set(&mut looked_at, *bit));
    let mut changed = BTreeSet::new();
    for ((has, comes), (station, are_more)) in stay {
        let mut wanted = [0; 4];
        let groups = bits.0.iter().filter(|(group, _)| is_in(*comes, **group));
        groups.for_each(|(_, bit)| set(&mut wanted, *bit));
        if and(*has, looked_at) != wanted {
            changed.insert(*station);
            if *are_more {
                return false;
            }
        }
    }
    changed.len() <= 1
}

fn by_members(groups: &BTreeSet<Group>, stay: &Stay, hint: Option<&Bits>, ground: &Ground<'_>) -> Bits {
    let mut free: BTreeSet<u16> = (0..BITS).collect();
    let mut bits = BTreeMap::new();
    let mut others = Vec::new();
    for group in groups {
        // The bits that all who are in the group have, and nobody else.
        let fit = stay.keys().fold([u64::MAX; 4], |fit, (has, comes)| {
            let fits = if is_in(*comes, *group) {
                *has
            } else {
                has.map(|word| !word)
            };
            and(fit, fits)
        });
        let hinted = hint.and_then(|hint| hint.of(*group));
        let candidates = hinted.into_iter().chain([*group]).chain(free.iter().copied());
        match candidates
            .into_iter()
            .find(|bit| free.contains(bit) && is_in(fit, *bit))
        {
            Some(bit) => {
                free.remove(&bit);
                bits.insert(*group, bit);
            }
            None => others.push(*group),
        }
    }
    let mut used = looked_at(ground.installed);
    stay.keys().for_each(|(has, _)| used = or(used, *has));
    // Where no bit is left that means nothing, one that does is taken; the domain is closed while it changes its meaning.
    let (unused, last): (Vec<u16>, Vec<u16>) = free.into_iter().partition(|bit| !is_in(used, *bit));
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

fn is_in(bits: Groups, bit: u16) -> bool {
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
