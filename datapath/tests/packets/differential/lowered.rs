//! A world as the maps have it, written plainly: what the datapath's own lowering has to be worth.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use datapath_common::{
    ACTION_ALLOW, ACTION_AUDIT, ACTION_DENY, ANY, Address, DOMAIN_ALLOW, Domain, Groups, HERE, Hop, ICMP_OF_FAMILY,
    MemberKey, NEIGHBOUR_ROUTER, Neighbour, NeighbourKey, PORT_NAMESPACE, PREFIX4, PREFIX6, PrefixKey, ROUTE_BLACKHOLE,
    ROUTE_CONNECTED, ROUTE_VIA, ROUTER, Route, RouteKey, Rule, SEGMENT_GENEVE, Segment, Station, StationKey, slot,
};
use ipnet::IpNet;
use overlay::forwarding::{self, Action, Direction, Forwarding, Peer, Place, Protocol};
use overlay::name::Vni;
use overlay::object::domain::{DefaultPolicy, Encapsulation};

use super::hosts::{self, node};
use super::world::World;

/// Keys and values of the maps, tries by prefix length and data.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lowered {
    pub(crate) segments: BTreeMap<u32, Segment>,
    pub(crate) stations: BTreeMap<StationKey, Station>,
    pub(crate) neighbours: BTreeMap<NeighbourKey, Neighbour>,
    pub(crate) prefixes: BTreeMap<(u32, PrefixKey), Neighbour>,
    pub(crate) domains: BTreeMap<u32, Domain>,
    pub(crate) rules: BTreeMap<MemberKey, Rule>,
    pub(crate) routes: BTreeMap<(u32, RouteKey), Route>,
    pub(crate) hops: BTreeMap<MemberKey, Hop>,
    pub(crate) vteps: BTreeMap<Address, u32>,
}

/// Bits of a trie's key before the address: number and family.
const BEFORE: u32 = 64;

/// A domain's number.
pub(crate) fn domain_number(domain: usize) -> u32 {
    domain as u32 + 1
}

/// An endpoint's number.
pub(crate) fn endpoint_number(domain: usize, endpoint: usize) -> u32 {
    domain_number(domain) * 100 + endpoint as u32
}

/// The interface of an endpoint.
pub(crate) fn interface(endpoint: u32) -> u32 {
    endpoint + 10_000
}

/// Whether an endpoint is in a namespace.
pub(crate) fn port_flags(endpoint: u32) -> u32 {
    if endpoint.is_multiple_of(3) { PORT_NAMESPACE } else { 0 }
}

impl Lowered {
    pub(crate) fn of(world: &World) -> Self {
        let mut lowered = Self::default();
        for (number, domain) in world.domains().iter().enumerate() {
            lowered.add(world, number, domain);
        }
        lowered
    }

    fn add(&mut self, world: &World, number: usize, domain: &Forwarding) {
        let own = domain_number(number);
        self.rules(own, domain);
        for (name, segment) in &domain.networks {
            let router = segment.router.as_ref().map(|name| &domain.routers[name]);
            let gateway = |v4: bool| {
                let addresses = router.and_then(|router| router.addresses.get(name));
                let of_family = |address: &&IpAddr| address.is_ipv4() == v4 && !link_local(**address);
                addresses
                    .and_then(|all| all.keys().find(of_family))
                    .map_or([0; 16], |own| address(*own))
            };
            let geneve = domain.encapsulation == Encapsulation::Geneve;
            let value = Segment {
                domain: own,
                flags: if geneve { SEGMENT_GENEVE } else { 0 },
                mtu: segment.mtu.into(),
                router: router.map_or(0, |_| own),
                router_mac: router.map_or([0; 6], |router| router.mac.octets()),
                zero: [0; 2],
                gateway4: gateway(true),
                gateway6: gateway(false),
                flood: 0,
                flood_targets: 0,
            };
            self.segments.insert(segment.vni.get(), value);
            if let Some(router) = router {
                self.router(own, segment.vni, router, router.addresses.get(name));
            }
        }
        for router in domain.routers.values() {
            self.routes(own, domain, router);
        }
        self.stations(world, number, domain);
        for (host, vtep) in &domain.hosts {
            let addresses = vtep
                .addresses()
                .map(|end| (address(end), peer_number(Place::Host(*host))));
            self.vteps.extend(addresses);
        }
    }

