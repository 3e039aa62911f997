//! Table H: the IP headers of a frame, as far as any table looks at them.

use std::net::IpAddr;

use etherparse::err::{ipv4, ipv6};
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice};

use super::Reason;
use super::transport::{ICMP, ICMPV6, Transport};

/// Most IPv6 extension headers that are walked.
const EXTENSIONS_MAX: usize = 8;

/// An IP packet.
#[derive(Debug)]
pub(super) struct Ip<'a> {
    /// All of it, without padding.
    pub(super) packet: &'a [u8],
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ecn: u8,
    pub(super) hop_limit: u8,
    /// Whether IPv6 extension headers stand before the upper layer.
    pub(super) extended: bool,
    /// Whether it has IPv4 options.
    pub(super) options: bool,
    pub(super) fragment: Fragment,
    /// Bytes of extension headers behind the fragment header.
    pub(super) behind_fragment: usize,
    /// The upper protocol; in a later fragment what its header says.
    pub(super) protocol: u8,
    /// The upper layer, or a later fragment's data.
    pub(super) upper: &'a [u8],
}

/// Whether a packet is a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fragment {
    /// It is whole.
    None,
    /// Offset 0, with this identification.
    First(u32),
    /// It begins `offset` bytes into the datagram.
    Later { identification: u32, offset: usize },
}

impl<'a> Ip<'a> {
    /// The IP packet of a frame with this ethertype; none if it is not IP.
    pub(super) fn of(ether_type: u16, packet: &'a [u8]) -> Result<Option<Self>, Reason> {
        let ip = match ether_type {
            0x0800 => Self::v4(packet)?,
            0x86dd => Self::v6(packet)?,
            _ => return Ok(None),
        };
        if ip.fragment == Fragment::None && ip.upper.len() < ip.least_whole() {
            return Err(Reason::Truncated);
        }
        Ok(Some(ip))
    }

    /// H6: the least bytes of its upper layer.
    fn least_whole(&self) -> usize {
        match (self.icmpv6_type(), self.least_first()) {
            (Some(1..=4 | 128 | 129), least) => least,
            (Some(_), _) => 4,
            (None, least) => least,
        }
    }

    /// F0: the least bytes of its upper layer in a first fragment.
    pub(super) fn least_first(&self) -> usize {
        match self.protocol {
            6 => 20,
            17 => 8,
            132 => 12,
            ICMP if self.source.is_ipv4() => 8,
            ICMPV6 if self.source.is_ipv6() => 8,
            _ => 0,
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
        let upper = packet.get(start..length).ok_or(Reason::Truncated)?;
        let offset = usize::from(header.fragments_offset().byte_offset());
        let identification = header.identification().into();
        Ok(Self {
            packet: &packet[..length],
            source: IpAddr::V4(header.source_addr()),
            destination: IpAddr::V4(header.destination_addr()),
            ecn: header.ecn().value(),
            hop_limit: header.ttl(),
            extended: false,
            options: start > 20,
            fragment: Fragment::of(offset, header.more_fragments(), identification),
            behind_fragment: 0,
            protocol: header.protocol().0,
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
        Ok(Self {
            packet: &packet[..length],
            source: IpAddr::V6(header.source_addr()),
            destination: IpAddr::V6(header.destination_addr()),
            ecn: header.traffic_class() & 0b11,
            hop_limit: header.hop_limit(),
            extended: walked.extended,
            options: false,
            fragment: walked.fragment,
            behind_fragment: walked.behind_fragment.unwrap_or(0),
            protocol: walked.number.0,
            upper: walked.rest,
        })
    }

    /// What its upper-layer header says; a later fragment has none.
    pub(super) fn transport(&self) -> Option<Transport> {
        match self.fragment {
            Fragment::Later { .. } => None,
            Fragment::First(_) | Fragment::None => Transport::of(self.protocol, self.source.is_ipv4(), self.upper),
        }
    }

    /// The ICMPv6 message, if it is one of at least four bytes.
    pub(super) fn icmpv6(&self) -> Option<&'a [u8]> {
        let later = matches!(self.fragment, Fragment::Later { .. });
        let message = self.source.is_ipv6() && self.protocol == ICMPV6 && !later;
        (message && self.upper.len() >= 4).then_some(self.upper)
    }

    /// Its type.
    pub(super) fn icmpv6_type(&self) -> Option<u8> {
        self.icmpv6().map(|message| message[0])
    }
}

impl Fragment {
    fn of(offset: usize, more: bool, identification: u32) -> Self {
        match (offset, more) {
            (0, false) => Self::None,
            (0, true) => Self::First(identification),
            (offset, _) => Self::Later { identification, offset },
        }
    }
}

/// Where a walk over extension headers ended.
struct Walked<'a> {
    number: IpNumber,
    rest: &'a [u8],
    extended: bool,
    fragment: Fragment,
    behind_fragment: Option<usize>,
}

fn walk(first: IpNumber, payload: &[u8]) -> Result<Walked<'_>, Reason> {
    let mut at = Walked {
        number: first,
        rest: payload,
        extended: false,
        fragment: Fragment::None,
        behind_fragment: None,
    };
    let mut count = 0;
    while !matches!(at.fragment, Fragment::Later { .. }) && is_extension(at.number) {
        if count == EXTENSIONS_MAX {
            return Err(Reason::Malformed);
        }
        count += 1;
        at.extended = true;
        let is_fragment = at.number == IpNumber::IPV6_FRAGMENTATION_HEADER;
        let length = if is_fragment {
            let header = Ipv6FragmentHeaderSlice::from_slice(at.rest).map_err(|_| Reason::Truncated)?;
            let offset = usize::from(header.fragment_offset().byte_offset());
            let fragment = Fragment::of(offset, header.more_fragments(), header.identification());
            if at.behind_fragment.is_some() {
                return Err(Reason::Malformed);
            }
            at.fragment = fragment;
            at.number = header.next_header();
            header.slice().len()
        } else {
            let header = Ipv6RawExtHeaderSlice::from_slice(at.rest).map_err(|_| Reason::Truncated)?;
            at.number = header.next_header();
            header.slice().len()
        };
        at.rest = at.rest.get(length..).ok_or(Reason::Truncated)?;
        at.behind_fragment = match at.behind_fragment {
            Some(behind) => Some(behind + length),
            None => is_fragment.then_some(0),
        };
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
