//! Path probes (`datapath_common::probe`): requests are answered in place, answers are noted for user space. Only hosts
//! of the cluster get here, an answer is never answered, and what is answered has a limit per host.

use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use datapath_common::checksum::folded;
use datapath_common::probe::{
    ECHOES, PROBE_ETHER_TYPE, PROBE_MAGIC, PROBE_PAYLOAD, PROBE_REPLY, PROBE_REQUEST, PROBE_VERSION, PROBE_VNI,
    ProbeHeader, echo, echoed, follows, granted,
};
use datapath_common::{Address, Reason};

use crate::drop::Owner;
use crate::encap::{DONT_FRAGMENT, TTL};
use crate::headers::{ETHERNET, Ethernet, Header, Ipv4, Ipv6, TUNNEL, Udp, protocol};
use crate::maps::{PROBERS, PROBES};
use crate::outer::Outer;
use crate::owner::group;
use crate::packet::Packet;
use crate::{TC_ACT_REDIRECT, Verdict, device, kernel, trace};

// SAFETY: repr(C) of integers; its size is asserted where it is defined, so that there is no padding.
unsafe impl Header for ProbeHeader {}

/// What becomes of a packet of the probe VNI that came from host number `host`.
#[inline(always)]
pub fn receive(packet: &mut Packet, outer: &Outer, host: u32) -> Result<Verdict, Reason> {
    let header = *parse(packet, outer)?;
    match header.kind {
        PROBE_REQUEST => answer(packet, outer, host),
        PROBE_REPLY => note(outer, &header),
        _ => Err(Reason::ProbeMalformed),
    }
}

/// What becomes of a probe from host number `host` that a tunnel device took out of its tunnel: an answer goes back by it.
#[inline(always)]
pub fn by_device(packet: &mut Packet, outer: &Outer, host: u32, local: &Address) -> Result<Verdict, Reason> {
    let header = *untunnelled(packet)?;
    match header.kind {
        PROBE_REQUEST => {
            grant(host)?;
            packet.at_mut::<ProbeHeader>(ETHERNET)?.kind = PROBE_REPLY;
            trace::back(packet, Owner::NOBODY, 0);
            let device = packet.ifindex();
            device::through(packet, local, &outer.source, PROBE_VNI, device)?;
            Ok(Verdict::Redirect(TC_ACT_REDIRECT))
        }
        PROBE_REPLY => note(outer, &header),
        _ => Err(Reason::ProbeMalformed),
    }
}

/// Notes a request of this host to itself that a tunnel device took out of its tunnel: the self-test of that way.
#[inline(always)]
pub fn returned(packet: &mut Packet, outer: &Outer) -> Result<Verdict, Reason> {
    let header = *untunnelled(packet)?;
    note(outer, &header)
}

/// The header of a probe that is out of its tunnel.
#[inline(always)]
fn untunnelled(packet: &mut Packet) -> Result<&ProbeHeader, Reason> {
    packet
        .linear(ETHERNET + size_of::<ProbeHeader>())
        .map_err(|_| Reason::ProbeMalformed)?;
    let ether_type = packet.at::<Ethernet>(0)?.ether_type;
    let header = packet.at::<ProbeHeader>(ETHERNET)?;
    let known = header.magic == PROBE_MAGIC.to_be() && header.version == PROBE_VERSION;
    if known && ether_type == PROBE_ETHER_TYPE.to_be() {
        Ok(header)
    } else {
        Err(Reason::ProbeMalformed)
    }
}

/// Whether a host gets another answer.
#[inline(always)]
fn grant(host: u32) -> Result<(), Reason> {
    let full = PROBERS.get_ptr_mut(host).ok_or(Reason::ProbeRate)?;
    // SAFETY: the entry is there as long as the map; two CPUs at once may give one answer more.
    let full = unsafe { &mut *full };
    *full = granted(*full, now()).ok_or(Reason::ProbeRate)?;
    Ok(())
}

