//! The programs in the kernel, compared with the model.

use std::collections::BTreeMap;
use std::time::Duration;

use aya::Pod;
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{HashMap, MapData};
use datapath_common::{
    Bucket, Connection, ConnectionKey, Flow, FlowKey, FragmentKey, FragmentState, LimitKey, PEER_RESOLVED, Peer, Port,
    Settings, slot,
};
use overlay::model::Verdict;

use crate::bench::{Bench, Context};
use crate::book;

use super::flow::Sent;
use super::hosts::{B, C, HERE, UNDERLAY_MTU, tunnel_ends};
use super::lowered::{Lowered, address, domain_number, endpoint_number, interface, key, port_flags};
use super::run::Programs;
use super::seen::Seen;
use super::world::{Entrance, World};

/// What the programs return.
const PASSED: u32 = u32::MAX;
const DROPPED: u32 = 2;
/// Interface of the underlay.
const UNDERLAY: u32 = 77;
/// Packets between two times that all buckets of ICMP errors are filled.
const REFILL: usize = 40;

/// The programs and what is in their maps.
pub(crate) struct Kernel {
    bench: Bench,
    installed: Lowered,
    packets: usize,
}

impl Kernel {
    /// All programs, if they can be loaded.
    pub(crate) fn new() -> Option<Self> {
        let mut bench = Bench::new()?;
        bench.clear();
        let [v4, v6] = tunnel_ends(HERE).map(address);
        bench.settings(Settings {
            ipv4: v4,
            ipv6: v6,
            kernel: bench.kernel(),
            ..book::settings()
        });
        // D stays absent.
        for (number, family) in [(B, 0), (C, 1)] {
            let peer = Peer {
                local: [v4, v6][family],
                remote: address(tunnel_ends(number)[family]),
                next_hop: address(tunnel_ends(number)[family]),
                ifindex: UNDERLAY,
                mtu: UNDERLAY_MTU.into(),
                flags: PEER_RESOLVED,
                source_mac: book::HERE_MAC,
                next_hop_mac: book::NEXT_HOP_MAC,
            };
            bench.set_peer(number.into(), peer);
        }
        Some(Self {
            bench,
            installed: Lowered::default(),
            packets: 0,
        })
    }

    /// Makes the maps what the world is.
    fn install(&mut self, world: &World) {
        let wanted = Lowered::of(world);
        let old = std::mem::replace(&mut self.installed, wanted);
        let (new, bench) = (&self.installed, &mut self.bench);
        hash(bench, "SEGMENTS", &old.segments, &new.segments);
        hash(bench, "STATIONS", &old.stations, &new.stations);
        hash(bench, "NEIGHBOURS", &old.neighbours, &new.neighbours);
        hash(bench, "DOMAINS", &old.domains, &new.domains);
        hash(bench, "RULES", &old.rules, &new.rules);
        hash(bench, "HOPS", &old.hops, &new.hops);
        hash(bench, "VTEPS", &old.vteps, &new.vteps);
        trie(bench, "PREFIXES", &old.prefixes, &new.prefixes);
        trie(bench, "ROUTES", &old.routes, &new.routes);
        self.bump(&old);
    }

    /// Counts up the generations of what changed: of each station whose entries did, of each domain whose others did.
    fn bump(&mut self, old: &Lowered) {
        let (new, bench) = (&self.installed, &mut self.bench);
        let stations = changed(&old.stations, &new.stations);
        let mut slots: Vec<u32> = stations.map(|key| slot::station(key.vni, key.mac)).collect();
        for key in changed(&old.neighbours, &new.neighbours) {
            let owners = [old.neighbours.get(key), new.neighbours.get(key)];
            slots.extend(
                owners
                    .into_iter()
                    .flatten()
                    .map(|owner| slot::station(key.vni, owner.mac)),
            );
            // Who owned it by a prefix before, or does from now on.
            slots.extend(covering(old, new, key.vni));
        }
        for key in changed(&old.prefixes, &new.prefixes) {
            slots.extend(covering(old, new, u32::from_be_bytes(key.1.vni)));
        }
        let other = changed(&old.domains, &new.domains).next().is_some()
            || changed(&old.rules, &new.rules).next().is_some()
            || changed(&old.routes, &new.routes).next().is_some()
            || changed(&old.hops, &new.hops).next().is_some()
            || changed(&old.vteps, &new.vteps).next().is_some()
            || changed(&old.segments, &new.segments).next().is_some();
        if other {
            slots.extend(
                old.domains
                    .keys()
                    .chain(new.domains.keys())
                    .map(|number| slot::domain(*number)),
            );
        }
        slots.sort_unstable();
        slots.dedup();
        for slot in slots {
            bench.bump(slot);
        }
    }

