//! What one host has to do for one domain: the whole of it, and nothing about how. [`crate::compile()`] makes it from a
//! [`crate::view::View`]; the datapath obeys it; the reference model forwards packets by it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use membership::id::NodeId;
use serde::Serialize;

use crate::fact::{Binding, Vtep};
use crate::name::{DomainName, EndpointName, Mac, NetworkName, Vni};
use crate::object::Kind;
use crate::object::domain::DefaultPolicy;

/// One domain on one host. Empty (but for conditions) where no endpoint of the domain is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// Which domain.
    pub domain: DomainName,
    /// What happens to packets between its endpoints.
    pub default_policy: DefaultPolicy,
    /// The segments that have a port here.
    pub networks: BTreeMap<NetworkName, Segment>,
    /// Endpoints attached on this host.
    pub ports: BTreeMap<EndpointName, Port>,
    /// Every place a frame of these segments can go to or come from, ports of this host included.
    pub stations: BTreeMap<(Vni, Mac), Station>,
    /// Tunnel ends of the other hosts where stations are.
    pub hosts: BTreeMap<NodeId, Vtep>,
    /// What an operator should know about objects of this domain, as seen here.
    pub conditions: BTreeMap<(Kind, String), BTreeSet<Condition>>,
}

/// An L2 segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its number on the wire.
    pub vni: Vni,
    /// Of its interfaces, in bytes.
    pub mtu: u16,
}

/// A workload's port on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its segment.
    pub network: NetworkName,
    /// Number of the segment.
    pub vni: Vni,
    /// Its MAC address.
    pub mac: Mac,
    /// Its addresses, each with the prefix length of its subnet, for setting up a namespace.
    pub addresses: BTreeMap<IpAddr, u8>,
    /// Where its packets enter.
    pub binding: Binding,
}

/// Something with a MAC address that is reached somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// Whose port it is.
    pub endpoint: EndpointName,
    /// Where it is.
    pub place: Place,
    /// Addresses it may use as a source and answers for: its own and the link-local one of its MAC (RFC 4291
    /// appendix A).
    pub addresses: BTreeSet<IpAddr>,
}

/// Where a station is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On this host.
    Here,
    /// Behind the tunnel to a host.
    Host(NodeId),
}

/// Why an object is not (wholly) in force. The text is for people and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Condition {
    /// Stable, as `VniConflict`.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}
