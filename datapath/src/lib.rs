//! Everything between [`overlay::forwarding::Forwarding`] and the kernel: eBPF programs and maps, interfaces, next
//! hops. It decides nothing: it obeys `Forwarding`, reads back what is installed and applies the difference.
//!
//! Start here: [`Datapath`], in `datapath.rs`. Then, in the order in which a domain passes:
//!
//! | file | noun |
//! |---|---|
//! | `datapath`, `apply`, `change`, `follow` | what `open`, `apply`, `apply_change` and `changed` do, step by step |
//! | `numbers`, `fresh` | the numbers of domains and endpoints, and their names; of sets and routers |
//! | `binding`, `port`, `readiness` | a port's binding becomes an interface: attached, quiet, up, and the kernel sends by it |
//! | `hurry` | many ports attached at once |
//! | `veth`, `inside`, `defaults`, `netns`, `links` | how: the pair, its end in a namespace, the host side |
//! | `underlay`, `nexthop`, `uplink` | where tunnels arrive, and the way to their far ends |
//! | `device`, `selftest` | the kernel's own tunnel devices, for what the programs cannot carry (`CARRIERS.md`), and whether they do |
//! | `lower`, `tables` | `Forwarding` becomes the bytes of the maps |
//! | `part`, `covering`, `diff` | what of the installed tables it may touch; installed and wanted become operations, in a safe order |
//! | `installed`, `maps`, `batch`, `bpffs` | what is installed, and the pinned maps: read back, operations applied |
//! | `succession` | from the tables and connections of another build to this one's, under traffic |
//! | `load`, `attach`, `tcx`, `clsact`, `object`, `kernel` | the programs: into their slots, onto interfaces |
//! | `chain` | third-party functions: checked, loaded, swapped, found again |
//! | `events`, `watch`, `netlink` | what the kernel tells and is asked |
//! | `sweep`, `verify` | connections that are over go; what others wrote into tables is mended |
//! | `drops`, `lost`, `audits`, `status` | what an operator sees |
//! | `probe` | whether the paths to other hosts are up: [`Prober`], which works beside [`Datapath`] |
//! | `rehearsal` | the same for the maps alone, for tests of the programs |
//! | `purge` | nothing left |
//!
//! All of it works in the network namespace of the calling thread: open a [`Datapath`] and use it on a runtime whose
//! threads are in the host's namespace.

mod apply;
mod attach;
mod audits;
mod batch;
mod binding;
mod bpffs;
mod chain;
mod change;
mod clsact;
mod covering;
mod datapath;
mod defaults;
mod device;
mod diff;
mod drops;
mod error;
mod events;
mod follow;
mod fresh;
mod hurry;
mod inside;
mod installed;
mod kernel;
mod links;
mod load;
mod lost;
mod lower;
mod maps;
mod netlink;
mod netns;
mod nexthop;
mod numbers;
pub mod object;
mod opening;
mod part;
mod port;
#[cfg(test)]
mod privileged;
mod probe;
mod punt;
mod purge;
mod readiness;
mod rehearsal;
mod selftest;
mod status;
mod succession;
mod sweep;
mod tables;
mod tcx;
mod underlay;
mod uplink;
mod verify;
mod veth;
mod watch;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use membership::id::NodeId;
use overlay::name::EndpointName;

pub use audits::AuditCount;
pub use chain::{FailMode, FunctionError, FunctionHook, LoadedFunction};
pub use datapath::Datapath;
pub use datapath_common::punt::{PUNT_COPY, PUNT_TAKE, PuntKey, PuntRule};
pub use device::Device;
pub use drops::{DropCount, reasons};
pub use error::Error;
pub use lower::Interface;
pub use probe::{PROBE_INTERVAL, PathState, PathVerdict, Prober};
pub use punt::{Punted, Punts, Receiver};
pub use purge::purge;
pub use rehearsal::Rehearsal;
pub use selftest::SelfTest;
pub use status::{COUNTED_FOR, Counts, Hook, Status};

/// Where the datapath lives.
#[derive(Debug, Clone)]
pub struct Config {
    /// A mounted bpf file system, or where to mount one; pins go under `fabric/<node id>/` in it.
    pub bpffs: PathBuf,
    /// Whose datapath it is.
    pub node: NodeId,
    /// Our tunnel addresses; the interfaces that carry them are the underlay interfaces.
    pub ipv4: Option<Ipv4Addr>,
    /// See `ipv4`.
    pub ipv6: Option<Ipv6Addr>,
    /// UDP port of VXLAN, the same on all hosts: there is no tunnel to a host with another one.
    pub port: u16,
    /// UDP port of Geneve, the same on all hosts (IANA: 6081).
    pub geneve_port: u16,
    /// VXLAN packets with reserved bits set are dropped, not only counted (RFC 7348 section 5 has them ignored).
    pub strict_vxlan: bool,
}

/// What became of a port of a [`overlay::forwarding::Forwarding`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortState {
    /// Its packets flow.
    Programmed {
        /// The host side of its interface.
        ifindex: u32,
        /// Name of the host side.
        name: String,
    },
    /// Its interface or namespace is not there, or cannot be used; the text says why. It attaches when that is over.
    Waiting(String),
}

/// What `apply` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Map operations made.
    pub operations: usize,
    /// Every port of the forwarding.
    pub ports: BTreeMap<EndpointName, PortState>,
}

/// MTU of the interface that carries an address of ours, in bytes. [`Error::Address`] if none does.
pub async fn underlay_mtu(address: IpAddr) -> Result<u32, Error> {
    underlay::mtu(address).await
}
