//! From what a domain wants on this host to the bytes of the maps. Pure: interfaces, numbers and tunnels are given.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use datapath_common as map;
use membership::id::NodeId;
use overlay::fact::Vtep;
use overlay::forwarding::{Forwarding, Place};
use overlay::name::EndpointName;
use overlay::object::domain::DefaultPolicy;

use crate::numbers::DomainNumbers;
use crate::tables::{Tables, address};

/// The host side of a port's interface, attached and ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its index.
    pub(crate) ifindex: u32,
    /// Its own MAC address; zero for a tap, whose MAC is the workload's business.
    pub(crate) mac: [u8; 6],
    /// Whether its other end is in another network namespace.
    pub(crate) namespace: bool,
}

/// The ports whose interface is there.
pub(crate) type Interfaces = BTreeMap<EndpointName, Interface>;

/// The hosts of a domain that can be reached at all, each with the number of its tunnel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tunnels {
    /// Number of each host's tunnel.
    pub(crate) hosts: BTreeMap<NodeId, u32>,
    /// The tunnels.
    pub(crate) peers: BTreeMap<u32, map::Peer>,
}

/// Our tunnel addresses and the port of the tunnels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Local {
    pub(crate) ipv4: Option<Ipv4Addr>,
    pub(crate) ipv6: Option<Ipv6Addr>,
    pub(crate) port: u16,
}

