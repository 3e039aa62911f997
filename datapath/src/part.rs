//! What a change of one domain may touch of all that is installed, and what nothing refers to.

use std::collections::{BTreeMap, BTreeSet};

use datapath_common::{MemberKey, NeighbourKey, ROUTE_VIA, StationKey};

use crate::numbers::Numbers;
use crate::tables::{Prefix, Tables, first_prefix, members, vni_of};

impl Tables {
    /// What has the domain's number or one of `vnis`, routes of others into one of `vnis`, what nothing refers to (left
    /// by a change that ended half way), and the hosts, which all domains share. Ports of another domain in one of
    /// `vnis` are among it: that domain lost the VNI and they must not send into it.
    pub(crate) fn part(&self, domain: u32, vnis: &BTreeSet<u32>) -> Self {
        let mut mine = self.orphans();
        let (own, taken): (BTreeSet<_>, BTreeSet<_>) = {
            let touched = self
                .segments
                .iter()
                .filter(|(vni, s)| s.domain == domain || vnis.contains(vni));
            let (own, taken): (Vec<_>, Vec<_>) = touched.partition(|(_, segment)| segment.domain == domain);
            let keys = |list: Vec<(&u32, _)>| list.into_iter().map(|(vni, _)| *vni).collect();
            (keys(own), keys(taken))
        };
        let touched: BTreeSet<u32> = own.union(&taken).copied().chain(vnis.iter().copied()).collect();
        let ports = self
            .ports
            .iter()
            .filter(|(_, p)| p.domain == domain || touched.contains(&p.vni));
        mine.ports.extend(ports);
        for vni in touched {
            self.copy_segment(vni, &mut mine);
        }
        if let Some(value) = self.domains.get(&domain) {
            mine.domains.insert(domain, *value);
            for set in [value.egress, value.ingress] {
                mine.rules.extend(members(&self.rules, set));
            }
        }
        let routers: BTreeSet<u32> = own
            .iter()
            .filter_map(|vni| self.segments.get(vni))
            .map(|s| s.router)
            .collect();
        for router in routers {
            mine.routes.extend(self.routes_of(router));
        }
        if !taken.is_empty() {
            let leads_there = |route| !self.leads_to(route).is_disjoint(&taken);
            mine.routes
                .extend(self.routes.iter().filter(|(_, route)| leads_there(route)));
        }
        let sets: BTreeSet<u32> = mine
            .routes
            .values()
            .filter(|r| r.kind == ROUTE_VIA)
            .map(|r| r.set)
            .collect();
        for set in sets {
            mine.hops.extend(members(&self.hops, set));
        }
        for segment in mine.segments.values() {
            mine.floods.extend(members(&self.floods, segment.flood));
        }
        mine.peers.clone_from(&self.peers);
        mine.vteps.clone_from(&self.vteps);
        mine
    }

    /// All but what nothing refers to and what has the number of a domain without a name: somebody removed the pin of
    /// the names. Nobody would ever remove it, and the number will be given to another domain.
    pub(crate) fn sound(&self, numbers: &Numbers) -> Self {
        let is_named = |number: u32| numbers.name(number).is_some();
        let mut sound = self.clone();
        sound.segments.retain(|_, segment| is_named(segment.domain));
        sound.domains.retain(|number, _| is_named(*number));
        let segments = &sound.segments;
        sound.ports.retain(|_, port| {
            segments
                .get(&port.vni)
                .is_some_and(|segment| segment.domain == port.domain)
        });
        // What referred to something is gone: what it referred to is left.
        loop {
            let orphans = sound.orphans();
            if orphans == Self::default() {
                return sound;
            }
            sound.stations.retain(|key, _| !orphans.stations.contains_key(key));
            sound.neighbours.retain(|key, _| !orphans.neighbours.contains_key(key));
            sound.prefixes.retain(|key, _| !orphans.prefixes.contains_key(key));
            sound.rules.retain(|key, _| !orphans.rules.contains_key(key));
            sound.routes.retain(|key, _| !orphans.routes.contains_key(key));
            sound.hops.retain(|key, _| !orphans.hops.contains_key(key));
            sound.floods.retain(|key, _| !orphans.floods.contains_key(key));
        }
    }

