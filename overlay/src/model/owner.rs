//! Whose an address is (the head's definition of an owner), and tables S and D.
//!
//! Table D asks for exact addresses only, as a workload may forward what it has not: a router behind a station, listed among
//! its prefixes or not, a container host, an appliance that a static route names, link-local addresses that nobody is known
//! to have, broadcast and multicast all go on to work. Receivers ask again, since the sender's host may lie: else it could
//! answer in the name of one workload's connection and hand the packet to another one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::forwarding::{Forwarding, Group, Router, Station};
use crate::name::{Mac, Vni};

/// Of a frame for everybody: it is for nobody in particular.
pub(super) static NO_GROUPS: BTreeSet<Group> = BTreeSet::new();

/// Who has an address.
#[derive(Debug, Clone, Copy)]
pub(super) enum Owner<'a> {
    Station(Mac, &'a Station),
    Router(Mac),
}

impl<'a> Owner<'a> {
    /// Who has exactly this address in a segment.
    pub(super) fn exact(domain: &'a Forwarding, vni: Vni, address: IpAddr) -> Option<Self> {
        let router = router(domain, vni).filter(|_| gateways(domain, vni).any(|gateway| gateway == address));
        if let Some(router) = router {
            return Some(Self::Router(router.mac));
        }
        stations(domain, vni)
            .find(|(_, station)| station.addresses.contains(&address))
            .map(|(mac, station)| Self::Station(mac, station))
    }

    /// Who has the longest extra prefix around this address in a segment.
    pub(super) fn by_prefix(domain: &'a Forwarding, vni: Vni, address: IpAddr) -> Option<Self> {
        let prefixes = stations(domain, vni)
            .flat_map(|(mac, station)| station.prefixes.iter().map(move |prefix| (prefix, (mac, station))));
        longest(prefixes, address).map(|(mac, station)| Self::Station(mac, station))
    }

    /// The owner.
    pub(super) fn of(domain: &'a Forwarding, vni: Vni, address: IpAddr) -> Option<Self> {
        Self::exact(domain, vni, address).or_else(|| Self::by_prefix(domain, vni, address))
    }

    pub(super) fn mac(self) -> Mac {
        match self {
            Self::Station(mac, _) | Self::Router(mac) => mac,
        }
    }

    pub(super) fn station(self) -> Option<(Mac, &'a Station)> {
        match self {
            Self::Station(mac, station) => Some((mac, station)),
            Self::Router(_) => None,
        }
    }
}

/// A station that a packet comes from: its segment and its MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Speaker {
    pub(super) vni: Vni,
    pub(super) mac: Mac,
}

impl Speaker {
    /// Table S.
    pub(super) fn may_use(self, domain: &Forwarding, address: IpAddr) -> bool {
        may_use(domain, self.vni, self.mac, address)
    }

    /// The groups of the station.
    pub(super) fn groups(self, domain: &Forwarding) -> &BTreeSet<Group> {
        domain
            .stations
            .get(&(self.vni, self.mac))
            .map_or(&NO_GROUPS, |station| &station.groups)
    }
}

/// Table D: whether an address is exactly another one's than this station's, or, without one, anybody's.
pub(super) fn is_anothers(domain: &Forwarding, vni: Vni, station: Option<Mac>, address: IpAddr) -> bool {
    Owner::exact(domain, vni, address).is_some_and(|owner| Some(owner.mac()) != station)
}

/// Table S: whether a source address is that of the station with this MAC.
pub(super) fn may_use(domain: &Forwarding, vni: Vni, mac: Mac, address: IpAddr) -> bool {
    if is_mapped(address) {
        return false;
    }
    let owned = Owner::of(domain, vni, address).is_some_and(|owner| owner.mac() == mac);
    owned || (is_link_local64(address) && Owner::exact(domain, vni, address).is_none())
}

/// The router that is a segment's gateway.
pub(super) fn router(domain: &Forwarding, vni: Vni) -> Option<&Router> {
    let segment = domain.networks.values().find(|segment| segment.vni == vni)?;
    domain.routers.get(segment.router.as_ref()?)
}

/// The addresses of a segment's router in it.
pub(super) fn gateways(domain: &Forwarding, vni: Vni) -> impl Iterator<Item = IpAddr> {
    let segments = domain.networks.iter().filter(move |(_, segment)| segment.vni == vni);
    let addresses = segments.filter_map(|(name, segment)| {
        let router = domain.routers.get(segment.router.as_ref()?)?;
        router.addresses.get(name)
    });
    addresses.flat_map(|addresses| addresses.keys().copied())
}

/// The station with this MAC in a segment.
pub(super) fn station(domain: &Forwarding, vni: Vni, mac: [u8; 6]) -> Option<(Mac, &Station)> {
    let mac = Mac::try_from(mac).ok()?;
    domain.stations.get(&(vni, mac)).map(|station| (mac, station))
}

fn stations(domain: &Forwarding, vni: Vni) -> impl Iterator<Item = (Mac, &Station)> {
    domain
        .stations
        .iter()
        .filter(move |((of, _), _)| *of == vni)
        .map(|((_, mac), station)| (*mac, station))
}

/// Whether it pretends to be an IPv4 address (RFC 4942 section 2.2).
pub(super) fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// fe80::/64.
pub(super) fn is_link_local64(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[..4] == [0xfe80, 0, 0, 0])
}

/// 169.254/16 or fe80::/10.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// M1: whether no packet of a workload may carry these addresses, in a frame for one or for all.
pub(super) fn is_martian(source: IpAddr, destination: IpAddr, everybody: bool) -> bool {
    let group = match destination {
        IpAddr::V4(v4) => v4.is_multicast() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_multicast(),
    };
    let wrong_destination = is_nobodys(destination) && !(everybody && group);
    let wrong_source = is_nobodys(source) && !(everybody && source.is_unspecified());
    wrong_destination || wrong_source || source == destination
}

/// Whether nobody can be reached at it alone.
fn is_nobodys(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => matches!(v4.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unspecified() || v6.is_loopback() || is_mapped(address),
    }
}

/// The entry of the longest prefix that contains an address.
pub(super) fn longest<'a, T>(entries: impl IntoIterator<Item = (&'a IpNet, T)>, address: IpAddr) -> Option<T> {
    entries
        .into_iter()
        .filter(|(prefix, _)| prefix.contains(&address))
        .max_by_key(|(prefix, _)| prefix.prefix_len())
        .map(|(_, entry)| entry)
}
