//! Parsing IP headers. The order of checks is table H of the reference model (`overlay::model`).

use datapath_common::{Address, Reason};

use crate::headers::{Extension, Fragment, Ipv4, Ipv6, Tcp, Udp, ether, protocol};
use crate::packet::Packet;

/// Extension headers that are walked at most.
const EXTENSIONS: u32 = 4;
/// More fragments follow, in IPv4's `fragment`.
pub const MORE_FRAGMENTS4: u16 = 0x2000_u16.to_be();
/// The offset in IPv4's `fragment`.
pub const OFFSET4: u16 = 0x1fff_u16.to_be();
/// The offset in IPv6's fragment header.
pub const OFFSET6: u16 = 0xfff8_u16.to_be();

/// What the checks need of an IP packet. Offsets count from the start of the frame.
pub struct Ip {
    /// Source, IPv4 mapped.
    pub source: Address,
    /// Destination, IPv4 mapped.
    pub destination: Address,
    /// Whether it is IPv4.
    pub v4: bool,
    /// The two ECN bits.
    pub ecn: u8,
    /// The upper layer's protocol; `None` in a later fragment, which has no upper-layer header.
    pub protocol: Option<u8>,
    /// Where the upper layer starts.
    pub upper: usize,
    /// Where the IP packet ends.
    pub end: usize,
    /// Whether it is a fragment (the first one included).
    pub fragment: bool,
    /// Whether an extension header stands before the upper layer.
    pub extended: bool,
}

/// The words of an address in memory order.
#[inline(always)]
pub fn words(address: &Address) -> [u32; 4] {
    // SAFETY: same size, and any bytes are valid words.
    unsafe { core::mem::transmute(*address) }
}

/// The address of words in memory order.
#[inline(always)]
pub fn address(words: [u32; 4]) -> Address {
    // SAFETY: same size, and any words are valid bytes.
    unsafe { core::mem::transmute(words) }
}

/// The third word of an IPv4-mapped address.
const MAPPED: u32 = 0xffff_u32.to_be();

/// An IPv4 address as it stands in a header, mapped.
#[inline(always)]
pub fn mapped(v4: u32) -> Address {
    address([0, 0, MAPPED, v4])
}

/// Whether an address of an IPv6 header pretends to be an IPv4 one; nobody owns such an address (RFC 4942 section 2.2).
#[inline(always)]
pub fn pretends(address: &Address) -> bool {
    let words = words(address);
    words[0] | words[1] == 0 && words[2] == MAPPED
}

/// Parses the IP packet at `offset`; `None` if the ethertype is not IP.
#[inline(always)]
pub fn parse(packet: &mut Packet, ether_type: u16, offset: usize) -> Result<Option<Ip>, Reason> {
    match ether_type {
        ether::IPV4 => ipv4(packet, offset).map(Some),
        ether::IPV6 => ipv6(packet, offset).map(Some),
        _ => Ok(None),
    }
}

#[inline(always)]
fn ipv4(packet: &mut Packet, offset: usize) -> Result<Ip, Reason> {
    packet.linear(offset + size_of::<Ipv4>())?;
    let header = *packet.at::<Ipv4>(offset)?;
    let header_length = usize::from(header.version_length & 0xf) * 4;
    let total = usize::from(u16::from_be(header.total_length));
    // A super-packet above 64 kB has no total length.
    let total = if total == 0 && packet.segment() != 0 {
        packet.len() as usize - offset
    } else {
        total
    };
    if header.version_length >> 4 != 4 || header_length < size_of::<Ipv4>() {
        return Err(Reason::Malformed);
    }
    let end = offset + total;
    let length = packet.len() as usize;
    if offset + header_length > length {
        return Err(Reason::Truncated);
    }
    if total < header_length {
        return Err(Reason::Malformed);
    }
    if end > length {
        return Err(Reason::Truncated);
    }
    let later = header.fragment & OFFSET4 != 0;
    let ip = Ip {
        source: mapped(header.source),
        destination: mapped(header.destination),
        v4: true,
        ecn: header.traffic_class & 0b11,
        protocol: if later { None } else { Some(header.protocol) },
        upper: offset + header_length,
        end,
        fragment: later || header.fragment & MORE_FRAGMENTS4 != 0,
        extended: false,
    };
    if ip.protocol == Some(protocol::UDP) && ip.upper + size_of::<Udp>() > end {
        return Err(Reason::Truncated);
    }
    Ok(ip)
}