    fn router(&mut self, domain: u32, vni: Vni, router: &forwarding::Router, addresses: Option<&BTreeMap<IpAddr, u8>>) {
        let (vni, mac) = (vni.get(), router.mac.octets());
        let station = Station {
            peer: ROUTER,
            ifindex: 0,
            endpoint: 0,
            flags: 0,
            slot: slot::domain(domain),
        };
        self.stations.insert(StationKey { vni, mac, zero: [0; 2] }, station);
        for own in addresses.into_iter().flat_map(BTreeMap::keys) {
            let neighbour = Neighbour {
                mac,
                flags: NEIGHBOUR_ROUTER,
                groups: [0; 4],
            };
            let key = NeighbourKey {
                vni,
                address: address(*own),
            };
            self.neighbours.insert(key, neighbour);
        }
    }

    fn routes(&mut self, own: u32, domain: &Forwarding, router: &forwarding::Router) {
        for (index, (prefix, route)) in router.routes.iter().enumerate() {
            let set = own * 1000 + index as u32;
            let value = match route {
                forwarding::Route::Connected(network) => Route {
                    kind: ROUTE_CONNECTED,
                    vni: domain.networks[network].vni.get(),
                    set: 0,
                    hops: 0,
                },
                forwarding::Route::Via(hops) => {
                    for (index, (network, hop)) in hops.iter().enumerate() {
                        let vni = domain.networks[network].vni.get();
                        let key = MemberKey {
                            set,
                            index: index as u32,
                        };
                        self.hops.insert(
                            key,
                            Hop {
                                vni,
                                address: address(*hop),
                            },
                        );
                    }
                    Route {
                        kind: ROUTE_VIA,
                        vni: 0,
                        set,
                        hops: hops.len() as u32,
                    }
                }
                forwarding::Route::Blackhole => Route {
                    kind: ROUTE_BLACKHOLE,
                    vni: 0,
                    set: 0,
                    hops: 0,
                },
            };
            let key = RouteKey {
                router: own.to_be_bytes(),
                family: family(prefix.addr()),
                address: address(prefix.network()),
            };
            self.routes.insert((BEFORE + length(prefix), key), value);
        }
    }

    fn stations(&mut self, world: &World, number: usize, domain: &Forwarding) {
        for ((vni, mac), station) in &domain.stations {
            let endpoints = &world.plans[number].endpoints;
            let index = endpoints
                .iter()
                .position(|endpoint| endpoint.name() == station.endpoint)
                .unwrap();
            let endpoint = endpoint_number(number, index);
            let here = station.place == Place::Here;
            let (vni, mac) = (vni.get(), mac.octets());
            let value = Station {
                peer: peer_number(station.place),
                ifindex: if here { interface(endpoint) } else { 0 },
                endpoint: if here { endpoint } else { 0 },
                flags: if here { port_flags(endpoint) } else { 0 },
                slot: slot::station(vni, mac),
            };
            self.stations.insert(StationKey { vni, mac, zero: [0; 2] }, value);
            let neighbour = Neighbour {
                mac,
                flags: 0,
                groups: groups(&station.groups),
            };
            for own in &station.addresses {
                let key = NeighbourKey {
                    vni,
                    address: address(*own),
                };
                self.neighbours.insert(key, neighbour);
            }
            for prefix in &station.prefixes {
                let key = PrefixKey {
                    vni: vni.to_be_bytes(),
                    family: family(prefix.addr()),
                    address: address(prefix.network()),
                };
                self.prefixes.insert((BEFORE + length(prefix), key), neighbour);
            }
        }
    }

