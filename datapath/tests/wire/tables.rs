//! What a host's maps say of the networks, workloads, routers and hosts that there are.

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData};
use datapath_common::{
    Address, DOMAIN_ALLOW, Domain, FLOOD_PEER, FLOOD_PORT, FloodTarget, HERE, MemberKey, NEIGHBOUR_ROUTER, Neighbour,
    NeighbourKey, Peer, Port, PrefixKey, ROUTE_CONNECTED, ROUTER, Route, RouteKey, Rule, SEGMENT_GENEVE, Segment,
    Station, StationKey, mapped, slot,
};

use crate::host::Host;
use crate::identity::{Identity, VNI};

const DOMAIN: u32 = 1;
const RULES: u32 = 40;
const ROUTER_NUMBER: u32 = 3;
/// The router's MAC address.
pub(crate) const ROUTER_MAC: [u8; 6] = [0x02, 0xdd, 0, 0, 0, 1];

/// The router's addresses in a network: those of number 254.
pub(crate) fn gateway(network: u8) -> Identity {
    Identity { network, number: 254 }
}

impl Host {
    fn put<K: Pod, V: Pod>(&mut self, map: &str, key: K, value: V) {
        let map = self.ebpf.map_mut(map).expect("the map exists");
        let mut map = HashMap::<&mut MapData, K, V>::try_from(map).expect("a hash of these types");
        map.insert(key, value, 0).expect("the map takes it");
    }

    fn put_prefix<K: Pod, V: Pod>(&mut self, map: &str, length: u32, key: K, value: V) {
        let map = self.ebpf.map_mut(map).expect("the map exists");
        let mut map = LpmTrie::<&mut MapData, K, V>::try_from(map).expect("a trie of these types");
        map.insert(&Key::new(length, key), value, 0).expect("the map takes it");
    }

    /// Changes how decisions of the domain are made.
    fn bump(&mut self, slot: u32) {
        let map = self.ebpf.map_mut("GENERATIONS").expect("the map exists");
        let mut map = Array::<&mut MapData, u32>::try_from(map).expect("generations");
        let generation = map.get(&slot, 0).expect("it is there");
        map.set(slot, generation.wrapping_add(1), 0).expect("the map takes it");
    }

    /// The one domain, which allows all.
    pub(crate) fn domain(&mut self) {
        self.policy(DOMAIN_ALLOW, &[]);
    }

    /// The one domain denies all but what these rules allow, which both ends ask.
    pub(crate) fn rules(&mut self, rules: &[Rule]) {
        self.policy(0, rules);
    }

    fn policy(&mut self, flags: u32, rules: &[Rule]) {
        for (index, rule) in (0..).zip(rules) {
            self.put("RULES", MemberKey { set: RULES, index }, *rule);
        }
        let count = u32::try_from(rules.len()).expect("a few");
        let set = if rules.is_empty() { 0 } else { RULES };
        let domain = Domain {
            flags,
            slot: slot::domain(DOMAIN),
            egress: set,
            egress_rules: count,
            ingress: set,
            ingress_rules: count,
            chain_flow: 0,
            chain_packet: 0,
        };
        self.put("DOMAINS", DOMAIN, domain);
        self.bump(slot::domain(DOMAIN));
    }

    /// Says how large packets of a network may be.
    pub(crate) fn segment(&mut self, network: u8, mtu: u32) {
        let segment = Segment {
            domain: DOMAIN,
            flags: if self.geneve { SEGMENT_GENEVE } else { 0 },
            mtu,
            router: 0,
            router_mac: [0; 6],
            zero: [0; 2],
            gateway4: [0; 16],
            gateway6: [0; 16],
            flood: 0,
            flood_targets: 0,
        };
        self.tell_segment(network, segment);
    }

    /// Says what a network is, besides who is in it.
    fn tell_segment(&mut self, network: u8, segment: Segment) {
        self.networks.entry(network).or_insert((segment, Vec::new())).0 = segment;
        self.tell_members(network);
    }

    /// Adds one to those who get a network's group frames: another set takes the place of the one in force.
    fn member(&mut self, network: u8, target: FloodTarget) {
        let Some((_, members)) = self.networks.get_mut(&network) else {
            return;
        };
        if !members.contains(&target) {
            members.push(target);
            self.tell_members(network);
        }
    }

    fn tell_members(&mut self, network: u8) {
        let Some((segment, members)) = self.networks.get(&network).cloned() else {
            return;
        };
        self.sets += 1;
        let set = self.sets;
        for (index, target) in (0..).zip(&members) {
            self.put("FLOODS", MemberKey { set, index }, *target);
        }
        let told = Segment {
            flood: set,
            flood_targets: u32::try_from(members.len()).expect("a few"),
            ..segment
        };
        self.put("SEGMENTS", VNI + u32::from(network), told);
    }

