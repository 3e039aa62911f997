//! The maps. User space makes them, pins them under the node's own path and fills those of the first half; programs only
//! read these. Those of the second half are the programs' own: counters, and state that may be lost at any time. Hashes
//! of the first half grow on demand, so that a small host pays for what it uses.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::LpmTrie;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf};
use datapath_common::probe::{PROBES_MAX, Probed};
use datapath_common::punt::{PUNTS_BYTES, PuntKey, PuntRule};
use datapath_common::{
    Address, Bucket, CHAIN_SLOTS, CONNECTIONS_MAX, Connection, ConnectionKey, Count, DOMAIN_SLOTS, Domain, DropKey,
    Factors, FloodTarget, Flow, FlowKey, FragmentKey, FragmentState, Function, Hop, LimitKey, MemberKey, Neighbour,
    NeighbourKey, Peer, Port, PrefixKey, Route, RouteKey, Rule, SLOTS, STATION_SLOTS, Segment, Settings, Station,
    StationKey, Trace,
};

use crate::entry::Copies;
use crate::punt::Record;
use crate::walk::Walk;

/// Who sends: ifindex → port.
#[map]
pub static PORTS: HashMap<u32, Port> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Where a frame goes, and may come from.
#[map]
pub static STATIONS: HashMap<StationKey, Station> = HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);

/// Whose an address is.
#[map]
pub static NEIGHBOURS: HashMap<NeighbourKey, Neighbour> = HashMap::with_max_entries(1_048_576, BPF_F_NO_PREALLOC);

/// Whose an address is that nobody answers for.
#[map]
pub static PREFIXES: LpmTrie<PrefixKey, Neighbour> = LpmTrie::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// The tunnels: peer number → peer. Without an interface there is no way, and without a remote address no peer.
#[map]
pub static PEERS: Array<Peer> = Array::with_max_entries(4096, 0);

/// Who may send tunnels to us: outer source → peer number.
#[map]
pub static VTEPS: HashMap<Address, u32> = HashMap::with_max_entries(8192, BPF_F_NO_PREALLOC);

/// What a VNI is.
#[map]
pub static SEGMENTS: HashMap<u32, Segment> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// What a domain does with connections.
#[map]
pub static DOMAINS: HashMap<u32, Domain> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Sets of rules.
#[map]
pub static RULES: HashMap<MemberKey, Rule> = HashMap::with_max_entries(262_144, BPF_F_NO_PREALLOC);

/// Where a router sends what a prefix matches.
#[map]
pub static ROUTES: LpmTrie<RouteKey, Route> = LpmTrie::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Sets of next hops.
#[map]
pub static HOPS: HashMap<MemberKey, Hop> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Sets of who gets group frames.
#[map]
pub static FLOODS: HashMap<MemberKey, FloodTarget> = HashMap::with_max_entries(131_072, BPF_F_NO_PREALLOC);

/// How often what hashes to a slot has changed: of stations, then of domains.
#[map]
pub static GENERATIONS: Array<u32> = Array::with_max_entries(STATION_SLOTS + DOMAIN_SLOTS, 0);

/// One entry.
#[map]
pub static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// What stubs and programs call: two banks of slots, of which the programs of one load use one.
#[map]
pub static PROGRAMS: ProgramArray = ProgramArray::with_max_entries(2 * SLOTS, 0);

/// Third-party functions, chain by chain; user space fills it.
#[map]
pub static CHAIN: ProgramArray = ProgramArray::with_max_entries(CHAIN_SLOTS, 0);

/// What they are: slot of `CHAIN` → function. Programs count failures in it.
#[map]
pub static FUNCTIONS: HashMap<u32, Function> = HashMap::with_max_entries(CHAIN_SLOTS, BPF_F_NO_PREALLOC);

/// Connections whose both ends took part.
#[map]
pub static CONNECTIONS: HashMap<ConnectionKey, Connection> =
    HashMap::with_max_entries(CONNECTIONS_MAX, BPF_F_NO_PREALLOC);

/// All other connections: the oldest one goes first.
#[map]
pub static HALF_OPEN: LruHashMap<ConnectionKey, Connection> = LruHashMap::with_max_entries(131_072, 0);

/// Those of them that came faster than an endpoint's fair rate: whoever opens many loses his own. And what was closed,
/// which is over in seconds.
#[map]
pub static CROWDED: LruHashMap<ConnectionKey, Connection> = LruHashMap::with_max_entries(65_536, 0);

/// How many stand in `CONNECTIONS`: of an endpoint of this host, of a domain, of all (`datapath_common::limit`).
#[map]
pub static ESTABLISHED: HashMap<u32, u64> = HashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// Decisions.
#[map]
pub static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(131_072, 0);

/// What seals of decisions are made with; zero until the first one is.
#[map]
pub static SECRETS: Array<Factors> = Array::with_max_entries(1, 0);

/// What first fragments said.
#[map]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentState> = LruHashMap::with_max_entries(16_384, 0);

/// The same of those that came faster than a sender's fair rate: whoever sends many loses his own.
#[map]
pub static CROWDED_FRAGMENTS: LruHashMap<FragmentKey, FragmentState> = LruHashMap::with_max_entries(16_384, 0);

/// What endpoints may cause.
#[map]
pub static LIMITS: LruHashMap<LimitKey, Bucket> = LruHashMap::with_max_entries(65_536, 0);

/// What was dropped.
#[map]
pub static DROPS: PerCpuHashMap<DropKey, Count> = PerCpuHashMap::with_max_entries(65_536, BPF_F_NO_PREALLOC);

/// What rules with the action audit matched.
#[map]
pub static AUDITS: PerCpuHashMap<MemberKey, Count> = PerCpuHashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// Which packets user space gets.
#[map]
pub static PUNT_RULES: HashMap<PuntKey, PuntRule> = HashMap::with_max_entries(16_384, BPF_F_NO_PREALLOC);

/// What it gets.
#[map]
pub static PUNTS: RingBuf = RingBuf::with_byte_size(PUNTS_BYTES, 0);

/// A record on its way there.
#[map]
pub static PUNT: PerCpuArray<Record> = PerCpuArray::with_max_entries(1, 0);

/// What became of the last packet, where that is asked for.
#[map]
pub static TRACE: PerCpuArray<Trace> = PerCpuArray::with_max_entries(1, 0);

/// Copies of entries of hashes.
#[map]
pub static COPIES: PerCpuArray<Copies> = PerCpuArray::with_max_entries(1, 0);

/// What the slow path knows of the packet in its hands.
#[map]
pub static SCRATCH: PerCpuArray<Walk> = PerCpuArray::with_max_entries(1, 0);

/// Which hosts we probe, and what they answered: tunnel address → nonce and answers. Written by programs, too.
#[map]
pub static PROBES: HashMap<Address, Probed> = HashMap::with_max_entries(PROBES_MAX, BPF_F_NO_PREALLOC);

/// How much we answered to each host: peer number → its token bucket. Not pinned: other programs start with full ones.
#[map]
pub static PROBERS: Array<u64> = Array::with_max_entries(PROBES_MAX, 0);