    fn set_port(&mut self, world: &World, domain: usize, endpoint: usize) {
        let place = world.endpoint(domain, endpoint);
        let number = endpoint_number(domain, endpoint);
        let (vni, mac) = (world.plans[domain].vni(place.network).get(), place.mac().octets());
        let port = (place.host == Some(HERE)).then_some(Port {
            domain: domain_number(domain),
            endpoint: number,
            vni,
            flags: port_flags(number),
            slot: slot::station(vni, mac),
            mac,
            host_mac: place.host_mac().map_or([0; 6], |mac| mac.octets()),
        });
        let bench = &mut self.bench;
        let mut ports = HashMap::<&mut MapData, u32, Port>::try_from(bench.map("PORTS")).unwrap();
        match port {
            Some(port) => ports.insert(book::LOOPBACK, port, 0).unwrap(),
            // It may not have been there.
            None => drop(ports.remove(&book::LOOPBACK)),
        }
    }
}

impl Programs for Kernel {
    fn begin(&mut self, world: &World) {
        let bench = &mut self.bench;
        bench.empty::<ConnectionKey, Connection>("CONNECTIONS");
        bench.empty::<ConnectionKey, Connection>("HALF_OPEN");
        bench.empty::<FragmentKey, FragmentState>("FRAGMENTS");
        bench.empty::<LimitKey, Bucket>("LIMITS");
        bench.forget_flows();
        self.install(world);
    }

    fn change(&mut self, world: &World) {
        self.install(world);
    }

    fn age(&mut self, by: Duration) {
        let by = by.as_secs() as u32;
        let bench = &mut self.bench;
        let connection = |mut value: Connection| {
            value.seen = value.seen.wrapping_sub(by);
            Some(value)
        };
        each::<ConnectionKey, Connection>(bench, "CONNECTIONS", connection);
        each::<ConnectionKey, Connection>(bench, "HALF_OPEN", connection);
        each::<FragmentKey, FragmentState>(bench, "FRAGMENTS", |mut value| {
            value.seen = value.seen.wrapping_sub(by);
            Some(value)
        });
        each::<FlowKey, Flow>(bench, "FLOWS", |mut value| {
            value.told = value.told.wrapping_sub(by);
            Some(value)
        });
    }

    fn takes(&self, packet: &[u8]) -> bool {
        let least = match packet.get(12..14) {
            Some([0x08, 0x00]) => 34,
            Some([0x86, 0xdd]) => 54,
            Some(_) => 14,
            None => return false,
        };
        (least..=3712).contains(&packet.len())
    }

    fn packet(&mut self, world: &World, sent: &Sent, verdict: &Verdict) -> Result<bool, String> {
        self.packets += 1;
        if self.packets.is_multiple_of(REFILL) {
            self.bench.empty::<LimitKey, Bucket>("LIMITS");
        }
        let program = match sent.entrance {
            Entrance::Port(domain, endpoint) => {
                self.set_port(world, domain, endpoint);
                "from_endpoint"
            }
            Entrance::Underlay => "from_underlay",
        };
        let bench = &mut self.bench;
        bench.forget_trace();
        let (returned, out, _) = bench
            .run(program, &sent.packet, Context::default())
            .map_err(|error| format!("not run: {error}"))?;
        let seen = Seen {
            returned,
            passed: returned == PASSED,
            dropped: returned == DROPPED,
            out,
            trace: bench.trace(),
        };
        match seen.agrees(world, sent, verdict) {
            Ok(()) => Ok(seen.trace.fast == 1),
            Err(why) => Err(format!("{why}\nconnections: {:#?}", connections(bench, &sent.packet))),
        }
    }
}

