//! The maps. User space makes them, pins them under the node's own path and fills them; programs only read, but for
//! the counters. All but the arrays grow on demand, so that a small host pays for what it uses.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuHashMap, ProgramArray};
use datapath_common::probe::{PROBES_MAX, Probed};
use datapath_common::{
    Address, Count, DropKey, Neighbour, NeighbourKey, Peer, Port, SLOTS, Segment, Settings, Station, StationKey,
};

/// Who sends: ifindex → port.
#[map]
pub static PORTS: HashMap<u32, Port> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Where a frame goes, and may come from.
#[map]
pub static STATIONS: HashMap<StationKey, Station> = HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);

/// Whose an address is.
#[map]
pub static NEIGHBOURS: HashMap<NeighbourKey, Neighbour> = HashMap::with_max_entries(1_048_576, BPF_F_NO_PREALLOC);

/// The tunnels: peer number → peer.
#[map]
pub static PEERS: HashMap<u32, Peer> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Who may send tunnels to us: outer source → peer number.
#[map]
pub static VTEPS: HashMap<Address, u32> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

/// What a VNI is.
#[map]
pub static SEGMENTS: HashMap<u32, Segment> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// What was dropped.
#[map]
pub static DROPS: PerCpuHashMap<DropKey, Count> = PerCpuHashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// One entry.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// What the stubs call.
#[map]
pub static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(SLOTS, 0);

/// Which hosts we probe, and what they answered: tunnel address → nonce and answers. Written by programs, too.
#[map]
pub static PROBES: HashMap<Address, Probed> = HashMap::with_max_entries(PROBES_MAX, BPF_F_NO_PREALLOC);

/// How much we answered to each host: peer number → its token bucket. Not pinned: other programs start with full ones.
#[map]
pub static PROBERS: Array<u64> = Array::with_max_entries(PROBES_MAX, 0);