impl Local {
    /// The two ends of the tunnel to a host: IPv4 if both have it, else IPv6. `None` without a family in common, if
    /// the host claims an address of ours, or if it listens on another port than we send to.
    pub(crate) fn tunnel(&self, theirs: &Vtep) -> Option<(IpAddr, IpAddr)> {
        let v4 = self.ipv4.zip(theirs.ipv4).map(|(a, b)| (IpAddr::V4(a), IpAddr::V4(b)));
        let v6 = self.ipv6.zip(theirs.ipv6).map(|(a, b)| (IpAddr::V6(a), IpAddr::V6(b)));
        v4.or(v6)
            .filter(|(ours, remote)| ours != remote && theirs.port == self.port)
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// Numbers of tunnels by their far end: those that `installed` has stay, others get the lowest that are free.
pub(crate) fn number_tunnels(
    installed: &BTreeMap<u32, map::Peer>,
    remotes: impl IntoIterator<Item = IpAddr>,
) -> BTreeMap<IpAddr, u32> {
    let known: BTreeMap<_, _> = installed.iter().map(|(number, peer)| (peer.remote, *number)).collect();
    let mut free = (map::HERE + 1..).filter(|number| !installed.contains_key(number));
    let mut numbers = BTreeMap::new();
    for remote in remotes {
        if !numbers.contains_key(&remote)
            && let Some(number) = known.get(&address(remote)).copied().or_else(|| free.next())
        {
            numbers.insert(remote, number);
        }
    }
    numbers
}

/// The tables of one domain. A port without an interface and a station without a tunnel are left out: nothing can
/// reach them, and their own frames are denied.
pub(crate) fn lower(
    wanted: &Forwarding,
    numbers: &DomainNumbers,
    interfaces: &Interfaces,
    tunnels: &Tunnels,
) -> Tables {
    let mut tables = Tables {
        peers: tunnels.peers.clone(),
        ..Tables::default()
    };
    tables.vteps = tunnels
        .peers
        .iter()
        .map(|(number, peer)| (peer.remote, *number))
        .collect();
    lower_segments(wanted, numbers, &mut tables);
    lower_ports(wanted, numbers, interfaces, &mut tables);
    lower_stations(wanted, numbers, interfaces, tunnels, &mut tables);
    tables
}

fn lower_segments(wanted: &Forwarding, numbers: &DomainNumbers, tables: &mut Tables) {
    let flags = match wanted.default_policy {
        DefaultPolicy::Allow => map::DOMAIN_ALLOW as u8,
        DefaultPolicy::Deny => 0,
    };
    for segment in wanted.networks.values() {
        let value = map::Segment {
            domain: numbers.domain,
            flags: 0,
            mtu: segment.mtu.into(),
            router: 0,
            router_mac: [0; 6],
            zero: [flags, 0],
            gateway4: [0; 16],
            gateway6: [0; 16],
        };
        tables.segments.insert(segment.vni.get(), value);
    }
}

fn lower_ports(wanted: &Forwarding, numbers: &DomainNumbers, interfaces: &Interfaces, tables: &mut Tables) {
    for (name, port) in &wanted.ports {
        if let (Some(interface), Some(endpoint)) = (interfaces.get(name), numbers.endpoints.get(name)) {
            let value = map::Port {
                domain: numbers.domain,
                endpoint: *endpoint,
                vni: port.vni.get(),
                flags: port_flags(*interface),
                slot: map::slot::station(port.vni.get(), port.mac.octets()),
                mac: port.mac.octets(),
                host_mac: interface.mac,
            };
            tables.ports.insert(interface.ifindex, value);
        }
    }
}

fn lower_stations(
    wanted: &Forwarding,
    numbers: &DomainNumbers,
    interfaces: &Interfaces,
    tunnels: &Tunnels,
    tables: &mut Tables,
) {
    for ((vni, mac), station) in &wanted.stations {
        let place = match station.place {
            Place::Here => interfaces.get(&station.endpoint).map(|interface| map::Station {
                peer: map::HERE,
                ifindex: interface.ifindex,
                endpoint: numbers.endpoints.get(&station.endpoint).copied().unwrap_or_default(),
                flags: port_flags(*interface),
                slot: map::slot::station(vni.get(), mac.octets()),
            }),
            Place::Host(host) => tunnels.hosts.get(&host).map(|peer| map::Station {
                peer: *peer,
                ifindex: 0,
                endpoint: 0,
                flags: 0,
                slot: map::slot::station(vni.get(), mac.octets()),
            }),
        };
        if let Some(value) = place {
            tables.stations.insert(
                map::StationKey {
                    vni: vni.get(),
                    mac: mac.octets(),
                    zero: [0; 2],
                },
                value,
            );
        }
        for ip in &station.addresses {
            let key = map::NeighbourKey {
                vni: vni.get(),
                address: address(*ip),
            };
            tables.neighbours.entry(key).or_insert(map::Neighbour {
                mac: mac.octets(),
                flags: 0,
                groups: [0; 4],
            });
        }
    }
}

fn port_flags(interface: Interface) -> u32 {
    if interface.namespace { map::PORT_NAMESPACE } else { 0 }
}

/// Adds to the tables of one domain the tunnels that `others` need, as they are installed.
pub(crate) fn keep_tunnels_of(others: &Tables, installed: &Tables, wanted: &mut Tables) {
    for number in others.hosts_in_use() {
        if let Some(peer) = installed.peers.get(&number) {
            wanted.peers.entry(number).or_insert(*peer);
        }
    }
    let kept: Vec<_> = installed
        .vteps
        .iter()
        .filter(|(_, number)| wanted.peers.contains_key(number))
        .collect();
    for (remote, number) in kept {
        wanted.vteps.entry(*remote).or_insert(*number);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use overlay::fact::Binding;
    use overlay::forwarding::{Port, Segment, Station};
    use overlay::name::{Mac, Vni};

    use super::*;

    const HERE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THERE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn there() -> NodeId {
        NodeId::of_key(&[2; 32])
    }

    fn vni() -> Vni {
        Vni::try_from(100).expect("a VNI")
    }

    fn mac(octets: [u8; 6]) -> Mac {
        Mac::try_from(octets).expect("a MAC address")
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A domain with `web` here (10.0.0.1) and `db` on another host (10.0.0.2).
    pub(crate) fn forwarding(domain: &str) -> Forwarding {
        let label = |text: &str| text.parse().expect("a label");
        let vtep = Vtep {
            ipv4: Some([192, 0, 2, 2].into()),
            ipv6: None,
            port: 4789,
            underlay_mtu: 1500,
        };
        Forwarding {
            domain: label(domain),
            default_policy: DefaultPolicy::Allow,
            networks: [(label("net"), Segment { vni: vni(), mtu: 1430 })].into(),
            ports: [(
                label("web"),
                Port {
                    network: label("net"),
                    vni: vni(),
                    mac: mac(HERE_MAC),
                    addresses: [(ip("10.0.0.1"), 24)].into(),
                    binding: Binding::Namespace {
                        path: PathBuf::from("/run/netns/web"),
                        interface: "eth0".into(),
                    },
                },
            )]
            .into(),
            stations: [
                (
                    (vni(), mac(HERE_MAC)),
                    Station {
                        endpoint: label("web"),
                        place: Place::Here,
                        addresses: [ip("10.0.0.1")].into(),
                    },
                ),
                (
                    (vni(), mac(THERE_MAC)),
                    Station {
                        endpoint: label("db"),
                        place: Place::Host(there()),
                        addresses: [ip("10.0.0.2"), ip("fe80::2")].into(),
                    },
                ),
            ]
            .into(),
            hosts: [(there(), vtep)].into(),
            conditions: BTreeMap::new(),
        }
    }

    fn peer(remote: &str) -> map::Peer {
        map::Peer {
            local: address(ip("192.0.2.1")),
            remote: address(ip(remote)),
            next_hop: address(ip(remote)),
            ifindex: 2,
            mtu: 1500,
            flags: 0,
            source_mac: [0; 6],
            next_hop_mac: [0; 6],
        }
    }

    fn numbers() -> DomainNumbers {
        DomainNumbers {
            domain: 11,
            endpoints: [("web".parse().expect("a label"), 12)].into(),
        }
    }

    fn interfaces() -> Interfaces {
        let interface = Interface {
            ifindex: 33,
            mac: [6; 6],
            namespace: true,
        };
        [("web".parse().expect("a label"), interface)].into()
    }

    fn tunnels() -> Tunnels {
        Tunnels {
            hosts: [(there(), 5)].into(),
            peers: [(5, peer("192.0.2.2"))].into(),
        }
    }

    fn station_key(mac: [u8; 6]) -> map::StationKey {
        map::StationKey {
            vni: 100,
            mac,
            zero: [0; 2],
        }
    }

    #[test]
    fn a_domain_becomes_these_tables() {
        let neighbour = |text: &str, mac| {
            (
                map::NeighbourKey {
                    vni: 100,
                    address: address(ip(text)),
                },
                map::Neighbour { mac, zero: [0; 2] },
            )
        };
        let port = map::Port {
            domain: 11,
            endpoint: 12,
            vni: 100,
            flags: map::PORT_NAMESPACE,
            mac: HERE_MAC,
            host_mac: [6; 6],
        };
        let expected = Tables {
            ports: [(33, port)].into(),
            stations: [
                (
                    station_key(HERE_MAC),
                    map::Station {
                        peer: map::HERE,
                        ifindex: 33,
                        endpoint: 12,
                        flags: map::PORT_NAMESPACE,
                    },
                ),
                (
                    station_key(THERE_MAC),
                    map::Station {
                        peer: 5,
                        ifindex: 0,
                        endpoint: 0,
                        flags: 0,
                    },
                ),
            ]
            .into(),
            neighbours: [
                neighbour("10.0.0.1", HERE_MAC),
                neighbour("10.0.0.2", THERE_MAC),
                neighbour("fe80::2", THERE_MAC),
            ]
            .into(),
            segments: [(
                100,
                map::Segment {
                    domain: 11,
                    flags: map::SEGMENT_ALLOW,
                    mtu: 1430,
                },
            )]
            .into(),
            peers: [(5, peer("192.0.2.2"))].into(),
            vteps: [(address(ip("192.0.2.2")), 5)].into(),
        };
        assert_eq!(
            lower(&forwarding("red"), &numbers(), &interfaces(), &tunnels()),
            expected
        );
    }

    #[test]
    fn a_port_without_an_interface_leaves_the_rest() {
        let tables = lower(&forwarding("red"), &numbers(), &Interfaces::new(), &tunnels());
        assert!(tables.ports.is_empty());
        assert_eq!(
            tables.stations.keys().copied().collect::<Vec<_>>(),
            [station_key(THERE_MAC)]
        );
        assert_eq!(tables.neighbours.len(), 3);
    }

    #[test]
    fn a_station_without_a_tunnel_is_nowhere() {
        let tables = lower(&forwarding("red"), &numbers(), &interfaces(), &Tunnels::default());
        assert_eq!(
            tables.stations.keys().copied().collect::<Vec<_>>(),
            [station_key(HERE_MAC)]
        );
        assert!(tables.vteps.is_empty());
    }

    #[test]
    fn deny_is_the_absence_of_allow() {
        let wanted = Forwarding {
            default_policy: DefaultPolicy::Deny,
            ..forwarding("red")
        };
        let tables = lower(&wanted, &numbers(), &interfaces(), &tunnels());
        assert_eq!(tables.segments[&100].flags, 0);
    }

    #[test]
    fn the_tunnel_is_ipv4_if_both_have_it() {
        let v4 = |last| Some(Ipv4Addr::new(192, 0, 2, last));
        let v6 = |last| Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
        let vtep = |ipv4, ipv6, port| Vtep {
            ipv4,
            ipv6,
            port,
            underlay_mtu: 1500,
        };
        let both = Local {
            ipv4: v4(1),
            ipv6: v6(1),
            port: 4789,
        };
        let table = [
            (both, vtep(v4(2), v6(2), 4789), Some((ip("192.0.2.1"), ip("192.0.2.2")))),
            (
                both,
                vtep(None, v6(2), 4789),
                Some((ip("2001:db8::1"), ip("2001:db8::2"))),
            ),
            (Local { ipv6: None, ..both }, vtep(None, v6(2), 4789), None),
            (both, vtep(v4(2), None, 8472), None),
            (both, vtep(v4(1), None, 4789), None),
        ];
        for (ours, theirs, expected) in table {
            assert_eq!(ours.tunnel(&theirs), expected, "{theirs:?}");
        }
    }

    #[test]
    fn tunnels_keep_their_numbers() {
        let installed = [(2, peer("192.0.2.2"))].into();
        let numbers = number_tunnels(
            &installed,
            [ip("192.0.2.3"), ip("192.0.2.2"), ip("192.0.2.4"), ip("192.0.2.3")],
        );
        assert_eq!(
            numbers,
            [(ip("192.0.2.2"), 2), (ip("192.0.2.3"), 1), (ip("192.0.2.4"), 3)].into()
        );
    }

    #[test]
    fn tunnels_that_another_domain_needs_stay() {
        let station = map::Station {
            peer: 7,
            ifindex: 0,
            endpoint: 0,
            flags: 0,
        };
        let others = Tables {
            stations: [(station_key(THERE_MAC), station)].into(),
            ..Tables::default()
        };
        let far = address(ip("192.0.2.7"));
        let gone = address(ip("192.0.2.8"));
        let installed = Tables {
            peers: [(7, peer("192.0.2.7")), (8, peer("192.0.2.8"))].into(),
            vteps: [(far, 7), (gone, 8)].into(),
            ..Tables::default()
        };
        let mut wanted = Tables::default();
        keep_tunnels_of(&others, &installed, &mut wanted);
        assert_eq!(wanted.peers, [(7, peer("192.0.2.7"))].into());
        assert_eq!(wanted.vteps, [(far, 7)].into());
    }
}
