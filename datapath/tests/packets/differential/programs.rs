//! The programs in the kernel, compared with the model. Their maps are filled by the datapath's own lowering, difference
//! and operations; interfaces and routes are made up.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use aya::Pod;
use aya::maps::{HashMap, MapData};
use datapath::{Config, Interface, Rehearsal};
use datapath_common::{
    Address, Bucket, Connection, ConnectionKey, FLOOD_PORT, FLOW_ENCAPSULATE, FLOW_FLOOD, FloodTarget, Flow, FlowKey,
    FragmentKey, FragmentState, KERNEL_STRICT, LIMIT_ICMP, LIMIT_SLOW, LimitKey, MemberKey, PEER_RESOLVED, Peer, Port,
    Segment, Settings, Trace,
};
use nix::sched::{CloneFlags, setns, unshare};
use overlay::name::{DomainName, EndpointName};

use crate::bench::{Bench, Context};
use crate::book;
use crate::namespace::must;

use super::change::Changed;
use super::counts::Counts;
use super::flow::Sent;
use super::hosts::{GENEVE, HERE, UNDERLAY_MTU, VXLAN, node, tunnel_ends};
use super::run::{Expected, Programs};
use super::seen::{Copies, Place, Seen};
use super::world::{Entrance, World};

/// What the programs return.
const PASSED: u32 = u32::MAX;
const DROPPED: u32 = 2;
/// Interfaces of the underlay, to hosts with even and odd addresses. They exist: copies are sent there.
const UNDERLAY: [u32; 2] = [book::LOOPBACK, 77];
/// Buckets filled then get no more until something is taken.
const NEVER: u64 = u64::MAX / 2;
/// Nanoseconds in which a thousandth of a token of `LIMIT_ICMP` comes.
const FILL: u128 = 10_000;

/// Nobody's: loading takes longer than most tests.
static IDLE: Mutex<Vec<Kernel>> = Mutex::new(Vec::new());

/// The programs and what is in their maps.
pub(crate) struct Kernel {
    bench: Bench,
    maps: Rehearsal,
    counts: Counts,
    /// Where the interfaces of the underlay are: its packets run on a thread in it.
    namespace: File,
    /// Of which domain and endpoint the packets of the facility's interface are.
    port: Option<(usize, usize)>,
    /// Counters are compared after each packet, not only now and then: it takes long.
    careful: bool,
}

impl Kernel {
    /// All programs, loaded here or by who is done with them; none if they cannot be.
    pub(crate) fn new(careful: bool) -> Option<Self> {
        let idle = IDLE.lock().expect("nobody panics with the lock").pop();
        if let Some(kernel) = &idle {
            setns(&kernel.namespace, CloneFlags::CLONE_NEWNET).expect("root may enter it");
        }
        let kernel = idle.map_or_else(Self::load, Some)?;
        Some(Self { careful, ..kernel })
    }

    /// Lets another one use them.
    pub(crate) fn leave(self) {
        IDLE.lock().expect("nobody panics with the lock").push(self);
    }

    fn load() -> Option<Self> {
        let namespace = namespace();
        let bench = Bench::small()?;
        let [v4, v6] = tunnel_ends(HERE);
        let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = (v4, v6) else {
            panic!("an IPv4 and an IPv6 address")
        };
        let config = Config {
            bpffs: "/".into(),
            node: node(HERE),
            ipv4: Some(ipv4),
            ipv6: Some(ipv6),
            port: VXLAN,
            geneve_port: GENEVE,
            strict_vxlan: false,
        };
        let maps = Rehearsal::on(bench.loaded(), &config).expect("the maps are those of this build");
        Some(Self {
            bench,
            maps,
            namespace,
            counts: Counts::default(),
            port: None,
            careful: false,
        })
    }

    /// Writes the settings of this host.
    fn set(&mut self, world: &World) {
        let [ipv4, ipv6] = tunnel_ends(HERE).map(address);
        let strict = if world.strict { KERNEL_STRICT } else { 0 };
        let kernel = self.bench.kernel() | strict;
        self.bench.settings(Settings {
            ipv4,
            ipv6,
            kernel,
            ..book::settings()
        });
    }

