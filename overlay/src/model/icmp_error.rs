//! Table I: what the fabric tells a workload whose packet it dropped.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use etherparse::{Ethernet2HeaderSlice, PacketBuilder};

use super::headers::{Fragment, Ip};
use super::owner::gateways;
use super::port::Sender;
use super::transport::Content;
use super::{Reason, Verdict, owner};
use crate::name::{DomainName, EndpointName};

/// TTL and hop limit of what the fabric sends.
const HOPS: u8 = 64;
/// Bytes of the upper layer that are quoted.
const UPPER: usize = 8;
/// Tokens of a full bucket, and how long one takes.
const BURST: u32 = 100;
const TOKEN: Duration = Duration::from_millis(10);

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IcmpError {
    /// TTL or hop limit.
    TtlExceeded,
    /// No route to its destination.
    NoRoute,
    /// Nobody has the address.
    NoHost,
    /// Longer than this MTU.
    TooBig(u16),
}

/// Why a packet goes nowhere, and what its sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    pub(super) reason: Reason,
    pub(super) error: Option<IcmpError>,
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self { reason, error: None }
    }
}

impl Stop {
    /// With an error for the sender.
    pub(super) const fn telling(reason: Reason, error: IcmpError) -> Self {
        let error = Some(error);
        Self { reason, error }
    }

    /// The drop of a frame of a workload.
    pub(super) fn verdict(self, limits: &mut Limits, sender: &Sender<'_>, frame: &[u8], now: Duration) -> Verdict {
        let error = self.error.and_then(|error| error.frame(sender, frame));
        let owner = (sender.domain.domain.clone(), sender.ingress.endpoint.clone());
        Verdict::Drop {
            reason: self.reason,
            error: error.filter(|_| limits.take(owner, now)),
        }
    }
}

impl IcmpError {
    fn frame(self, sender: &Sender<'_>, frame: &[u8]) -> Option<Vec<u8>> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?;
        let ip = Ip::of(ethernet.ether_type().0, &frame[super::ETHERNET..]).ok()??;
        if !may_be_told(&ip) {
            return None;
        }
        let (own, host) = (source(sender, &ip), ip.source);
        let builder = PacketBuilder::ethernet2(ethernet.destination(), ethernet.source());
        let mut told = Vec::new();
        let written = match (own, host) {
            (IpAddr::V4(own), IpAddr::V4(host)) => {
                let (kind, code, rest) = self.v4();
                let header = ip.packet.len() - ip.upper.len();
                let quote = &ip.packet[..ip.packet.len().min(header + UPPER)];
                let builder = builder.ipv4(own.octets(), host.octets(), HOPS);
                builder.icmpv4_raw(kind, code, rest).write(&mut told, quote)
            }
            (IpAddr::V6(own), IpAddr::V6(host)) => {
                let (kind, code, rest) = self.v6();
                let quote = &ip.packet[..ip.packet.len().min(40 + UPPER)];
                let builder = builder.ipv6(own.octets(), host.octets(), HOPS);
                builder.icmpv6_raw(kind, code, rest).write(&mut told, quote)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => return None,
        };
        written.ok().map(|()| told)
    }

    /// Type, code and the four bytes behind the checksum (RFC 792, RFC 1191).
    fn v4(self) -> (u8, u8, [u8; 4]) {
        match self {
            Self::TtlExceeded => (11, 0, [0; 4]),
            Self::NoRoute => (3, 0, [0; 4]),
            Self::NoHost => (3, 1, [0; 4]),
            Self::TooBig(mtu) => (3, 4, u32::from(mtu).to_be_bytes()),
        }
    }

    /// The same of RFC 4443.
    fn v6(self) -> (u8, u8, [u8; 4]) {
        match self {
            Self::TtlExceeded => (3, 0, [0; 4]),
            Self::NoRoute => (1, 0, [0; 4]),
            Self::NoHost => (1, 3, [0; 4]),
            Self::TooBig(mtu) => (2, 0, u32::from(mtu).to_be_bytes()),
        }
    }
}

fn may_be_told(ip: &Ip<'_>) -> bool {
    let later = matches!(ip.fragment, Fragment::Later { .. });
    let silent = match ip.transport().map(|transport| transport.content) {
        Some(Content::Icmp { kind, .. }) if ip.source.is_ipv4() => matches!(kind, 3 | 4 | 5 | 11 | 12),
        Some(Content::Icmp { kind, .. }) => kind < 128 || kind == 137,
        Some(Content::Ports { .. } | Content::Opaque) | None => false,
    };
    let nobody = ip.source.is_unspecified() || ip.source.is_multicast();
    !(later || silent || nobody)
}

/// The gateway of the sender, or who the sender wanted to reach.
fn source(sender: &Sender<'_>, ip: &Ip<'_>) -> IpAddr {
    let of_family = |address: &IpAddr| address.is_ipv4() == ip.source.is_ipv4();
    gateways(sender.domain, sender.port.vni)
        .filter(|address| of_family(address) && !owner::is_link_local(*address))
        .min()
        .unwrap_or(ip.destination)
}

/// How many errors each endpoint may still be told.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits(BTreeMap<(DomainName, EndpointName), Bucket>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Time worth of tokens.
    held: Duration,
    filled: Duration,
}

impl Limits {
    /// What an endpoint's bucket holds, as the time in which that many tokens come.
    pub(super) fn held(&self, owner: &(DomainName, EndpointName), now: Duration) -> Duration {
        let full = TOKEN * BURST;
        let held = |bucket: &Bucket| (bucket.held + now.saturating_sub(bucket.filled)).min(full);
        self.0.get(owner).map_or(full, held)
    }

    /// Takes a token, if there is one.
    fn take(&mut self, owner: (DomainName, EndpointName), now: Duration) -> bool {
        let held = self.held(&owner, now);
        let left = held.checked_sub(TOKEN);
        let held = left.unwrap_or(held);
        self.0.insert(owner, Bucket { held, filled: now });
        left.is_some()
    }
}
