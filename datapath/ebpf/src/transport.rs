//! What stands in upper-layer headers: ports, TCP flags, ICMP types. Table H's last checks and table C of the reference
//! model (`overlay::model`).

use datapath_common::Reason;
use datapath_common::connection::sane;
use datapath_common::entropy::Entropy;

use crate::headers::{Icmp, Icmp6, Tcp, Udp, protocol};
use crate::icmp::{ECHO_REPLY6, ECHO_REQUEST6};
use crate::ip::{self, FARTHEST};
use crate::packet::Packet;
use crate::walk::{IP_FRAGMENT, IP_LATER, IP_TINY, Walk};

/// Length of SCTP's common header (RFC 9260 section 3.1).
const SCTP: u32 = 12;

/// Whether the protocol has the two ports at its start.
#[inline(always)]
pub fn has_ports(number: u32) -> bool {
    matches!(number as u8, protocol::TCP | protocol::UDP | protocol::SCTP)
}

/// Whether the protocol is ICMP of the packet's family.
#[inline(always)]
pub fn is_icmp(number: u32, v4: bool) -> bool {
    number as u8 == if v4 { protocol::ICMP } else { protocol::ICMP6 }
}

/// Reads the upper layer's header, if the packet has one that is known.
#[inline(always)]
pub fn read(packet: &mut Packet, walk: &mut Walk) -> Result<(), Reason> {
    walk.key.ports = 0;
    let number = walk.key.protocol;
    let icmp = is_icmp(number, walk.ip.v4());
    if walk.ip.is(IP_LATER) || !(has_ports(number) || icmp) {
        return Ok(());
    }
    let whole = whole(number, icmp);
    let upper = walk.ip.upper & FARTHEST;
    let there = walk.ip.end.saturating_sub(upper);
    if icmp {
        return icmp_header(packet, walk, there);
    }
    if there < whole {
        return short(walk);
    }
    packet.linear((upper + whole) as usize)?;
    walk.key.ports = u32::from_be(*packet.at::<u32>(upper as usize)?);
    if number as u8 == protocol::TCP {
        walk.ip.tcp = packet.at::<Tcp>(upper as usize)?.flags.into();
    }
    Ok(())
}

/// Bytes that are read of the header of a protocol; of ICMP of the packet's family, with the identifier.
#[inline(always)]
fn whole(number: u32, icmp: bool) -> u32 {
    match number as u8 {
        protocol::TCP => size_of::<Tcp>() as u32,
        protocol::SCTP => SCTP,
        protocol::UDP => size_of::<Udp>() as u32,
        _ if icmp => size_of::<Icmp>() as u32,
        _ => 0,
    }
}

/// Where the header of a first fragment's upper layer ends, in bytes of what is fragmented.
#[inline(always)]
pub fn header_end(walk: &Walk) -> u32 {
    let number = walk.key.protocol;
    let upper = walk.ip.upper.saturating_sub(walk.ip.part);
    upper + whole(number, is_icmp(number, walk.ip.v4()))
}

/// Less than the whole header is there.
#[inline(always)]
fn short(walk: &mut Walk) -> Result<(), Reason> {
    if !walk.ip.is(IP_FRAGMENT) {
        return Err(Reason::Truncated);
    }
    walk.ip.flags |= IP_TINY;
    Ok(())
}

#[inline(always)]
fn icmp_header(packet: &mut Packet, walk: &mut Walk, there: u32) -> Result<(), Reason> {
    let upper = (walk.ip.upper & FARTHEST) as usize;
    if there < size_of::<Icmp6>() as u32 {
        return short(walk);
    }
    packet.linear(upper + size_of::<Icmp6>())?;
    let start = *packet.at::<Icmp6>(upper)?;
    walk.ip.icmp = u32::from(start.kind) << 8 | u32::from(start.code);
    walk.key.ports = walk.ip.icmp << 16;
    if there < size_of::<Icmp>() as u32 {
        // Other ICMPv6 messages of four bytes are refused where it matters.
        let needed = matches!(start.kind, 1..=4 | ECHO_REQUEST6 | ECHO_REPLY6);
        return if walk.ip.v4() || needed || walk.ip.is(IP_FRAGMENT) {
            short(walk)
        } else {
            Ok(())
        };
    }
    packet.linear(upper + size_of::<Icmp>())?;
    walk.key.ports |= u32::from(u16::from_be(packet.at::<Icmp>(upper)?.rest[0]));
    Ok(())
}

/// Refuses TCP flags that no stack sends together.
#[inline(always)]
pub fn check(walk: &Walk) -> Result<(), Reason> {
    let tcp = walk.key.protocol == protocol::TCP.into() && !walk.ip.is(IP_LATER);
    if tcp && !sane(walk.ip.tcp) {
        Err(Reason::TcpFlags)
    } else {
        Ok(())
    }
}

/// What spreads a flow over the underlay's paths. Fragments carry no ports, so all of a packet's go without.
#[inline(always)]
pub fn entropy(walk: &Walk) -> Entropy {
    let key = &walk.key;
    let ports = if has_ports(key.protocol) { key.ports } else { 0 };
    let upper = u64::from(ports) << 8 | u64::from(key.protocol as u8);
    let upper = if walk.ip.is(IP_FRAGMENT) { 0 } else { upper };
    Entropy::of(walk.ip.v4(), ip::words(&key.source), ip::words(&key.destination), upper)
}

/// Length of the longest IP packet that leaves an interface: of the packet itself, or of a super-packet's segments.
#[inline(always)]
pub fn longest(packet: &mut Packet, start: usize, upper: usize, end: usize, number: u32) -> Result<usize, Reason> {
    let segment = packet.segment() as usize;
    if segment == 0 {
        return Ok(end - start);
    }
    let header = match number as u8 {
        protocol::TCP => {
            packet.linear(upper + size_of::<Tcp>())?;
            usize::from(packet.at::<Tcp>(upper)?.offset >> 4) * 4
        }
        protocol::UDP => size_of::<Udp>(),
        _ => 0,
    };
    Ok(upper - start + header + segment)
}
