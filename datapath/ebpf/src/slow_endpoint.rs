//! The first packets of a workload's flows, and whatever is out of the ordinary: every check, in the order of table P of
//! the reference model (`overlay::model`); a decision, which the fast path can use again; and the same way out.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::{
    FLOW_ENCAPSULATE, FLOW_GENEVE, FLOW_NAMESPACE, HERE, LIMIT_SLOW, PORT_NAMESPACE, Port, ROUTER, Reason,
    SEGMENT_FLOOD, SEGMENT_GENEVE, Segment, Settings, Station, slot,
};

use crate::drop::Owner;
use crate::group::{reserved, tagged};
use crate::headers::{ETHERNET, Ethernet, ether};
use crate::icmp::{self, Kind};
use crate::maps::SETTINGS;
use crate::owner::{group as is_group, mac_bytes, mac_words, meant, owns, same, station};
use crate::packet::Packet;
use crate::send::{self, Load};
use crate::walk::{IP_FRAGMENT, On, Walk};
use crate::{
    TC_ACT_SHOT, Verdict, answer, arp, chain, connection, encap, entry, finish, flow, fragment, group, ip, limit,
    martian, nd, punt, related, route, server, transport, words,
};

/// Called by `from_endpoint`.
#[classifier]
#[inline(always)]
pub fn slow_endpoint(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    let length = packet.len();
    let Some(walk) = Walk::start() else {
        return TC_ACT_SHOT;
    };
    let result = try_slow_endpoint(&mut packet, walk);
    finish(&ctx, walk, result, length)
}

#[inline(always)]
fn try_slow_endpoint(packet: &mut Packet, walk: &mut Walk) -> Result<Verdict, Reason> {
    let port = sender(packet.ifindex(), walk)?;
    if !limit::take(port.endpoint, LIMIT_SLOW, walk.nanoseconds) {
        return Err(Reason::RateLimit);
    }
    packet.linear(ETHERNET)?;
    let frame = *packet.at::<Ethernet>(0)?;
    if !same(frame.source, mac_words(&port.mac)) {
        return Err(Reason::SourceMac);
    }
    let host_mac = mac_words(&port.host_mac);
    if same(frame.destination, host_mac) && !same(host_mac, [0; 3]) {
        return Err(Reason::HostLink);
    }
    let settings = SETTINGS.get(0).ok_or(Reason::NoProgram)?;
    let segment = entry::segment(port.vni).ok_or(Reason::UnknownVni)?;
    if reserved(frame.destination) {
        return Err(Reason::Multicast);
    }
    if packet.tagged() || tagged(&frame) {
        return Err(Reason::EtherType);
    }
    walk.flow.frame = frame.addresses();
    walk.flow.leaves = walk.flow.frame;
    walk.flow.vni = port.vni;
    walk.flood.ether_type = frame.ether_type.into();
    segment_of(walk, segment);
    if frame.ether_type == ether::ARP {
        return match arp::answer(packet, port, frame.destination, segment, settings)? {
            Some(verdict) => Ok(verdict),
            None => other(packet, walk, port, segment, &frame),
        };
    }
    if !ip::parse(packet, walk, frame.ether_type, ETHERNET)? {
        group::carries(port.domain)?;
        return other(packet, walk, port, segment, &frame);
    }
    transport::read(packet, walk)?;
    if let Some(verdict) = punt::ask(packet, walk, port, &frame)? {
        return Ok(verdict);
    }
    if let Some(kind) = source(walk, port, &frame)? {
        return match nd::answer(packet, walk, port, segment, settings, kind)? {
            Some(verdict) => Ok(verdict),
            None => group::plain(packet, walk, port, segment, &frame, true),
        };
    }
    forward(packet, walk, port, settings, segment, &frame)
}

/// It is not IP.
#[inline(always)]
fn other(
    packet: &Packet,
    walk: &mut Walk,
    port: &Port,
    segment: &Segment,
    frame: &Ethernet,
) -> Result<Verdict, Reason> {
    group::name(walk, frame);
    group::plain(packet, walk, port, segment, frame, false)
}

/// Who sends. The generations are read before what they are of, so that no change in between is missed.
#[inline(always)]
fn sender(ifindex: u32, walk: &mut Walk) -> Result<&'static Port, Reason> {
    let (slot, domain) = entry::generations_of(ifindex).ok_or(Reason::UnknownPort)?;
    walk.depends(On::Source, slot);
    walk.depends(On::Domain, slot::domain(domain));
    let port = entry::port(ifindex).ok_or(Reason::UnknownPort)?;
    if port.slot != slot || port.domain != domain {
        walk.cache = false;
    }
    walk.owner = Owner::of(port);
    walk.key.ingress = port.endpoint;
    walk.ifindex = ifindex;
    walk.flow.domain = port.domain;
    Ok(port)
}

/// Checks that the packet is the sender's own; the type of the message if it is neighbour discovery.
#[inline(always)]
fn source(walk: &mut Walk, port: &Port, frame: &Ethernet) -> Result<Option<u8>, Reason> {
    let kind = icmp::kind6(&walk.ip);
    walk.source_vni = port.vni;
    if !owns(walk, port.vni, frame.source) {
        if !nameless(walk, frame, kind) {
            return Err(Reason::SourceAddress);
        }
    }
    server::check(walk)?;
    match kind {
        Some(kind @ (icmp::NEIGHBOUR_SOLICITATION | icmp::NEIGHBOUR_ADVERTISEMENT)) => Ok(Some(kind)),
        _ => Ok(None),
    }
}

