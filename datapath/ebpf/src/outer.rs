//! Telling our tunnel packets from all else that arrives from the underlay, as cheaply as can be.

use datapath_common::checksum::folded;
use datapath_common::{Address, Reason, Settings};

use crate::headers::{ETHERNET, Ipv4, Ipv6, Udp, ether, protocol};
use crate::ip::{self, MORE_FRAGMENTS4, OFFSET4, mapped};
use crate::packet::Packet;

/// Words of the longest IPv4 header.
const WORDS4: usize = 15;

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
    /// Bytes that the IP header leaves for UDP and what is behind it.
    pub room: usize,
    /// Whether hop limit, IPv4's checksum and the family of an IPv6 source are as they have to be; never with IPv4 options.
    pub sound: bool,
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
    let total = usize::from(u16::from_be(header.total_length));
    let plain = length == size_of::<Ipv4>() && header.ttl != 0;
    let sound = plain && folded(words(header)) == 0;
    Some(Outer {
        source: mapped(header.source),
        v4: true,
        fragment: header.fragment & MORE_FRAGMENTS4 != 0,
        ecn: header.traffic_class & 0b11,
        udp: ETHERNET + length,
        room: total.saturating_sub(length),
        sound,
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
    let source = ip::address(header.source);
    Some(Outer {
        source,
        v4: false,
        fragment: false,
        ecn: (version_class >> 20) as u8 & 0b11,
        udp: ETHERNET + size_of::<Ipv6>(),
        room: usize::from(u16::from_be(header.payload_length)),
        sound: header.hop_limit != 0 && !ip::pretends(&source),
        geneve: false,
    })
}

/// The sum of a header's words.
#[inline(always)]
fn words(header: &Ipv4) -> u64 {
    // SAFETY: same size, and any bytes are valid words.
    let words: [u32; 5] = unsafe { core::mem::transmute(*header) };
    words.into_iter().map(u64::from).sum()
}

/// Refuses a header that no host sends, and that no router should have let through: what [`Outer::sound`] says no to. The
/// IP header ends at `udp`.
#[inline(never)]
pub fn check(packet: &mut Packet, v4: bool, udp: usize) -> Result<(), Reason> {
    // It is; without this the compiler would hand over the ends of the packet, which the verifier does not let it do.
    packet.linear(udp)?;
    if !v4 {
        let header = packet.at::<Ipv6>(ETHERNET)?;
        // Hosts are known by mapped addresses: this one was taken for another host's.
        if ip::pretends(&ip::address(header.source)) {
            return Err(Reason::UnknownVtep);
        }
        return if header.hop_limit == 0 {
            Err(Reason::OuterTtl)
        } else {
            Ok(())
        };
    }
    let header = packet.at::<Ipv4>(ETHERNET)?;
    if header.ttl == 0 {
        return Err(Reason::OuterTtl);
    }
    // Not from `udp`: the verifier would follow each length for itself from here on.
    let words = usize::from(header.version_length & 0xf);
    let mut sum = 0;
    for index in 0..WORDS4 {
        if index >= words {
            break;
        }
        sum += u64::from(*packet.at::<u32>(ETHERNET + 4 * index)?);
    }
    if folded(sum) == 0 {
        Ok(())
    } else {
        Err(Reason::OuterChecksum)
    }
}
