//! The programs in the kernel with the address book in their maps, and what a packet did to them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::thread;

use aya::maps::{Array, HashMap, Map, MapData, PerCpuHashMap, ProgramArray};
use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions};
use aya::sys::SyscallError;
use aya::{Ebpf, EbpfLoader, Pod};
use datapath::object::OBJECT;
use datapath_common::probe::Probed;
use datapath_common::{
    Address, Count, DropKey, HERE, KERNEL_DECAP_L3, Neighbour, NeighbourKey, PEER_RESOLVED, Peer, Port, Reason,
    SEGMENT_ALLOW, SLOTS, Segment, Settings, Station, StationKey, mapped,
};

use crate::book::{self, Workload};

/// A program's return values.
const PASSED: u32 = u32::MAX;
const DROPPED: u32 = 2;
const REDIRECTED: u32 = 7;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Goes on unchanged.
    Passed,
    /// Dropped and counted for this domain and endpoint.
    Dropped(Reason, u32, u32),
    /// Goes elsewhere as this frame, with this mark.
    Redirected(Vec<u8>, u32),
}

/// Packets and bytes by domain, endpoint and number of the reason.
pub(crate) type Drops = BTreeMap<(u32, u32, u32), (u64, u64)>;

/// The programs and their maps.
pub(crate) struct Bench {
    /// There until it is dropped.
    ebpf: Option<Ebpf>,
}

/// Loaded programs whose maps are empty: loading takes longer than all packets of a test.
static IDLE: Mutex<Vec<Ebpf>> = Mutex::new(Vec::new());

/// A packet's context: mark and payload per segment of a super-packet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Context {
    pub(crate) mark: u32,
    pub(crate) segment: u32,
}

/// `struct __sk_buff`: its size and the fields used here.
const CONTEXT: usize = 192;
const CONTEXT_MARK: usize = 8;
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
    Ok(program.load()?)
}

/// `BPF_F_ADJ_ROOM_DECAP_L3_*` are there from Linux 6.3.
fn knows_decap_l3() -> bool {
    let name = nix::sys::utsname::uname().expect("uname cannot fail");
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 3)
}