#[inline(always)]
fn ipv6(packet: &mut Packet, offset: usize) -> Result<Ip, Reason> {
    packet.linear(offset + size_of::<Ipv6>())?;
    let header = packet.at::<Ipv6>(offset)?;
    let version_class = u32::from_be(header.version_class_flow);
    let payload = usize::from(u16::from_be(header.payload_length));
    let next = header.next_header;
    let (source, destination) = (address(header.source), address(header.destination));
    if version_class >> 28 != 6 {
        return Err(Reason::Malformed);
    }
    let length = packet.len() as usize;
    let start = offset + size_of::<Ipv6>();
    let end = if payload == 0 && packet.segment() != 0 {
        length
    } else {
        start + payload
    };
    if end > length {
        return Err(Reason::Truncated);
    }
    let mut ip = Ip {
        source,
        destination,
        v4: false,
        ecn: (version_class >> 20) as u8 & 0b11,
        protocol: Some(next),
        upper: start,
        end,
        fragment: false,
        extended: false,
    };
    if extension(next) {
        walk(packet, &mut ip, next)?;
    }
    let least = match ip.protocol {
        Some(protocol::UDP) => size_of::<Udp>(),
        Some(protocol::ICMP6) => 4,
        _ => 0,
    };
    if ip.upper + least > end {
        return Err(Reason::Truncated);
    }
    Ok(ip)
}

#[inline(always)]
fn extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION | protocol::FRAGMENT
    )
}

/// Walks extension headers (RFC 8200 section 4) up to the upper layer or a later fragment's data.
#[inline(always)]
fn walk(packet: &mut Packet, ip: &mut Ip, first: u8) -> Result<(), Reason> {
    let mut next = first;
    ip.extended = true;
    for _ in 0..EXTENSIONS {
        if !extension(next) {
            break;
        }
        let kind = next;
        if ip.upper + size_of::<Fragment>() > ip.end {
            return Err(Reason::Truncated);
        }
        packet.linear(ip.upper + size_of::<Fragment>())?;
        let header = *packet.at::<Extension>(ip.upper)?;
        let mut later = false;
        let length = match kind {
            protocol::FRAGMENT => {
                ip.fragment = true;
                later = packet.at::<Fragment>(ip.upper)?.offset & OFFSET6 != 0;
                8
            }
            _ => 8 * (usize::from(header.length) + 1),
        };
        ip.upper += length;
        next = header.next_header;
        if ip.upper > ip.end {
            return Err(Reason::Truncated);
        }
        if later {
            ip.protocol = None;
            return Ok(());
        }
    }
    if extension(next) {
        return Err(Reason::Malformed);
    }
    ip.protocol = Some(next);
    Ok(())
}

impl Ip {
    /// UDP's destination port in host order, if it has one.
    #[inline(always)]
    pub fn udp_destination(&self, packet: &mut Packet) -> Result<Option<u16>, Reason> {
        if self.protocol != Some(protocol::UDP) {
            return Ok(None);
        }
        packet.linear(self.upper + size_of::<Udp>())?;
        Ok(Some(u16::from_be(packet.at::<Udp>(self.upper)?.destination)))
    }

    /// The two ports as one word in memory order; 0 where the flow's other fragments do not carry them.
    #[inline(always)]
    pub fn ports(&self, packet: &mut Packet) -> Result<u32, Reason> {
        let carries = matches!(self.protocol, Some(protocol::TCP | protocol::UDP | protocol::SCTP));
        if !carries || self.fragment || self.upper + size_of::<u32>() > self.end {
            return Ok(0);
        }
        packet.linear(self.upper + size_of::<u32>())?;
        Ok(*packet.at::<u32>(self.upper)?)
    }

    /// Length of the longest IP packet that leaves an interface: of the packet itself, or of a super-packet's segments.
    #[inline(always)]
    pub fn longest(&self, packet: &mut Packet, offset: usize) -> Result<usize, Reason> {
        let segment = packet.segment() as usize;
        if segment == 0 {
            return Ok(self.end - offset);
        }
        let header = match self.protocol {
            Some(protocol::TCP) => {
                packet.linear(self.upper + size_of::<Tcp>())?;
                usize::from(packet.at::<Tcp>(self.upper)?.offset >> 4) * 4
            }
            Some(protocol::UDP) => size_of::<Udp>(),
            _ => 0,
        };
        Ok(self.upper - offset + header + segment)
    }
}
