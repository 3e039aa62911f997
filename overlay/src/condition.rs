//! What an operator should know about objects that are not (wholly) in force. Reasons are stable names; a message says
//! what is wrong and what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use membership::id::{Label, NodeId};

use crate::forwarding::Condition;
use crate::name::{Mac, Mtu, Vni};
use crate::object::Kind;
use crate::subnet::{Subnet, Unusable};

/// Conditions by object.
pub type Conditions = BTreeMap<(Kind, String), BTreeSet<Condition>>;

/// Why an object is not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cause {
    #[error("its record cannot be read: {0}")]
    Unreadable(String),
    #[error("it has no VNI; apply it again to give it one")]
    NoVni,
    #[error(
        "VNI {vni} belongs to network {domain}/{network}, which is older: nothing is forwarded here; apply this network again without spec.vni to give it another one"
    )]
    VniConflict { domain: Label, network: Label, vni: Vni },
    #[error("{mine} overlaps {other} of network {network}, which is older; remove one of them")]
    SubnetOverlap {
        mine: Subnet,
        other: Subnet,
        network: Label,
    },
    #[error(
        "its MTU is {mtu}, but the underlay of {nodes} carries {carried} at most: larger packets are lost; lower spec.mtu or raise the MTU of the underlay"
    )]
    MtuTooLarge { mtu: Mtu, carried: u16, nodes: String },
    #[error("there is no network {0}; apply it, or delete this endpoint")]
    NoNetwork(Label),
    #[error("its network {0} is not in force")]
    NetworkDenied(Label),
    #[error("it has no MAC address; apply it again to give it one")]
    NoMac,
    #[error(
        "{mac} is also endpoint {other}'s, which is older: nothing is forwarded here; change spec.mac of one of them"
    )]
    DuplicateMac { mac: Mac, other: Label },
    #[error(
        "{address} is also endpoint {other}'s, which is older: nothing is forwarded here; change spec.addresses of one of them"
    )]
    DuplicateAddress { address: IpAddr, other: Label },
    #[error(
        "{address} was allocated to it, but endpoint {other} has it: it is not used; detach and attach this endpoint to give it another one"
    )]
    AddressLost { address: IpAddr, other: Label },
    #[error("{address} is in no subnet of network {network}: it is not used; change spec.addresses")]
    AddressOutside { address: IpAddr, network: Label },
    #[error("{address} {why} ({subnet}): it is not used; change spec.addresses")]
    AddressUnusable {
        address: IpAddr,
        subnet: Subnet,
        why: Unusable,
    },
    #[error(
        "it has no address in {0}: the host that attaches it claims one as soon as a majority of the anchors answers"
    )]
    AddressPending(Subnet),
    #[error("it has no address in {0}; apply it again to give it one")]
    AddressMissing(Subnet),
    #[error("no host has it; attach it with `fabricctl endpoint attach`")]
    NotAttached,
    #[error("node {0} says it has it, but spec.allowedHosts does not name that node")]
    HostNotAllowed(NodeId),
    #[error(
        "host {0} has announced no usable tunnel address: it cannot be reached from others; see `fabricctl status` there"
    )]
    NoTunnel(NodeId),
    #[error(
        "host {host} has no tunnel address of a family (IPv4, IPv6) that host {here} has: they cannot reach each other"
    )]
    NoTunnelFamily { host: NodeId, here: NodeId },
}

impl Cause {
    fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "Unreadable",
            Self::NoVni => "NoVni",
            Self::VniConflict { .. } => "VniConflict",
            Self::SubnetOverlap { .. } => "SubnetOverlap",
            Self::MtuTooLarge { .. } => "MtuTooLarge",
            Self::NoNetwork(_) => "NoNetwork",
            Self::NetworkDenied(_) => "NetworkDenied",
            Self::NoMac => "NoMac",
            Self::DuplicateMac { .. } => "DuplicateMac",
            Self::DuplicateAddress { .. } => "DuplicateAddress",
            Self::AddressLost { .. } => "AddressLost",
            Self::AddressOutside { .. } => "AddressOutside",
            Self::AddressUnusable { .. } => "AddressUnusable",
            Self::AddressPending(_) => "AddressPending",
            Self::AddressMissing(_) => "AddressMissing",
            Self::NotAttached => "NotAttached",
            Self::HostNotAllowed(_) => "HostNotAllowed",
            Self::NoTunnel(_) => "NoTunnel",
            Self::NoTunnelFamily { .. } => "NoTunnelFamily",
        }
    }
}

/// Collects conditions.
#[derive(Debug, Default)]
pub(crate) struct Report(Conditions);

impl Report {
    pub(crate) fn add(&mut self, kind: Kind, name: &str, cause: &Cause) {
        let condition = Condition {
            reason: cause.reason(),
            message: cause.to_string(),
        };
        self.0.entry((kind, name.to_owned())).or_default().insert(condition);
    }

    pub(crate) fn network(&mut self, name: &Label, cause: &Cause) {
        self.add(Kind::Network, name.as_str(), cause);
    }

    pub(crate) fn endpoint(&mut self, name: &Label, cause: &Cause) {
        self.add(Kind::Endpoint, name.as_str(), cause);
    }

    pub(crate) fn finish(self) -> Conditions {
        self.0
    }
}
