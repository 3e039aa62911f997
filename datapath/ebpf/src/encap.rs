//! Sending a frame through a tunnel: VXLAN (RFC 7348) or Geneve without options (RFC 8926), over IPv4 or IPv6.
//!
//! The outer DSCP is 0, so that a workload cannot choose its priority in the underlay; ECN is copied (RFC 6040 normal
//! mode). IPv4 has DF set and thus identification 0 (RFC 6864). The UDP checksum is 0: over IPv4 as RFC 7348 says, over
//! IPv6 by RFC 6935, under the conditions of RFC 6936: both ends are ours, the receiver takes zero checksums on this one
//! port only, checks that source, VNI, inner MAC and inner address belong together, and inner packets have checksums of
//! their own. What an intermediate node corrupts is dropped there or by the inner checksum, as it would be on the wire.

use datapath_common::checksum::folded;
use datapath_common::{FLOW_GENEVE, Flow, PEER_RESOLVED, Peer, Reason, Settings};

use crate::headers::{ETHERNET, Ethernet, Ipv4, Ipv6, SHORTEST, TUNNEL, Udp, Vxlan, ether, protocol};
use crate::ip;
use crate::maps::PEERS;
use crate::owner::mac_words;
use crate::packet::Packet;
use crate::send::Load;
use crate::{TC_ACT_REDIRECT, Verdict, device, kernel};

pub const TTL: u8 = 64;
pub const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
/// The I flag.
pub const VNI_VALID: u32 = 0x0800_0000_u32.to_be();
/// Geneve of version 0 without options and flags, of Ethernet frames.
pub const GENEVE_ETHERNET: u32 = 0x0000_6558_u32.to_be();
/// What `bpf_skb_adjust_room` returns for a packet that is encapsulated already.
const EALREADY: i64 = -114;

/// `BPF_F_ADJ_ROOM_*`. Sizes of segments stay as they are: they are the inner flow's.
pub const FIXED_GSO: u64 = 1;
const ENCAP_L3_IPV4: u64 = 1 << 1;
const ENCAP_L3_IPV6: u64 = 1 << 2;
const ENCAP_L4_UDP: u64 = 1 << 4;
const ENCAP_L2_ETH: u64 = 1 << 6;
const ENCAP_L2: u64 = (ETHERNET as u64) << 56;

/// A way through the underlay that a packet fits.
pub struct Tunnel {
    pub peer: &'static Peer,
    /// Bytes of the outer IP header.
    pub outer: usize,
    /// First word behind the UDP header, in network order.
    start: u32,
    vni: u32,
}

impl Tunnel {
    /// The flow's tunnel.
    #[inline(always)]
    pub fn of(flow: &Flow, packet: &Packet, load: &Load) -> Result<Self, Reason> {
        Self::to(flow.target, flow, longest(packet, load.longest))
    }

    /// The tunnel to a host, for frames that are without their Ethernet headers no longer than this.
    #[inline(always)]
    pub fn to(host: u32, flow: &Flow, longest: usize) -> Result<Self, Reason> {
        let peer = PEERS.get(host).ok_or(Reason::NoRoute)?;
        if peer.ifindex == 0 {
            return Err(Reason::NoRoute);
        }
        let outer = outer(peer);
        if longest + TUNNEL + outer > peer.mtu as usize {
            return Err(Reason::Mtu);
        }
        let geneve = flow.flags & FLOW_GENEVE != 0;
        Ok(Self {
            peer,
            outer,
            start: if geneve { GENEVE_ETHERNET } else { VNI_VALID },
            vni: flow.vni,
        })
    }
}

/// The longest payload of an Ethernet header in a packet whose longest IP packet is known.
#[inline(always)]
pub fn longest(packet: &Packet, longest: usize) -> usize {
    if packet.segment() == 0 {
        // Padding behind the IP packet travels, too.
        packet.len() as usize - ETHERNET
    } else {
        longest
    }
}

/// Bytes of the outer IP header to a host.
#[inline(always)]
fn outer(peer: &Peer) -> usize {
    if ip::pretends(&peer.remote) {
        size_of::<Ipv4>()
    } else {
        size_of::<Ipv6>()
    }
}

/// The longest IP packet that fits a flow's tunnel.
#[inline(always)]
pub fn room(flow: &Flow) -> u32 {
    match PEERS.get(flow.target) {
        Some(peer) => peer.mtu.saturating_sub((TUNNEL + outer(peer)) as u32),
        None => 0,
    }
}

/// Sends an IP frame through a tunnel, with the Ethernet header `frame`.
#[inline(always)]
pub fn send(
    packet: &mut Packet,
    frame: &Ethernet,
    load: &Load,
    tunnel: &Tunnel,
    settings: &Settings,
) -> Result<Verdict, Reason> {
    let (port, device) = if tunnel.start == GENEVE_ETHERNET {
        (settings.geneve_port as u16, settings.geneve_device)
    } else {
        (settings.port as u16, settings.vxlan_device)
    };
    let (peer, outer) = (tunnel.peer, tunnel.outer);
    let v4 = outer == size_of::<Ipv4>();
    if load.v4 && !v4 && (packet.len() as usize) < SHORTEST {
        // As on a wire: a receiver before Linux 6.3 cannot take a shorter frame out of IPv6 (`decap::shrink`). Where the
        // kernel refuses, because the packet is encapsulated already, the frame travels as it is.
        let _ = packet.resize(SHORTEST);
    }
    let inner = packet.len() as usize;
    let agrees = match grow(packet, TUNNEL + outer, v4, load.v4) {
        Ok(agrees) => agrees,
        Err(EALREADY) => {
            device::send(packet, peer, frame, tunnel.vni, device)?;
            return Ok(Verdict::Redirect(TC_ACT_REDIRECT));
        }
        Err(_) => return Err(Reason::Kernel),
    };
    write(packet, frame, load, tunnel, port, inner)?;
    leave(peer, agrees)
}

