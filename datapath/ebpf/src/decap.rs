//! Taking a frame out of its tunnel and delivering it.

use datapath_common::checksum::replaced;
use datapath_common::{Flow, KERNEL_DECAP_L3, Reason, Settings, ecn};

use crate::encap::FIXED_GSO;
use crate::headers::{ETHERNET, Ethernet, Ipv4, Ipv6, SHORTEST, ether};
use crate::packet::Packet;
use crate::{Verdict, deliver, kernel, trace};

/// `BPF_F_ADJ_ROOM_DECAP_L3_*`: what the packet is after the outer header is gone.
const DECAP_L3_IPV4: u64 = 1 << 7;
const DECAP_L3_IPV6: u64 = 1 << 8;

/// What delivering needs to know of a tunnel packet.
#[derive(Clone, Copy)]
pub struct Inner {
    /// Where its Ethernet header starts; 0 if the kernel took it out already.
    pub start: usize,
    pub v4: bool,
    /// ECN bits of both headers.
    pub ecn: u8,
    pub outer_ecn: u8,
    pub outer_v4: bool,
    /// The decision came from `FLOWS`.
    pub fast: bool,
}

/// Delivers the inner frame where its flow says. With `Ecn`, the packet is as it was.
#[inline(always)]
pub fn follow(packet: &mut Packet, flow: &Flow, inner: &Inner, settings: &Settings) -> Result<Verdict, Reason> {
    let congestion = ecn::decapsulated(inner.ecn, inner.outer_ecn).ok_or(Reason::Ecn)?;
    if congestion != inner.ecn {
        mark(packet, inner.start + ETHERNET, inner.v4, congestion)?;
    }
    trace::delivers(settings, flow, inner.fast);
    let protocol_agrees = shrink(packet, inner, settings.kernel)?;
    let ether_type = if inner.v4 { ether::IPV4 } else { ether::IPV6 };
    *packet.at_mut::<Ethernet>(0)? = Ethernet::with(flow.leaves, ether_type);
    deliver::to(packet, flow, settings, protocol_agrees)
}

/// Closes the room of the tunnel's headers; whether the kernel's idea of the ethertype is the inner one.
#[inline(always)]
pub fn shrink(packet: &mut Packet, inner: &Inner, kernel: u32) -> Result<bool, Reason> {
    if inner.start == 0 {
        return Ok(true);
    }
    let agrees = inner.outer_v4 == inner.v4;
    let knows = kernel & KERNEL_DECAP_L3 != 0;
    let flags = match (agrees, knows, inner.v4) {
        (true, ..) | (_, false, _) => FIXED_GSO,
        (_, _, true) => FIXED_GSO | DECAP_L3_IPV4,
        (_, _, false) => FIXED_GSO | DECAP_L3_IPV6,
    };
    // A kernel that cannot be told leaves no less than an IPv6 header of what it takes for IPv6: short frames are padded
    // as on a wire, by the sender if it can, else here.
    if !agrees && !knows && (packet.len() as usize) < inner.start + SHORTEST {
        packet.resize(inner.start + SHORTEST)?;
    }
    match kernel::adjust(packet, -(inner.start as i32), flags) {
        Ok(()) => Ok(agrees || knows),
        Err(_) => Err(Reason::Kernel),
    }
}

/// Writes the ECN bits of the IP header at `offset`.
#[inline(always)]
pub fn mark(packet: &mut Packet, offset: usize, v4: bool, congestion: u8) -> Result<(), Reason> {
    if v4 {
        let header = packet.at_mut::<Ipv4>(offset)?;
        let class = header.traffic_class & !0b11 | congestion;
        let old = u16::from_ne_bytes([header.version_length, header.traffic_class]);
        let new = u16::from_ne_bytes([header.version_length, class]);
        header.traffic_class = class;
        // The header's sum stays what it was, and with it the sum of the whole packet that a device may have computed.
        header.checksum = replaced(header.checksum, old, new);
        return Ok(());
    }
    let word = u32::from_be(packet.at::<Ipv6>(offset)?.version_class_flow);
    let word = (word & !(0b11 << 20) | u32::from(congestion) << 20).to_be();
    kernel::store(packet, offset, word)
}
