//! The programs in the kernel with the address book in their maps.

use std::cell::RefCell;
use std::io;
use std::sync::Mutex;
use std::thread;

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{HashMap, Map, MapData, PerCpuArray, PerCpuHashMap, PerCpuValues, ProgramArray};
use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions};
use aya::sys::SyscallError;
use aya::{Ebpf, EbpfLoader, Pod};
use datapath::object::{self, OBJECT};
use datapath_common::punt::{PuntKey, PuntRule};
use datapath_common::{
    Address, Bucket, Connection, ConnectionKey, Count, DOMAIN_ALLOW, Domain, DropKey, FloodTarget, FragmentKey,
    FragmentState, Hop, KERNEL_DECAP_L3, KERNEL_TRACE, LimitKey, MemberKey, Neighbour, NeighbourKey, PEER_RESOLVED,
    Peer, Port, PrefixKey, Route, RouteKey, Rule, SLOT_PROGRAMS, SLOTS, Segment, Settings, Station, StationKey, Trace,
    mapped, slot,
};

use crate::book::{self, Workload};
use crate::devices::Devices;
use crate::fate::Drops;

/// The programs and their maps.
pub(crate) struct Bench {
    /// There until it is dropped.
    ebpf: Option<Ebpf>,
    trace: Option<RefCell<TraceMap>>,
    /// Its maps have other sizes: it is no other test's.
    small: bool,
    /// Interfaces by which tables of packets run, too.
    pub(crate) devices: Option<Devices>,
}

type TraceMap = PerCpuArray<MapData, Trace>;

/// Peers that tests use are numbered below this.
pub(crate) const PEERS_USED: u32 = 8;
/// As the map has it before a packet.
pub(crate) const NO_TRACE: Trace = Trace {
    verdict: 0,
    reason: 0,
    domain: 0,
    endpoint: 0,
    egress: 0,
    peer: 0,
    vni: 0,
    flags: 0,
    fast: 0,
    zero: 0,
    copies: 0,
};
const NO_PEER: Peer = Peer {
    local: [0; 16],
    remote: [0; 16],
    next_hop: [0; 16],
    ifindex: 0,
    mtu: 0,
    flags: 0,
    source_mac: [0; 6],
    next_hop_mac: [0; 6],
};

/// Loaded programs whose maps are empty: loading takes longer than all packets of a test.
static IDLE: Mutex<Vec<(Ebpf, TraceMap)>> = Mutex::new(Vec::new());

/// A packet's context: mark and payload per segment of a super-packet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Context {
    pub(crate) mark: u32,
    pub(crate) segment: u32,
}

/// `struct __sk_buff`: its size and the fields used here.
pub(crate) const CONTEXT: usize = 192;
pub(crate) const CONTEXT_MARK: usize = 8;
const CONTEXT_SEGMENT: usize = 176;

/// Whether packet tests can run; says so, and insists where they must.
pub(crate) fn privileged() -> bool {
    let root = nix::unistd::geteuid().is_root();
    let must = ["CI", "FABRIC_REQUIRE_PRIVILEGED"]
        .iter()
        .any(|name| std::env::var_os(name).is_some());
    let able = root && can_load().is_ok();
    assert!(able || !must, "packet tests need root and BPF");
    if !able {
        eprintln!("SKIPPED: packet tests need root and BPF");
    }
    able
}

/// Loads the smallest program, to see whether it can be done.
fn can_load() -> Result<(), Box<dyn std::error::Error>> {
    let mut ebpf = EbpfLoader::new().load(OBJECT)?;
    let program: &mut SchedClassifier = ebpf
        .program_mut("stub_from_underlay")
        .ok_or("no such program")?
        .try_into()?;
    Ok(object::load(program)?)
}

/// `BPF_F_ADJ_ROOM_DECAP_L3_*` are there from Linux 6.3.
pub(crate) fn knows_decap_l3() -> bool {
    let name = nix::sys::utsname::uname().expect("uname cannot fail");
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 3)
}

/// Tables that are walked often, with as much room as few flows need: a walk takes as long as a table is large.
const SMALL: [(&str, u32); 17] = [
    ("PORTS", 1024),
    ("STATIONS", 1024),
    ("NEIGHBOURS", 4096),
    ("VTEPS", 1024),
    ("SEGMENTS", 1024),
    ("DOMAINS", 1024),
    ("CONNECTIONS", 4096),
    ("HALF_OPEN", 4096),
    ("CROWDED", 4096),
    ("ESTABLISHED", 4096),
    ("RULES", 4096),
    ("HOPS", 4096),
    ("FLOODS", 4096),
    ("FLOWS", 4096),
    ("FRAGMENTS", 4096),
    ("LIMITS", 4096),
    ("DROPS", 4096),
];

