//! Where a routed frame from a tunnel may come from: its MAC address is the router's, which is on every host, so it is the
//! owner of its source address that must live at the host which sent it.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use datapath_common::{HERE, NEIGHBOUR_ROUTER, ROUTE_CONNECTED, ROUTE_VIA, Route, slot};

use crate::owner::{mac_words, neighbour, prefix, same, station};
use crate::route::{hop, lookup};
use crate::walk::{On, Walk};
use crate::{ip, words};

/// Next hops that are asked at most.
const HOPS: u32 = 8;

/// Whether the source address belongs to a station of this host. Leaves that station's segment, MAC address, generation
/// and groups in the walk.
#[inline(always)]
pub fn lives_at(walk: &mut Walk, router: u32, host: u32) -> bool {
    let v4 = walk.ip.v4();
    if host == HERE || !v4 && ip::pretends(&walk.key.source) {
        return false;
    }
    let Some(route) = lookup(router, &walk.key.source, v4) else {
        return false;
    };
    match route.kind {
        ROUTE_CONNECTED => connected(walk, route.vni, host),
        ROUTE_VIA => via(walk, route, host),
        _ => false,
    }
}

/// The source is a station's address, or one of its prefixes, in this segment.
#[inline(always)]
fn connected(walk: &mut Walk, vni: u32, host: u32) -> bool {
    let v4 = walk.ip.v4();
    let exact = neighbour(vni, &walk.key.source);
    let Some(owner) = (match exact {
        None => prefix(vni, &walk.key.source, v4),
        owner => owner,
    }) else {
        return false;
    };
    if owner.flags & NEIGHBOUR_ROUTER != 0 {
        return false;
    }
    let mac = owner.mac;
    found(walk, vni, mac, host)
}

/// The station, whose generation is read before it is looked up.
#[inline(always)]
fn found(walk: &mut Walk, vni: u32, mac: [u8; 6], host: u32) -> bool {
    walk.depends(On::Source, slot::station(vni, mac));
    walk.source_vni = vni;
    walk.source_mac = mac_words(&mac);
    match station(vni, mac_words(&mac)) {
        Some(station) => {
            walk.source_groups = words::copied(&station.groups);
            station.peer == host
        }
        None => false,
    }
}

/// What the hops of a route are asked for, and the answer.
#[repr(C)]
struct Search {
    walk: *mut Walk,
    set: u32,
    host: u32,
    found: u32,
}

/// The source is behind one of the route's hops.
#[inline(always)]
fn via(walk: &mut Walk, route: &Route, host: u32) -> bool {
    let hops = route.hops.min(HOPS);
    let mut search = Search {
        walk,
        set: route.set,
        host,
        found: 0,
    };
    let callback = ask_hop as unsafe extern "C" fn(u32, *mut Search) -> i64;
    // SAFETY: the callback is a function of the type that the helper calls, with the context that it is given.
    unsafe { bpf_loop(hops, callback as *mut c_void, (&raw mut search).cast(), 0) };
    // SAFETY: a live value of this function, which the callback may have written.
    unsafe { core::ptr::read_volatile(&raw const search.found) != 0 }
}

/// Asks one hop; 1 ends the search.
unsafe extern "C" fn ask_hop(index: u32, search: *mut Search) -> i64 {
    // SAFETY: `via` gives this context.
    let search = unsafe { &mut *search };
    // SAFETY: as above.
    let walk = unsafe { &mut *search.walk };
    let Some(hop) = hop(search.set, index) else { return 0 };
    let Some(station) = neighbour(hop.vni, &hop.address) else {
        return 0;
    };
    let Some(owner) = prefix(hop.vni, &walk.key.source, walk.ip.v4()) else {
        return 0;
    };
    if !same(mac_words(&owner.mac), mac_words(&station.mac)) {
        return 0;
    }
    let mac = owner.mac;
    if !found(walk, hop.vni, mac, search.host) {
        return 0;
    }
    search.found = 1;
    1
}