    /// Joins both networks by a router; the second one's packets may be `mtu` bytes.
    pub(crate) fn router(&mut self, mtu: u32) {
        for (network, mtu) in [(0, crate::workload::MTU), (1, mtu)] {
            let gateway = gateway(network);
            let vni = gateway.vni();
            let segment = Segment {
                domain: DOMAIN,
                flags: if self.geneve { SEGMENT_GENEVE } else { 0 },
                mtu,
                router: ROUTER_NUMBER,
                router_mac: ROUTER_MAC,
                zero: [0; 2],
                gateway4: mapped(gateway.v4()),
                gateway6: gateway.v6(),
                flood: 0,
                flood_targets: 0,
            };
            self.tell_segment(network, segment);
            let key = StationKey {
                vni,
                mac: ROUTER_MAC,
                zero: [0; 2],
            };
            self.put("STATIONS", key, lives(ROUTER, 0, 0, 0, slot::station(vni, ROUTER_MAC)));
            let connected = Route {
                kind: ROUTE_CONNECTED,
                vni,
                set: 0,
                hops: 0,
            };
            for (family, address, length) in [(4_u32, mapped(gateway.v4()), 96 + 16), (6, gateway.v6(), 64)] {
                self.put(
                    "NEIGHBOURS",
                    NeighbourKey { vni, address },
                    neighbour(ROUTER_MAC, NEIGHBOUR_ROUTER),
                );
                let key = RouteKey {
                    router: ROUTER_NUMBER.to_be_bytes(),
                    family: family.to_be_bytes(),
                    address,
                };
                self.put_prefix("ROUTES", 64 + length, key, connected);
            }
        }
        self.bump(slot::domain(DOMAIN));
    }

    /// Says that a workload may send as anybody of another network: it forwards.
    pub(crate) fn forwards_for(&mut self, forwarder: Identity, network: u8) {
        let vni = forwarder.vni();
        let any = gateway(network);
        for (family, address, length) in [(4_u32, mapped(any.v4()), 96 + 16), (6, any.v6(), 64)] {
            let key = PrefixKey {
                vni: vni.to_be_bytes(),
                family: family.to_be_bytes(),
                address,
            };
            self.put_prefix("PREFIXES", 64 + length, key, neighbour(forwarder.mac(), 0));
        }
        self.bump(slot::station(vni, forwarder.mac()));
    }

    /// Says that an interface is a workload's.
    pub(crate) fn tell_port(&mut self, identity: Identity, ifindex: u32, flags: u32) {
        let [high, low] = identity.number.to_be_bytes();
        let slot = slot::station(identity.vni(), identity.mac());
        let port = Port {
            domain: DOMAIN,
            endpoint: identity.endpoint(),
            vni: identity.vni(),
            flags,
            slot,
            mac: identity.mac(),
            host_mac: [0x02, 0xfa, 0, identity.network, high, low],
        };
        self.put("PORTS", ifindex, port);
        self.station(identity, lives(HERE, ifindex, identity.endpoint(), flags, slot));
    }

    /// Says that an interface gets its network's group frames; it has to be up.
    pub(crate) fn hears_groups(&mut self, identity: Identity, ifindex: u32) {
        self.member(identity.network, target(FLOOD_PORT, ifindex, identity.endpoint()));
    }

    fn station(&mut self, identity: Identity, station: Station) {
        let (vni, mac) = (identity.vni(), identity.mac());
        let key = StationKey { vni, mac, zero: [0; 2] };
        self.put("STATIONS", key, station);
        for address in [mapped(identity.v4()), identity.v6(), identity.link_local()] {
            self.put("NEIGHBOURS", NeighbourKey { vni, address }, neighbour(mac, 0));
        }
    }

    /// Says that a workload lives at another host.
    pub(crate) fn remote(&mut self, identity: Identity, peer: u32) {
        self.member(identity.network, target(FLOOD_PEER, peer, 0));
        let slot = slot::station(identity.vni(), identity.mac());
        self.station(identity, lives(peer, 0, 0, 0, slot));
    }

    /// Says how to reach another host, and from where it sends.
    pub(crate) fn peer(&mut self, number: u32, peer: Peer) {
        let map = self.ebpf.map_mut("PEERS").expect("the map exists");
        Array::<&mut MapData, Peer>::try_from(map)
            .expect("an array of peers")
            .set(number, peer, 0)
            .expect("it is taken");
        self.put::<Address, u32>("VTEPS", peer.remote, number);
    }
}

fn lives(peer: u32, ifindex: u32, endpoint: u32, flags: u32, slot: u32) -> Station {
    Station {
        peer,
        ifindex,
        endpoint,
        flags,
        slot,
        zero: 0,
        groups: [0; 4],
    }
}

fn target(kind: u32, target: u32, endpoint: u32) -> FloodTarget {
    FloodTarget {
        kind,
        target,
        endpoint,
        zero: 0,
        groups: [0; 4],
    }
}

fn neighbour(mac: [u8; 6], flags: u16) -> Neighbour {
    Neighbour { mac, flags }
}
