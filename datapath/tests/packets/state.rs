//! Filling the maps of a bench, and looking into them.

use std::collections::BTreeMap;

use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, PerCpuHashMap};
use datapath_common::connection::State;
use datapath_common::{
    Address, Bucket, Connection, ConnectionKey, Count, Domain, Factors, FloodTarget, Flow, FlowKey, FragmentKey,
    FragmentState, Groups, HERE, LimitKey, MemberKey, NEIGHBOUR_ROUTER, Neighbour, NeighbourKey, Peer, Port, PrefixKey,
    ROUTE_CONNECTED, Route, RouteKey, Segment, Settings, Station, StationKey, mapped, remote_station, slot,
};

use crate::bench::{Bench, PEERS_USED};
use crate::book::{self, Workload};

impl Bench {
    /// Forgets all decisions, so that each is made again.
    pub(crate) fn forget_flows(&mut self) {
        self.empty::<FlowKey, Flow>("FLOWS");
    }

    /// Changes every decision that is remembered.
    pub(crate) fn change_flows(&mut self, change: impl Fn(&mut Flow)) {
        let mut map = HashMap::<&mut MapData, FlowKey, Flow>::try_from(self.map("FLOWS")).expect("flows");
        let all: Vec<_> = map.iter().map(|entry| entry.expect("the map can be read")).collect();
        for (key, mut flow) in all {
            change(&mut flow);
            map.insert(key, flow, 0).expect("the map takes it");
        }
    }

    /// Forgets all connections, and the decisions that rest on them.
    pub(crate) fn forget_connections(&mut self) {
        self.forget_flows();
        self.empty::<ConnectionKey, Connection>("CONNECTIONS");
        self.empty::<ConnectionKey, Connection>("HALF_OPEN");
        self.empty::<ConnectionKey, Connection>("CROWDED");
    }

    /// Changes what all first fragments left behind.
    pub(crate) fn change_fragments(&mut self, change: impl Fn(&mut FragmentState)) {
        let map = self.map("FRAGMENTS");
        let mut map = HashMap::<&mut MapData, FragmentKey, FragmentState>::try_from(map).expect("fragments");
        let all: Vec<_> = map.iter().map(|entry| entry.expect("the map can be read")).collect();
        for (key, mut state) in all {
            change(&mut state);
            map.insert(key, state, 0).expect("the map takes it");
        }
    }

    /// What a hash has under a key.
    pub(crate) fn value<K: Pod, V: Pod>(&self, map: &str, key: &K) -> Option<V> {
        self.get(map, key)
    }

    /// The tunnel with a number.
    pub(crate) fn peer_of(&mut self, number: u32) -> Peer {
        let map = Array::<&mut MapData, Peer>::try_from(self.map("PEERS")).expect("peers");
        map.get(&number, 0).expect("it is there")
    }

    /// A bucket.
    pub(crate) fn limit(&self, key: LimitKey) -> Option<Bucket> {
        self.get("LIMITS", &key)
    }

    fn get<K: Pod, V: Pod>(&self, map: &str, key: &K) -> Option<V> {
        let map = self.loaded().map(map).expect("the map exists");
        let map = HashMap::<&MapData, K, V>::try_from(map).expect("a hash of these types");
        map.get(key, 0).ok()
    }

    /// The connection with this tuple, wherever it is.
    pub(crate) fn connection(&self, tuple: ConnectionKey) -> Option<Connection> {
        self.get("CONNECTIONS", &tuple)
            .or_else(|| self.get("HALF_OPEN", &tuple))
            .or_else(|| self.get("CROWDED", &tuple))
    }

    /// Whether a connection is where only those are that both ends took part in.
    pub(crate) fn permanent(&self, tuple: ConnectionKey) -> bool {
        self.get::<_, Connection>("CONNECTIONS", &tuple).is_some()
    }

    /// The connection with this tuple in one of the maps of connections.
    pub(crate) fn connection_in(&self, map: &str, tuple: ConnectionKey) -> Option<Connection> {
        self.get(map, &tuple)
    }

    /// How many connections of an endpoint stay.
    pub(crate) fn established(&self, endpoint: u32) -> u64 {
        self.get("ESTABLISHED", &endpoint).unwrap_or(0)
    }

    /// The clock of `Connection::seen`.
    pub(crate) fn seconds(&self) -> u32 {
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock");
        u32::try_from(now.tv_sec()).expect("a machine that is not up for a century")
    }

    /// Empties a token bucket for good.
    pub(crate) fn exhaust(&mut self, endpoint: u32, kind: u32) {
        let never = Bucket {
            tokens: 0,
            filled: u64::MAX,
        };
        self.put("LIMITS", LimitKey { endpoint, kind }, never);
    }