    /// Makes the maps what a domain is.
    fn apply(&mut self, world: &World, domain: usize) {
        let interfaces = interfaces(world, domain);
        let route = |local, remote| peer(world, local, remote);
        let applied = self.maps.apply(&world.domains[domain], &interfaces, route);
        applied.expect("the maps have room");
        self.port = None;
    }

    /// Lets the facility's interface be that of an endpoint.
    fn set_port(&mut self, world: &World, domain: usize, endpoint: usize) {
        if self.port.replace((domain, endpoint)) == Some((domain, endpoint)) {
            return;
        }
        let mut ports = HashMap::<&mut MapData, u32, Port>::try_from(self.bench.map("PORTS")).unwrap();
        match ports.get(&ifindex(world, domain, endpoint), 0) {
            Ok(port) => ports.insert(book::LOOPBACK, port, 0).unwrap(),
            // It may not have been there.
            Err(_) => drop(ports.remove(&book::LOOPBACK)),
        }
    }

    /// The bucket of ICMP errors of who sends from a port.
    fn bucket(&self, world: &World, sent: &Sent) -> Option<LimitKey> {
        let Entrance::Port(domain, endpoint) = sent.entrance else {
            return None;
        };
        let plan = &world.plans[domain];
        let endpoint = self
            .maps
            .number(&plan.domain(), Some(&plan.endpoints[endpoint].name()))?;
        Some(LimitKey {
            endpoint,
            kind: LIMIT_ICMP,
        })
    }

    /// Takes all slow-path runs of an endpoint, and all that is remembered.
    fn exhaust(&mut self, world: &World, domain: usize, endpoint: usize) {
        let plan = &world.plans[domain];
        let name = plan.endpoints[endpoint].name();
        if let Some(number) = self.maps.number(&plan.domain(), Some(&name)) {
            self.bench.exhaust(number, LIMIT_SLOW);
        }
        self.bench.forget_flows();
    }

    /// Gives buckets of slow-path runs back.
    fn recover(&mut self) {
        let mut limits = HashMap::<&mut MapData, LimitKey, Bucket>::try_from(self.bench.map("LIMITS")).unwrap();
        let keys: Vec<LimitKey> = limits.keys().map(Result::unwrap).collect();
        for key in keys.into_iter().filter(|key| key.kind == LIMIT_SLOW) {
            limits.remove(&key).unwrap();
        }
    }

    fn check_bucket(&mut self, key: Option<LimitKey>, expected: &Expected) -> Result<(), String> {
        let Some(key) = key else { return Ok(()) };
        let held = tokens(expected.errors_left[1]);
        match self.bench.limit(key) {
            Some(bucket) if bucket.tokens == held => Ok(()),
            other => Err(format!("the model leaves {held} of {key:?}, the programs {other:?}")),
        }
    }
}

impl Programs for Kernel {
    fn begin(&mut self, world: &World) {
        self.set(world);
        for number in 0..3 {
            let nothing = World::nothing(number);
            let applied = self
                .maps
                .apply(&nothing, &BTreeMap::new(), |local, remote| peer(world, local, remote));
            applied.expect("removing needs no room");
        }
        self.maps.release_numbers().expect("removing needs no room");
        let bench = &mut self.bench;
        bench.empty::<ConnectionKey, Connection>("CONNECTIONS");
        bench.empty::<ConnectionKey, Connection>("HALF_OPEN");
        bench.empty::<ConnectionKey, Connection>("CROWDED");
        bench.empty::<u32, u64>("ESTABLISHED");
        bench.empty::<FragmentKey, FragmentState>("FRAGMENTS");
        bench.empty::<LimitKey, Bucket>("LIMITS");
        bench.forget_flows();
        for domain in 0..world.plans.len() {
            self.apply(world, domain);
        }
        self.counts.begin(&self.maps);
    }

