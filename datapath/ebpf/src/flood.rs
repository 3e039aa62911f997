//! Doing what `group.rs` decided: copies of a frame to the workloads of its segment here, then, in a tunnel, to each host
//! that has some; or a frame that is not IP to the one who gets it.
//!
//! A copy is of the packet as it is at that moment: workloads come first, then the packet is opened once for the outer
//! headers, which are written anew for each host; hosts over IPv6, whose headers are longer, come last. Copies for
//! workloads go by the host side: no `bpf_redirect_peer`, which takes the packet for what it was before.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::{
    FLOOD_PEER, FLOOD_PORT, FLOW_ENCAPSULATE, FloodTarget, MemberKey, PEER_RESOLVED, Reason, Settings, ecn,
};

use crate::decap::{self, Inner};
use crate::drop::{self, Owner};
use crate::encap::{self, FIXED_GSO, Tunnel};
use crate::group::rule_port;
use crate::headers::{ETHERNET, Ethernet, Ipv4, Ipv6, SHORTEST, TUNNEL};
use crate::maps::{PEERS, SETTINGS};
use crate::packet::Packet;
use crate::policy::{self, Ends, Opinion};
use crate::send::{self, Load};
use crate::walk::Walk;
use crate::{TC_ACT_SHOT, Verdict, action, entry, ip, kernel, trace, transport};

/// Called by the slow paths.
#[classifier]
pub fn flood(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    let length = packet.len();
    let (Some(walk), Some(settings)) = (Walk::resume(), SETTINGS.get(0)) else {
        return TC_ACT_SHOT;
    };
    match try_flood(&mut packet, walk, settings, length) {
        Ok(Verdict::Taken) => {
            trace::flooded(settings, walk);
            TC_ACT_SHOT
        }
        result => action(result, walk.owner, length),
    }
}

#[inline(always)]
fn try_flood(packet: &mut Packet, walk: &mut Walk, settings: &Settings, length: u32) -> Result<Verdict, Reason> {
    if walk.flood.start != 0 {
        open(packet, walk, settings)?;
    }
    if walk.flood.members == 0 {
        return one(packet, walk, settings);
    }
    let mark = packet.mark();
    let members = walk.flood.members;
    let peers = walk.flood.peers != 0;
    let mut copying = Copying {
        packet: Packet::again(packet),
        walk,
        settings,
        length,
        grown: 0,
    };
    packet.set_mark(settings.mark);
    for_each(members, copy_here, &mut copying);
    packet.set_mark(mark);
    if peers {
        for_each(members, copy_there::<true>, &mut copying);
        for_each(members, copy_there::<false>, &mut copying);
    }
    let Some(walk) = Walk::resume() else {
        return Err(Reason::NoProgram);
    };
    if walk.flood.copied == 0 {
        return Err(Reason::Multicast);
    }
    Ok(Verdict::Taken)
}

/// Takes the frame out of its tunnel.
#[inline(always)]
fn open(packet: &mut Packet, walk: &Walk, settings: &Settings) -> Result<(), Reason> {
    let start = (walk.flood.start & ip::FARTHEST) as usize;
    let inner = Inner {
        start,
        v4: walk.ip.v4(),
        ecn: walk.ip.ecn as u8,
        outer_ecn: walk.flood.outer_ecn as u8,
        outer_v4: walk.flood.outer_v4 != 0,
        fast: false,
    };
    if walk.flood.ip != 0 {
        let congestion = ecn::decapsulated(inner.ecn, inner.outer_ecn).ok_or(Reason::Ecn)?;
        if congestion != inner.ecn {
            decap::mark(packet, start + ETHERNET, inner.v4, congestion)?;
        }
        decap::shrink(packet, &inner, settings.kernel)?;
    } else {
        // The kernel leaves no less than an IPv6 header behind.
        if (packet.len() as usize) < start + SHORTEST {
            packet.resize(start + SHORTEST)?;
        }
        kernel::adjust(packet, -(start as i32), FIXED_GSO).map_err(|_| Reason::Kernel)?;
    }
    *packet.at_mut::<Ethernet>(0)? = Ethernet::with(walk.flow.frame, walk.flood.ether_type as u16);
    Ok(())
}

/// To the one who gets it.
#[inline(always)]
fn one(packet: &mut Packet, walk: &Walk, settings: &Settings) -> Result<Verdict, Reason> {
    let flow = &walk.flow;
    if flow.flags & FLOW_ENCAPSULATE == 0 {
        trace::delivers(settings, flow, false);
        packet.set_mark(settings.mark);
        return kernel::redirect(flow.target);
    }
    let tunnel = Tunnel::to(flow.target, flow, walk.flood.longest as usize)?;
    trace::tunnels(settings, flow, tunnel.peer.ifindex, false);
    let inner = packet.len() as usize;
    let v4 = tunnel.outer == size_of::<Ipv4>();
    let agrees = room(packet, walk, TUNNEL + tunnel.outer, v4)?;
    write(packet, walk, settings, &tunnel, inner)?;
    encap::leave(tunnel.peer, agrees)
}

/// Opens room for a tunnel's headers before the frame; whether the kernel's idea of the ethertype is the outer one.
#[inline(always)]
fn room(packet: &mut Packet, walk: &Walk, bytes: usize, v4: bool) -> Result<bool, Reason> {
    if walk.flood.ip != 0 {
        return encap::grow(packet, bytes, v4, walk.ip.v4()).map_err(|_| Reason::Kernel);
    }
    kernel::push(packet, bytes)?;
    packet.linear(bytes + ETHERNET)?;
    Ok(false)
}

