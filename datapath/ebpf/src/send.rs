//! Doing with a workload's packet what its flow says, whether that was decided long ago or just now.

use datapath_common::checksum::replaced;
use datapath_common::entropy::Entropy;
use datapath_common::{FLOW_ENCAPSULATE, FLOW_GENEVE, FLOW_ROUTED, Flow, Reason, Settings};

use crate::encap::{self, Tunnel};
use crate::headers::{ETHERNET, Ethernet, Ipv4, ether};
use crate::packet::Packet;
use crate::{Verdict, deliver, kernel, trace};

/// What sending needs to know of the packet.
#[derive(Clone, Copy)]
pub struct Load {
    pub v4: bool,
    pub ecn: u8,
    pub entropy: Entropy,
    /// The longest IP packet in it.
    pub longest: usize,
    /// The decision came from `FLOWS`.
    pub fast: bool,
}

/// Sends it. With `Mtu` and `NoRoute`, the packet is as it was.
#[inline(always)]
pub fn follow(packet: &mut Packet, flow: &Flow, load: &Load, settings: &Settings) -> Result<Verdict, Reason> {
    let ether_type = if load.v4 { ether::IPV4 } else { ether::IPV6 };
    let leaves = Ethernet::with(flow.leaves, ether_type);
    if flow.flags & FLOW_ENCAPSULATE == 0 {
        if flow.flags & FLOW_ROUTED != 0 {
            count_down(packet, load.v4)?;
            *packet.at_mut::<Ethernet>(0)? = leaves;
        }
        trace::delivers(settings, flow, load.fast);
        return deliver::to(packet, flow, settings, true);
    }
    let tunnel = Tunnel::of(flow, packet, load)?;
    if flow.flags & FLOW_ROUTED != 0 {
        count_down(packet, load.v4)?;
    }
    trace::tunnels(settings, flow, tunnel.peer.ifindex, load.fast);
    encap::send(packet, &leaves, load, &tunnel, settings)
}

/// The tunnel's UDP port, host order.
#[inline(always)]
pub fn port(flow: &Flow, settings: &Settings) -> u16 {
    let port = if flow.flags & FLOW_GENEVE != 0 {
        settings.geneve_port
    } else {
        settings.port
    };
    port as u16
}

/// Counts the TTL or hop limit down, which is more than 1.
#[inline(always)]
fn count_down(packet: &mut Packet, v4: bool) -> Result<(), Reason> {
    if !v4 {
        // Payload length, next header, hop limit.
        let word = u32::from_be(*packet.at::<u32>(ETHERNET + 4)?);
        return kernel::store(packet, ETHERNET + 4, (word - 1).to_be());
    }
    let header = packet.at_mut::<Ipv4>(ETHERNET)?;
    let old = u16::from_ne_bytes([header.ttl, header.protocol]);
    header.ttl -= 1;
    let new = u16::from_ne_bytes([header.ttl, header.protocol]);
    // The header's sum stays what it was, and with it the sum of the whole packet that a device may have computed.
    header.checksum = replaced(header.checksum, old, new);
    Ok(())
}