    fn change(&mut self, world: &World, changed: &Changed) -> Result<(), String> {
        self.counts.settle(&self.maps)?;
        for domain in &changed.domains {
            self.apply(world, *domain);
        }
        if changed.release {
            self.maps.release_numbers().expect("removing needs no room");
        }
        self.counts.begin(&self.maps);
        Ok(())
    }

    fn age(&mut self, by: Duration) {
        let by = by.as_secs() as u32;
        let bench = &mut self.bench;
        for name in ["CONNECTIONS", "HALF_OPEN", "CROWDED"] {
            each::<ConnectionKey, Connection>(bench, name, |value| value.seen = value.seen.wrapping_sub(by));
        }
        each::<FragmentKey, FragmentState>(bench, "FRAGMENTS", |value| value.seen = value.seen.wrapping_sub(by));
        each::<FlowKey, Flow>(bench, "FLOWS", |value| value.told = value.told.wrapping_sub(by));
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

    fn packet(&mut self, world: &World, sent: &Sent, expected: &Expected) -> Result<bool, String> {
        let mut context = Context::default();
        let program = match sent.entrance {
            Entrance::Port(domain, endpoint) => {
                self.set_port(world, domain, endpoint);
                "from_endpoint"
            }
            Entrance::Exhausted(domain, endpoint) => {
                self.set_port(world, domain, endpoint);
                self.exhaust(world, domain, endpoint);
                "from_endpoint"
            }
            Entrance::Stack(domain, endpoint, marked) => {
                self.set_port(world, domain, endpoint);
                context.mark = if marked { book::MARK } else { 0 };
                "to_endpoint"
            }
            Entrance::Underlay => "from_underlay",
        };
        let key = self.bucket(world, sent);
        if let Some(key) = key {
            let tokens = tokens(expected.errors_left[0]);
            self.bench.put("LIMITS", key, Bucket { tokens, filled: NEVER });
        }
        let bench = &mut self.bench;
        bench.forget_trace();
        let (returned, out, _) = bench
            .run(program, &sent.packet, context)
            .map_err(|error| format!("not run: {error}"))?;
        let trace = bench.trace();
        let tunnelled = trace.flags & FLOW_ENCAPSULATE != 0;
        let seen = Seen {
            copies: copies(bench, &trace),
            peer: tunnelled.then(|| bench.peer_of(trace.peer)),
            returned,
            passed: returned == PASSED,
            dropped: returned == DROPPED,
            out,
            trace,
        };
        let fast = seen.trace.fast == 1;
        if matches!(sent.entrance, Entrance::Exhausted(..)) {
            self.recover();
        }
        self.counts.add(&self.maps, sent, expected, fast);
        let place = Place {
            world,
            maps: &self.maps,
        };
        let agreed = seen.agrees(place, sent, &expected.verdict);
        let agreed = agreed.and_then(|()| self.check_bucket(key, expected));
        match agreed.and_then(|()| {
            if self.careful {
                self.counts.settle(&self.maps)
            } else {
                Ok(())
            }
        }) {
            Ok(()) => Ok(fast),
            Err(why) => {
                let near = connections(&mut self.bench, &sent.packet);
                Err(format!("{why}\nconnections: {near:#?}"))
            }
        }
    }

    fn end(&mut self) -> Result<(), String> {
        self.counts.settle(&self.maps)
    }
}

/// Numbers of the endpoints, and addresses of the hosts, that got copies.
fn copies(bench: &mut Bench, trace: &Trace) -> Copies {
    let mut copies = Copies::default();
    if trace.flags & FLOW_FLOOD == 0 {
        return copies;
    }
    let segment = bench.value::<u32, Segment>("SEGMENTS", &trace.vni).unwrap();
    for index in (0..segment.flood_targets).filter(|index| trace.copies >> index & 1 == 1) {
        let key = MemberKey {
            set: segment.flood,
            index,
        };
        let member = bench.value::<MemberKey, FloodTarget>("FLOODS", &key).unwrap();
        if member.kind == FLOOD_PORT {
            copies.endpoints.insert(member.endpoint);
        } else {
            copies.hosts.insert(bench.peer_of(member.target).remote);
        }
    }
    copies
}

/// Thousandths of tokens that come in a time.
fn tokens(time: Duration) -> u64 {
    u64::try_from(time.as_nanos() / FILL).unwrap()
}

/// The connections between addresses that a packet carries.
fn connections(bench: &mut Bench, packet: &[u8]) -> Vec<(&'static str, ConnectionKey, Connection)> {
    let carries = |address: &[u8; 16]| packet.windows(4).any(|bytes| bytes == &address[12..]);
    let mut found = Vec::new();
    for name in ["CONNECTIONS", "HALF_OPEN", "CROWDED"] {
        let map = HashMap::<&mut MapData, ConnectionKey, Connection>::try_from(bench.map(name)).unwrap();
        let entries = map.iter().map(Result::unwrap);
        let near = entries.filter(|(key, _)| carries(&key.source) && carries(&key.destination));
        found.extend(near.map(|(key, value)| (name, key, value)));
    }
    found
}

/// Changes every value.
fn each<K: Pod, V: Pod>(bench: &mut Bench, name: &str, change: impl Fn(&mut V)) {
    let mut map = HashMap::<&mut MapData, K, V>::try_from(bench.map(name)).unwrap();
    let entries: Vec<(K, V)> = map.iter().map(Result::unwrap).collect();
    for (key, mut value) in entries {
        change(&mut value);
        map.insert(key, value, 0).unwrap();
    }
}

/// An address as it stands in maps.
pub(crate) fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// A network namespace with the interfaces of the underlay, which this thread enters. It has no name and ends with who has
/// it open.
fn namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).expect("root may make one");
    for arguments in [
        "link set lo up",
        "link add name underlay index 77 type veth peer name far index 78",
        "link set far up",
        "link set underlay up",
    ] {
        must(Command::new("ip").args(arguments.split(' ')));
    }
    File::open("/proc/thread-self/ns/net").expect("it is there")
}