/// All programs, loaded.
fn loaded() -> Ebpf {
    let mut ebpf = EbpfLoader::new().load(OBJECT).expect("the object loads");
    for (name, program) in ebpf.programs_mut() {
        let program: &mut SchedClassifier = program.try_into().expect("a classifier");
        program.load().unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    ebpf
}

impl Drop for Bench {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        self.empty::<u32, Port>("PORTS");
        self.empty::<u32, Segment>("SEGMENTS");
        self.empty::<StationKey, Station>("STATIONS");
        self.empty::<NeighbourKey, Neighbour>("NEIGHBOURS");
        self.empty::<u32, Peer>("PEERS");
        self.empty::<Address, u32>("VTEPS");
        self.empty::<Address, Probed>("PROBES");
        let mut probers = Array::<&mut MapData, u64>::try_from(self.map("PROBERS")).expect("an array");
        for host in 0..=book::HOST_C {
            probers.set(host, 0, 0).expect("the map takes it");
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
        IDLE.lock()
            .expect("nobody panics with the lock")
            .extend(self.ebpf.take());
    }
}

impl Bench {
    /// All programs loaded, all slots and maps filled.
    pub(crate) fn new() -> Option<Self> {
        if !privileged() {
            return None;
        }
        let idle = IDLE.lock().expect("nobody panics with the lock").pop();
        let mut bench = Self {
            ebpf: Some(idle.unwrap_or_else(loaded)),
        };
        bench.fill();
        Some(bench)
    }

    fn fill(&mut self) {
        let kernel = if knows_decap_l3() { KERNEL_DECAP_L3 } else { 0 };
        self.settings(Settings {
            kernel,
            ..book::settings()
        });
        self.port(Some(book::port(book::RED, book::RED_DOMAIN)));
        for (vni, domain, flags) in [
            (book::RED, book::RED_DOMAIN, SEGMENT_ALLOW),
            (book::BLUE, book::BLUE_DOMAIN, SEGMENT_ALLOW),
            (book::DENIED, book::DENIED_DOMAIN, 0),
        ] {
            self.put(
                "SEGMENTS",
                vni,
                Segment {
                    domain,
                    flags,
                    mtu: book::MTU,
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

    fn loaded(&self) -> &Ebpf {
        self.ebpf.as_ref().expect("there until it is dropped")
    }

    fn map(&mut self, name: &str) -> &mut Map {
        let ebpf = self.ebpf.as_mut().expect("there until it is dropped");
        ebpf.map_mut(name).expect("the map exists")
    }

    fn program(&self, name: &str) -> &SchedClassifier {
        self.loaded()
            .program(name)
            .expect("it exists")
            .try_into()
            .expect("a classifier")
    }

    fn empty<K: Pod, V: Pod>(&mut self, map: &str) {
        let mut map = HashMap::<&mut MapData, K, V>::try_from(self.map(map)).expect("a hash of these types");
        let keys: Vec<K> = map.keys().map(|key| key.expect("the map can be read")).collect();
        for key in keys {
            map.remove(&key).expect("it was there");
        }
    }

    fn put<K: Pod, V: Pod>(&mut self, map: &str, key: K, value: V) {
        let mut map = HashMap::<&mut MapData, K, V>::try_from(self.map(map)).expect("a hash of these types");
        map.insert(key, value, 0).expect("the map takes it");
    }

    /// Puts a workload into a segment, with all its addresses.
    pub(crate) fn station(&mut self, vni: u32, workload: Workload) {
        let Workload {
            mac,
            host: peer,
            ifindex,
            endpoint,
            flags,
            ..
        } = workload;
        self.put(
            "STATIONS",
            StationKey { vni, mac, zero: [0; 2] },
            Station {
                peer,
                ifindex,
                endpoint,
                flags,
            },
        );
        for address in workload.addresses() {
            self.put(
                "NEIGHBOURS",
                NeighbourKey { vni, address },
                Neighbour { mac, zero: [0; 2] },
            );
        }
    }

    /// Says how to reach a host.
    pub(crate) fn peer(&mut self, host: u32, peer: Peer) {
        assert_ne!(host, HERE);
        self.put("PEERS", host, peer);
    }

    /// Takes back that tunnels may come from an address.
    pub(crate) fn forget_vtep(&mut self, address: Address) {
        let map = self.map("VTEPS");
        let mut map = HashMap::<&mut MapData, Address, u32>::try_from(map).expect("a hash of peers");
        map.remove(&address).expect("it was there");
    }

    /// Says that a host is probed.
    pub(crate) fn probe(&mut self, address: Address, probed: Probed) {
        self.put("PROBES", address, probed);
    }

    /// What is noted of a host that is probed.
    pub(crate) fn probed(&mut self, address: Address) -> Option<Probed> {
        let map = self.map("PROBES");
        let map = HashMap::<&mut MapData, Address, Probed>::try_from(map).expect("a hash of hosts");
        map.get(&address, 0).ok()
    }

    /// Says what is behind the interface, or that nothing is.
    pub(crate) fn port(&mut self, port: Option<Port>) {
        let mut map = HashMap::<&mut MapData, u32, Port>::try_from(self.map("PORTS")).expect("a hash of ports");
        match port {
            Some(port) => map.insert(book::LOOPBACK, port, 0).expect("the map takes it"),
            None => map.remove(&book::LOOPBACK).expect("it was there"),
        }
    }

    /// Sets the settings.
    pub(crate) fn settings(&mut self, settings: Settings) {
        let map = self.map("SETTINGS");
        let mut map = Array::<&mut MapData, Settings>::try_from(map).expect("an array of settings");
        map.set(0, settings, 0).expect("the map takes it");
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

    /// Runs a program on a frame and says what became of it, having compared all counters with what that must do to them.
    pub(crate) fn fate(&self, program: &str, what: &str, frame: &[u8], context: Context) -> Fate {
        let before = self.drops();
        let (verdict, out, mark) = self
            .run(program, frame, context)
            .unwrap_or_else(|error| panic!("{what}: not run: {error}"));
        let after = self.drops();
        let changed: Drops = after
            .iter()
            .filter(|(key, count)| before.get(*key) != Some(*count))
            .map(|(k, v)| (*k, *v))
            .collect();
        let fate = match verdict {
            PASSED => {
                assert_eq!(out, frame, "{what}: passed, so unchanged");
                Fate::Passed
            }
            REDIRECTED => Fate::Redirected(out, mark),
            DROPPED => {
                assert_eq!(changed.len(), 1, "{what}: a drop counts once: {changed:?}");
                let (key, after) = changed.iter().next().expect("one");
                let before = before.get(key).copied().unwrap_or_default();
                let length = u64::try_from(frame.len()).expect("fits");
                assert_eq!(*after, (before.0 + 1, before.1 + length), "{what}: packets and bytes");
                let reason = Reason::from_number(key.2).unwrap_or_else(|| panic!("{what}: reason {}", key.2));
                return Fate::Dropped(reason, key.0, key.1);
            }
            other => panic!("{what}: verdict {other}"),
        };
        assert_eq!(
            changed,
            Drops::new(),
            "{what}: nothing was dropped, so nothing is counted"
        );
        fate
    }

    /// Runs a table of packets through a program.
    pub(crate) fn table(&self, program: &str, rows: Vec<(&str, Vec<u8>, Fate)>) {
        for (what, frame, expected) in rows {
            assert_eq!(self.fate(program, what, &frame, Context::default()), expected, "{what}");
        }
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

/// What becomes of a frame for a namespace whose family is not the tunnel's: a kernel that cannot be told the family takes
/// it by the host side.
pub(crate) fn other_family(frame: &[u8]) -> Fate {
    if knows_decap_l3() {
        to_namespace(frame)
    } else {
        to_host_side(frame)
    }
}

/// Dropped for red's workload at the interface.
pub(crate) fn dropped(reason: Reason) -> Fate {
    Fate::Dropped(reason, book::RED_DOMAIN, book::WEB.endpoint)
}

/// Into a namespace by `bpf_redirect_peer`, which needs no mark.
pub(crate) fn to_namespace(frame: &[u8]) -> Fate {
    Fate::Redirected(frame.to_vec(), 0)
}

/// Out of a host side, where `to_endpoint` asks for the mark.
pub(crate) fn to_host_side(frame: &[u8]) -> Fate {
    Fate::Redirected(frame.to_vec(), book::MARK)
}
