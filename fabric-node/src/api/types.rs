//! The JSON that goes over the API. Field names and their order are the contract with scripts; golden files under
//! `tests/golden/` hold them fast.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::access::*;
pub use self::object::*;

mod access;
mod object;

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The node that answers.
    pub node: NodeStatus,
    /// Its cluster.
    pub cluster: ClusterStatus,
    /// How the other nodes look from it.
    pub peers: PeerCounts,
    /// Those of which something is gone.
    pub lost_peers: Vec<LostPeer>,
    /// Every domain of the cluster.
    pub domains: Vec<DomainStatus>,
    /// Its kernel side.
    pub datapath: DatapathStatus,
    /// What audit rules counted here.
    pub audits: Vec<Audit>,
    /// What an operator should know, until it is over.
    pub alarms: Vec<Alarm>,
    /// Counters since the start, by name.
    pub counters: BTreeMap<String, u64>,
}

/// The node that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// 12 base32 characters, made from its key.
    pub id: String,
    /// For people.
    pub name: String,
    /// Version of the software.
    pub version: String,
    /// Where its mesh endpoint is reached.
    pub addresses: Vec<String>,
    /// Its tunnel addresses.
    pub tunnel: Vec<String>,
    /// UDP port of VXLAN.
    pub tunnel_port: u16,
    /// Seconds since the daemon started.
    pub uptime_s: u64,
    /// Seconds until its certificate ends; 0 if it has.
    pub certificate_left_s: u64,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    /// 32 hexadecimal digits.
    pub id: String,
    /// For people.
    pub name: String,
    /// Ids of the nodes that witness exclusive things.
    pub anchors: Vec<String>,
    /// Their names, in the same order.
    pub anchor_names: Vec<String>,
    /// Digest over the cluster's own records: equal on two nodes exactly if they hold the same.
    pub digest: String,
}

/// How many other nodes are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct PeerCounts {
    /// Heard in time.
    pub live: usize,
    /// Lost a moment ago.
    pub suspect: usize,
    /// Lost.
    pub dead: usize,
}

/// A node of which something is gone: its daemon, by gossip, or the path to it, by probes that its kernel answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LostPeer {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// How its daemon looks from here.
    pub state: PeerState,
    /// How the path to it looks from here.
    pub path: Path,
    /// What that means.
    pub what: Loss,
}

/// What is gone of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// The daemon; the path is up and its workloads forward.
    DaemonGone,
    /// Daemon and path.
    HostGone,
    /// The path; the daemon is heard.
    PathDown,
    /// The daemon; the path is not probed, because no domain has endpoints both here and there.
    NotProbed,
}

/// Whether the path to a node is up, by probes that its kernel answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// The last two probes were answered.
    Up,
    /// The last five probes were lost.
    Down,
    /// Not probed, or not long enough. Probed are nodes with endpoints of a domain that has endpoints here.
    Unknown,
}

/// A domain as this node has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainStatus {
    /// Its name.
    pub name: String,
    /// How many networks it has.
    pub networks: usize,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// How many of them are attached somewhere.
    pub attached: usize,
    /// How many of them are programmed on this node.
    pub here: usize,
    /// Whether what this node holds of the domain is in force in its datapath.
    pub programmed: bool,
    /// Digest over the domain's records: equal on two nodes exactly if they hold the same.
    pub digest: String,
    /// What keeps ports or objects of it from working here.
    pub conditions: Vec<Condition>,
}

/// The kernel side of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatapathStatus {
    /// Kernel release.
    pub kernel: String,
    /// Programs on interfaces.
    pub hooks: Vec<Hook>,
    /// What the kernel lacks and what is done instead.
    pub fallbacks: Vec<String>,
    /// Interfaces that carry the tunnels.
    pub underlay: Vec<Underlay>,
    /// Tunnel devices of the kernel, which carry what the programs do not.
    pub devices: Vec<Device>,
    /// Whether this host's ways into and out of tunnels work.
    pub self_test: SelfTest,
    /// How full the tables of traffic are.
    pub connections: Connections,
    /// VXLAN packets since the start of the datapath whose reserved bits were set and ignored; up to 10 s old.
    pub vxlan_reserved: u64,
}

/// A tunnel device of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// `vxlan` or `geneve`.
    pub encapsulation: String,
    /// Its UDP port.
    pub port: u16,
    /// Why it is not in use and what to do; null if it is.
    pub problem: Option<String>,
}

