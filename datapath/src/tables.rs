//! All that user space writes into the kernel for forwarding, as plain values. What is installed and what is wanted
//! are both of this type.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::diff::Key;
use crate::numbers::Numbers;
use datapath_common::{Address, Neighbour, NeighbourKey, Peer, Port, Segment, Station, StationKey, mapped};

/// The content of the maps, key by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    /// `PORTS`: interface → who sends.
    pub(crate) ports: BTreeMap<u32, Port>,
    /// `STATIONS`: where a MAC address lives.
    pub(crate) stations: BTreeMap<StationKey, Station>,
    /// `NEIGHBOURS`: whose an IP address is.
    pub(crate) neighbours: BTreeMap<NeighbourKey, Neighbour>,
    /// `SEGMENTS`: what a VNI is.
    pub(crate) segments: BTreeMap<u32, Segment>,
    /// `PEERS`: how to get to a host. Shared by all domains.
    pub(crate) peers: BTreeMap<u32, Peer>,
    /// `VTEPS`: who may send tunnels to us. Shared by all domains.
    pub(crate) vteps: BTreeMap<Address, u32>,
}

impl Tables {
    /// Splits off what a change of one domain may touch: what has its number or one of `vnis`, what has a VNI that no
    /// segment knows (left by a run that ended half way), and the hosts, which all domains share. Ports of another
    /// domain in one of `vnis` are among it: that domain lost the VNI and they must not send into it. Returns that
    /// and the rest.
    pub(crate) fn split(self, domain: u32, vnis: &BTreeSet<u32>) -> (Self, Self) {
        let foreign: BTreeSet<u32> = self
            .segments
            .iter()
            .filter(|(vni, s)| s.domain != domain && !vnis.contains(vni))
            .map(|(v, _)| *v)
            .collect();
        let (ports, other_ports) = self
            .ports
            .into_iter()
            .partition(|(_, port)| port.domain == domain || vnis.contains(&port.vni));
        let (stations, other_stations) = self
            .stations
            .into_iter()
            .partition(|(key, _)| !foreign.contains(&key.vni));
        let (neighbours, other_neighbours) = self
            .neighbours
            .into_iter()
            .partition(|(key, _)| !foreign.contains(&key.vni));
        let (segments, other_segments) = self.segments.into_iter().partition(|(vni, _)| !foreign.contains(vni));
        let mine = Self {
            ports,
            stations,
            neighbours,
            segments,
            peers: self.peers,
            vteps: self.vteps,
        };
        let rest = Self {
            ports: other_ports,
            stations: other_stations,
            neighbours: other_neighbours,
            segments: other_segments,
            ..Self::default()
        };
        (mine, rest)
    }

    /// Hosts that stations refer to.
    pub(crate) fn hosts_in_use(&self) -> BTreeSet<u32> {
        self.stations
            .values()
            .map(|s| s.peer)
            .filter(|peer| *peer != datapath_common::HERE)
            .collect()
    }

    /// What has the number of a domain that has no name. Stations and neighbours are found by their segment's absence.
    pub(crate) fn nameless(&self, numbers: &Numbers) -> Vec<Key> {
        let is_nameless = |number: &u32| numbers.name(*number).is_none();
        let ports = self.ports.iter().filter(|(_, port)| is_nameless(&port.domain));
        let segments = self.segments.iter().filter(|(_, segment)| is_nameless(&segment.domain));
        ports
            .map(|(ifindex, _)| Key::Port(*ifindex))
            .chain(segments.map(|(vni, _)| Key::Segment(*vni)))
            .collect()
    }

    /// Numbers of domains and endpoints that entries refer to.
    pub(crate) fn numbers_in_use(&self) -> BTreeSet<u32> {
        let ports = self.ports.values().flat_map(|port| [port.domain, port.endpoint]);
        let segments = self.segments.values().map(|segment| segment.domain);
        ports
            .chain(segments)
            .chain(self.stations.values().map(|station| station.endpoint))
            .collect()
    }
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

    fn segment(domain: u32) -> Segment {
        Segment {
            domain,
            flags: 0,
            mtu: 1400,
        }
    }

    fn station(vni: u32, peer: u32) -> (StationKey, Station) {
        let key = StationKey {
            vni,
            mac: [2, 0, 0, 0, 0, 1],
            zero: [0; 2],
        };
        (
            key,
            Station {
                peer,
                ifindex: 0,
                endpoint: 0,
                flags: 0,
            },
        )
    }

    #[test]
    fn addresses_survive_the_way_through_a_map() {
        for text in ["192.0.2.1", "2001:db8::1", "::1"] {
            let given: IpAddr = text.parse().expect("an address");
            assert_eq!(ip(address(given)), given);
        }
    }

    #[test]
    fn a_split_takes_the_domain_its_vnis_orphans_and_all_hosts() {
        let tables = Tables {
            segments: [(10, segment(1)), (20, segment(2)), (30, segment(3))].into(),
            stations: [station(10, 7), station(20, 8), station(30, 9), station(99, 7)].into(),
            vteps: [([1; 16], 7)].into(),
            ..Tables::default()
        };
        let (mine, rest) = tables.split(1, &[30].into());
        assert_eq!(mine.stations.keys().map(|k| k.vni).collect::<Vec<_>>(), [10, 30, 99]);
        assert_eq!(mine.segments.keys().copied().collect::<Vec<_>>(), [10, 30]);
        assert_eq!(mine.vteps.len(), 1);
        assert_eq!(rest.stations.keys().map(|k| k.vni).collect::<Vec<_>>(), [20]);
        assert_eq!(rest.hosts_in_use(), [8].into());
    }
}
