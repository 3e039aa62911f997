//! All that user space writes into the kernel for forwarding, as plain values. What is installed and what is wanted
//! are both of this type.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use datapath_common::{
    Address, Domain, FloodTarget, Hop, MemberKey, Neighbour, NeighbourKey, Peer, Port, PrefixKey, ROUTE_CONNECTED,
    Route, RouteKey, Rule, Segment, Station, StationKey, mapped,
};

/// A key of a trie. Ordered by its data first, so that what shares the first field lies together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix<K> {
    pub(crate) data: K,
    /// How many leading bits of `data` count.
    pub(crate) length: u32,
}

/// Bits of a trie's key before the address: VNI or router, and family.
pub(crate) const PREFIX_HEAD: u32 = 64;

/// The content of the maps, key by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    /// `PORTS`: interface → who sends.
    pub(crate) ports: BTreeMap<u32, Port>,
    /// `STATIONS`: where a MAC address lives.
    pub(crate) stations: BTreeMap<StationKey, Station>,
    /// `NEIGHBOURS`: whose an IP address is.
    pub(crate) neighbours: BTreeMap<NeighbourKey, Neighbour>,
    /// `PREFIXES`: who else may use an IP address as a source.
    pub(crate) prefixes: BTreeMap<Prefix<PrefixKey>, Neighbour>,
    /// `SEGMENTS`: what a VNI is.
    pub(crate) segments: BTreeMap<u32, Segment>,
    /// `DOMAINS`: what a domain allows.
    pub(crate) domains: BTreeMap<u32, Domain>,
    /// `RULES`, set by set.
    pub(crate) rules: BTreeMap<MemberKey, Rule>,
    /// `ROUTES`, router by router.
    pub(crate) routes: BTreeMap<Prefix<RouteKey>, Route>,
    /// `HOPS`, set by set.
    pub(crate) hops: BTreeMap<MemberKey, Hop>,
    /// `FLOODS`, set by set.
    pub(crate) floods: BTreeMap<MemberKey, FloodTarget>,
    /// `PEERS`: how to get to a host. Shared by all domains.
    pub(crate) peers: BTreeMap<u32, Peer>,
    /// `VTEPS`: who may send tunnels to us. Shared by all domains.
    pub(crate) vteps: BTreeMap<Address, u32>,
}

impl Tables {
    /// Numbers of domains and endpoints that entries refer to.
    pub(crate) fn numbers_in_use(&self) -> BTreeSet<u32> {
        let ports = self.ports.values().flat_map(|port| [port.domain, port.endpoint]);
        let segments = self.segments.values().map(|segment| segment.domain);
        ports
            .chain(segments)
            .chain(self.domains.keys().copied())
            .chain(self.stations.values().map(|station| station.endpoint))
            .collect()
    }

    /// The rules of a set, in their order.
    pub(crate) fn rules_of(&self, set: u32) -> Vec<Rule> {
        members(&self.rules, set).map(|(_, rule)| *rule).collect()
    }

    /// The next hops of a set, in their order.
    pub(crate) fn hops_of(&self, set: u32) -> Vec<Hop> {
        members(&self.hops, set).map(|(_, hop)| *hop).collect()
    }

    /// The members of a set of those who get group frames, in their order.
    pub(crate) fn targets_of(&self, set: u32) -> Vec<FloodTarget> {
        members(&self.floods, set).map(|(_, target)| *target).collect()
    }

    /// The routes of a router.
    pub(crate) fn routes_of(&self, router: u32) -> impl Iterator<Item = (&Prefix<RouteKey>, &Route)> {
        let first = |router: u32| Prefix {
            data: RouteKey {
                router: router.to_be_bytes(),
                family: [0; 4],
                address: [0; 16],
            },
            length: 0,
        };
        self.routes
            .range(first(router)..)
            .take_while(move |(key, _)| key.data.router == router.to_be_bytes())
    }

    /// The segments into which a route leads.
    pub(crate) fn leads_to(&self, route: &Route) -> BTreeSet<u32> {
        match route.kind {
            ROUTE_CONNECTED => [route.vni].into(),
            _ => self.hops_of(route.set).iter().map(|hop| hop.vni).collect(),
        }
    }

    /// Whether a set or a router has this number.
    pub(crate) fn has_number(&self, number: u32) -> bool {
        members(&self.rules, number).next().is_some()
            || members(&self.hops, number).next().is_some()
            || members(&self.floods, number).next().is_some()
            || self.routes_of(number).next().is_some()
            || self.segments.values().any(|s| [s.router, s.flood].contains(&number))
            || self.domains.values().any(|d| [d.egress, d.ingress].contains(&number))
    }

    /// The highest number of a set or a router.
    pub(crate) fn highest_number(&self) -> u32 {
        let sets = [
            self.rules.last_key_value().map(|(key, _)| key.set),
            self.hops.last_key_value().map(|(k, _)| k.set),
            self.floods.last_key_value().map(|(k, _)| k.set),
        ];
        let routes = self
            .routes
            .last_key_value()
            .map(|(key, _)| u32::from_be_bytes(key.data.router));
        let domains = self.domains.values().flat_map(|domain| [domain.egress, domain.ingress]);
        let segments = self
            .segments
            .values()
            .flat_map(|segment| [segment.router, segment.flood]);
        let stored = sets.into_iter().flatten().chain(routes);
        stored.chain(domains).chain(segments).max().unwrap_or_default()
    }
}

/// The segment of a prefix.
pub(crate) fn vni_of(prefix: &Prefix<PrefixKey>) -> u32 {
    u32::from_be_bytes(prefix.data.vni)
}

/// Not above any prefix of a segment.
pub(crate) fn first_prefix(vni: u32) -> Prefix<PrefixKey> {
    Prefix {
        data: PrefixKey {
            vni: vni.to_be_bytes(),
            family: [0; 4],
            address: [0; 16],
        },
        length: 0,
    }
}

/// The members of a set, in their order.
pub(crate) fn members<V>(sets: &BTreeMap<MemberKey, V>, set: u32) -> impl Iterator<Item = (&MemberKey, &V)> {
    sets.range(MemberKey { set, index: 0 }..=MemberKey { set, index: u32::MAX })
}

/// 4 or 6, as tries have it.
pub(crate) fn family(ip: IpAddr) -> [u8; 4] {
    let family: u32 = if ip.is_ipv4() { 4 } else { 6 };
    family.to_be_bytes()
}

/// Of a prefix's length, how many bits of a trie's key that is.
pub(crate) fn trie_length(ip: IpAddr, length: u8) -> u32 {
    let mapping = if ip.is_ipv4() { 96 } else { 0 };
    PREFIX_HEAD + mapping + u32::from(length)
}

/// The form in which maps hold an address.
pub(crate) fn address(ip: IpAddr) -> Address {
    match ip {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The address that a map holds.
pub(crate) fn ip(address: Address) -> IpAddr {
    IpAddr::from(address).to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_through_a_map() {
        for text in ["192.0.2.1", "2001:db8::1", "::1"] {
            let given: IpAddr = text.parse().expect("an address");
            assert_eq!(ip(address(given)), given);
        }
    }
}