/// All programs, loaded; some tables have another size.
fn loaded(sizes: &[(&'static str, u32)]) -> (Ebpf, TraceMap) {
    let mut loader = EbpfLoader::new();
    for (map, size) in sizes {
        loader.map_max_entries(map, *size);
    }
    let mut ebpf = loader.load(OBJECT).expect("the object loads");
    for (name, program) in ebpf.programs_mut() {
        let program: &mut SchedClassifier = program.try_into().expect("a classifier");
        object::load(program).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    let trace = ebpf.take_map("TRACE").expect("the map exists");
    let trace = PerCpuArray::try_from(trace).expect("traces");
    (ebpf, trace)
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Whoever takes the programs next has none.
        self.devices = None;
        if self.small || thread::panicking() {
            return;
        }
        self.clear();
        let mut audits =
            PerCpuHashMap::<&mut MapData, MemberKey, Count>::try_from(self.map("AUDITS")).expect("counters");
        let keys: Vec<MemberKey> = audits.keys().map(|key| key.expect("the map can be read")).collect();
        for key in keys {
            audits.remove(&key).expect("it was there");
        }
        let mut drops = PerCpuHashMap::<&mut MapData, DropKey, Count>::try_from(self.map("DROPS")).expect("counters");
        let keys: Vec<DropKey> = drops.keys().map(|key| key.expect("the map can be read")).collect();
        for key in keys {
            drops.remove(&key).expect("it was there");
        }
        let mut programs = ProgramArray::try_from(self.map("PROGRAMS")).expect("a program array");
        for slot in 0..SLOTS {
            // An empty slot is an error, and what is wanted.
            let _ = programs.clear_index(&slot);
        }
        let trace = self.trace.take().map(RefCell::into_inner);
        IDLE.lock()
            .expect("nobody panics with the lock")
            .extend(self.ebpf.take().zip(trace));
    }
}

impl Bench {
    /// Empties all maps but counters, settings and programs.
    pub(crate) fn clear(&mut self) {
        self.empty::<u32, Port>("PORTS");
        self.empty::<u32, Segment>("SEGMENTS");
        self.empty::<StationKey, Station>("STATIONS");
        self.empty::<NeighbourKey, Neighbour>("NEIGHBOURS");
        self.empty::<u32, Domain>("DOMAINS");
        self.empty::<MemberKey, Rule>("RULES");
        self.empty::<MemberKey, Hop>("HOPS");
        self.empty::<Address, u32>("VTEPS");
        self.empty::<ConnectionKey, Connection>("CONNECTIONS");
        self.empty::<ConnectionKey, Connection>("HALF_OPEN");
        self.empty::<ConnectionKey, Connection>("CROWDED");
        self.empty::<u32, u64>("ESTABLISHED");
        self.empty::<MemberKey, FloodTarget>("FLOODS");
        self.empty::<PuntKey, PuntRule>("PUNT_RULES");
        self.empty::<FragmentKey, FragmentState>("FRAGMENTS");
        self.empty::<LimitKey, Bucket>("LIMITS");
        self.empty_trie::<PrefixKey, Neighbour>("PREFIXES");
        self.empty_trie::<RouteKey, Route>("ROUTES");
        self.forget_flows();
        for peer in 0..PEERS_USED {
            self.set_peer(peer, NO_PEER);
        }
    }

    /// All programs loaded, all slots and maps filled.
    pub(crate) fn new() -> Option<Self> {
        if !privileged() {
            return None;
        }
        let idle = IDLE.lock().expect("nobody panics with the lock").pop();
        let (ebpf, trace) = idle.unwrap_or_else(|| loaded(&[]));
        let mut bench = Self {
            ebpf: Some(ebpf),
            trace: Some(RefCell::new(trace)),
            small: false,
            devices: None,
        };
        bench.fill();
        Some(bench)
    }

    /// As [`Bench::new`], of tables with other sizes.
    pub(crate) fn sized(sizes: &[(&'static str, u32)]) -> Option<Self> {
        if !privileged() {
            return None;
        }
        let (ebpf, trace) = loaded(sizes);
        let mut bench = Self {
            ebpf: Some(ebpf),
            trace: Some(RefCell::new(trace)),
            small: true,
            devices: None,
        };
        bench.fill();
        Some(bench)
    }

    /// As [`Bench::new`], with interfaces by which every table of packets runs once more, unless `FABRIC_NO_DEVICES` is
    /// set: in an emulated guest they take longer than all else.
    pub(crate) fn on_devices() -> Option<Self> {
        let mut bench = Self::new()?;
        if std::env::var_os("FABRIC_NO_DEVICES").is_some() {
            return Some(bench);
        }
        bench.devices = Some(Devices::attached(bench.ebpf_mut()));
        bench.clear();
        bench.fill();
        Some(bench)
    }

    /// All programs loaded, all slots filled, all maps empty and some of them small.
    pub(crate) fn small() -> Option<Self> {
        if !privileged() {
            return None;
        }
        let (ebpf, trace) = loaded(&SMALL);
        let mut bench = Self {
            ebpf: Some(ebpf),
            trace: Some(RefCell::new(trace)),
            small: true,
            devices: None,
        };
        for (slot, program) in SLOT_PROGRAMS {
            bench.slot(slot, program);
        }
        Some(bench)
    }

    /// `KERNEL_*` of this kernel, and that the programs are to say what they do.
    pub(crate) fn kernel(&self) -> u32 {
        KERNEL_TRACE | if knows_decap_l3() { KERNEL_DECAP_L3 } else { 0 }
    }

    fn fill(&mut self) {
        self.settings(Settings {
            kernel: self.kernel(),
            ..book::settings()
        });
        for (slot, program) in SLOT_PROGRAMS {
            self.slot(slot, program);
        }
        self.port(Some(book::port(book::RED, book::RED_DOMAIN)));
        for (vni, domain, flags) in [
            (book::RED, book::RED_DOMAIN, DOMAIN_ALLOW),
            (book::BLUE, book::BLUE_DOMAIN, DOMAIN_ALLOW),
            (book::DENIED, book::DENIED_DOMAIN, 0),
        ] {
            self.segment(vni, book::segment(domain));
            self.domain(
                domain,
                Domain {
                    flags,
                    ..domain_without_rules(domain)
                },
            );
        }
        for vni in [book::RED, book::DENIED] {
            for workload in [book::WEB, book::API, book::VM, book::DB, book::LOST] {
                self.station(vni, workload);
            }
        }
        self.station(
            book::BLUE,
            Workload {
                endpoint: 21,
                ifindex: 5,
                ..book::API
            },
        );
        self.station(book::BLUE, book::DB);
        self.station(book::BLUE, book::BLUE_ONLY);
        self.peer(book::HOST_B, peer_b4());
        self.peer(
            book::HOST_C,
            Peer {
                ifindex: 0,
                ..peer_b4()
            },
        );
        for (address, host) in [
            (mapped(book::HOST_B_V4), book::HOST_B),
            (book::HOST_B_V6, book::HOST_B),
            (mapped(book::HOST_C_V4), book::HOST_C),
        ] {
            self.put::<Address, u32>("VTEPS", address, host);
        }
    }

    pub(crate) fn loaded(&self) -> &Ebpf {
        self.ebpf.as_ref().expect("there until it is dropped")
    }

    pub(crate) fn ebpf_mut(&mut self) -> &mut Ebpf {
        self.ebpf.as_mut().expect("there until it is dropped")
    }

    pub(crate) fn map(&mut self, name: &str) -> &mut Map {
        let ebpf = self.ebpf.as_mut().expect("there until it is dropped");
        ebpf.map_mut(name).expect("the map exists")
    }

    pub(crate) fn program(&self, name: &str) -> &SchedClassifier {
        self.loaded()
            .program(name)
            .expect("it exists")
            .try_into()
            .expect("a classifier")
    }

    pub(crate) fn empty<K: Pod, V: Pod>(&mut self, map: &str) {
        let mut map = HashMap::<&mut MapData, K, V>::try_from(self.map(map)).expect("a hash of these types");
        let keys: Vec<K> = map.keys().map(|key| key.expect("the map can be read")).collect();
        for key in keys {
            map.remove(&key).expect("it was there");
        }
    }

    pub(crate) fn empty_trie<K: Pod, V: Pod>(&mut self, map: &str) {
        let mut map = LpmTrie::<&mut MapData, K, V>::try_from(self.map(map)).expect("a trie of these types");
        let keys: Vec<_> = map.keys().map(|key| key.expect("the map can be read")).collect();
        for key in keys {
            map.remove(&key).expect("it was there");
        }
    }

    /// What the programs say of the last packet.
    pub(crate) fn trace(&self) -> Trace {
        let map = self.trace.as_ref().expect("there until it is dropped").borrow();
        let values = map.get(&0, 0).expect("it is there");
        values
            .iter()
            .copied()
            .find(|trace| *trace != NO_TRACE)
            .unwrap_or(NO_TRACE)
    }

    pub(crate) fn forget_trace(&self) {
        let mut map = self.trace.as_ref().expect("there until it is dropped").borrow_mut();
        let cpus = map.get(&0, 0).expect("it is there").len();
        let values = PerCpuValues::try_from(vec![NO_TRACE; cpus]).expect("as many as there are");
        map.set(0, values, 0).expect("the map takes it");
    }

    /// Puts a program into its slot.
    pub(crate) fn slot(&mut self, slot: u32, program: &str) {
        let fd = self
            .program(program)
            .fd()
            .expect("it is loaded")
            .try_clone()
            .expect("descriptors are left");
        let map = self.map("PROGRAMS");
        ProgramArray::try_from(map)
            .expect("a program array")
            .set(slot, &fd, 0)
            .expect("the map takes it");
    }

    /// Takes the program out of a slot.
    pub(crate) fn clear_slot(&mut self, slot: u32) {
        let mut map = ProgramArray::try_from(self.map("PROGRAMS")).expect("a program array");
        map.clear_index(&slot).expect("it was there");
    }

    /// All drop counters, summed over CPUs.
    pub(crate) fn drops(&self) -> Drops {
        let map = self.loaded().map("DROPS").expect("the map exists");
        let map = PerCpuHashMap::<&MapData, DropKey, Count>::try_from(map).expect("counters");
        map.iter()
            .map(|entry| {
                let (key, counts) = entry.expect("the map can be read");
                let packets = counts.iter().map(|count| count.packets).sum();
                let bytes = counts.iter().map(|count| count.bytes).sum();
                ((key.domain, key.endpoint, key.reason), (packets, bytes))
            })
            .collect()
    }

    /// Runs a program on a frame; the kernel's refusal to take such a frame at all is an error.
    pub(crate) fn run(&self, program: &str, frame: &[u8], context: Context) -> Result<(u32, Vec<u8>, u32), io::Error> {
        let mut ctx_in = [0; CONTEXT];
        ctx_in[CONTEXT_MARK..][..4].copy_from_slice(&context.mark.to_ne_bytes());
        ctx_in[CONTEXT_SEGMENT..][..4].copy_from_slice(&context.segment.to_ne_bytes());
        let (mut out, mut ctx_out) = (vec![0; 8192], [0; CONTEXT]);
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&ctx_in),
            ctx_out: Some(&mut ctx_out),
            ..TestRunOptions::default()
        };
        let result = match self.program(program).test_run(options) {
            Ok(result) => result,
            Err(ProgramError::SyscallError(SyscallError { io_error, .. })) => return Err(io_error),
            Err(error) => panic!("{error:?}"),
        };
        out.truncate(usize::try_from(result.data_size_out).expect("fits"));
        let mark = u32::from_ne_bytes(ctx_out[CONTEXT_MARK..][..4].try_into().expect("four bytes"));
        Ok((result.return_value, out, mark))
    }
}

/// A domain that denies what no rule allows, and has no rules.
pub(crate) fn domain_without_rules(number: u32) -> Domain {
    Domain {
        flags: 0,
        slot: slot::domain(number),
        egress: 0,
        egress_rules: 0,
        ingress: 0,
        ingress_rules: 0,
        chain_flow: 0,
        chain_packet: 0,
    }
}

/// Host B over IPv4, its next hop resolved.
pub(crate) fn peer_b4() -> Peer {
    Peer {
        local: mapped(book::HERE_V4),
        remote: mapped(book::HOST_B_V4),
        next_hop: mapped(book::HOST_B_V4),
        ifindex: book::LOOPBACK,
        mtu: book::UNDERLAY_MTU,
        flags: PEER_RESOLVED,
        source_mac: book::HERE_MAC,
        next_hop_mac: book::NEXT_HOP_MAC,
    }
}

/// Host B over IPv6, its next hop resolved.
pub(crate) fn peer_b6() -> Peer {
    Peer {
        local: book::HERE_V6,
        remote: book::HOST_B_V6,
        next_hop: book::HOST_B_V6,
        ..peer_b4()
    }
}
