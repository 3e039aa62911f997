//! What a router says itself: echo replies, and ICMP errors to the workload whose packet went nowhere (RFC 1812 section
//! 4.3, RFC 4443). Called where a slow path left an answer in its walk; the packet is as the workload sent it.

use aya_ebpf::helpers::generated::bpf_csum_diff;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::checksum::{folded, replaced};
use datapath_common::{LIMIT_ICMP, Reason, Settings};

use crate::encap::{DONT_FRAGMENT, FIXED_GSO, TTL};
use crate::headers::{ETHERNET, Ethernet, Icmp, Ipv4, Ipv6, protocol};
use crate::icmp::{ECHO_REPLY, ECHO_REPLY6};
use crate::maps::SETTINGS;
use crate::packet::Packet;
use crate::walk::{ANSWER_ECHO, QUOTE, Walk};
use crate::{TC_ACT_SHOT, Verdict, action, deliver, ip, kernel, limit, trace};

/// Where the IP header and, in an error, the ICMP header stand.
const IP: usize = ETHERNET;
const ICMP4: usize = IP + size_of::<Ipv4>();
const ICMP6: usize = IP + size_of::<Ipv6>();

/// Called by `slow_endpoint`.
#[classifier]
pub fn router(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    let length = packet.len();
    let (Some(walk), Some(settings)) = (Walk::resume(), SETTINGS.get(0)) else {
        return TC_ACT_SHOT;
    };
    if walk.answer == ANSWER_ECHO {
        let result = echo(&mut packet, walk, settings);
        if result.is_ok() {
            trace::back(&packet, walk.owner, 0);
        }
        return action(result, walk.owner, length);
    }
    // The drop is counted; that it cannot be said is no other one.
    match error(&mut packet, walk, settings) {
        Ok(Verdict::Redirect(action)) => {
            trace::back(&packet, walk.owner, walk.reason);
            action
        }
        _ => TC_ACT_SHOT,
    }
}

/// Turns an echo request into its reply, in place.
#[inline(always)]
fn echo(packet: &mut Packet, walk: &Walk, settings: &Settings) -> Result<Verdict, Reason> {
    let upper = (walk.ip.upper & ip::FARTHEST) as usize;
    packet.linear(upper + size_of::<Icmp>())?;
    let frame = packet.at_mut::<Ethernet>(0)?;
    core::mem::swap(&mut frame.destination, &mut frame.source);
    if walk.ip.v4() {
        echo4(packet)?;
    } else {
        echo6(packet)?;
    }
    let kind = if walk.ip.v4() { ECHO_REPLY } else { ECHO_REPLY6 };
    let icmp = packet.at_mut::<Icmp>(upper)?;
    let old = u16::from_ne_bytes([icmp.kind, icmp.code]);
    icmp.kind = kind;
    // The message's sum, and with it that of the whole packet, stays what it was; swapped addresses change no sum.
    icmp.checksum = replaced(icmp.checksum, old, u16::from_ne_bytes([kind, icmp.code]));
    deliver::back(packet, settings)
}

#[inline(always)]
fn echo4(packet: &mut Packet) -> Result<(), Reason> {
    let header = packet.at_mut::<Ipv4>(IP)?;
    core::mem::swap(&mut header.source, &mut header.destination);
    let old = u16::from_ne_bytes([header.ttl, header.protocol]);
    header.ttl = TTL;
    let new = u16::from_ne_bytes([TTL, header.protocol]);
    header.checksum = replaced(header.checksum, old, new);
    Ok(())
}

#[inline(always)]
fn echo6(packet: &mut Packet) -> Result<(), Reason> {
    let header = packet.at_mut::<Ipv6>(IP)?;
    core::mem::swap(&mut header.source, &mut header.destination);
    // Payload length, next header, hop limit.
    let word = u32::from_be(*packet.at::<u32>(IP + 4)?);
    kernel::store(packet, IP + 4, (word & !0xff | u32::from(TTL)).to_be())
}