#[inline(always)]
fn write(packet: &mut Packet, walk: &Walk, settings: &Settings, tunnel: &Tunnel, inner: usize) -> Result<(), Reason> {
    let load = Load {
        v4: walk.ip.v4(),
        ecn: walk.ip.ecn as u8,
        entropy: transport::entropy(walk),
        longest: walk.flood.longest as usize,
        fast: false,
    };
    let frame = Ethernet::with(walk.flow.frame, walk.flood.ether_type as u16);
    encap::write(packet, &frame, &load, tunnel, send::port(&walk.flow, settings), inner)
}

/// A frame on its way to many.
#[repr(C)]
struct Copying {
    packet: Packet,
    walk: *mut Walk,
    settings: *const Settings,
    /// Bytes as it came.
    length: u32,
    /// Bytes of the outer headers that there is room for.
    grown: u32,
}

type Callback = unsafe extern "C" fn(u32, *mut Copying) -> i64;

#[inline(always)]
fn for_each(members: u32, callback: Callback, copying: &mut Copying) {
    let copying: *mut Copying = copying;
    // SAFETY: the callback is a function of the type that the helper calls, with the context that it is given.
    unsafe { bpf_loop(members, callback as *mut c_void, copying.cast(), 0) };
}

#[inline(always)]
fn member(walk: &Walk, index: u32) -> Option<&'static FloodTarget> {
    let key = MemberKey {
        set: walk.flood.set,
        index,
    };
    entry::target(key)
}

#[inline(always)]
fn copied(walk: &mut Walk, index: u32) {
    walk.flood.copied += 1;
    if index < u64::BITS {
        walk.flood.copies |= 1 << index;
    }
}

/// A copy for one workload.
unsafe extern "C" fn copy_here(index: u32, copying: *mut Copying) -> i64 {
    // SAFETY: `try_flood` gives this context.
    let copying = unsafe { &mut *copying };
    // SAFETY: as above.
    let walk = unsafe { &mut *copying.walk };
    let Some(member) = member(walk, index) else { return 0 };
    if member.kind != FLOOD_PORT || member.endpoint == walk.flood.sender {
        return 0;
    }
    let owner = Owner {
        domain: walk.owner.domain,
        endpoint: member.endpoint,
    };
    if walk.flood.rules != 0 && !receives(walk, member) {
        drop::count(owner, Reason::Policy, copying.length);
        return 0;
    }
    copied(walk, index);
    if let Err(reason) = kernel::copy(&mut copying.packet, member.target) {
        drop::count(owner, reason, copying.length);
    }
    0
}

/// Whether a workload's rules let it in.
#[inline(always)]
fn receives(walk: &mut Walk, member: &FloodTarget) -> bool {
    walk.destination_groups = member.groups;
    let asked = Ends {
        initiator: false,
        responder: true,
    };
    policy::ask(walk, rule_port(walk), false, asked) == Opinion::Allowed
}

/// A copy for one host, if it is reached over this family.
unsafe extern "C" fn copy_there<const V4: bool>(index: u32, copying: *mut Copying) -> i64 {
    // SAFETY: `try_flood` gives this context.
    let copying = unsafe { &mut *copying };
    // SAFETY: as above.
    let walk = unsafe { &mut *copying.walk };
    let Some(member) = member(walk, index) else { return 0 };
    if member.kind != FLOOD_PEER {
        return 0;
    }
    let v4 = PEERS.get(member.target).is_none_or(|peer| ip::pretends(&peer.remote));
    if v4 != V4 {
        return 0;
    }
    match send_copy::<V4>(copying, walk, member.target) {
        Ok(()) => copied(walk, index),
        Err(reason) => drop::count(walk.owner, reason, copying.length),
    }
    0
}

#[inline(always)]
fn send_copy<const V4: bool>(copying: &mut Copying, walk: &Walk, host: u32) -> Result<(), Reason> {
    // SAFETY: an entry of an array, which is there as long as the map.
    let settings = unsafe { &*copying.settings };
    let mut tunnel = Tunnel::to(host, &walk.flow, walk.flood.longest as usize)?;
    if tunnel.peer.flags & PEER_RESOLVED == 0 {
        return Err(Reason::NoRoute);
    }
    tunnel.outer = if V4 { size_of::<Ipv4>() } else { size_of::<Ipv6>() };
    let packet = &mut copying.packet;
    let (grown, bytes) = (copying.grown as usize, TUNNEL + tunnel.outer);
    if grown == 0 {
        room(packet, walk, bytes, V4)?;
    } else if grown != bytes {
        widen(packet, walk)?;
    }
    copying.grown = bytes as u32;
    let inner = (packet.len() as usize).saturating_sub(bytes);
    write(packet, walk, settings, &tunnel, inner)?;
    kernel::copy(packet, tunnel.peer.ifindex)
}

/// Opens the room that an IPv6 header takes more than an IPv4 header.
#[inline(always)]
fn widen(packet: &mut Packet, walk: &Walk) -> Result<(), Reason> {
    const MORE: usize = size_of::<Ipv6>() - size_of::<Ipv4>();
    if walk.flood.ip == 0 {
        kernel::push(packet, MORE)?;
        return packet.linear(MORE + ETHERNET);
    }
    // The kernel would cut a super-packet where its headers were.
    if packet.segment() != 0 {
        return Err(Reason::Kernel);
    }
    kernel::adjust(packet, MORE as i32, FIXED_GSO).map_err(|_| Reason::Kernel)
}