    fn copy_segment(&self, vni: u32, to: &mut Self) {
        to.segments.extend(self.segments.get_key_value(&vni));
        let station = |vni| StationKey {
            vni,
            mac: [0; 6],
            zero: [0; 2],
        };
        to.stations.extend(self.stations.range(station(vni)..station(vni + 1)));
        let neighbour = |vni| NeighbourKey { vni, address: [0; 16] };
        to.neighbours
            .extend(self.neighbours.range(neighbour(vni)..neighbour(vni + 1)));
        to.prefixes
            .extend(self.prefixes.range(first_prefix(vni)..first_prefix(vni + 1)));
    }

    /// Entries of segments that are none, sets and routes that nothing refers to.
    fn orphans(&self) -> Self {
        let mut orphans = Self::default();
        let station = |vni| StationKey {
            vni,
            mac: [0; 6],
            zero: [0; 2],
        };
        let neighbour = |vni| NeighbourKey { vni, address: [0; 16] };
        let vnis = firsts(&self.stations, |key| key.vni, station)
            .chain(firsts(&self.neighbours, |key| key.vni, neighbour))
            .chain(firsts(&self.prefixes, vni_of, first_prefix));
        for vni in vnis.filter(|vni| !self.segments.contains_key(vni)) {
            self.copy_segment(vni, &mut orphans);
        }
        let member = |set| MemberKey { set, index: 0 };
        let used: BTreeSet<u32> = self.domains.values().flat_map(|d| [d.egress, d.ingress]).collect();
        for set in firsts(&self.rules, |key| key.set, member).filter(|set| !used.contains(set)) {
            orphans.rules.extend(members(&self.rules, set));
        }
        let used: BTreeSet<u32> = self.segments.values().map(|segment| segment.router).collect();
        let router = |key: &Prefix<datapath_common::RouteKey>| u32::from_be_bytes(key.data.router);
        for (key, route) in &self.routes {
            if !used.contains(&router(key)) {
                orphans.routes.insert(*key, *route);
            }
        }
        let used: BTreeSet<u32> = self.routes.values().map(|route| route.set).collect();
        for set in firsts(&self.hops, |key| key.set, member).filter(|set| !used.contains(set)) {
            orphans.hops.extend(members(&self.hops, set));
        }
        let used: BTreeSet<u32> = self.segments.values().map(|segment| segment.flood).collect();
        for set in firsts(&self.floods, |key| key.set, member).filter(|set| !used.contains(set)) {
            orphans.floods.extend(members(&self.floods, set));
        }
        orphans
    }
}

/// The values that the first field of a map's keys has, without a look at every key.
fn firsts<K: Ord, V>(
    map: &BTreeMap<K, V>,
    first: impl Fn(&K) -> u32,
    lowest: impl Fn(u32) -> K,
) -> impl Iterator<Item = u32> {
    let mut from = Some(0);
    std::iter::from_fn(move || {
        let (key, _) = map.range(lowest(from?)..).next()?;
        let found = first(key);
        from = found.checked_add(1);
        Some(found)
    })
}

#[cfg(test)]
mod tests {
    use datapath_common::{
        Domain, Hop, Neighbour, Port, PrefixKey, ROUTE_CONNECTED, Route, RouteKey, Rule, Segment, Station, slot,
    };

    use super::*;
    use crate::numbers::Name;
    use crate::tables::PREFIX_HEAD;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const RULE: Rule = Rule {
        policy: 0,
        version: 0,
        versions: 1,
        subject: 0,
        peer: 0,
        protocol: 0,
        action: 1,
        port_low: 0,
        port_high: 0,
        prefix_length: 0,
        address: [0; 16],
    };

    fn route_key(router: u32, last: u8) -> Prefix<RouteKey> {
        let data = RouteKey {
            router: router.to_be_bytes(),
            family: [0, 0, 0, 6],
            address: [last; 16],
        };
        Prefix {
            data,
            length: PREFIX_HEAD + 8,
        }
    }

