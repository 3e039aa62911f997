//! Parsing IP headers, wholly, for the slow path. The order of checks is table H of the reference model
//! (`overlay::model`). `quick.rs` reads what needs no more than a glance.

use datapath_common::{Address, Reason};

use crate::headers::{Extension, Fragment, Ipv4, Ipv6, ether, protocol};
use crate::packet::Packet;
use crate::walk::{IP_EXTENDED, IP_FRAGMENT, IP_LATER, IP_V4, Ip, NO_ICMP, Walk};
use crate::words::copied;

/// Extension headers that are walked at most.
const EXTENSIONS: u32 = 8;
/// More fragments follow, in IPv4's `fragment`.
pub const MORE_FRAGMENTS4: u16 = 0x2000_u16.to_be();
/// The offset in IPv4's `fragment`, in units of 8 bytes.
pub const OFFSET4: u16 = 0x1fff_u16.to_be();
/// The offset in IPv6's fragment header, in bytes; and that more follow.
const OFFSET6: u16 = 0xfff8;
const MORE_FRAGMENTS6: u16 = 1;
/// No offset of a packet that is walked is larger: eight extension headers of 2,048 bytes behind all else.
pub const FARTHEST: u32 = 0x7fff;

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

/// Whether two addresses are the same.
#[inline(always)]
pub fn same(a: &Address, b: &Address) -> bool {
    let (a, b) = (words(a), words(b));
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
}

/// Whether an address of an IPv6 header pretends to be an IPv4 one; nobody owns such an address (RFC 4942 section 2.2).
#[inline(always)]
pub fn pretends(address: &Address) -> bool {
    let words = words(address);
    words[0] | words[1] == 0 && words[2] == MAPPED
}

/// Parses the IP packet at `start` into the walk; false if the ethertype is not IP.
#[inline(always)]
pub fn parse(packet: &mut Packet, walk: &mut Walk, ether_type: u16, start: usize) -> Result<bool, Reason> {
    match ether_type {
        ether::IPV4 => ipv4(packet, walk, start)?,
        ether::IPV6 => ipv6(packet, walk, start)?,
        _ => return Ok(false),
    }
    Ok(true)
}

#[inline(always)]
fn ipv4(packet: &mut Packet, walk: &mut Walk, start: usize) -> Result<(), Reason> {
    packet.linear(start + size_of::<Ipv4>())?;
    let header = packet.at::<Ipv4>(start)?;
    let header_length = usize::from(header.version_length & 0xf) * 4;
    let total = usize::from(u16::from_be(header.total_length));
    let version = header.version_length >> 4;
    let fragment = header.fragment;
    walk.key.source = mapped(header.source);
    walk.key.destination = mapped(header.destination);
    walk.key.protocol = header.protocol.into();
    walk.fragment.identification = header.identification.into();
    walk.ip = Ip {
        flags: IP_V4,
        ecn: (header.traffic_class & 0b11).into(),
        ttl: header.ttl.into(),
        start: start as u32,
        upper: (start + header_length) as u32,
        end: 0,
        part: (start + header_length) as u32,
        position: u32::from(u16::from_be(fragment & OFFSET4)) * 8,
        tcp: 0,
        icmp: NO_ICMP,
    };
    // A super-packet above 64 kB has no total length.
    let total = if total == 0 && packet.segment() != 0 {
        packet.len() as usize - start
    } else {
        total
    };
    if version != 4 || header_length < size_of::<Ipv4>() {
        return Err(Reason::Malformed);
    }
    let length = packet.len() as usize;
    if start + header_length > length {
        return Err(Reason::Truncated);
    }
    if total < header_length {
        return Err(Reason::Malformed);
    }
    if start + total > length {
        return Err(Reason::Truncated);
    }
    walk.ip.end = (start + total) as u32;
    if header_length > size_of::<Ipv4>() {
        walk.ip.flags |= IP_EXTENDED;
    }
    if fragment & OFFSET4 != 0 {
        walk.ip.flags |= IP_FRAGMENT | IP_LATER;
    } else if fragment & MORE_FRAGMENTS4 != 0 {
        walk.ip.flags |= IP_FRAGMENT;
    }
    walk.fragment.protocol = walk.key.protocol;
    Ok(())
}

