//! Telling our tunnel packets from all else that arrives from the underlay, as cheaply as can be.

use datapath_common::{Address, Settings};

use crate::headers::{ETHERNET, Ipv4, Ipv6, Udp, ether, protocol};
use crate::ip::{self, MORE_FRAGMENTS4, OFFSET4, mapped};
use crate::packet::Packet;

/// The outer header of a tunnel packet.
pub struct Outer {
    /// Who sent it, IPv4 mapped.
    pub source: Address,
    /// Whether it is IPv4.
    pub v4: bool,
    /// Whether it is a first fragment.
    pub fragment: bool,
    /// The two ECN bits.
    pub ecn: u8,
    /// Where the UDP header starts.
    pub udp: usize,
    /// Whether it came to the port of Geneve, not VXLAN.
    pub geneve: bool,
}

/// The outer header, if the packet is UDP to our tunnel address and one of our ports; all else is somebody else's business.
#[inline(always)]
pub fn ours(packet: &mut Packet, settings: &Settings) -> Option<Outer> {
    if packet.tagged() {
        return None;
    }
    let mut outer = match packet.protocol() {
        ether::IPV4 => ipv4(packet, settings)?,
        ether::IPV6 => ipv6(packet, settings)?,
        _ => return None,
    };
    packet.linear(outer.udp + size_of::<Udp>()).ok()?;
    let port = u32::from(u16::from_be(packet.at::<Udp>(outer.udp).ok()?.destination));
    outer.geneve = port == settings.geneve_port && port != settings.port && port != 0;
    (outer.geneve || port == settings.port).then_some(outer)
}

#[inline(always)]
fn ipv4(packet: &mut Packet, settings: &Settings) -> Option<Outer> {
    packet.linear(ETHERNET + size_of::<Ipv4>()).ok()?;
    let header = packet.at::<Ipv4>(ETHERNET).ok()?;
    let length = usize::from(header.version_length & 0xf) * 4;
    if header.protocol != protocol::UDP
        || header.fragment & OFFSET4 != 0
        || header.version_length >> 4 != 4
        || length < size_of::<Ipv4>()
        || ip::words(&mapped(header.destination)) != ip::words(&settings.ipv4)
    {
        return None;
    }
    Some(Outer {
        source: mapped(header.source),
        v4: true,
        fragment: header.fragment & MORE_FRAGMENTS4 != 0,
        ecn: header.traffic_class & 0b11,
        udp: ETHERNET + length,
        geneve: false,
    })
}

#[inline(always)]
fn ipv6(packet: &mut Packet, settings: &Settings) -> Option<Outer> {
    packet.linear(ETHERNET + size_of::<Ipv6>()).ok()?;
    let header = packet.at::<Ipv6>(ETHERNET).ok()?;
    let version_class = u32::from_be(header.version_class_flow);
    if header.next_header != protocol::UDP
        || version_class >> 28 != 6
        || header.destination != ip::words(&settings.ipv6)
        || header.destination == [0; 4]
    {
        return None;
    }
    Some(Outer {
        source: ip::address(header.source),
        v4: false,
        fragment: false,
        ecn: (version_class >> 20) as u8 & 0b11,
        udp: ETHERNET + size_of::<Ipv6>(),
        geneve: false,
    })
}