    /// A domain with a segment, a port, one of each entry, and a router with a route into another segment by a hop.
    fn add(tables: &mut Tables, domain: u32, vni: u32, into: u32) {
        let (router, set) = (1000 + domain, 2000 + domain);
        let segment = Segment {
            domain,
            flags: 0,
            mtu: 1400,
            router,
            router_mac: MAC,
            zero: [0; 2],
            gateway4: [0; 16],
            gateway6: [0; 16],
            flood: 0,
            flood_targets: 0,
        };
        tables.segments.insert(vni, segment);
        let port = Port {
            domain,
            endpoint: domain + 1,
            vni,
            flags: 0,
            slot: 0,
            mac: MAC,
            host_mac: MAC,
        };
        tables.ports.insert(vni, port);
        add_entries(tables, vni);
        let value = Domain {
            flags: 0,
            slot: slot::domain(domain),
            egress: set,
            egress_rules: 1,
            ingress: 0,
            ingress_rules: 0,
            chain_flow: 0,
            chain_packet: 0,
        };
        tables.domains.insert(domain, value);
        let member = |set| MemberKey { set, index: 0 };
        tables.rules.insert(member(set), RULE);
        let address = [1; 16];
        tables.hops.insert(member(set + 1000), Hop { vni: into, address });
        let connected = Route {
            kind: ROUTE_CONNECTED,
            vni,
            set: 0,
            hops: 0,
        };
        let via = Route {
            kind: ROUTE_VIA,
            vni: 0,
            set: set + 1000,
            hops: 1,
        };
        tables
            .routes
            .extend([(route_key(router, 1), connected), (route_key(router, 2), via)]);
    }

    fn add_entries(tables: &mut Tables, vni: u32) {
        let station = Station {
            peer: 7,
            ifindex: 0,
            endpoint: 0,
            flags: 0,
            slot: 0,
            zero: 0,
            groups: [0; 4],
        };
        let key = StationKey {
            vni,
            mac: MAC,
            zero: [0; 2],
        };
        tables.stations.insert(key, station);
        let owner = Neighbour { mac: MAC, flags: 0 };
        let address = [3; 16];
        tables.neighbours.insert(NeighbourKey { vni, address }, owner);
        let data = PrefixKey {
            vni: vni.to_be_bytes(),
            family: [0, 0, 0, 6],
            address,
        };
        tables.prefixes.insert(Prefix { data, length: 128 }, owner);
    }

    fn two() -> Tables {
        let mut tables = Tables {
            vteps: [([1; 16], 7)].into(),
            ..Tables::default()
        };
        add(&mut tables, 1, 10, 20);
        add(&mut tables, 2, 20, 20);
        tables
    }

    #[test]
    fn a_part_is_a_domain_its_vnis_what_leads_there_orphans_and_all_hosts() {
        let everything = two();
        let hosts = |tables: Tables| Tables {
            vteps: everything.vteps.clone(),
            ..tables
        };
        let mut red = Tables::default();
        add(&mut red, 1, 10, 20);
        assert_eq!(everything.part(1, &BTreeSet::new()), hosts(red.clone()));
        assert_eq!(everything.part(1, &[10, 99].into()), hosts(red.clone()));

        // Blue takes red's segment: red's port in it and red's route into it go, too.
        let taken = everything.part(2, &[10].into());
        assert!(taken.ports.contains_key(&10) && taken.stations.keys().any(|key| key.vni == 10));
        assert!(taken.routes.contains_key(&route_key(1001, 1)), "{:?}", taken.routes);
        assert!(!taken.routes.contains_key(&route_key(1001, 2)) && !taken.domains.contains_key(&1));

        let mut orphaned = everything.clone();
        orphaned.segments.remove(&20);
        orphaned.domains.remove(&2);
        orphaned.ports.remove(&20);
        let part = orphaned.part(1, &BTreeSet::new());
        let mut all = everything.clone();
        all.segments.remove(&20);
        all.domains.remove(&2);
        all.ports.remove(&20);
        // Next hops go once their routes are gone.
        all.hops.remove(&MemberKey { set: 3002, index: 0 });
        let part = Tables {
            hops: part.hops.into_iter().filter(|(key, _)| key.set != 3002).collect(),
            ..part
        };
        assert_eq!(part, all);
    }

    #[test]
    fn what_is_sound_has_a_name_and_is_referred_to() {
        let name = |domain: &str| Name {
            domain: domain.parse().expect("a label"),
            endpoint: None,
        };
        let everything = two();
        let both = Numbers::from_iter([(1, name("red")), (2, name("blue"))]);
        assert_eq!(everything.sound(&both), everything);
        let mut more = everything.clone();
        add_entries(&mut more, 30);
        more.rules.insert(MemberKey { set: 5, index: 0 }, RULE);
        assert_eq!(more.sound(&both), everything);

        let mut red = Tables::default();
        add(&mut red, 1, 10, 20);
        red.vteps.clone_from(&everything.vteps);
        assert_eq!(everything.sound(&Numbers::from_iter([(1, name("red"))])), red);
    }
}