#[inline(always)]
fn ipv6(packet: &mut Packet, walk: &mut Walk, start: usize) -> Result<(), Reason> {
    packet.linear(start + size_of::<Ipv6>())?;
    let header = packet.at::<Ipv6>(start)?;
    let version_class = u32::from_be(header.version_class_flow);
    let payload = usize::from(u16::from_be(header.payload_length));
    let next = header.next_header;
    walk.key.source = address(copied(&header.source));
    walk.key.destination = address(copied(&header.destination));
    walk.key.protocol = next.into();
    let upper = start + size_of::<Ipv6>();
    walk.ip = Ip {
        flags: 0,
        ecn: version_class >> 20 & 0b11,
        ttl: header.hop_limit.into(),
        start: start as u32,
        upper: upper as u32,
        end: 0,
        part: 0,
        position: 0,
        tcp: 0,
        icmp: NO_ICMP,
    };
    if version_class >> 28 != 6 {
        return Err(Reason::Malformed);
    }
    let length = packet.len() as usize;
    let end = if payload == 0 && packet.segment() != 0 {
        length
    } else {
        upper + payload
    };
    if end > length {
        return Err(Reason::Truncated);
    }
    walk.ip.end = end as u32;
    walk.fragment.protocol = 0;
    if extension(next) {
        extensions(packet, walk)
    } else {
        Ok(())
    }
}

/// Whether an extension header of this kind is walked over.
#[inline(always)]
pub fn extension(next: u8) -> bool {
    matches!(
        next,
        protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION | protocol::FRAGMENT
    )
}

/// Walks extension headers (RFC 8200 section 4) up to the upper layer or a later fragment's data.
#[inline(never)]
fn extensions(packet: &mut Packet, walk: &mut Walk) -> Result<(), Reason> {
    walk.ip.flags |= IP_EXTENDED;
    for _ in 0..EXTENSIONS {
        if !extension(walk.key.protocol as u8) {
            return Ok(());
        }
        if one_extension(packet, walk)? {
            return Ok(());
        }
    }
    if extension(walk.key.protocol as u8) {
        return Err(Reason::Malformed);
    }
    Ok(())
}

/// Walks over one extension header; whether it was a later fragment's, behind which there is no other.
#[inline(always)]
fn one_extension(packet: &mut Packet, walk: &mut Walk) -> Result<bool, Reason> {
    let at = walk.ip.upper & FARTHEST;
    if at + size_of::<Fragment>() as u32 > walk.ip.end {
        return Err(Reason::Truncated);
    }
    packet.linear(at as usize + size_of::<Fragment>())?;
    let header = *packet.at::<Extension>(at as usize)?;
    let kind = walk.key.protocol as u8;
    walk.key.protocol = header.next_header.into();
    if kind == protocol::FRAGMENT {
        // Pieces of pieces: RFC 8200 section 4.1 has each header once.
        if walk.ip.part != 0 {
            return Err(Reason::Malformed);
        }
        let fragment = packet.at::<Fragment>(at as usize)?;
        let offset = u16::from_be(fragment.offset);
        walk.fragment.identification = fragment.identification;
        walk.ip.position = (offset & OFFSET6).into();
        walk.ip.upper = at + 8;
        walk.ip.part = walk.ip.upper;
        if offset & OFFSET6 != 0 {
            walk.ip.flags |= IP_FRAGMENT | IP_LATER;
            return Ok(true);
        }
        if offset & MORE_FRAGMENTS6 != 0 {
            walk.ip.flags |= IP_FRAGMENT;
        }
        return Ok(false);
    }
    walk.ip.upper = at + 8 * (u32::from(header.length) + 1);
    if walk.ip.upper > walk.ip.end {
        return Err(Reason::Truncated);
    }
    Ok(false)
}
