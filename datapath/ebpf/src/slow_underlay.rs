//! The first packets of flows from the underlay, and whatever is out of the ordinary: every check, in the order of table T
//! of the reference model (`overlay::model`). Delivered to a workload here or dropped, never sent on.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::probe::PROBE_VNI;
use datapath_common::{
    FLOW_GENEVE, FLOW_TUNNEL, HERE, ROUTE_VIA, Reason, SEGMENT_FLOOD, SEGMENT_GENEVE, Segment, Settings, slot,
};

use crate::decap::{self, Inner};
use crate::group::{reserved, tagged};
use crate::headers::{ETHERNET, Ethernet, ether};
use crate::icmp::{self, Kind, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION};
use crate::maps::SETTINGS;
use crate::outer::{Outer, ours};
use crate::owner::{group as is_group, mac_bytes, mac_words, meant, meant_for_all, owns, same, station};
use crate::packet::Packet;
use crate::slow_endpoint::{deliver_to, nameless};
use crate::walk::{On, Walk};
use crate::{
    TC_ACT_SHOT, Verdict, arp, chain, connection, device, entry, finish, flow, fragment, group, ip, martian, nd,
    origin, outer, probe, related, route, server, transport, tunnel, words,
};

/// Called by `from_underlay`.
#[classifier]
#[inline(always)]
pub fn slow_underlay(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    let length = packet.len();
    let Some(walk) = Walk::start() else {
        return TC_ACT_SHOT;
    };
    let result = match SETTINGS.get(0) {
        Some(settings) => match ours(&mut packet, settings) {
            Some(outer) => try_slow_underlay(&mut packet, walk, &outer, settings),
            None => Ok(Verdict::Pass),
        },
        None => Ok(Verdict::Pass),
    };
    finish(&ctx, walk, result, length)
}

#[inline(always)]
fn try_slow_underlay(
    packet: &mut Packet,
    walk: &mut Walk,
    outer: &Outer,
    settings: &Settings,
) -> Result<Verdict, Reason> {
    let host = *entry::host(outer.source).ok_or(Reason::UnknownVtep)?;
    if outer.fragment {
        return Err(Reason::OuterFragment);
    }
    outer::check(packet, outer.v4, outer.udp)?;
    let (vni, start) = tunnel::parse(packet, outer, settings)?;
    if vni == PROBE_VNI && !outer.geneve {
        return probe::receive(packet, outer, host);
    }
    inside(packet, walk, outer, vni, start, host, settings)
}

/// Decides about the frame at `start` that host number `host` sent in a tunnel.
#[inline(always)]
pub fn inside(
    packet: &mut Packet,
    walk: &mut Walk,
    outer: &Outer,
    vni: u32,
    start: usize,
    host: u32,
    settings: &Settings,
) -> Result<Verdict, Reason> {
    let segment = segment(walk, outer, vni)?;
    packet.linear(start + ETHERNET)?;
    let frame = *packet.at::<Ethernet>(start)?;
    walk.flow.frame = frame.addresses();
    walk.flow.leaves = walk.flow.frame;
    walk.flood.ether_type = frame.ether_type.into();
    let everybody = is_group(frame.destination);
    let payload = source(packet, walk, segment, &frame, start, host)?;
    if start != 0 && device::needed(packet, settings, outer.geneve, walk.key.protocol) {
        return Ok(Verdict::Pass);
    }
    if payload != Payload::Packet {
        group::inside(walk, outer, start, payload == Payload::Neighbour);
        return plain(walk, segment, &frame);
    }
    martian::check(walk, everybody)?;
    fragment::check(walk)?;
    transport::check(walk)?;
    if everybody || !destination(walk, vni, &frame, segment)? {
        if icmp::kind(&walk.ip) == Kind::Error {
            return Err(Reason::Unrelated);
        }
        meant_for_all(walk, vni)?;
        connection::name(walk);
        fragment::remember(walk);
        group::inside(walk, outer, start, true);
        return group::here(walk, segment, true);
    }
    meant_for(walk, vni, &frame, segment)?;
    if icmp::kind(&walk.ip) == Kind::Error {
        walk.cache = false;
        related::check(packet, walk)?;
    } else {
        connection::permit(walk, true, true)?;
        fragment::remember(walk);
    }
    let inner = Inner {
        start,
        v4: walk.ip.v4(),
        ecn: walk.ip.ecn as u8,
        outer_ecn: outer.ecn,
        outer_v4: outer.v4,
        fast: false,
    };
    if chain::wants(walk)? {
        return chain::arrive(packet, walk, &inner);
    }
    leave(packet, walk, &inner, settings)
}

/// What is left to do with a packet that may be delivered.
#[inline(always)]
pub fn leave(packet: &mut Packet, walk: &mut Walk, inner: &Inner, settings: &Settings) -> Result<Verdict, Reason> {
    flow::remember(walk);
    decap::follow(packet, &walk.flow, inner, settings)
}

/// What is in a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Payload {
    /// An IP packet, of which rules speak.
    Packet,
    /// A message of neighbour discovery.
    Neighbour,
    /// No IP packet.
    Other,
}