    /// Whom `LIMITS` knows a station of another host as.
    pub(crate) fn remote_station(&mut self, vni: u32, mac: [u8; 6]) -> u32 {
        let mut map = Array::<&mut MapData, Factors>::try_from(self.map("SECRETS")).expect("secrets");
        let mut factors = map.get(&0, 0).expect("it is there");
        if factors[0] == 0 {
            factors = std::array::from_fn(|index| 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * index as u64 + 1));
            map.set(0, factors, 0).expect("the map takes it");
        }
        remote_station(&factors, vni, mac)
    }

    /// Says who gets a segment's group frames.
    pub(crate) fn members(&mut self, vni: u32, segment: Segment, members: &[FloodTarget]) {
        for (index, member) in (0..).zip(members) {
            let key = MemberKey {
                set: book::FLOOD_SET,
                index,
            };
            self.put("FLOODS", key, *member);
        }
        let segment = Segment {
            flood: book::FLOOD_SET,
            flood_targets: u32::try_from(members.len()).expect("few"),
            ..segment
        };
        self.segment(vni, segment);
    }

    /// Makes a connection over TCP that both ends took part in, from `from` to `to`.
    pub(crate) fn establish(&mut self, addresses: (Address, Address), ports: (u16, u16)) {
        let tuple = ConnectionKey {
            domain: book::RED_DOMAIN,
            ports: u32::from(ports.0) << 16 | u32::from(ports.1),
            protocol: 6,
            source: addresses.0,
            destination: addresses.1,
        };
        let connection = Connection {
            seen: self.seconds(),
            state: State::Established as u32,
            endpoint: 0,
        };
        self.put("CONNECTIONS", tuple, connection);
    }

    /// Makes a connection that is half open.
    pub(crate) fn put_half_open(&mut self, tuple: ConnectionKey, connection: Connection) {
        self.put("HALF_OPEN", tuple, connection);
    }

    /// Removes a connection, wherever it is.
    pub(crate) fn remove_connection(&mut self, tuple: ConnectionKey) {
        for map in ["CONNECTIONS", "HALF_OPEN", "CROWDED"] {
            let mut map =
                HashMap::<&mut MapData, ConnectionKey, Connection>::try_from(self.map(map)).expect("connections");
            // It is in one of them.
            let _ = map.remove(&tuple);
        }
    }

    /// How many decisions are remembered.
    pub(crate) fn flows(&mut self) -> usize {
        let map = HashMap::<&mut MapData, FlowKey, Flow>::try_from(self.map("FLOWS")).expect("flows");
        map.keys().count()
    }

    pub(crate) fn put<K: Pod, V: Pod>(&mut self, map: &str, key: K, value: V) {
        let mut map = HashMap::<&mut MapData, K, V>::try_from(self.map(map)).expect("a hash of these types");
        map.insert(key, value, 0).expect("the map takes it");
    }

    /// Puts a workload into a segment, with all its addresses.
    pub(crate) fn station(&mut self, vni: u32, workload: Workload) {
        self.station_of(vni, workload, [0; 4]);
        for address in workload.addresses() {
            let neighbour = Neighbour {
                mac: workload.mac,
                flags: 0,
            };
            self.put("NEIGHBOURS", NeighbourKey { vni, address }, neighbour);
        }
    }

    fn station_of(&mut self, vni: u32, workload: Workload, groups: Groups) {
        let Workload {
            mac,
            host: peer,
            endpoint,
            flags,
            ..
        } = workload;
        let ifindex = self.workload_interface(workload.ifindex);
        self.put(
            "STATIONS",
            StationKey { vni, mac, zero: [0; 2] },
            Station {
                peer,
                ifindex,
                endpoint,
                flags,
                slot: slot::station(vni, mac),
                zero: 0,
                groups,
            },
        );
    }

    /// Joins red's segments by a router, with routes of each kind.
    pub(crate) fn router(&mut self) {
        for (vni, gateway) in [(book::RED, book::GATEWAY), (book::GREEN, book::FAR_GATEWAY)] {
            self.station(vni, gateway);
            for address in gateway.addresses() {
                let router = Neighbour {
                    mac: gateway.mac,
                    flags: NEIGHBOUR_ROUTER,
                };
                self.put("NEIGHBOURS", NeighbourKey { vni, address }, router);
            }
            self.segment(
                vni,
                Segment {
                    router: book::ROUTER_NUMBER,
                    router_mac: book::ROUTER_MAC,
                    gateway4: mapped(gateway.v4),
                    gateway6: gateway.v6,
                    ..book::segment(book::RED_DOMAIN)
                },
            );
            let connected = Route {
                kind: ROUTE_CONNECTED,
                vni,
                set: 0,
                hops: 0,
            };
            self.route(4, mapped(gateway.v4), 96 + 24, connected);
            self.route(6, gateway.v6, 64, connected);
        }
        for workload in [book::APP, book::STORE, book::SHOP] {
            self.station(book::GREEN, workload);
        }
        self.bump(slot::domain(book::RED_DOMAIN));
    }

    /// A route of red's router.
    pub(crate) fn route(&mut self, family: u32, address: Address, length: u32, route: Route) {
        let key = RouteKey {
            router: book::ROUTER_NUMBER.to_be_bytes(),
            family: family.to_be_bytes(),
            address,
        };
        let map = self.map("ROUTES");
        let mut map = LpmTrie::<&mut MapData, RouteKey, Route>::try_from(map).expect("routes");
        map.insert(&Key::new(64 + length, key), route, 0)
            .expect("the map takes it");
        self.bump(slot::domain(book::RED_DOMAIN));
    }

    /// A prefix that a workload may use without answering for it.
    pub(crate) fn prefix(&mut self, vni: u32, family: u32, address: Address, length: u32, owner: Neighbour) {
        let key = PrefixKey {
            vni: vni.to_be_bytes(),
            family: family.to_be_bytes(),
            address,
        };
        let map = self.map("PREFIXES");
        let mut map = LpmTrie::<&mut MapData, PrefixKey, Neighbour>::try_from(map).expect("prefixes");
        map.insert(&Key::new(64 + length, key), owner, 0)
            .expect("the map takes it");
        self.bump(slot::station(vni, owner.mac));
    }

    /// Puts a workload of a segment into groups.
    pub(crate) fn groups(&mut self, vni: u32, workload: Workload, groups: &[u16]) {
        let mut bits = [0_u64; 4];
        for group in groups {
            bits[usize::from(group / 64)] |= 1 << (group % 64);
        }
        self.station_of(vni, workload, bits);
        self.bump(slot::station(vni, workload.mac));
    }

    /// How often each rule with the action audit matched, by set and index.
    pub(crate) fn audits(&self) -> BTreeMap<(u32, u32), u64> {
        let map = self.loaded().map("AUDITS").expect("the map exists");
        let map = PerCpuHashMap::<&MapData, MemberKey, Count>::try_from(map).expect("counters");
        map.iter()
            .map(|entry| {
                let (key, counts) = entry.expect("the map can be read");
                ((key.set, key.index), counts.iter().map(|count| count.packets).sum())
            })
            .collect()
    }

    /// Says what a VNI is.
    pub(crate) fn segment(&mut self, vni: u32, segment: Segment) {
        self.put("SEGMENTS", vni, segment);
    }

    /// Says what a domain does.
    pub(crate) fn domain(&mut self, number: u32, domain: Domain) {
        self.put("DOMAINS", number, domain);
    }

    /// Says that something with this slot of `GENERATIONS` has changed.
    pub(crate) fn bump(&mut self, slot: u32) {
        let map = self.map("GENERATIONS");
        let mut map = Array::<&mut MapData, u32>::try_from(map).expect("generations");
        let generation = map.get(&slot, 0).expect("it is there");
        map.set(slot, generation.wrapping_add(1), 0).expect("the map takes it");
    }

    /// Says how to reach a host.
    pub(crate) fn peer(&mut self, host: u32, peer: Peer) {
        assert!(host != HERE && host < PEERS_USED);
        self.set_peer(host, peer);
    }

    pub(crate) fn set_peer(&mut self, number: u32, peer: Peer) {
        let peer = Peer {
            ifindex: self.underlay_interface(peer.ifindex),
            ..peer
        };
        let map = self.map("PEERS");
        let mut map = Array::<&mut MapData, Peer>::try_from(map).expect("an array of peers");
        map.set(number, peer, 0).expect("the map takes it");
    }

    /// Takes back that tunnels may come from an address.
    pub(crate) fn forget_vtep(&mut self, address: Address) {
        let map = self.map("VTEPS");
        let mut map = HashMap::<&mut MapData, Address, u32>::try_from(map).expect("a hash of peers");
        map.remove(&address).expect("it was there");
    }

    /// Says what is behind the interface by which packets of `WEB` come, or that nothing is.
    pub(crate) fn port(&mut self, port: Option<Port>) {
        let entries = self.entries();
        let mut map = HashMap::<&mut MapData, u32, Port>::try_from(self.map("PORTS")).expect("a hash of ports");
        for ifindex in entries {
            match port {
                Some(port) => map.insert(ifindex, port, 0).expect("the map takes it"),
                None => map.remove(&ifindex).expect("it was there"),
            }
        }
    }

    /// Sets the settings.
    pub(crate) fn settings(&mut self, settings: Settings) {
        let map = self.map("SETTINGS");
        let mut map = Array::<&mut MapData, Settings>::try_from(map).expect("an array of settings");
        map.set(0, settings, 0).expect("the map takes it");
    }
}