/// Makes the error out of the packet that it is about.
#[inline(always)]
fn error(packet: &mut Packet, walk: &mut Walk, settings: &Settings) -> Result<Verdict, Reason> {
    if !limit::take(walk.owner.endpoint, LIMIT_ICMP, walk.nanoseconds) {
        return Err(Reason::RateLimit);
    }
    let quote = (walk.ip.end - IP as u32).min(QUOTE as u32);
    walk.quote = [0; QUOTE];
    packet.load(IP as u32, quote, &mut walk.quote)?;
    packet.resize(IP + quote as usize)?;
    let header = if walk.ip.v4() { ICMP4 } else { ICMP6 } - IP + size_of::<Icmp>();
    kernel::adjust(packet, header as i32, FIXED_GSO).map_err(|_| Reason::Kernel)?;
    packet.linear(IP + header)?;
    let frame = packet.at_mut::<Ethernet>(0)?;
    core::mem::swap(&mut frame.destination, &mut frame.source);
    if walk.ip.v4() {
        error4(packet, walk, quote)?;
    } else {
        error6(packet, walk, quote)?;
    }
    deliver::back(packet, settings)
}

/// The start of the message without its checksum.
#[inline(always)]
fn message(walk: &Walk) -> Icmp {
    let (kind, code) = ((walk.answer >> 8) as u8, walk.answer as u8);
    let mtu = walk.answer_mtu;
    let rest = match (kind, code, walk.ip.v4()) {
        // RFC 1191 section 4; RFC 4443 section 3.2.
        (3, 4, true) | (2, 0, false) => [(mtu >> 16) as u16, mtu as u16],
        _ => [0; 2],
    };
    Icmp {
        kind,
        code,
        checksum: 0,
        rest: [rest[0].to_be(), rest[1].to_be()],
    }
}

/// The sum of the message's words.
#[inline(always)]
fn sum(walk: &mut Walk, message: &Icmp) -> Result<u64, Reason> {
    let quote = walk.quote.as_mut_ptr().cast();
    // SAFETY: the buffer has that many bytes; behind the quote they are zero, which adds nothing.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, quote, QUOTE as u32, 0) };
    if sum < 0 {
        return Err(Reason::Kernel);
    }
    let start = u16::from_ne_bytes([message.kind, message.code]);
    Ok(sum as u64 + u64::from(start) + u64::from(message.rest[0]) + u64::from(message.rest[1]))
}

#[inline(always)]
fn error4(packet: &mut Packet, walk: &mut Walk, quote: u32) -> Result<(), Reason> {
    let mut message = message(walk);
    message.checksum = folded(sum(walk, &message)?);
    let total = (size_of::<Ipv4>() + size_of::<Icmp>()) as u16 + quote as u16;
    let (source, destination) = (ip::words(&walk.gateway)[3], ip::words(&walk.key.source)[3]);
    let sum = u64::from(u16::from_ne_bytes([0x45, 0]))
        + u64::from(total.to_be())
        + u64::from(DONT_FRAGMENT)
        + u64::from(u16::from_ne_bytes([TTL, protocol::ICMP]))
        + u64::from(source)
        + u64::from(destination);
    *packet.at_mut::<Ipv4>(IP)? = Ipv4 {
        version_length: 0x45,
        traffic_class: 0,
        total_length: total.to_be(),
        identification: 0,
        fragment: DONT_FRAGMENT,
        ttl: TTL,
        protocol: protocol::ICMP,
        checksum: folded(sum),
        source,
        destination,
    };
    *packet.at_mut::<Icmp>(ICMP4)? = message;
    Ok(())
}

#[inline(always)]
fn error6(packet: &mut Packet, walk: &mut Walk, quote: u32) -> Result<(), Reason> {
    let mut message = message(walk);
    let payload = size_of::<Icmp>() as u16 + quote as u16;
    let (source, destination) = (ip::words(&walk.gateway), ip::words(&walk.key.source));
    let ends = source.into_iter().chain(destination).map(u64::from).sum::<u64>();
    // The pseudo-header (RFC 8200 section 8.1).
    let pseudo = ends + u64::from(payload.to_be()) + u64::from(u16::from(protocol::ICMP6).to_be());
    message.checksum = folded(pseudo + sum(walk, &message)?);
    *packet.at_mut::<Ipv6>(IP)? = Ipv6 {
        version_class_flow: (6_u32 << 28).to_be(),
        payload_length: payload.to_be(),
        next_header: protocol::ICMP6,
        hop_limit: TTL,
        source,
        destination,
    };
    *packet.at_mut::<Icmp>(ICMP6)? = message;
    Ok(())
}
