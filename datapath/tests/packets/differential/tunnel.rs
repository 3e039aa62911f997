//! The outer headers of a packet from the underlay, before they are bytes.

use std::net::IpAddr;

use etherparse::{Ipv4HeaderSlice, PacketBuilder};
use overlay::object::domain::Encapsulation;

use super::hosts::VXLAN;

/// Makes the checksum of a packet's IPv4 header right.
pub(crate) fn resum(packet: &mut [u8]) {
    let header = Ipv4HeaderSlice::from_slice(&packet[14..]).unwrap().to_header();
    packet[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
}

/// Around a frame.
#[derive(Debug, Clone)]
pub(crate) struct Tunnel {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    /// DSCP and ECN.
    pub(crate) class: u8,
    pub(crate) port: u16,
    /// The first byte of VXLAN, the second of Geneve.
    pub(crate) flags: u8,
    pub(crate) vni: u32,
    /// Of Geneve.
    pub(crate) options: Vec<u8>,
    pub(crate) protocol: u16,
}

impl Tunnel {
    pub(crate) fn between(source: IpAddr, destination: IpAddr, encapsulation: Encapsulation, vni: u32) -> Self {
        let geneve = encapsulation == Encapsulation::Geneve;
        Self {
            source,
            destination,
            class: 0,
            port: if geneve { 6081 } else { VXLAN },
            flags: if geneve { 0 } else { 8 },
            vni,
            options: vec![],
            protocol: if geneve { 0x6558 } else { 0 },
        }
    }

    pub(crate) fn is_geneve(&self) -> bool {
        self.port == 6081
    }

    /// Where the tunnel's header starts in the packet.
    pub(crate) fn header(&self) -> usize {
        14 + if self.source.is_ipv4() { 20 } else { 40 } + 8
    }

    pub(crate) fn around(&self, frame: &[u8]) -> Vec<u8> {
        let [_, a, b, c] = self.vni.to_be_bytes();
        let [high, low] = self.protocol.to_be_bytes();
        let first = if self.is_geneve() {
            [(self.options.len() / 4) as u8, self.flags]
        } else {
            [self.flags, 0]
        };
        let payload = [&first[..], &[high, low, a, b, c, 0], &self.options, frame].concat();
        let ethernet = PacketBuilder::ethernet2([2, 0xee, 0, 0, 0, 2], [2, 0xee, 0, 0, 0, 1]);
        let builder = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => ethernet.ipv4(source.octets(), destination.octets(), 64),
            (IpAddr::V6(source), IpAddr::V6(destination)) => ethernet.ipv6(source.octets(), destination.octets(), 64),
            other => panic!("{other:?}"),
        };
        let mut packet = Vec::new();
        builder.udp(50_000, self.port).write(&mut packet, &payload).unwrap();
        if self.source.is_ipv4() {
            packet[15] = self.class;
            resum(&mut packet);
        } else {
            packet[14] = 0x60 | self.class >> 4;
            packet[15] = packet[15] & 0x0f | self.class << 4;
        }
        packet
    }
}
