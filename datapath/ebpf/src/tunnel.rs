//! The header behind the outer UDP header: VXLAN (RFC 7348 section 5) or Geneve (RFC 8926 section 3.4).

use datapath_common::Reason;

use crate::encap::{GENEVE_ETHERNET, VNI_VALID};
use crate::headers::{Geneve, GeneveOption, Udp, Vxlan};
use crate::outer::Outer;
use crate::packet::Packet;

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

/// The tunnel header: the VNI and where the inner frame starts.
#[inline(always)]
pub fn parse(packet: &mut Packet, outer: &Outer) -> Result<(u32, usize), Reason> {
    packet.linear(outer.udp + LEAST)?;
    let length = usize::from(u16::from_be(packet.at::<Udp>(outer.udp)?.length));
    if length < LEAST {
        return Err(Reason::Truncated);
    }
    if outer.geneve {
        return geneve(packet, outer.udp, length);
    }
    let vxlan = packet.at::<Vxlan>(outer.udp + size_of::<Udp>())?;
    if vxlan.flags & VNI_VALID == 0 {
        return Err(Reason::VxlanFlags);
    }
    Ok((u32::from_be(vxlan.vni) >> 8, outer.udp + LEAST))
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
        header.flags & VNI_VALID != 0
    };
    (known && length >= LEAST).then_some((u32::from_be(header.vni) >> 8, outer.udp + LEAST))
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