    fn rules(&mut self, own: u32, domain: &Forwarding) {
        let mut set = |direction, set: u32| {
            let rules: Vec<_> = domain.rules.iter().filter(|rule| rule.direction == direction).collect();
            let runs = rules.chunk_by(|a, b| a.policy == b.policy);
            let numbered = runs
                .enumerate()
                .flat_map(|(run, rules)| rules.iter().map(move |of| (run as u32, *of)));
            for (index, (run, of)) in numbered.enumerate() {
                let index = index as u32;
                self.rules.insert(MemberKey { set, index }, rule(run, of));
            }
            rules.len() as u32
        };
        let value = Domain {
            flags: if domain.default_policy == DefaultPolicy::Allow {
                DOMAIN_ALLOW
            } else {
                0
            },
            slot: slot::domain(own),
            egress: own * 2,
            egress_rules: set(Direction::Egress, own * 2),
            ingress: own * 2 + 1,
            ingress_rules: set(Direction::Ingress, own * 2 + 1),
            chain_flow: 0,
            chain_packet: 0,
        };
        self.domains.insert(own, value);
    }
}

fn rule(run: u32, rule: &forwarding::Rule) -> Rule {
    let none = ([0; 16], 0);
    let (peer, (far, prefix_length)) = match &rule.peer {
        Peer::Any => (ANY, none),
        Peer::Group(group) => (*group, none),
        Peer::Prefix(net) if net.addr().is_ipv4() => (PREFIX4, (address(net.network()), length(net))),
        Peer::Prefix(net) => (PREFIX6, (address(net.network()), length(net))),
    };
    let (protocol, ports) = match &rule.protocol {
        Protocol::Any => (ANY, 0..=0xffff),
        Protocol::Tcp(ports) => (6, ports.clone()),
        Protocol::Udp(ports) => (17, ports.clone()),
        Protocol::Sctp(ports) => (132, ports.clone()),
        Protocol::Icmp(None, _) => (ICMP_OF_FAMILY, 0..=0xffff),
        Protocol::Icmp(Some(kind), code) => {
            let kind = u16::from(*kind) << 8;
            let codes = code.map_or(0..=0xff, |code| u16::from(code)..=u16::from(code));
            (ICMP_OF_FAMILY, kind | codes.start()..=kind | codes.end())
        }
        Protocol::Number(number) => (u16::from(*number), 0..=0xffff),
    };
    Rule {
        policy: run,
        version: rule.version,
        versions: rule.versions,
        subject: rule.subject.unwrap_or(ANY),
        peer,
        protocol,
        action: match rule.action {
            Action::Allow => ACTION_ALLOW,
            Action::Deny => ACTION_DENY,
            Action::Audit => ACTION_AUDIT,
        },
        port_low: *ports.start(),
        port_high: *ports.end(),
        prefix_length,
        address: far,
    }
}

/// The number of a host.
pub(crate) fn peer_number(place: Place) -> u32 {
    let numbers = [hosts::B, hosts::C, hosts::D];
    match place {
        Place::Here => HERE,
        Place::Host(at) => numbers.into_iter().find(|number| node(*number) == at).unwrap().into(),
    }
}

/// As it stands in maps.
pub(crate) fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Leading bits of the address as it stands in maps.
fn length(prefix: &IpNet) -> u32 {
    u32::from(prefix.prefix_len()) + if prefix.addr().is_ipv4() { 96 } else { 0 }
}

fn family(address: IpAddr) -> [u8; 4] {
    [0, 0, 0, if address.is_ipv4() { 4 } else { 6 }]
}

fn groups(groups: &std::collections::BTreeSet<u16>) -> Groups {
    let mut bits = [0; 4];
    for group in groups {
        bits[usize::from(group / 64)] |= 1 << (group % 64);
    }
    bits
}

fn link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// A trie's key.
pub(crate) fn key<K: aya::Pod>((length, data): (u32, K)) -> Key<K> {
    Key::new(length, data)
}