/// To whom a frame goes of which no rule speaks.
#[inline(always)]
fn plain(walk: &mut Walk, segment: &Segment, frame: &Ethernet) -> Result<Verdict, Reason> {
    if is_group(frame.destination) || !destination(walk, walk.flow.vni, frame, segment)? {
        return group::here(walk, segment, false);
    }
    walk.flood.members = 0;
    Ok(Verdict::Flood)
}

/// The segment of a VNI. The generation is read before what it is of.
#[inline(always)]
fn segment(walk: &mut Walk, outer: &Outer, vni: u32) -> Result<&'static Segment, Reason> {
    let segment = entry::segment(vni).ok_or(Reason::UnknownVni)?;
    let domain = segment.domain;
    walk.depends(On::Domain, slot::domain(domain));
    let segment = entry::segment(vni).ok_or(Reason::UnknownVni)?;
    if (segment.flags & SEGMENT_GENEVE != 0) != outer.geneve {
        return Err(Reason::UnknownVni);
    }
    walk.cache &= segment.domain == domain;
    walk.owner.domain = segment.domain;
    walk.key.ingress = vni | FLOW_TUNNEL;
    walk.flow.domain = segment.domain;
    walk.flow.vni = vni;
    walk.flow.mtu = segment.mtu;
    walk.flow.outer = ip::address(ip::words(&outer.source));
    if outer.geneve {
        walk.flow.flags |= FLOW_GENEVE;
    }
    Ok(segment)
}

/// Checks that an inner frame at `start` comes from where its sender lives.
#[inline(always)]
fn source(
    packet: &mut Packet,
    walk: &mut Walk,
    segment: &Segment,
    frame: &Ethernet,
    start: usize,
    host: u32,
) -> Result<Payload, Reason> {
    let vni = walk.flow.vni;
    let routed = routed(segment, frame);
    walk.depends(On::Source, slot::station(vni, mac_bytes(frame.source)));
    if !routed {
        match station(vni, frame.source) {
            Some(station) if station.peer == host && host != HERE => {}
            _ => return Err(Reason::WrongVtep),
        }
    }
    if reserved(frame.destination) {
        return Err(Reason::Multicast);
    }
    // The kernel takes the tag from the frames of its own devices.
    if packet.tagged() || tagged(frame) {
        return Err(Reason::EtherType);
    }
    if frame.ether_type == ether::ARP {
        group::name(walk, frame);
        if routed {
            return Err(Reason::WrongVtep);
        }
        return arp::check(packet, start + ETHERNET, vni, frame).map(|()| Payload::Other);
    }
    if !ip::parse(packet, walk, frame.ether_type, start + ETHERNET)? {
        group::name(walk, frame);
        group::carries(walk.owner.domain)?;
        return if routed {
            Err(Reason::WrongVtep)
        } else {
            Ok(Payload::Other)
        };
    }
    transport::read(packet, walk)?;
    walk.source_vni = vni;
    let kind = icmp::kind6(&walk.ip);
    let his = if routed {
        origin::lives_at(walk, segment.router, host)
    } else {
        owns(walk, vni, frame.source) || nameless(walk, frame, kind)
    };
    if !his {
        return Err(Reason::WrongVtep);
    }
    server::check(walk)?;
    match kind {
        Some(NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT) if routed => Err(Reason::NeighbourSpoof),
        Some(kind @ (NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT)) => {
            nd::check(packet, walk, start + ETHERNET, frame.source, kind).map(|()| Payload::Neighbour)
        }
        _ => Ok(Payload::Packet),
    }
}

/// The workload here that the frame is for; false if nobody has its address and the segment floods.
#[inline(always)]
fn destination(walk: &mut Walk, vni: u32, frame: &Ethernet, segment: &Segment) -> Result<bool, Reason> {
    walk.depends(On::Destination, slot::station(vni, mac_bytes(frame.destination)));
    let Some(station) = station(vni, frame.destination) else {
        return if segment.flags & SEGMENT_FLOOD != 0 {
            Ok(false)
        } else {
            Err(Reason::UnknownDestination)
        };
    };
    if station.peer != HERE {
        return Err(Reason::NotHere);
    }
    walk.owner.endpoint = station.endpoint;
    walk.destination_groups = words::copied(&station.groups);
    deliver_to(walk, station);
    Ok(true)
}

/// Whether a frame comes from the segment's router.
#[inline(always)]
fn routed(segment: &Segment, frame: &Ethernet) -> bool {
    segment.router != 0 && same(frame.source, mac_words(&segment.router_mac))
}

/// Table D: the sender's host may lie. What the router sends on to a next hop is somebody else's, whoever has the address:
/// the decision does not depend on that.
#[inline(always)]
fn meant_for(walk: &mut Walk, vni: u32, frame: &Ethernet, segment: &Segment) -> Result<(), Reason> {
    if routed(segment, frame)
        && let Some(route) = route::lookup(segment.router, &walk.key.destination, walk.ip.v4())
        && route.kind == ROUTE_VIA
    {
        return Ok(());
    }
    meant(walk, vni, frame.destination)
}
