//! Table H: the IP headers of a frame, as far as any table looks at them.

use std::net::IpAddr;

use etherparse::err::{ipv4, ipv6};
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice};

use super::Reason;

/// Most IPv6 extension headers that are walked.
const EXTENSIONS_MAX: usize = 4;
/// Length of a UDP header.
const UDP: usize = 8;
/// Length of what every ICMPv6 message begins with.
const ICMPV6: usize = 4;

/// An IP packet.
#[derive(Debug)]
pub(super) struct Ip<'a> {
    pub(super) source: IpAddr,
    /// Of the packet, in bytes.
    pub(super) length: usize,
    pub(super) ecn: u8,
    pub(super) hop_limit: u8,
    /// Whether IPv6 extension headers stand before the upper layer.
    pub(super) extended: bool,
    pub(super) upper: Upper<'a>,
}

/// What an IP packet carries.
#[derive(Debug)]
pub(super) enum Upper<'a> {
    /// UDP to a port, over IPv4 or IPv6.
    Udp { ipv6: bool, destination: u16 },
    /// The whole message, at least four bytes.
    Icmpv6(&'a [u8]),
    /// Anything else, and later fragments of anything.
    Other,
}

impl<'a> Ip<'a> {
    /// The IP packet of a frame with this ethertype; none if it is not IP.
    pub(super) fn of(ether_type: u16, packet: &'a [u8]) -> Result<Option<Self>, Reason> {
        match ether_type {
            0x0800 => Self::v4(packet).map(Some),
            0x86dd => Self::v6(packet).map(Some),
            _ => Ok(None),
        }
    }

    fn v4(packet: &'a [u8]) -> Result<Self, Reason> {
        let header = Ipv4HeaderSlice::from_slice(packet).map_err(|error| match error {
            ipv4::HeaderSliceError::Len(_) => Reason::Truncated,
            ipv4::HeaderSliceError::Content(_) => Reason::Malformed,
        })?;
        let (start, length) = (header.slice().len(), usize::from(header.total_len()));
        if length < start {
            return Err(Reason::Malformed);
        }
        let payload = packet.get(start..length).ok_or(Reason::Truncated)?;
        let later = header.fragments_offset().value() != 0;
        let upper = match header.protocol() {
            IpNumber::UDP if !later => udp(payload, false)?,
            _ => Upper::Other,
        };
        let source = IpAddr::V4(header.source_addr());
        let (ecn, hop_limit) = (header.ecn().value(), header.ttl());
        Ok(Self {
            source,
            length,
            ecn,
            hop_limit,
            extended: false,
            upper,
        })
    }

    fn v6(packet: &'a [u8]) -> Result<Self, Reason> {
        let header = Ipv6HeaderSlice::from_slice(packet).map_err(|error| match error {
            ipv6::HeaderSliceError::Len(_) => Reason::Truncated,
            ipv6::HeaderSliceError::Content(_) => Reason::Malformed,
        })?;
        let start = header.slice().len();
        let length = start + usize::from(header.payload_length());
        let payload = packet.get(start..length).ok_or(Reason::Truncated)?;
        let walked = walk(header.next_header(), payload)?;
        let upper = match walked.number {
            IpNumber::UDP if !walked.later => udp(walked.rest, true)?,
            IpNumber::IPV6_ICMP if !walked.later && walked.rest.len() < ICMPV6 => return Err(Reason::Truncated),
            IpNumber::IPV6_ICMP if !walked.later => Upper::Icmpv6(walked.rest),
            _ => Upper::Other,
        };
        let source = IpAddr::V6(header.source_addr());
        let ecn = header.traffic_class() & 0b11;
        Ok(Self {
            source,
            length,
            ecn,
            hop_limit: header.hop_limit(),
            extended: walked.extended,
            upper,
        })
    }

    /// P10, T11: what routers and DHCP servers send.
    pub(super) fn is_server(&self) -> bool {
        match &self.upper {
            Upper::Udp { ipv6, destination } => *destination == if *ipv6 { 546 } else { 68 },
            Upper::Icmpv6(message) => message[0] == 134,
            Upper::Other => false,
        }
    }

    /// The ICMPv6 message, if it is one.
    pub(super) fn icmpv6(&self) -> Option<&'a [u8]> {
        match self.upper {
            Upper::Icmpv6(message) => Some(message),
            Upper::Udp { .. } | Upper::Other => None,
        }
    }
}

fn udp(payload: &[u8], ipv6: bool) -> Result<Upper<'_>, Reason> {
    match payload {
        [_, _, high, low, ..] if payload.len() >= UDP => Ok(Upper::Udp {
            ipv6,
            destination: u16::from_be_bytes([*high, *low]),
        }),
        _ => Err(Reason::Truncated),
    }
}

/// Where a walk over extension headers ended.
struct Walked<'a> {
    number: IpNumber,
    rest: &'a [u8],
    extended: bool,
    /// It is a later fragment, so `rest` is the middle of something.
    later: bool,
}

fn walk(first: IpNumber, payload: &[u8]) -> Result<Walked<'_>, Reason> {
    let mut at = Walked {
        number: first,
        rest: payload,
        extended: false,
        later: false,
    };
    let mut count = 0;
    while !at.later && is_extension(at.number) {
        if count == EXTENSIONS_MAX {
            return Err(Reason::Malformed);
        }
        count += 1;
        at.extended = true;
        let length = if at.number == IpNumber::IPV6_FRAGMENTATION_HEADER {
            let header = Ipv6FragmentHeaderSlice::from_slice(at.rest).map_err(|_| Reason::Truncated)?;
            at.later = header.fragment_offset().value() != 0;
            at.number = header.next_header();
            header.slice().len()
        } else {
            let header = Ipv6RawExtHeaderSlice::from_slice(at.rest).map_err(|_| Reason::Truncated)?;
            at.number = header.next_header();
            header.slice().len()
        };
        at.rest = at.rest.get(length..).ok_or(Reason::Truncated)?;
    }
    Ok(at)
}

fn is_extension(number: IpNumber) -> bool {
    matches!(
        number,
        IpNumber::IPV6_HEADER_HOP_BY_HOP
            | IpNumber::IPV6_ROUTE_HEADER
            | IpNumber::IPV6_FRAGMENTATION_HEADER
            | IpNumber::IPV6_DESTINATION_OPTIONS
    )
}
