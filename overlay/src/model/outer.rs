//! The outer headers: which packets from the underlay are ours, and what the tunnel carries.

use std::net::IpAddr;

use etherparse::{Ethernet2HeaderSlice, IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, UdpHeaderSlice};

use super::ETHERNET;
use crate::fact::Vtep;
use crate::object::domain::Encapsulation;

/// UDP port of Geneve (RFC 8926 section 3.3).
pub const GENEVE: u16 = 6081;

/// A UDP packet to a tunnel's port of one of our tunnel addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnelled<'a> {
    /// Outer source.
    pub source: IpAddr,
    /// Whether it is the first of several fragments.
    pub fragment: bool,
    /// TTL or hop limit.
    pub hops: u8,
    /// Whether the IP header's checksum is right, if it has one.
    pub checked: bool,
    /// Bytes that the IP header leaves for UDP and all behind it.
    pub room: usize,
    /// Its ECN field.
    pub ecn: u8,
    /// By its port.
    pub encapsulation: Encapsulation,
    /// The length that UDP says, header included.
    pub length: u16,
    /// All behind the UDP header.
    pub payload: &'a [u8],
}

/// The tunnelled packet, if it is one and ours.
#[must_use]
pub fn ours<'a>(vtep: &Vtep, packet: &'a [u8]) -> Option<Tunnelled<'a>> {
    let ethernet = Ethernet2HeaderSlice::from_slice(packet).ok()?;
    let packet = &packet[ETHERNET..];
    let (outer, rest) = match ethernet.ether_type().0 {
        0x0800 => ipv4(vtep, packet)?,
        0x86dd => ipv6(vtep, packet)?,
        _ => return None,
    };
    let udp = UdpHeaderSlice::from_slice(rest).ok()?;
    let encapsulation = match udp.destination_port() {
        port if port == vtep.port => Encapsulation::Vxlan,
        GENEVE => Encapsulation::Geneve,
        _ => return None,
    };
    let payload = rest.get(udp.slice().len()..)?;
    Some(Tunnelled {
        encapsulation,
        length: udp.length(),
        payload,
        ..outer
    })
}

/// What the IP header says, and what is behind it.
type Outer<'a> = (Tunnelled<'a>, &'a [u8]);

fn ipv4<'a>(vtep: &Vtep, packet: &'a [u8]) -> Option<Outer<'a>> {
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let first = header.fragments_offset().value() == 0;
    if Some(header.destination_addr()) != vtep.ipv4 || header.protocol() != IpNumber::UDP || !first {
        return None;
    }
    let rest = packet.get(header.slice().len()..)?;
    let written = header.to_header();
    let outer = Tunnelled {
        source: IpAddr::V4(header.source_addr()),
        fragment: header.more_fragments(),
        hops: header.ttl(),
        checked: written.header_checksum == written.calc_header_checksum(),
        room: usize::from(header.total_len()).saturating_sub(header.slice().len()),
        ecn: header.ecn().value(),
        encapsulation: Encapsulation::Vxlan,
        length: 0,
        payload: &[],
    };
    Some((outer, rest))
}

fn ipv6<'a>(vtep: &Vtep, packet: &'a [u8]) -> Option<Outer<'a>> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    if Some(header.destination_addr()) != vtep.ipv6 || header.next_header() != IpNumber::UDP {
        return None;
    }
    let rest = packet.get(header.slice().len()..)?;
    let outer = Tunnelled {
        source: IpAddr::V6(header.source_addr()),
        fragment: false,
        hops: header.hop_limit(),
        checked: true,
        room: usize::from(header.payload_length()),
        ecn: header.traffic_class() & 0b11,
        encapsulation: Encapsulation::Vxlan,
        length: 0,
        payload: &[],
    };
    Some((outer, rest))
}