/// The interface of an endpoint, if it is here.
fn ifindex(world: &World, domain: usize, endpoint: usize) -> u32 {
    (10_000 + 100 * world.plans[domain].number + endpoint) as u32
}

fn interfaces(world: &World, domain: usize) -> BTreeMap<EndpointName, Interface> {
    let endpoints = world.plans[domain].endpoints.iter().enumerate();
    let interface = |number, mac: Option<overlay::name::Mac>| Interface {
        ifindex: ifindex(world, domain, number),
        mac: mac.map_or([0; 6], |mac| mac.octets()),
        namespace: number % 3 == 0,
    };
    endpoints
        .map(|(number, endpoint)| (endpoint.name(), interface(number, endpoint.host_mac())))
        .collect()
}

/// The interface of an endpoint by its name.
pub(crate) fn interface(world: &World, domain: &DomainName, name: &EndpointName) -> Option<u32> {
    let number = world.plans.iter().position(|plan| plan.domain() == *domain)?;
    let endpoints = &world.plans[number].endpoints;
    let endpoint = endpoints.iter().position(|endpoint| endpoint.name() == *name)?;
    Some(ifindex(world, number, endpoint))
}

/// The tunnel between two addresses, as the kernel's routes have it: each host is behind a next hop of its own.
pub(crate) fn peer(world: &World, local: IpAddr, remote: IpAddr) -> Peer {
    let mut hosts = world.hosts.iter();
    let host = hosts.find(|(_, vtep)| vtep.addresses().any(|address| address == remote));
    let is_routed = host.is_some_and(|(host, _)| !world.unrouted.contains(host));
    let (family, last) = (u8::from(remote.is_ipv4()), address(remote)[15]);
    Peer {
        local: address(local),
        remote: address(remote),
        next_hop: address(remote),
        ifindex: if is_routed { UNDERLAY[usize::from(last % 2)] } else { 0 },
        mtu: if is_routed { UNDERLAY_MTU.into() } else { 0 },
        flags: PEER_RESOLVED,
        source_mac: [2, 0xee, 0, 1, family, last % 2],
        next_hop_mac: [2, 0xee, 0, 2, family, last],
    }
}