/// What came out of the last test of this host's ways into and out of tunnels.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct SelfTest {
    /// Whether every way was tested.
    pub done: bool,
    /// What does not work and what to do.
    pub problems: Vec<String>,
}

/// How full the tables of traffic are; up to 10 s old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Connections {
    /// Connections in which both ends were heard.
    pub established: usize,
    /// All other connections.
    pub half_open: usize,
    /// Decisions that are remembered.
    pub flows: usize,
    /// Connections since the start of the datapath that found the table of established ones full, and went on without
    /// being in it.
    pub full: u64,
}

/// What an audit rule counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Audit {
    /// The domain.
    pub domain: String,
    /// The SecurityPolicy.
    pub policy: String,
    /// Which of its lists the rule is in.
    pub direction: Direction,
    /// Where the rule stands in that list, from 0.
    pub rule: u16,
    /// Packets that opened a connection and matched, since the rules of this direction were changed last.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Which list of a SecurityPolicy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Of connections that endpoints receive.
    Ingress,
    /// Of connections that they open.
    Egress,
}

/// A program on an interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Hook {
    /// The interface.
    pub interface: String,
    /// `from_endpoint`, `to_endpoint` or `from_underlay`.
    pub program: String,
    /// `tcx` or `clsact`.
    pub mechanism: String,
}

/// An interface that carries the tunnels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Underlay {
    /// The interface.
    pub interface: String,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// Something an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alarm {
    /// Stable name, as `peer-refused`.
    pub name: String,
    /// What happened and what to do.
    pub message: String,
}

/// `GET /v1/peers`: a node other than the one that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// How it looks from here.
    pub state: PeerState,
    /// Where its mesh endpoint is reached, best first.
    pub addresses: Vec<String>,
    /// Smoothed round-trip time in microseconds: of the path, if it is probed and up, else of the mesh connection; null
    /// without either.
    pub rtt_us: Option<u64>,
    /// Whether the path between the tunnel ends is up.
    pub path: Path,
    /// Percent of the last 64 probes that were lost, rounded up; null if none were sent.
    pub loss_percent: Option<u8>,
    /// Bytes of the largest IP packet that the path carries both ways; null while it is not known.
    pub path_mtu: Option<u16>,
    /// Seconds until its certificate ends, as far as it is known here; 0 if it has, null if it cannot be read.
    pub certificate_left_s: Option<u64>,
}

/// How a node looks from another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// Heard in time.
    Live,
    /// Lost a moment ago.
    Suspect,
    /// Lost.
    Dead,
}

/// `GET /v1/drops`: a line of the drop counters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Drop {
    /// Stable name of the reason.
    pub reason: String,
    /// The domain, null if unknown.
    pub domain: Option<String>,
    /// The endpoint, null if unknown.
    pub endpoint: Option<String>,
    /// Packets since the datapath was set up.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// `GET /v1/functions` and the answer to `POST /v1/functions`: a third-party function on this host. Provisional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Function {
    /// Whose packets it is asked about.
    pub domain: String,
    /// What it is called.
    pub name: String,
    /// When it is asked.
    pub hook: FunctionHook,
    /// How many functions of the hook are asked before it.
    pub position: u32,
    /// What becomes of a packet when it fails.
    pub fail: FailMode,
    /// How often it failed since it was loaded.
    pub failures: u64,
    /// The first 16 bytes of the SHA-256 of its object file, in hexadecimal.
    pub digest: String,
}

/// When a function is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FunctionHook {
    /// When a flow's way is decided
    Flow,
    /// For each packet
    Packet,
}

/// What becomes of a packet to which a function gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum FailMode {
    /// It goes on as if there were no function
    Open,
    /// It is dropped
    Closed,
}

/// `POST /v1/functions`. Provisional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FunctionLoad {
    /// Whose packets it is asked about.
    pub domain: String,
    /// What it is called: one that has this name already is replaced.
    pub name: String,
    /// When it is asked.
    pub hook: FunctionHook,
    /// What becomes of a packet when it fails.
    pub fail: FailMode,
    /// Its object file on this host, as an absolute path.
    #[schema(value_type = String)]
    pub path: PathBuf,
}

/// The answer to `DELETE /v1/functions/{domain}/{name}`. Provisional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FunctionRemoved {
    /// Whose it was.
    pub domain: String,
    /// What it was called.
    pub name: String,
}
