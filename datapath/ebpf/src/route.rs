//! Routing in the host a packet starts from: table R of the reference model (`overlay::model`).

use aya_ebpf::maps::lpm_trie::Key;
use datapath_common::{
    Address, FLOW_ROUTED, Hop, MemberKey, NEIGHBOUR_ROUTER, Neighbour, Port, ROUTE_BLACKHOLE, ROUTE_CONNECTED,
    ROUTE_VIA, Reason, Route, RouteKey, Segment, Station, slot,
};

use crate::icmp::{self, Kind};
use crate::maps::ROUTES;
use crate::owner::{family, mac_words, neighbour, prefix, same, station};
use crate::slow_endpoint::segment_of;
use crate::walk::{ANSWER_ECHO, IP_EXTENDED, IP_FRAGMENT, On, Walk};
use crate::{answer, entry, transport};

/// Bits of a whole key of `ROUTES`.
const WHOLE: u32 = 32 + 32 + 128;

/// The longest match for an address among a router's routes.
#[inline(never)]
pub fn lookup(router: u32, address: &Address, v4: bool) -> Option<&'static Route> {
    let data = RouteKey {
        router: router.to_be_bytes(),
        family: family(v4),
        address: *address,
    };
    ROUTES.get(Key::new(WHOLE, data))
}

/// A next hop of a set.
#[inline(always)]
pub fn hop(set: u32, index: u32) -> Option<&'static Hop> {
    entry::hop(MemberKey { set, index })
}

/// The station that a packet for the router's MAC address goes to; none if the router itself answers it.
#[inline(always)]
pub fn route(walk: &mut Walk, port: &Port, segment: &Segment) -> Result<Option<&'static Station>, Reason> {
    let v4 = walk.ip.v4();
    let route = lookup(segment.router, &walk.key.destination, v4);
    if own(walk, port.vni, route) {
        return addressed(walk).map(|()| None);
    }
    if link_local(&walk.key.source, v4) || link_local(&walk.key.destination, v4) {
        return Err(Reason::Unroutable);
    }
    if walk.ip.ttl <= 1 {
        answer::time_exceeded(walk);
        return Err(Reason::TtlExceeded);
    }
    let Some(route) = route else {
        return Err(no_route(walk));
    };
    match route.kind {
        ROUTE_BLACKHOLE => return Err(Reason::Blackhole),
        ROUTE_CONNECTED => connected(walk, route.vni)?,
        ROUTE_VIA => via(walk, route)?,
        _ => return Err(no_route(walk)),
    }
    arrive(walk, port).map(Some)
}

#[inline(always)]
fn no_route(walk: &mut Walk) -> Reason {
    answer::no_route(walk);
    Reason::Unroutable
}

#[inline(always)]
fn no_host(walk: &mut Walk) -> Reason {
    answer::no_host(walk);
    Reason::UnknownNeighbour
}

/// The segment that a route leads into. Whatever the maps say on their way from one state to the next: not into another
/// domain.
#[inline(always)]
fn enter(walk: &mut Walk, vni: u32) -> Result<(), Reason> {
    match entry::beyond(vni) {
        Some(segment) if segment.domain == walk.owner.domain => {
            segment_of(walk, segment);
            Ok(())
        }
        _ => Err(no_route(walk)),
    }
}

/// Whether the destination is one of the router's addresses, in any of its segments.
#[inline(always)]
fn own(walk: &Walk, vni: u32, route: Option<&Route>) -> bool {
    if is_router(neighbour(vni, &walk.key.destination)) {
        return true;
    }
    match route {
        Some(route) if route.kind == ROUTE_CONNECTED => is_router(neighbour(route.vni, &walk.key.destination)),
        _ => false,
    }
}

#[inline(always)]
fn is_router(neighbour: Option<&Neighbour>) -> bool {
    neighbour.is_some_and(|neighbour| neighbour.flags & NEIGHBOUR_ROUTER != 0)
}

