//! A glance at an IP packet, for the fast path: what is out of the ordinary is none of its business, and not even why.

use datapath_common::FlowKey;
use datapath_common::connection::{ACK, FIN, FLAGS};
use datapath_common::entropy::Entropy;

use crate::headers::{Icmp, Ipv4, Ipv6, Tcp, Udp, ether, protocol};
use crate::icmp::{ECHO_REPLY, ECHO_REPLY6, ECHO_REQUEST, ECHO_REQUEST6};
use crate::ip::{self, MORE_FRAGMENTS4, OFFSET4, extension};
use crate::packet::Packet;
use crate::transport::{self, has_ports};

/// An IPv4 header without options.
const PLAIN4: u8 = 0x45;
const SCTP: usize = 12;

/// What the fast path needs of an IP packet.
pub struct Quick {
    pub key: FlowKey,
    pub v4: bool,
    pub ecn: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The longest IP packet in it: of itself, or of a super-packet's segments.
    pub longest: usize,
    /// Of TCP, ACK or FIN|ACK; of all others ACK.
    pub flags: u32,
}

impl Quick {
    /// What spreads the flow over the underlay's paths.
    #[inline(always)]
    pub fn entropy(&self) -> Entropy {
        let key = &self.key;
        let ports = if has_ports(key.protocol) { key.ports } else { 0 };
        let upper = u64::from(ports) << 8 | u64::from(key.protocol as u8);
        Entropy::of(self.v4, ip::words(&key.source), ip::words(&key.destination), upper)
    }
}

/// The IP packet at `start`, if a decision for it may be cached.
#[inline(always)]
pub fn parse(packet: &mut Packet, ether_type: u16, start: usize, ingress: u32) -> Option<Quick> {
    match ether_type {
        ether::IPV4 => ipv4(packet, start, ingress),
        ether::IPV6 => ipv6(packet, start, ingress),
        _ => None,
    }
}

#[inline(always)]
fn ipv4(packet: &mut Packet, start: usize, ingress: u32) -> Option<Quick> {
    packet.linear(start + size_of::<Ipv4>()).ok()?;
    let header = packet.at::<Ipv4>(start).ok()?;
    if header.version_length != PLAIN4 || header.fragment & (MORE_FRAGMENTS4 | OFFSET4) != 0 {
        return None;
    }
    let total = usize::from(u16::from_be(header.total_length));
    let quick = Quick {
        key: FlowKey {
            ingress,
            ports: 0,
            protocol: header.protocol.into(),
            source: ip::mapped(header.source),
            destination: ip::mapped(header.destination),
        },
        v4: true,
        ecn: header.traffic_class & 0b11,
        ttl: header.ttl,
        longest: 0,
        flags: ACK,
    };
    // A super-packet above 64 kB has no total length.
    let end = if total == 0 && packet.segment() != 0 {
        packet.len() as usize
    } else {
        start + total
    };
    upper(packet, quick, start, start + size_of::<Ipv4>(), end)
}

#[inline(always)]
fn ipv6(packet: &mut Packet, start: usize, ingress: u32) -> Option<Quick> {
    packet.linear(start + size_of::<Ipv6>()).ok()?;
    let header = packet.at::<Ipv6>(start).ok()?;
    let version_class = u32::from_be(header.version_class_flow);
    if version_class >> 28 != 6 || extension(header.next_header) {
        return None;
    }
    let payload = usize::from(u16::from_be(header.payload_length));
    let quick = Quick {
        key: FlowKey {
            ingress,
            ports: 0,
            protocol: header.next_header.into(),
            source: ip::address(header.source),
            destination: ip::address(header.destination),
        },
        v4: false,
        ecn: (version_class >> 20) as u8 & 0b11,
        ttl: header.hop_limit,
        longest: 0,
        flags: ACK,
    };
    let behind = start + size_of::<Ipv6>();
    let end = if payload == 0 && packet.segment() != 0 {
        packet.len() as usize
    } else {
        behind + payload
    };
    upper(packet, quick, start, behind, end)
}

/// Ports, flags and lengths.
#[inline(always)]
fn upper(packet: &mut Packet, mut quick: Quick, start: usize, at: usize, end: usize) -> Option<Quick> {
    if end > packet.len() as usize || at > end {
        return None;
    }
    let number = quick.key.protocol as u8;
    let whole = match number {
        protocol::TCP => size_of::<Tcp>(),
        protocol::UDP => size_of::<Udp>(),
        protocol::SCTP => SCTP,
        protocol::ICMP if quick.v4 => size_of::<Icmp>(),
        protocol::ICMP6 if !quick.v4 => size_of::<Icmp>(),
        _ => 0,
    };
    if whole != 0 {
        if at + whole > end {
            return None;
        }
        packet.linear(at + size_of::<Udp>()).ok()?;
        quick.key.ports = match number {
            protocol::ICMP | protocol::ICMP6 => echo(packet, at, quick.v4)?,
            _ => u32::from_be(*packet.at::<u32>(at).ok()?),
        };
    }
    if number == protocol::TCP {
        packet.linear(at + size_of::<Tcp>()).ok()?;
        quick.flags = u32::from(packet.at::<Tcp>(at).ok()?.flags) & FLAGS;
        if quick.flags & !FIN != ACK {
            return None;
        }
    }
    quick.longest = transport::longest(packet, start, at, end, number.into()).ok()?;
    Some(quick)
}

/// An echo's type, code and identifier.
#[inline(always)]
fn echo(packet: &Packet, at: usize, v4: bool) -> Option<u32> {
    let icmp = packet.at::<Icmp>(at).ok()?;
    let is_echo = match icmp.kind {
        ECHO_REQUEST | ECHO_REPLY => v4,
        ECHO_REQUEST6 | ECHO_REPLY6 => !v4,
        _ => false,
    };
    if !is_echo {
        return None;
    }
    Some(u32::from(icmp.kind) << 24 | u32::from(icmp.code) << 16 | u32::from(u16::from_be(icmp.rest[0])))
}
