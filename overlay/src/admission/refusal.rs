//! Why an object may not be written.

use std::fmt;
use std::net::IpAddr;

use membership::id::Label;
use membership::record::BATCH_RECORDS_MAX;

use super::BODY_MAX;
use crate::forwarding::{GROUPS_MAX, RULES_MAX};
use crate::name::{Mac, Vni};
use crate::object::endpoint::Source;
use crate::prefix::Prefix;
use crate::subnet::{Subnet, Unusable};

/// How many names a message lists.
const NAMED_MAX: usize = 10;

/// One rule that an object breaks. Shown as `FIELD: why`; who knows where the object was written puts that before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which of the objects given, from 0.
    pub index: usize,
    /// The field, as `spec.subnets[0]`; empty for the object as a whole.
    pub path: String,
    /// The rule.
    pub rule: Rule,
}

impl Refusal {
    pub(super) fn new(index: usize, path: impl Into<String>, rule: Rule) -> Self {
        Self {
            index,
            path: path.into(),
            rule,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, rule, .. } = self;
        if path.is_empty() {
            write!(f, "{rule}")
        } else {
            write!(f, "{path}: {rule}")
        }
    }
}

impl std::error::Error for Refusal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.rule)
    }
}

/// The rules between objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rule {
    /// Two documents of one apply.
    #[error("another document of this apply is the same object")]
    Repeated,
    /// More than one batch of records holds.
    #[error("{written} objects of one domain change; at most {BATCH_RECORDS_MAX} can in one apply: split it")]
    TooMany {
        /// How many would.
        written: usize,
    },
    /// A Domain in another domain than its own.
    #[error("a Domain is its own domain: leave the field out or write {0}")]
    DomainOfDomain(Label),
    /// No Domain, neither stored nor given.
    #[error("there is no domain {0}; apply a Domain of that name first or together with this")]
    NoDomain(Label),
    /// No Network, neither stored nor given.
    #[error("there is no network {0} in this domain; apply a Network of that name first or together with this")]
    NoNetwork(Label),
    /// Subnets of two networks of a domain.
    #[error("{mine} overlaps {theirs} of network {network}")]
    SubnetOverlap {
        /// The one refused.
        mine: Subnet,
        /// The one it overlaps.
        theirs: Subnet,
        /// Whose that is.
        network: Label,
    },
    /// A network would leave addresses of its endpoints behind.
    #[error("no subnet is left for addresses in use: {}; change or delete these endpoints first", listed(.0.iter().map(|(e, a)| format!("{a} of endpoint {e}"))))]
    AddressesInUse(Vec<(Label, IpAddr)>),
    /// Another network has it.
    #[error("{vni} belongs to network {domain}/{network}; leave the field out and a free one is chosen")]
    VniTaken {
        /// The number.
        vni: Vni,
        /// The other network's domain.
        domain: Label,
        /// The other network.
        network: Label,
    },
    /// Every VNI is used.
    #[error("all VNIs are in use")]
    NoVniLeft,
    /// An endpoint stays in its network.
    #[error("an endpoint stays in its network ({0}); delete it and create it again in the other one")]
    NetworkFixed(Label),
    /// Another endpoint of the network has it.
    #[error("{mac} is endpoint {endpoint}'s")]
    MacTaken {
        /// The address.
        mac: Mac,
        /// Who has it.
        endpoint: Label,
    },
    /// No MAC could be computed that is free.
    #[error("no free MAC address was found; give one")]
    NoMacLeft,
    /// In no subnet of the network.
    #[error("{address} is in no subnet of network {network} ({})", listed(subnets.iter().map(ToString::to_string)))]
    AddressOutside {
        /// The address.
        address: IpAddr,
        /// The endpoint's network.
        network: Label,
        /// Its subnets.
        subnets: Vec<Subnet>,
    },
    /// In a subnet, but not for workloads.
    #[error("{address} {why} ({subnet})")]
    AddressUnusable {
        /// The address.
        address: IpAddr,
        /// The subnet it is in.
        subnet: Subnet,
        /// What it is there.
        why: Unusable,
    },
    /// Another endpoint has it.
    #[error("{address} is endpoint {endpoint}'s")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        endpoint: Label,
    },
    /// No address could be computed that is free.
    #[error("no free address was found in {0}; give one")]
    NoAddressLeft(Subnet),
    /// With the computed ones there are more than an object holds.
    #[error("with one in each subnet there are more than {0} addresses; give fewer")]
    TooManyAddresses(usize),
    /// More than a record holds.
    #[error("its {0} bytes are more than the {BODY_MAX} that a record holds; write it as several objects")]
    TooLarge(usize),
    /// It is the network's gateway.
    #[error("{mac} is router {router}'s")]
    MacOfRouter {
        /// The address.
        mac: Mac,
        /// The router of the endpoint's network.
        router: Label,
    },
    /// A router's computed address.
    #[error(
        "the MAC address that is computed from it, {mac}, is endpoint {endpoint}'s; choose another name, or change that endpoint"
    )]
    RouterMacTaken {
        /// The address.
        mac: Mac,
        /// Who has it, in one of its networks.
        endpoint: Label,
    },
    /// Another endpoint may send from it.
    #[error("{prefix} is allowed to endpoint {endpoint}")]
    SourceTaken {
        /// What it is.
        prefix: Source,
        /// Whose it is.
        endpoint: Label,
    },
    /// The gateway's address is in it.
    #[error("{prefix} holds {gateway}, which is kept for the gateway of {subnet}")]
    SourceOfGateway {
        /// What it is.
        prefix: Source,
        /// The address.
        gateway: IpAddr,
        /// Its subnet.
        subnet: Subnet,
    },
    /// A network has one router.
    #[error("network {network} is joined by router {router}; a network has one router")]
    NetworkJoined {
        /// The network.
        network: Label,
        /// Its router.
        router: Label,
    },
    /// A route that is there without being written.
    #[error("{prefix} is a subnet of network {network}, which the router joins: there is such a route already")]
    RouteConnected {
        /// The destination.
        prefix: Prefix,
        /// Whose subnet it is.
        network: Label,
    },
    /// The router cannot reach it.
    #[error("{hop}, a next hop to {prefix}, is in no subnet of the router's networks")]
    HopOutside {
        /// The next hop.
        hop: IpAddr,
        /// The destination.
        prefix: Prefix,
    },
    /// A network would leave a router behind.
    #[error("router {router} would not fit to it: {why}; change that in the same apply")]
    BreaksRouter {
        /// The router.
        router: Label,
        /// What would be wrong with it.
        why: String,
    },
    /// More than hosts hold.
    #[error(
        "with it the policies of the domain come to {rules} rules with {groups} different selectors; at most {RULES_MAX} and {GROUPS_MAX} are held (a rule counts once for each cidr and each range of ports)"
    )]
    TooManyRules {
        /// Rules of both directions.
        rules: usize,
        /// Different selectors.
        groups: usize,
    },
}

/// Names in a message, not too many of them.
pub(super) fn listed(names: impl ExactSizeIterator<Item = String>) -> String {
    let count = names.len();
    let mut shown: Vec<String> = names.take(NAMED_MAX).collect();
    if count > NAMED_MAX {
        shown.push(format!("{} more", count - NAMED_MAX));
    }
    shown.join(", ")
}