/// The connections between addresses that a packet carries.
fn connections(bench: &mut Bench, packet: &[u8]) -> Vec<(&'static str, ConnectionKey, Connection)> {
    let carries = |address: &[u8; 16]| packet.windows(4).any(|bytes| bytes == &address[12..]);
    let mut found = Vec::new();
    for name in ["CONNECTIONS", "HALF_OPEN"] {
        let map = HashMap::<&mut MapData, ConnectionKey, Connection>::try_from(bench.map(name)).unwrap();
        let entries = map.iter().map(Result::unwrap);
        let near = entries.filter(|(key, _)| carries(&key.source) && carries(&key.destination));
        found.extend(near.map(|(key, value)| (name, key, value)));
    }
    found
}

/// Keys whose values are not the same.
fn changed<'a, K: Ord, V: PartialEq>(old: &'a BTreeMap<K, V>, new: &'a BTreeMap<K, V>) -> impl Iterator<Item = &'a K> {
    let gone = old.keys().filter(|key| !new.contains_key(key));
    let other = new.iter().filter(|(key, value)| old.get(key) != Some(value));
    gone.chain(other.map(|(key, _)| key))
}

/// Slots of all who have prefixes in a segment.
fn covering(old: &Lowered, new: &Lowered, vni: u32) -> Vec<u32> {
    let owners = old.prefixes.iter().chain(&new.prefixes);
    owners
        .filter(|((_, key), _)| key.vni == vni.to_be_bytes())
        .map(|(_, owner)| slot::station(vni, owner.mac))
        .collect()
}

fn hash<K: Pod + Ord, V: Pod + PartialEq>(bench: &mut Bench, name: &str, old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) {
    let mut map = HashMap::<&mut MapData, K, V>::try_from(bench.map(name)).unwrap();
    for key in changed(old, new) {
        match new.get(key) {
            Some(value) => map.insert(key, value, 0).unwrap(),
            None => map.remove(key).unwrap(),
        }
    }
}

fn trie<K: Pod + Ord, V: Pod + PartialEq>(
    bench: &mut Bench,
    name: &str,
    old: &BTreeMap<(u32, K), V>,
    new: &BTreeMap<(u32, K), V>,
) {
    let mut map = LpmTrie::<&mut MapData, K, V>::try_from(bench.map(name)).unwrap();
    for of in changed(old, new) {
        match new.get(of) {
            Some(value) => map.insert(&key(*of), value, 0).unwrap(),
            None => map.remove(&key(*of)).unwrap(),
        }
    }
}

/// Changes every value; without one, the entry goes.
fn each<K: Pod, V: Pod>(bench: &mut Bench, name: &str, change: impl Fn(V) -> Option<V>) {
    let mut map = HashMap::<&mut MapData, K, V>::try_from(bench.map(name)).unwrap();
    let entries: Vec<(K, V)> = map.iter().map(Result::unwrap).collect();
    for (key, value) in entries {
        match change(value) {
            Some(value) => map.insert(key, value, 0).unwrap(),
            None => map.remove(&key).unwrap(),
        }
    }
}

/// The interface of an endpoint of a domain that is here.
pub(crate) fn interface_of(world: &World, domain: usize, name: &str) -> Option<(u32, u32)> {
    let endpoints = &world.plans[domain].endpoints;
    let index = endpoints
        .iter()
        .position(|endpoint| endpoint.name().to_string() == name)?;
    let number = endpoint_number(domain, index);
    Some((number, interface(number)))
}
