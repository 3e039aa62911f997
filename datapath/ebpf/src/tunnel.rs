//! The header behind the outer UDP header: VXLAN (RFC 7348 section 5) or Geneve (RFC 8926 section 3.4). Reserved bits of
//! VXLAN are ignored and counted, or refused with `KERNEL_STRICT`; those of Geneve are ignored.

use datapath_common::{KERNEL_STRICT, Reason, Settings};

use crate::encap::{GENEVE_ETHERNET, VNI_VALID};
use crate::headers::{Geneve, GeneveOption, Udp, Vxlan};
use crate::outer::Outer;
use crate::packet::Packet;
use crate::policy;

/// Least of a tunnel packet from its UDP header on.
const LEAST: usize = size_of::<Udp>() + size_of::<Vxlan>();
/// Ethernet frames in Geneve.
const ETHERNET_BRIDGING: u16 = 0x6558_u16.to_be();
/// Words of options that there can be at most, each option being one at least.
const WORDS: usize = 63;
/// The O and C bits of a header, the C bit of an option's type, and the words of an option's data.
const CONTROL: u8 = 0x80;
const CRITICAL: u8 = 0x40;
const CRITICAL_OPTION: u8 = 0x80;
const OPTION_WORDS: u8 = 0x1f;

/// The bits of the word with the VNI that are reserved.
const RESERVED: u32 = 0xff_u32.to_be();

/// The tunnel header: the VNI and where the inner frame starts.
#[inline(always)]
pub fn parse(packet: &mut Packet, outer: &Outer, settings: &Settings) -> Result<(u32, usize), Reason> {
    packet.linear(outer.udp + LEAST)?;
    let length = usize::from(u16::from_be(packet.at::<Udp>(outer.udp)?.length));
    if length < LEAST || !whole(packet, outer) {
        return Err(Reason::Truncated);
    }
    if !agrees(packet, outer, length) {
        return Err(Reason::OuterLength);
    }
    if outer.geneve {
        return geneve(packet, outer.udp, length);
    }
    let vxlan = packet.at::<Vxlan>(outer.udp + size_of::<Udp>())?;
    if vxlan.flags & VNI_VALID == 0 {
        return Err(Reason::VxlanFlags);
    }
    let (vni, reserved) = (u32::from_be(vxlan.vni) >> 8, reserved(vxlan));
    if reserved {
        if settings.kernel & KERNEL_STRICT != 0 {
            return Err(Reason::VxlanReserved);
        }
        policy::count_reserved(packet.len());
    }
    Ok((vni, outer.udp + LEAST))
}

/// Whether all of the IP packet is there. A super-packet has lengths of its own: where they do not fit, they are written
/// anew for each segment.
#[inline(always)]
fn whole(packet: &Packet, outer: &Outer) -> bool {
    outer.udp + outer.room <= packet.len() as usize || packet.segment() != 0
}

/// Whether UDP is as long as IP leaves room for.
#[inline(always)]
fn agrees(packet: &Packet, outer: &Outer, length: usize) -> bool {
    length == outer.room || packet.segment() != 0
}

/// Whether a bit besides the I flag and the VNI is set.
#[inline(always)]
fn reserved(header: &Vxlan) -> bool {
    (header.flags ^ VNI_VALID) | (header.vni & RESERVED) != 0
}

/// As [`parse`], for the fast path, of a header without anything special.
#[inline(always)]
pub fn plain(packet: &mut Packet, outer: &Outer) -> Option<(u32, usize)> {
    packet.linear(outer.udp + LEAST).ok()?;
    let length = usize::from(u16::from_be(packet.at::<Udp>(outer.udp).ok()?.length));
    let header = packet.at::<Vxlan>(outer.udp + size_of::<Udp>()).ok()?;
    let known = if outer.geneve {
        header.flags == GENEVE_ETHERNET
    } else {
        !reserved(header)
    };
    let vni = u32::from_be(header.vni) >> 8;
    let right = known && length >= LEAST && agrees(packet, outer, length) && whole(packet, outer);
    right.then_some((vni, outer.udp + LEAST))
}

/// We know no option and send none; what is not critical is skipped.
#[inline(always)]
fn geneve(packet: &mut Packet, udp: usize, length: usize) -> Result<(u32, usize), Reason> {
    let header = *packet.at::<Geneve>(udp + size_of::<Udp>())?;
    if header.version_length >> 6 != 0 {
        return Err(Reason::GeneveVersion);
    }
    if header.flags & CONTROL != 0 {
        return Err(Reason::GeneveControl);
    }
    let words = usize::from(header.version_length & 0x3f);
    if header.flags & CRITICAL != 0 || LEAST + 4 * words > length {
        return Err(Reason::GeneveOption);
    }
    if words != 0 {
        options(packet, udp + LEAST, words)?;
    }
    if header.protocol != ETHERNET_BRIDGING {
        return Err(Reason::GeneveProtocol);
    }
    Ok((u32::from_be(header.vni) >> 8, udp + LEAST + 4 * words))
}

/// Refuses options that are critical, or whose lengths do not add up.
#[inline(never)]
fn options(packet: &mut Packet, start: usize, words: usize) -> Result<(), Reason> {
    let end = start + 4 * words;
    if packet.linear(end).is_err() {
        return Err(Reason::GeneveOption);
    }
    let mut at = start;
    for _ in 0..WORDS {
        if at == end {
            return Ok(());
        }
        if at > end {
            return Err(Reason::GeneveOption);
        }
        let option = packet.at::<GeneveOption>(at & 0x7fff)?;
        if option.kind & CRITICAL_OPTION != 0 {
            return Err(Reason::GeneveOption);
        }
        at += 4 * (1 + usize::from(option.length & OPTION_WORDS));
    }
    if at == end { Ok(()) } else { Err(Reason::GeneveOption) }
}
