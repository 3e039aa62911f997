//! Giving packets to user space and delivering those it gives: `datapath_common::punt`. What is taken passed the sender's
//! rules and opened a connection, so that an answer is one; what user space has delivered passes the receiver's.

use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::punt::{PUNT_BYTES, PUNT_TAKE, PuntHeader, PuntKey, PuntRule};
use datapath_common::{FLOW_TUNNEL, HERE, LIMIT_PUNT, Port, Reason, Segment, slot};

use crate::headers::{ETHERNET, Ethernet, Header};
use crate::icmp::{self, Kind};
use crate::maps::{PUNT, PUNTS};
use crate::owner::{mac_bytes, owns, receives, station};
use crate::packet::Packet;
use crate::slow_endpoint::deliver_to;
use crate::transport::is_icmp;
use crate::walk::{IP_FRAGMENT, On, Walk};
use crate::{TC_ACT_SHOT, Verdict, connection, entry, finish, ip, limit, transport};

// SAFETY: repr(C) of integers; its size is asserted where it is defined, so that there is no padding.
unsafe impl Header for PuntHeader {}

/// Where the frame starts in what user space writes.
const START: usize = ETHERNET + size_of::<PuntHeader>();

/// A record of `PUNTS`.
#[repr(C)]
pub struct Record {
    header: PuntHeader,
    frame: [u8; PUNT_BYTES],
}

/// Gives a workload's IP packet to user space if a rule asks for it; the verdict if it goes nowhere else.
#[inline(always)]
pub fn ask(packet: &Packet, walk: &mut Walk, port: &Port, frame: &Ethernet) -> Result<Option<Verdict>, Reason> {
    let Some(rule) = rule(walk, port.vni) else {
        return Ok(None);
    };
    let take = rule.action == PUNT_TAKE;
    // What is not its own is refused as ever; but who asks for an address has none.
    let nameless = take && ip::words(&walk.key.source)[3] == 0 && walk.ip.v4();
    walk.source_vni = port.vni;
    if !nameless && !owns(walk, port.vni, frame.source) {
        return Ok(None);
    }
    walk.cache = false;
    if !limit::take(port.endpoint, LIMIT_PUNT, walk.nanoseconds) {
        return if take { Err(Reason::RateLimit) } else { Ok(None) };
    }
    if take && !nameless {
        walk.flow.endpoint = 0;
        receives(walk, port.vni, frame.destination);
        connection::permit(walk, false, false)?;
    }
    let written = write(packet, port, rule);
    if !take {
        return Ok(None);
    }
    written.map(|()| Some(Verdict::Taken))
}

/// What is asked for. Fragments are none of user space's business.
#[inline(always)]
fn rule(walk: &Walk, vni: u32) -> Option<&'static PuntRule> {
    if walk.ip.is(IP_FRAGMENT) {
        return None;
    }
    let port = if is_icmp(walk.key.protocol, walk.ip.v4()) {
        walk.ip.icmp >> 8
    } else {
        walk.key.ports & 0xffff
    };
    let protocol = walk.key.protocol;
    entry::punt(PuntKey { vni, protocol, port })
}

/// Writes the record. Where user space is slow, the packet is too much.
#[inline(always)]
fn write(packet: &Packet, port: &Port, rule: &PuntRule) -> Result<(), Reason> {
    let record = PUNT.get_ptr_mut(0).ok_or(Reason::NoProgram)?;
    // SAFETY: this CPU's only value, of which nobody else has a reference.
    let record = unsafe { &mut *record };
    let length = packet.len();
    let captured = length.min(PUNT_BYTES as u32);
    record.header = PuntHeader {
        domain: port.domain,
        endpoint: port.endpoint,
        vni: port.vni,
        kind: rule.kind,
        length,
        captured,
    };
    packet.load(0, captured, &mut record.frame)?;
    // In this form the verifier sees the bounds.
    let bytes = (captured.wrapping_sub(1) & (PUNT_BYTES as u32 - 1)) + 1 + size_of::<PuntHeader>() as u32;
    let from = core::ptr::from_mut(record).cast();
    let map = (&raw const PUNTS).cast_mut().cast();
    // SAFETY: the record has that many bytes.
    match unsafe { bpf_ringbuf_output(map, from, bytes.into(), 0) } {
        0 => Ok(()),
        _ => Err(Reason::RateLimit),
    }
}

/// At the ingress of the interface by which user space has packets delivered.
#[classifier]
pub fn from_punt(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    let length = packet.len();
    let Some(walk) = Walk::start() else {
        return TC_ACT_SHOT;
    };
    let result = deliver(&mut packet, walk);
    finish(&ctx, walk, result, length)
}

/// Finds out who gets it and asks his rules.
#[inline(always)]
fn deliver(packet: &mut Packet, walk: &mut Walk) -> Result<Verdict, Reason> {
    packet.linear(START + ETHERNET)?;
    let header = *packet.at::<PuntHeader>(ETHERNET)?;
    let frame = *packet.at::<Ethernet>(START)?;
    let segment = segment(walk, &header)?;
    walk.owner.endpoint = header.endpoint;
    walk.flow.frame = frame.addresses();
    walk.flow.leaves = walk.flow.frame;
    if !ip::parse(packet, walk, frame.ether_type, START + ETHERNET)? {
        return Err(Reason::EtherType);
    }
    transport::read(packet, walk)?;
    if walk.ip.is(IP_FRAGMENT) || icmp::kind(&walk.ip) == Kind::Error {
        return Err(Reason::Malformed);
    }
    walk.depends(On::Source, slot::station(header.vni, mac_bytes(frame.source)));
    walk.source_vni = header.vni;
    let station = station(header.vni, frame.destination).ok_or(Reason::UnknownDestination)?;
    if station.peer != HERE || station.endpoint != header.endpoint {
        return Err(Reason::NotHere);
    }
    deliver_to(walk, station);
    // Who speaks for the router has no groups, and who speaks for another has his.
    owns(walk, header.vni, frame.source);
    receives(walk, header.vni, frame.destination);
    connection::permit(walk, true, true)?;
    if walk.ip.end - walk.ip.start > segment.mtu {
        return Err(Reason::Mtu);
    }
    walk.flood.start = START as u32;
    walk.flood.members = 0;
    walk.flood.ip = 1;
    walk.flood.outer_v4 = 1;
    walk.flood.outer_ecn = 0;
    walk.flood.ether_type = frame.ether_type.into();
    Ok(Verdict::Flood)
}

#[inline(always)]
fn segment(walk: &mut Walk, header: &PuntHeader) -> Result<&'static Segment, Reason> {
    let segment = entry::segment(header.vni).ok_or(Reason::UnknownVni)?;
    if segment.domain != header.domain {
        return Err(Reason::UnknownVni);
    }
    walk.owner.domain = segment.domain;
    walk.key.ingress = header.vni | FLOW_TUNNEL;
    walk.flow.domain = segment.domain;
    walk.flow.vni = header.vni;
    walk.flow.mtu = segment.mtu;
    Ok(segment)
}
