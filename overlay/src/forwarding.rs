//! What one host has to do for one domain: the whole of it, and nothing about how. [`crate::compile()`] makes it from a
//! [`crate::view::View`]; the datapath obeys it; the reference model forwards packets by it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;
use membership::id::NodeId;
use serde::Serialize;

use crate::condition::Conditions;
use crate::fact::{Binding, Vtep};
use crate::name::{DomainName, EndpointName, Mac, NetworkName, PolicyName, RouterName, Vni};
use crate::object::Kind;
use crate::object::domain::{DefaultPolicy, Encapsulation};
pub use crate::object::policy::Action;

/// One domain on one host. Empty (but for conditions) where no endpoint of the domain is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarding {
    /// Which domain.
    pub domain: DomainName,
    /// What happens to a connection of which no rule speaks.
    pub default_policy: DefaultPolicy,
    /// How its packets travel between hosts.
    pub encapsulation: Encapsulation,
    /// The segments that have a port here, and those that a router joins with one of them.
    pub networks: BTreeMap<NetworkName, Segment>,
    /// The routers of these segments.
    pub routers: BTreeMap<RouterName, Router>,
    /// The domain's rules in the order of evaluation: by priority (the higher first), then policy name, then version,
    /// then place in the version. Empty groups and rules that can never match are left out only where that changes no
    /// decision. Each run is decided by itself ([`Rule::is_decided_with`]): a policy whose versions differ in priority
    /// has several. Empty, with a default of deny, if they are more than [`RULES_MAX`] or [`GROUPS_MAX`].
    pub rules: Vec<Rule>,
    /// Endpoints attached on this host.
    pub ports: BTreeMap<EndpointName, Port>,
    /// Every place a frame of these segments can go to or come from, ports of this host included.
    pub stations: BTreeMap<(Vni, Mac), Station>,
    /// Tunnel ends of the other hosts where stations are.
    pub hosts: BTreeMap<NodeId, Vtep>,
    /// What an operator should know about objects of this domain, as seen here.
    pub conditions: Conditions,
}

/// What changes of a domain on a host where only endpoints did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The domain as it is to be, but without stations, and of the conditions of endpoints with those of [`Self::endpoints`]
    /// only. Rules, numbers of groups, VNIs and the encapsulation are as they were.
    pub forwarding: Forwarding,
    /// The endpoints that were looked at.
    pub endpoints: BTreeSet<EndpointName>,
    /// Stations that may differ: as they are to be, or none if they are to go. All others stay.
    pub stations: BTreeMap<(Vni, Mac), Option<Station>>,
}

impl Change {
    /// Brings the conditions that were known up to date.
    pub fn tell(&self, known: &mut Conditions) {
        let endpoints = self.endpoints.iter().map(|name| (Kind::Endpoint, name.to_string()));
        let ground = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Endpoint);
        let of = |kind| {
            known
                .range((kind, String::new())..)
                .take_while(move |((of, _), _)| *of == kind)
        };
        let stale: Vec<_> = ground.flat_map(of).map(|(about, _)| about.clone()).collect();
        for about in stale.into_iter().chain(endpoints) {
            known.remove(&about);
        }
        let told = self.forwarding.conditions.iter();
        known.extend(told.map(|(about, conditions)| (about.clone(), conditions.clone())));
    }
}

/// An L2 segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its number on the wire.
    pub vni: Vni,
    /// Of its interfaces, in bytes.
    pub mtu: u16,
    /// The router that is its gateway, if any.
    pub router: Option<RouterName>,
    /// Whether a unicast frame to a MAC address, or a question for an IP address, that nobody in it has goes to everybody
    /// in it, as a broadcast does; else it is dropped.
    pub flood: bool,
    /// The other hosts that have a station in it: where a frame to a group is replicated to.
    pub members: BTreeSet<NodeId>,
}

/// A router: the same MAC address and gateway addresses on every host (anycast), so that every packet is routed in the
/// host it starts from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Router {
    /// Computed from domain and name.
    pub mac: Mac,
    /// Its own addresses in each of its segments, with the subnet's prefix length: the gateways of the subnets and the
    /// link-local address of its MAC (/128).
    pub addresses: BTreeMap<NetworkName, BTreeMap<IpAddr, u8>>,
    /// Longest prefix wins. Subnets of its segments are in it.
    pub routes: BTreeMap<IpNet, Route>,
}

/// Where a router sends what a prefix matches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Route {
    /// To whoever has the destination address in this segment.
    Connected(NetworkName),
    /// To one of these next hops, by the flow's hash (equal-cost multipath): addresses of stations in the segments named.
    /// To nobody if there are none: the packet is refused, not sent by a wider route.
    Via(BTreeSet<(NetworkName, IpAddr)>),
    /// Nowhere, silently.
    Blackhole,
}

/// Number of a selector of the domain's rules, from 0, below [`GROUPS_MAX`]. Numbers are not stable between compiles.
pub type Group = u16;

/// Most selectors of the rules of one domain.
pub const GROUPS_MAX: usize = 256;

/// Most rules of one domain, of both directions.
pub const RULES_MAX: usize = 1024;

/// A rule of a SecurityPolicy, resolved: selectors are groups, of which each station says whether it is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Whose it is.
    pub policy: PolicyName,
    /// Where it stands in `ingress` or `egress` of the policy, from 0: what people are told.
    pub number: u16,
    /// Which of the concurrent versions of the policy it is of, from 0. A policy decides only as its versions agree:
    /// it denies if the first match of any version denies, it allows if the first match of every version allows.
    pub version: u16,
    /// How many concurrent versions the policy has; 1 unless there is a conflict.
    pub versions: u16,
    /// To connections that the subject receives, or that it opens.
    pub direction: Direction,
    /// The local end: `None` means every endpoint of the domain.
    pub subject: Option<Group>,
    /// The far end.
    pub peer: Peer,
    /// What is spoken.
    pub protocol: Protocol,
    /// What happens to it.
    pub action: Action,
}

impl Rule {
    /// Whether the next rule of the same direction is of the same run: of the same policy, and of no earlier version. Behind
    /// an earlier version a run ends, so that in each a version speaks at one place.
    #[must_use]
    pub fn is_decided_with(&self, next: &Self) -> bool {
        self.policy == next.policy && self.version <= next.version
    }
}

/// Which way a connection is opened, as the subject sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To the subject.
    Ingress,
    /// By the subject.
    Egress,
}

/// The far end of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Anybody.
    Any,
    /// Stations of the group: the one that sends the frame, or that gets it, whatever addresses are in it.
    Group(Group),
    /// Whoever has an address of the prefix.
    Prefix(IpNet),
}

/// What a rule says of the upper layer. `Tcp`, `Udp` and `Sctp` name destination ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// Every protocol.
    Any,
    /// TCP to these ports.
    Tcp(RangeInclusive<u16>),
    /// UDP to these ports.
    Udp(RangeInclusive<u16>),
    /// SCTP to these ports.
    Sctp(RangeInclusive<u16>),
    /// ICMP for IPv4, ICMPv6 for IPv6: of this type and code, if given.
    Icmp(Option<u8>, Option<u8>),
    /// This protocol number.
    Number(u8),
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
    /// Gateways of the subnets in which it has an address, for setting up a namespace; empty without a router.
    pub gateways: BTreeSet<IpAddr>,
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
    /// More that it may use as a source (but does not answer for): extra allowed addresses and prefixes.
    pub prefixes: BTreeSet<IpNet>,
    /// The selectors of the domain's rules that it matches.
    pub groups: BTreeSet<Group>,
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
    pub message: Cow<'static, str>,
}
