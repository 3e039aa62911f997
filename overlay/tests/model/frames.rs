//! Packets, made by etherparse and then bent, not by our own header code.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Ipv4HeaderSlice, PacketBuilder};

use crate::fabric::{WEB, mac};

pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];
/// Last part of the address of the workload with a MAC address; of any other it is db's.
fn last_of(mac: [u8; 6]) -> u8 {
    match mac {
        [2, 0, 0, 0, 0, last @ 5..=7] => last,
        _ => 6,
    }
}

/// UDP over IPv4, to the address of who has the MAC address, or to db.
pub(crate) fn udp4(to: [u8; 6], from: &str, source: [u8; 4], port: u16, payload: usize) -> Vec<u8> {
    let mut targets = [last_of(to), 6, 5].into_iter();
    let target = four(targets.find(|last| *last != source[3]).unwrap());
    let builder = PacketBuilder::ethernet2(mac(from).octets(), to)
        .ipv4(source, target, 64)
        .udp(1000, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0; payload]).unwrap();
    frame
}

pub(crate) fn udp6(to: [u8; 6], from: &str, source: &str, port: u16, payload: usize) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().unwrap();
    let target = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last_of(to).into());
    let builder = PacketBuilder::ethernet2(mac(from).octets(), to)
        .ipv6(source.octets(), target.octets(), 64)
        .udp(1000, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, &vec![0; payload]).unwrap();
    frame
}

/// ICMPv6 of a type and with a body, from an address.
pub(crate) fn icmp6(to: [u8; 6], source: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    let source: Ipv6Addr = source.parse().unwrap();
    let target: Ipv6Addr = "ff02::1".parse().unwrap();
    let builder = PacketBuilder::ethernet2(mac(WEB).octets(), to)
        .ipv6(source.octets(), target.octets(), 255)
        .icmpv6_raw(kind, 0, [0; 4]);
    let mut frame = Vec::new();
    builder.write(&mut frame, body).unwrap();
    frame
}

pub(crate) const SOLICITED_NODE: [u8; 6] = [0x33, 0x33, 0xff, 0, 0, 6];

pub(crate) fn solicitation(source: &str, target: &str) -> Vec<u8> {
    icmp6(
        SOLICITED_NODE,
        source,
        135,
        &target.parse::<Ipv6Addr>().unwrap().octets(),
    )
}

pub(crate) fn advertisement(source: &str, target: &str) -> Vec<u8> {
    icmp6(
        SOLICITED_NODE,
        source,
        136,
        &target.parse::<Ipv6Addr>().unwrap().octets(),
    )
}

pub(crate) fn arp(to: [u8; 6], operation: u16, sender: (&str, [u8; 4]), target: [u8; 4]) -> Vec<u8> {
    let packet = etherparse::ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        etherparse::EtherType::IPV4,
        etherparse::ArpOperation(operation),
        &mac(sender.0).octets(),
        &sender.1,
        &[0; 6],
        &target,
    )
    .unwrap();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac(WEB).octets(), to)
        .arp(packet)
        .write(&mut frame)
        .unwrap();
    frame
}

/// The frame with some bytes changed.
pub(crate) fn with(frame: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    for (at, byte) in changes {
        frame[*at] = *byte;
    }
    frame
}

/// The IPv4 frame with the right checksum in its header.
pub(crate) fn summed(mut frame: Vec<u8>) -> Vec<u8> {
    let header = Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap().to_header();
    frame[24..26].copy_from_slice(&header.calc_header_checksum().to_be_bytes());
    frame
}

/// The IPv6 frame with extension headers of a kind before its upper layer.
pub(crate) fn extended(frame: &[u8], kind: u8, count: usize) -> Vec<u8> {
    let (mut extensions, upper) = (Vec::new(), frame[20]);
    for n in 0..count {
        let next = if n + 1 == count { upper } else { kind };
        extensions.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    }
    let length = u16::from_be_bytes([frame[18], frame[19]]) + extensions.len() as u16;
    let head = with(
        &frame[..54],
        &[(18, (length >> 8) as u8), (19, length as u8), (20, kind)],
    );
    [&head, &extensions, &frame[54..]].concat()
}

pub(crate) fn four(last: u8) -> [u8; 4] {
    [10, 0, 0, last]
}

/// A packet from the underlay: outer headers, a VXLAN header with flags and VNI, an inner frame.
pub(crate) fn tunnelled(source: &str, destination: &str, flags: u8, vni: u32, inner: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    let payload = [&[flags, 0, 0, 0, a, b, c, 0][..], inner].concat();
    let ethernet = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let builder = match (source.parse().unwrap(), destination.parse().unwrap()) {
        (IpAddr::V4(s), IpAddr::V4(d)) => ethernet.ipv4(Ipv4Addr::octets(&s), Ipv4Addr::octets(&d), 64),
        (IpAddr::V6(s), IpAddr::V6(d)) => ethernet.ipv6(Ipv6Addr::octets(&s), Ipv6Addr::octets(&d), 64),
        other => panic!("{other:?}"),
    };
    let mut packet = Vec::new();
    builder.udp(50_000, 4789).write(&mut packet, &payload).unwrap();
    packet
}