/// Writes the headers of a tunnel into the room before a frame of `inner` bytes.
#[inline(always)]
pub fn write(
    packet: &mut Packet,
    frame: &Ethernet,
    load: &Load,
    tunnel: &Tunnel,
    port: u16,
    inner: usize,
) -> Result<(), Reason> {
    let (peer, outer) = (tunnel.peer, tunnel.outer);
    let remote = ip::words(&peer.remote);
    let v4 = outer == size_of::<Ipv4>();
    // A length that does not fit is a super-packet's, which is written anew for each segment.
    let udp_length = (inner + size_of::<Udp>() + size_of::<Vxlan>()).min(0xffff) as u16;
    let resolved = peer.flags & PEER_RESOLVED != 0;
    let link = Ethernet {
        destination: if resolved {
            mac_words(&peer.next_hop_mac)
        } else {
            [0; 3]
        },
        source: if resolved { mac_words(&peer.source_mac) } else { [0; 3] },
        ether_type: if v4 { ether::IPV4 } else { ether::IPV6 },
    };
    *packet.at_mut::<Ethernet>(0)? = link;
    let local = ip::words(&peer.local);
    if v4 {
        *packet.at_mut::<Ipv4>(ETHERNET)? = ipv4(local[3], remote[3], udp_length, load.ecn);
    } else {
        *packet.at_mut::<Ipv6>(ETHERNET)? = ipv6(local, remote, udp_length, load.ecn, load.entropy.flow_label());
    }
    let offset = ETHERNET + outer;
    *packet.at_mut::<Udp>(offset)? = Udp {
        source: load.entropy.port().to_be(),
        destination: port.to_be(),
        length: udp_length.to_be(),
        checksum: 0,
    };
    *packet.at_mut::<Vxlan>(offset + size_of::<Udp>())? = Vxlan {
        flags: tunnel.start,
        vni: (tunnel.vni << 8).to_be(),
    };
    *packet.at_mut::<Ethernet>(offset + size_of::<Udp>() + size_of::<Vxlan>())? = *frame;
    Ok(())
}

/// Sends what is written on to a host's next hop. `agrees`: the kernel takes the packet for what its outer header says.
#[inline(always)]
pub fn leave(peer: &Peer, agrees: bool) -> Result<Verdict, Reason> {
    if peer.flags & PEER_RESOLVED != 0 {
        kernel::redirect(peer.ifindex)
    } else if agrees {
        kernel::redirect_neighbour(peer.ifindex, &peer.next_hop, ip::pretends(&peer.next_hop))
    } else {
        // The kernel would take the outer header for one of the inner family.
        Err(Reason::Kernel)
    }
}

/// Opens room for the tunnel's headers and tells the kernel what they are; whether its idea of the ethertype is the
/// outer one. `EALREADY`: a super-packet in a tunnel, as it was.
#[inline(always)]
pub fn grow(packet: &mut Packet, bytes: usize, outer_v4: bool, inner_v4: bool) -> Result<bool, i64> {
    let layer3 = if outer_v4 { ENCAP_L3_IPV4 } else { ENCAP_L3_IPV6 };
    let flags = FIXED_GSO | layer3 | ENCAP_L4_UDP | ENCAP_L2_ETH | ENCAP_L2;
    match kernel::adjust(packet, bytes as i32, flags) {
        Ok(()) => Ok(true),
        // The workload forwards what came out of a tunnel, or has one of its own. The kernel keeps one tunnel's offsets
        // only, which it needs for super-packets alone.
        Err(EALREADY) if packet.segment() == 0 => {
            kernel::adjust(packet, bytes as i32, FIXED_GSO)?;
            Ok(outer_v4 == inner_v4)
        }
        Err(error) => Err(error),
    }
}

#[inline(always)]
fn ipv4(source: u32, destination: u32, udp_length: u16, ecn: u8) -> Ipv4 {
    let total_length = (udp_length.saturating_add(size_of::<Ipv4>() as u16)).to_be();
    let header = Ipv4 {
        version_length: 0x45,
        traffic_class: ecn,
        total_length,
        identification: 0,
        fragment: DONT_FRAGMENT,
        ttl: TTL,
        protocol: protocol::UDP,
        checksum: 0,
        source,
        destination,
    };
    let sum = u64::from(u16::from_ne_bytes([header.version_length, header.traffic_class]))
        + u64::from(total_length)
        + u64::from(DONT_FRAGMENT)
        + u64::from(u16::from_ne_bytes([TTL, protocol::UDP]))
        + u64::from(source)
        + u64::from(destination);
    Ipv4 {
        checksum: folded(sum),
        ..header
    }
}

#[inline(always)]
fn ipv6(source: [u32; 4], destination: [u32; 4], udp_length: u16, ecn: u8, flow_label: u32) -> Ipv6 {
    Ipv6 {
        version_class_flow: (6 << 28 | u32::from(ecn) << 20 | flow_label).to_be(),
        payload_length: udp_length.to_be(),
        next_header: protocol::UDP,
        hop_limit: TTL,
        source,
        destination,
    }
}
