//! What an operator should know about objects that are not (wholly) in force. Reasons are stable names; a message says
//! what is wrong and what to do.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use membership::id::{Label, NodeId};

use crate::forwarding::{Condition, GROUPS_MAX, RULES_MAX};
use crate::name::{Mac, Mtu, Vni};
use crate::object::Kind;
use crate::object::endpoint::Source;
use crate::prefix::Prefix;
use crate::subnet::{Subnet, Unusable};

/// Conditions by object, those of each in order and without a second one alike. Vectors, since thousands of endpoints may
/// have one each, and a set of one takes ten times the room.
pub type Conditions = BTreeMap<(Kind, String), Vec<Condition>>;

/// What is said of each endpoint that is nowhere: of thousands, perhaps.
const NOT_ATTACHED: &str = "no host has it; attach it with `fabricctl endpoint attach`";

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
    #[error("{NOT_ATTACHED}")]
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
    #[error("{mac} is router {router}'s: nothing is forwarded here; change spec.mac")]
    MacOfRouter { mac: Mac, router: Label },
    #[error(
        "{prefix} is also allowed to endpoint {other}, which is older: this one may not send from it; change spec.allowedAddresses of one of them"
    )]
    DuplicatePrefix { prefix: Source, other: Label },
    #[error("{prefix} is endpoint {other}'s own: this one may not send from it; change spec.allowedAddresses")]
    PrefixOfOther { prefix: Source, other: Label },
    #[error(
        "{prefix} holds {gateway}, which is kept for the gateway of {subnet}: this endpoint may not send from it; change spec.allowedAddresses"
    )]
    PrefixOfGateway {
        prefix: Source,
        gateway: IpAddr,
        subnet: Subnet,
    },
    #[error("there is no network {0}: only the others are joined; apply it, or take it out of spec.networks")]
    NothingToJoin(Label),
    #[error(
        "network {network} is joined by router {other}, which is older: it is not joined by this one; take it out of spec.networks of one of them"
    )]
    NetworkJoined { network: Label, other: Label },
    #[error("{0} versions were written at the same time, and the last one is in force; apply it again to settle it")]
    RouterConflict(usize),
    #[error("the route to {0} is not used: a subnet of its networks is the same; take it out of spec.routes")]
    RouteShadowed(Prefix),
    #[error(
        "{hop}, a next hop to {prefix}, is the address of no attached endpoint in its networks: it is not used; attach that endpoint or change spec.routes"
    )]
    HopMissing { prefix: Prefix, hop: IpAddr },
    #[error(
        "there is no next hop to {0}: its packets are refused; attach an endpoint that has one of the addresses in `via`"
    )]
    RouteUnreachable(Prefix),
    #[error(
        "{0} versions were written at the same time: it denies what any of them denies and allows only what all allow; apply it again to settle it"
    )]
    PolicyConflict(usize),
    #[error(
        "a version of it cannot be read here: no connection of the domain is let through; upgrade this node, or apply the policy again"
    )]
    PolicyUnreadable,
    #[error(
        "its policies come to {rules} rules with {groups} different selectors; more than {RULES_MAX} rules or {GROUPS_MAX} selectors cannot be held: nothing is let through; delete policies or merge their rules"
    )]
    TooManyRules { rules: usize, groups: usize },
}

impl Cause {
    fn message(&self) -> Cow<'static, str> {
        match self {
            Self::NotAttached => Cow::Borrowed(NOT_ATTACHED),
            _ => Cow::Owned(self.to_string()),
        }
    }

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
            Self::MacOfRouter { .. } => "MacOfRouter",
            Self::DuplicatePrefix { .. } => "DuplicatePrefix",
            Self::PrefixOfOther { .. } => "PrefixOfOther",
            Self::PrefixOfGateway { .. } => "PrefixOfGateway",
            Self::NothingToJoin(_) => "NoNetwork",
            Self::NetworkJoined { .. } => "NetworkJoined",
            Self::RouterConflict(_) | Self::PolicyConflict(_) => "Conflict",
            Self::RouteShadowed(_) => "RouteShadowed",
            Self::HopMissing { .. } => "HopMissing",
            Self::RouteUnreachable(_) => "RouteUnreachable",
            Self::PolicyUnreadable => "DeniesAll",
            Self::TooManyRules { .. } => "TooManyRules",
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
            message: cause.message(),
        };
        let told = self.0.entry((kind, name.to_owned())).or_default();
        if let Err(place) = told.binary_search(&condition) {
            told.reserve_exact(1);
            told.insert(place, condition);
        }
    }

    pub(crate) fn network(&mut self, name: &Label, cause: &Cause) {
        self.add(Kind::Network, name.as_str(), cause);
    }

    pub(crate) fn endpoint(&mut self, name: &Label, cause: &Cause) {
        self.add(Kind::Endpoint, name.as_str(), cause);
    }

    pub(crate) fn router(&mut self, name: &Label, cause: &Cause) {
        self.add(Kind::Router, name.as_str(), cause);
    }

    pub(crate) fn policy(&mut self, name: &Label, cause: &Cause) {
        self.add(Kind::SecurityPolicy, name.as_str(), cause);
    }

    pub(crate) fn finish(self) -> Conditions {
        self.0
    }
}
