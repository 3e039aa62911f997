//! Placeholder head; `object` exposes the eBPF programs.

pub mod object;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use membership::id::NodeId;
use overlay::forwarding::Forwarding;
use overlay::name::{DomainName, EndpointName};

/// Where the datapath lives.
#[derive(Debug, Clone)]
pub struct Config {
    /// A mounted bpf file system; pins go under `fabric/<node id>/` in it.
    pub bpffs: PathBuf,
    /// Whose datapath it is.
    pub node: NodeId,
    /// Our tunnel addresses; the interfaces that carry them are the underlay interfaces.
    pub ipv4: Option<Ipv4Addr>,
    /// See `ipv4`.
    pub ipv6: Option<Ipv6Addr>,
    /// UDP port of VXLAN.
    pub port: u16,
}

/// The programs and maps of this host, loaded and attached. Dropping it leaves all in force.
#[derive(Debug)]
pub struct Datapath {}

/// What became of a port of a [`Forwarding`].
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
    pub ports: std::collections::BTreeMap<EndpointName, PortState>,
}

/// One line of the drop counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropCount {
    /// Stable name of the reason.
    pub reason: &'static str,
    /// The domain, if it is known.
    pub domain: Option<DomainName>,
    /// The endpoint, if it is known.
    pub endpoint: Option<EndpointName>,
    /// Packets since the maps were made.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Kernel release.
    pub kernel: String,
    /// Interface → hooks, as `eth0: from_underlay (tcx)`.
    pub hooks: Vec<Hook>,
    /// What the kernel lacks and what is done instead; empty on a current kernel.
    pub fallbacks: Vec<String>,
    /// Underlay interfaces with their MTU.
    pub underlay: Vec<(String, u32)>,
}

/// A program on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The interface.
    pub interface: String,
    /// `from_endpoint`, `to_endpoint` or `from_underlay`.
    pub program: &'static str,
    /// `tcx` or `clsact`.
    pub mechanism: &'static str,
}

/// Why the datapath cannot open or obey. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Placeholder for the enum of the crate.
    #[error("{0}")]
    Other(String),
}

impl Datapath {
    /// Loads the programs (or takes over what is pinned), reads back what is installed and attaches to the underlay
    /// interfaces.
    pub async fn open(_config: Config) -> Result<Self, Error> {
        todo!()
    }

    /// Makes one domain on this host what `wanted` says: interfaces first, then the difference between installed and
    /// wanted tables. Idempotent; applying twice does nothing the second time.
    pub async fn apply(&mut self, _wanted: &Forwarding) -> Result<Applied, Error> {
        todo!()
    }

    /// Removes all of a domain.
    pub async fn remove(&mut self, _domain: &DomainName) -> Result<(), Error> {
        todo!()
    }

    /// Domains of which something is installed.
    #[must_use]
    pub fn domains(&self) -> Vec<DomainName> {
        todo!()
    }

    /// Resolves when an interface, an address, a route or a neighbour changed in a way that needs `apply` again for
    /// all domains. Cancel-safe.
    pub async fn changed(&mut self) {
        todo!()
    }

    /// The drop counters, summed over CPUs.
    pub fn drops(&self) -> Result<Vec<DropCount>, Error> {
        todo!()
    }

    /// What runs.
    #[must_use]
    pub fn status(&self) -> Status {
        todo!()
    }
}

/// Removes every pin, link and device that `node` made; what was removed, a line each.
pub async fn purge(_bpffs: &Path, _node: NodeId) -> Result<Vec<String>, Error> {
    todo!()
}

/// MTU of the interface that carries an address of ours, in bytes.
pub async fn underlay_mtu(_address: std::net::IpAddr) -> Result<u32, Error> {
    todo!()
}