/// The header of a probe, which is one packet whose UDP length is true.
#[inline(always)]
fn parse<'a>(packet: &'a mut Packet, outer: &Outer) -> Result<&'a ProbeHeader, Reason> {
    let start = outer.udp + TUNNEL;
    packet
        .linear(start + size_of::<ProbeHeader>())
        .map_err(|_| Reason::ProbeMalformed)?;
    let length = usize::from(u16::from_be(packet.at::<Udp>(outer.udp)?.length));
    let inner = packet.at::<Ethernet>(start - ETHERNET)?;
    let has_options = outer.v4 && outer.udp != ETHERNET + size_of::<Ipv4>();
    if has_options
        || packet.segment() != 0
        || length < size_of::<Udp>() + PROBE_PAYLOAD
        || outer.udp + length > packet.len() as usize
        || inner.ether_type != PROBE_ETHER_TYPE.to_be()
    {
        return Err(Reason::ProbeMalformed);
    }
    let header = packet.at::<ProbeHeader>(start)?;
    if header.magic != PROBE_MAGIC.to_be() || header.version != PROBE_VERSION {
        return Err(Reason::ProbeMalformed);
    }
    Ok(header)
}

/// Sends the request back to where it came from, by the interface and the neighbour it came from. Ports stay: the
/// tunnels' port is the destination on both legs, and the source port leads both by the same path, if paths are chosen
/// by ports.
#[inline(always)]
fn answer(packet: &mut Packet, outer: &Outer, host: u32) -> Result<Verdict, Reason> {
    let link = *packet.at::<Ethernet>(0)?;
    if group(link.destination) || group(link.source) {
        return Err(Reason::ProbeMalformed);
    }
    grant(host)?;
    *packet.at_mut::<Ethernet>(0)? = Ethernet {
        destination: link.source,
        source: link.destination,
        ether_type: link.ether_type,
    };
    if outer.v4 {
        turn4(packet.at_mut::<Ipv4>(ETHERNET)?);
    } else {
        turn6(packet.at_mut::<Ipv6>(ETHERNET)?);
    }
    // As in all tunnel packets (`encap`).
    packet.at_mut::<Udp>(outer.udp)?.checksum = 0;
    packet.at_mut::<ProbeHeader>(outer.udp + TUNNEL)?.kind = PROBE_REPLY;
    trace::back(packet, Owner::NOBODY, 0);
    kernel::redirect(packet.ifindex())
}

/// Swaps the ends; all else is as in a tunnel packet of our own, Not-ECT.
#[inline(always)]
fn turn4(header: &mut Ipv4) {
    let (source, destination, total_length) = (header.destination, header.source, header.total_length);
    let sum = u64::from(u16::from_ne_bytes([0x45, 0]))
        + u64::from(total_length)
        + u64::from(DONT_FRAGMENT)
        + u64::from(u16::from_ne_bytes([TTL, protocol::UDP]))
        + u64::from(source)
        + u64::from(destination);
    *header = Ipv4 {
        version_length: 0x45,
        traffic_class: 0,
        total_length,
        identification: 0,
        fragment: DONT_FRAGMENT,
        ttl: TTL,
        protocol: protocol::UDP,
        checksum: folded(sum),
        source,
        destination,
    };
}

/// As [`turn4`]; the flow label stays.
#[inline(always)]
fn turn6(header: &mut Ipv6) {
    let label = u32::from_be(header.version_class_flow) & 0x000f_ffff;
    *header = Ipv6 {
        version_class_flow: (6 << 28 | label).to_be(),
        payload_length: header.payload_length,
        next_header: protocol::UDP,
        hop_limit: TTL,
        source: header.destination,
        destination: header.source,
    };
}

/// Notes an answer to a request of ours. The first one counts; a later number is not overwritten by a late one.
#[inline(always)]
fn note(outer: &Outer, header: &ProbeHeader) -> Result<Verdict, Reason> {
    let probed = PROBES.get_ptr_mut(outer.source).ok_or(Reason::ProbeUnexpected)?;
    // SAFETY: the entry is not freed before this run ends; all of it are words that are written whole.
    let probed = unsafe { &mut *probed };
    let sequence = u32::from_be(header.sequence);
    if probed.nonce != u64::from_be(header.nonce) {
        return Err(Reason::ProbeUnexpected);
    }
    let slot = &mut probed.echoes[sequence as usize % ECHOES];
    if follows(sequence, echoed(*slot).0) {
        *slot = echo(sequence, now().saturating_sub(u64::from_be(header.sent)));
    }
    Ok(Verdict::Taken)
}

/// The clock that user space calls `CLOCK_MONOTONIC`.
#[inline(always)]
fn now() -> u64 {
    // SAFETY: it only reads a clock.
    unsafe { bpf_ktime_get_ns() }
}
