//! Frames, made by etherparse. One can say anything in them: that is what they are for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions,
    Ipv4Header, PacketBuilder,
};

/// Everybody's MAC address.
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// UDP port of VXLAN (RFC 7348 section 8).
const VXLAN: u16 = 4789;
const HOPS: u8 = 64;

/// Who talks: a MAC and an IP address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// MAC address.
    pub mac: [u8; 6],
    /// IP address.
    pub ip: IpAddr,
}

/// A UDP datagram. Both addresses are of one family.
pub fn udp(from: Station, to: Station, port: u16) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2(from.mac, to.mac);
    let ip = match (from.ip, to.ip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), HOPS),
        (from, to) => ethernet.ipv6(v6(from).octets(), v6(to).octets(), HOPS),
    };
    ip.udp(port, port).write(&mut frame, b"fabric test")?;
    Ok(frame)
}

/// UDP as a DHCP server sends it (RFC 2131 section 4.1).
pub fn dhcp_offer(from: Station, to: Station) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip, to.ip) else {
        anyhow::bail!("DHCP is IPv4's")
    };
    // A BOOTREPLY for an Ethernet address; the rest of the message is zeros.
    let mut message = vec![2, 1, 6, 0];
    message.resize(240, 0);
    PacketBuilder::ethernet2(from.mac, to.mac)
        .ipv4(source.octets(), destination.octets(), HOPS)
        .udp(67, 68)
        .write(&mut frame, &message)?;
    Ok(frame)
}

/// An ARP answer: "`sender.ip` is at `sender.mac`", told to `to`, in a frame that comes from `from`.
pub fn arp_reply(from: [u8; 6], sender: Station, to: Station) -> Result<Vec<u8>> {
    let (IpAddr::V4(sender_ip), IpAddr::V4(target_ip)) = (sender.ip, to.ip) else {
        anyhow::bail!("ARP is IPv4's")
    };
    let packet = ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: sender.mac,
        sender_ipv4: sender_ip.octets(),
        target_mac: to.mac,
        target_ipv4: target_ip.octets(),
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from, to.mac)
        .arp(packet.into())
        .write(&mut frame)?;
    Ok(frame)
}

/// A neighbour advertisement (RFC 4861 section 4.4) from `from`: "`target` is at my MAC address".
pub fn neighbour_advertisement(from: Station, to: Station, target: Ipv6Addr) -> Result<Vec<u8>> {
    // Flags: solicited, override. Option 2: target link-layer address.
    let body = [&target.octets()[..], &[2, 1], &from.mac].concat();
    icmpv6(from, to, 136, [0x60, 0, 0, 0], &body)
}

/// A router advertisement (RFC 4861 section 4.2).
pub fn router_advertisement(from: Station, to: Station) -> Result<Vec<u8>> {
    // Hop limit 64, lifetime 1800 s, then reachable time and retransmission timer unspecified.
    icmpv6(from, to, 134, [64, 0, 0x07, 0x08], &[0; 8])
}

/// An ICMPv6 message of neighbour discovery, whose hop limit must be 255.
fn icmpv6(from: Station, to: Station, kind: u8, word: [u8; 4], body: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.mac, to.mac)
        .ipv6(v6(from.ip).octets(), v6(to.ip).octets(), 255)
        .icmpv6_raw(kind, 0, word)
        .write(&mut frame, body)?;
    Ok(frame)
}

/// A frame with nothing but an Ethernet header and a payload.
#[must_use]
pub fn ethernet(from: [u8; 6], to: [u8; 6], ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header {
        source: from,
        destination: to,
        ether_type: EtherType(ether_type),
    };
    [&header.to_bytes()[..], payload].concat()
}

/// The first bytes of a VXLAN packet's UDP payload (RFC 7348 section 5):
///
/// ```text
/// |R|R|R|R|I|R|R|R|   reserved (24)   |   VNI (24)   | reserved (8) |
/// ```
#[must_use]
pub fn vxlan_header(flags: u8, vni: u32) -> [u8; 8] {
    let [_, a, b, c] = vni.to_be_bytes();
    [flags, 0, 0, 0, a, b, c, 0]
}

/// The I flag: the VNI is valid.
pub const VNI_VALID: u8 = 0x08;

/// `inner` tunnelled in `vni`.
pub fn vxlan(from: Station, to: Station, vni: u32, inner: &[u8]) -> Result<Vec<u8>> {
    tunnel(from, to, &[&vxlan_header(VNI_VALID, vni), inner].concat())
}

/// A UDP datagram to the port of VXLAN with any payload.
pub fn tunnel(from: Station, to: Station, payload: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2(from.mac, to.mac);
    let ip = match (from.ip, to.ip) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), HOPS),
        (from, to) => ethernet.ipv6(v6(from).octets(), v6(to).octets(), HOPS),
    };
    ip.udp(50000, VXLAN).write(&mut frame, payload)?;
    Ok(frame)
}

/// The first fragment of a tunnel packet over IPv4.
pub fn first_fragment(from: Station, to: Station, payload: &[u8]) -> Result<Vec<u8>> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip, to.ip) else {
        anyhow::bail!("IPv4 only")
    };
    let udp = [
        &50000u16.to_be_bytes()[..],
        &VXLAN.to_be_bytes(),
        &2000u16.to_be_bytes(),
        &[0, 0],
        payload,
    ]
    .concat();
    let mut header = Ipv4Header::new(
        u16::try_from(udp.len())?,
        HOPS,
        IpNumber::UDP,
        source.octets(),
        destination.octets(),
    )?;
    header.dont_fragment = false;
    header.more_fragments = true;
    header.fragment_offset = IpFragOffset::ZERO;
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(from.mac, to.mac)
        .ip(IpHeaders::Ipv4(header, Ipv4Extensions::default()))
        .write(&mut frame, IpNumber::UDP, &udp)?;
    Ok(frame)
}

/// The link-local address that a MAC address makes (RFC 4291 appendix A).
#[must_use]
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => Ipv4Addr::to_ipv6_mapped(&v4),
        IpAddr::V6(v6) => v6,
    }
}