/// To the router itself: it speaks echo only.
#[inline(always)]
fn addressed(walk: &mut Walk) -> Result<(), Reason> {
    if icmp::kind(&walk.ip) == Kind::EchoRequest && !walk.ip.is(IP_FRAGMENT | IP_EXTENDED) {
        walk.answer = ANSWER_ECHO;
        return Ok(());
    }
    Err(Reason::RouterPort)
}

/// 169.254.0.0/16 (RFC 3927 section 7) and fe80::/10 (RFC 4291 section 2.5.6) are never routed.
#[inline(always)]
fn link_local(address: &Address, v4: bool) -> bool {
    if v4 {
        address[12] == 169 && address[13] == 254
    } else {
        address[0] == 0xfe && address[1] & 0xc0 == 0x80
    }
}

/// Whoever has the destination in a segment of the router; writes who it is.
#[inline(always)]
fn connected(walk: &mut Walk, vni: u32) -> Result<(), Reason> {
    enter(walk, vni)?;
    let v4 = walk.ip.v4();
    let Some(found) = owner(vni, &walk.key.destination, v4) else {
        return Err(no_host(walk));
    };
    let mac = found.mac;
    next(walk, vni, mac);
    // Read again behind the generation of its station.
    let Some(again) = owner(vni, &walk.key.destination, v4) else {
        return Err(no_host(walk));
    };
    walk.cache &= same(mac_words(&again.mac), mac_words(&mac));
    Ok(())
}

/// A station's address, or one of its prefixes; never the router's.
#[inline(always)]
fn owner(vni: u32, address: &Address, v4: bool) -> Option<&'static Neighbour> {
    let owner = match neighbour(vni, address) {
        None => prefix(vni, address, v4),
        owner => owner,
    }?;
    if owner.flags & NEIGHBOUR_ROUTER == 0 {
        Some(owner)
    } else {
        None
    }
}

/// One of the route's next hops, always the same for a flow.
#[inline(always)]
fn via(walk: &mut Walk, route: &Route) -> Result<(), Reason> {
    let Some(hop) = hop(route.set, transport::entropy(walk).hop(route.hops)) else {
        return Err(no_host(walk));
    };
    enter(walk, hop.vni)?;
    let Some(mac) = station_mac(hop) else {
        return Err(no_host(walk));
    };
    next(walk, hop.vni, mac);
    walk.cache &= station_mac(hop).is_some_and(|again| same(mac_words(&again), mac_words(&mac)));
    Ok(())
}

/// The MAC address of the station that a hop is.
#[inline(always)]
fn station_mac(hop: &Hop) -> Option<[u8; 6]> {
    let station = neighbour(hop.vni, &hop.address)?;
    if station.flags & NEIGHBOUR_ROUTER == 0 {
        Some(station.mac)
    } else {
        None
    }
}

/// The segment and the MAC address that it leaves for.
#[inline(always)]
fn next(walk: &mut Walk, vni: u32, mac: [u8; 6]) {
    walk.depends(On::Destination, slot::station(vni, mac));
    walk.flow.vni = vni;
    let [a, b, c, d, e, f] = mac;
    // The router's address, for which it came in, is where it leaves from.
    let [g, h, i, j, k, l, ..] = walk.flow.frame;
    walk.flow.leaves = [a, b, c, d, e, f, g, h, i, j, k, l];
}

/// The station behind that.
#[inline(always)]
fn arrive(walk: &mut Walk, port: &Port) -> Result<&'static Station, Reason> {
    let [a, b, c, d, e, f, ..] = walk.flow.leaves;
    let mac = [a, b, c, d, e, f];
    let vni = walk.flow.vni;
    let station = station(vni, mac_words(&mac)).ok_or(Reason::UnknownDestination)?;
    let hairpin = vni == port.vni && same(mac_words(&mac), mac_words(&port.mac));
    if hairpin || station.peer == datapath_common::ROUTER {
        return Err(Reason::UnknownDestination);
    }
    walk.flow.flags |= FLOW_ROUTED;
    Ok(station)
}