/// Whether it is a message to a group from a host that has no address yet.
#[inline(always)]
pub fn nameless(walk: &Walk, frame: &Ethernet, kind: Option<u8>) -> bool {
    let unspecified = !walk.ip.v4() && ip::words(&walk.key.source) == [0; 4] && is_group(frame.destination);
    unspecified && kind.is_some_and(icmp::without_address)
}

#[inline(always)]
fn forward(
    packet: &mut Packet,
    walk: &mut Walk,
    port: &Port,
    settings: &Settings,
    segment: &Segment,
    frame: &Ethernet,
) -> Result<Verdict, Reason> {
    let everybody = is_group(frame.destination);
    martian::check(walk, everybody)?;
    fragment::check(walk)?;
    transport::check(walk)?;
    if everybody {
        return group::packet(packet, walk, port, segment);
    }
    if same(frame.destination, frame.source) {
        return Err(Reason::UnknownDestination);
    }
    speaker(walk, segment);
    walk.depends(On::Destination, slot::station(port.vni, mac_bytes(frame.destination)));
    let Some(station) = station(port.vni, frame.destination) else {
        return if segment.flags & SEGMENT_FLOOD != 0 {
            group::packet(packet, walk, port, segment)
        } else {
            Err(Reason::UnknownDestination)
        };
    };
    let station = if station.peer == ROUTER {
        match route::route(walk, port, segment)? {
            Some(station) => station,
            None => return Ok(Verdict::Router),
        }
    } else {
        switch(walk, port.vni, frame, segment)?;
        station
    };
    walk.destination_groups = words::copied(&station.groups);
    target(walk, station);
    if icmp::kind(&walk.ip) == Kind::Error {
        walk.cache = false;
        related::check(packet, walk)?;
    } else {
        connection::permit(walk, false, station.peer == HERE)?;
        fragment::remember(walk);
    }
    let load = load(packet, walk)?;
    if chain::wants(walk)? {
        return chain::leave(packet, walk, &load);
    }
    leave(packet, walk, &load, settings)
}

/// What is left to do with a packet that may go.
#[inline(always)]
pub fn leave(packet: &mut Packet, walk: &mut Walk, load: &Load, settings: &Settings) -> Result<Verdict, Reason> {
    if load.longest > walk.flow.mtu as usize {
        answer::too_big(walk, walk.flow.mtu);
        return Err(Reason::Mtu);
    }
    flow::remember(walk);
    let result = send::follow(packet, &walk.flow, load, settings);
    if let Err(Reason::Mtu) = result {
        answer::too_big(walk, encap::room(&walk.flow));
    }
    result
}

/// Whom an ICMP error is from: the router, or, without one of the family, who would have got the packet.
#[inline(always)]
fn speaker(walk: &mut Walk, segment: &Segment) {
    let gateway = if walk.ip.v4() {
        ip::words(&segment.gateway4)
    } else {
        ip::words(&segment.gateway6)
    };
    let [a, b, c, d] = gateway;
    walk.gateway = if a | b | c | d == 0 {
        ip::address(ip::words(&walk.key.destination))
    } else {
        ip::address([a, b, c, d])
    };
}

/// It stays in its segment.
#[inline(always)]
fn switch(walk: &mut Walk, vni: u32, frame: &Ethernet, segment: &Segment) -> Result<(), Reason> {
    walk.flow.vni = vni;
    segment_of(walk, segment);
    meant(walk, vni, frame.destination)
}

/// The segment it leaves in.
#[inline(always)]
pub fn segment_of(walk: &mut Walk, segment: &Segment) {
    walk.flow.mtu = segment.mtu;
    if segment.flags & SEGMENT_GENEVE != 0 {
        walk.flow.flags |= FLOW_GENEVE;
    }
}

/// The station it goes to.
#[inline(always)]
pub fn target(walk: &mut Walk, station: &Station) {
    if station.peer == HERE {
        deliver_to(walk, station);
    } else {
        walk.flow.flags |= FLOW_ENCAPSULATE;
        walk.flow.target = station.peer;
        walk.flow.endpoint = 0;
    }
}

/// A station on this host.
#[inline(always)]
pub fn deliver_to(walk: &mut Walk, station: &Station) {
    walk.flow.target = station.ifindex;
    walk.flow.endpoint = station.endpoint;
    if station.flags & PORT_NAMESPACE != 0 {
        walk.flow.flags |= FLOW_NAMESPACE;
    }
}

#[inline(always)]
pub fn load(packet: &mut Packet, walk: &Walk) -> Result<Load, Reason> {
    let ip = &walk.ip;
    let upper = (ip.upper & ip::FARTHEST) as usize;
    let number = if ip.is(IP_FRAGMENT) { 0 } else { walk.key.protocol };
    Ok(Load {
        v4: ip.v4(),
        ecn: ip.ecn as u8,
        entropy: transport::entropy(walk),
        longest: transport::longest(packet, ETHERNET, upper, ip.end as usize, number)?,
        fast: false,
    })
}
