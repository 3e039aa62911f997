//! ICMP errors: table E of the reference model (`overlay::model`). Let through if the packet they quote is of a live
//! connection of the domain, and they come from one of its ends or from a router on the way to one. Rules are not asked,
//! nothing is remembered; a station that sends more than its share is cut.

use datapath_common::{ConnectionKey, LIMIT_RELATED, Reason};

use crate::connection::{echo, quoted};
use crate::headers::{Icmp, Ipv4, Ipv6, Udp};
use crate::icmp::{ECHO_REPLY, ECHO_REPLY6, ECHO_REQUEST, ECHO_REQUEST6};
use crate::ip::{self, FARTHEST, OFFSET4};
use crate::limit;
use crate::owner::has;
use crate::packet::Packet;
use crate::quota;
use crate::transport::{has_ports, is_icmp};
use crate::walk::Walk;

/// What an error quotes of the upper layer at least.
const UPPER: u32 = 8;

/// Refuses an error that quotes no connection, that goes to somebody else than who sent what it quotes, or whose sender has
/// no business with it; and what is too much.
#[inline(always)]
pub fn check(packet: &mut Packet, walk: &mut Walk) -> Result<(), Reason> {
    let quote = (walk.ip.upper & FARTHEST) + size_of::<Icmp>() as u32;
    let header = if walk.ip.v4() {
        size_of::<Ipv4>()
    } else {
        size_of::<Ipv6>()
    } as u32;
    if quote + header + UPPER > walk.ip.end {
        return Err(Reason::Unrelated);
    }
    packet.linear((quote + header + UPPER) as usize)?;
    let read = if walk.ip.v4() {
        read4(packet, walk, quote as usize)?
    } else {
        read6(packet, walk, quote as usize)?
    };
    let sender = ip::same(&walk.tuple.source, &walk.key.destination);
    if !read || !sender || !concerned(walk) {
        return Err(Reason::Unrelated);
    }
    walk.tuple.domain = walk.owner.domain;
    walk.tuple.ports = ports(packet, walk, (quote + header) as usize)?;
    if !quoted(walk) {
        return Err(Reason::Unrelated);
    }
    if limit::take(quota::sender(walk), LIMIT_RELATED, walk.nanoseconds) {
        Ok(())
    } else {
        Err(Reason::RateLimit)
    }
}

/// Whether the station that sends the error may send from an end of what it quotes.
#[inline(always)]
fn concerned(walk: &Walk) -> bool {
    let (vni, mac, v4) = (walk.source_vni, walk.source_mac, walk.ip.v4());
    has(vni, &walk.tuple.destination, v4, mac) || has(vni, &walk.tuple.source, v4, mac)
}

/// The quoted IPv4 header; whether it is whole, without options, and no later fragment's.
#[inline(always)]
fn read4(packet: &Packet, walk: &mut Walk, at: usize) -> Result<bool, Reason> {
    let header = packet.at::<Ipv4>(at)?;
    walk.tuple = ConnectionKey {
        domain: 0,
        ports: 0,
        protocol: header.protocol.into(),
        source: ip::mapped(header.source),
        destination: ip::mapped(header.destination),
    };
    Ok(header.version_length == 0x45 && header.fragment & OFFSET4 == 0)
}

/// The quoted IPv6 header; whether it is one. An extension header is no protocol of a connection.
#[inline(always)]
fn read6(packet: &Packet, walk: &mut Walk, at: usize) -> Result<bool, Reason> {
    let header = packet.at::<Ipv6>(at)?;
    walk.tuple = ConnectionKey {
        domain: 0,
        ports: 0,
        protocol: header.next_header.into(),
        source: ip::address(header.source),
        destination: ip::address(header.destination),
    };
    Ok(u32::from_be(header.version_class_flow) >> 28 == 6)
}

/// The ports of the quoted packet, as a connection has them.
#[inline(always)]
fn ports(packet: &Packet, walk: &Walk, at: usize) -> Result<u32, Reason> {
    if is_icmp(walk.tuple.protocol, walk.ip.v4()) {
        let icmp = packet.at::<Icmp>(at)?;
        return match icmp.kind {
            ECHO_REQUEST | ECHO_REPLY if walk.ip.v4() => Ok(echo(u16::from_be(icmp.rest[0]).into())),
            ECHO_REQUEST6 | ECHO_REPLY6 if !walk.ip.v4() => Ok(echo(u16::from_be(icmp.rest[0]).into())),
            _ => Err(Reason::Unrelated),
        };
    }
    if !has_ports(walk.tuple.protocol) {
        return Ok(0);
    }
    let udp = packet.at::<Udp>(at)?;
    Ok(u32::from(u16::from_be(udp.source)) << 16 | u32::from(u16::from_be(udp.destination)))
}
