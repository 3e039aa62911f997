//! Decisions that were made before: valid while nothing they were made from has changed. What is followed is a copy.

use core::ptr;

use aya_ebpf::helpers::generated::bpf_jiffies64;
use datapath_common::connection::ACK;
use datapath_common::{FLOW_TUNNEL, Flow, FlowKey, TICK_SHIFT};

use crate::maps::{FLOWS, GENERATIONS};
use crate::quick::Quick;
use crate::walk::Walk;
use crate::{connection, ip, quota, seal};

/// A walk with the decision for a packet like this from an interface (0: from a tunnel), if there is one that still holds,
/// and where it stands. Who follows it says so before ([`tell`]).
#[inline(always)]
pub fn find(quick: &Quick, ifindex: u32, frame: &[u8; 12], outer: &[u8; 16]) -> Option<(&'static mut Walk, *mut Flow)> {
    let entry = FLOWS.get_ptr_mut(&quick.key)?;
    let walk = Walk::resume()?;
    // SAFETY: the kernel's entry, which this CPU does nothing else with; the walk is this CPU's.
    if !unsafe { seal::copy(entry, &raw mut walk.flow, &quick.key, ifindex) } {
        return None;
    }
    let flow = &walk.flow;
    if !same(&flow.frame, frame) || !ip::same(&flow.outer, outer) || !current(flow) {
        return None;
    }
    Some((walk, entry))
}

/// Tells the flow's connection of a packet that is going to follow the decision, where it may not know; nothing if the slow
/// path has to.
#[inline(always)]
pub fn tell(flow: &Flow, entry: *mut Flow, quick: &Quick) -> Option<()> {
    let now = tick();
    if flow.told != now || quick.flags != ACK {
        if !connection::tell(flow, &quick.key, quick.v4, quick.flags) {
            return None;
        }
        // SAFETY: one word of the entry. Where that is another flow's by now, its connection is told one tick later.
        unsafe { ptr::write_volatile(&raw mut (*entry).told, now) };
    }
    Some(())
}

/// The coarsest and cheapest clock there is: the kernel puts the load of a word in the place of the call.
#[inline(always)]
pub fn tick() -> u32 {
    // SAFETY: no arguments.
    (unsafe { bpf_jiffies64() } >> TICK_SHIFT) as u32
}

/// Whether the two MAC addresses of two frames are the same.
#[inline(always)]
fn same(a: &[u8; 12], b: &[u8; 12]) -> bool {
    // SAFETY: same size, and any bytes are valid words.
    let (a, b): ([u32; 3], [u32; 3]) = unsafe { (core::mem::transmute(*a), core::mem::transmute(*b)) };
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) == 0
}

/// Whether nothing it depends on has changed.
#[inline(always)]
fn current(flow: &Flow) -> bool {
    let mut changed = 0;
    for (slot, generation) in flow.slots.into_iter().zip(flow.generations) {
        match GENERATIONS.get(slot) {
            Some(current) => changed |= current ^ generation,
            None => return false,
        }
    }
    changed == 0
}

/// Remembers the walk's decision, if packets of the flow may use it. Else what turned the connection to another state makes
/// the flow's next packet take the slow path: it may be the one that turns it further. Who remembers more than his share
/// has his packets decided one by one.
#[inline(always)]
pub fn remember(walk: &mut Walk) {
    if walk.cacheable() {
        if FLOWS.get_ptr(&walk.key).is_some() || quota::remembers(walk) {
            seal::close(walk);
            // Where it fails, the next packet takes the slow path, too.
            let _ = FLOWS.insert(&walk.key, &walk.flow, 0);
        }
    } else if walk.turns() {
        forget(&walk.key);
    }
}

/// Has the next packet of either direction take the slow path, since another connection takes the place of theirs. It is
/// known where the walk's packet goes.
#[inline(never)]
pub fn forget_both(walk: &mut Walk) {
    forget(&walk.key);
    let ingress = walk.key.ingress;
    walk.key.ingress = match walk.flow.endpoint {
        0 => walk.source_vni | FLOW_TUNNEL,
        here => here,
    };
    turn_round(&mut walk.key);
    forget(&walk.key);
    turn_round(&mut walk.key);
    walk.key.ingress = ingress;
}

#[inline(always)]
fn turn_round(key: &mut FlowKey) {
    key.ports = key.ports.rotate_left(16);
    core::mem::swap(&mut key.source, &mut key.destination);
}

#[inline(always)]
fn forget(key: &FlowKey) {
    if FLOWS.get_ptr(key).is_some() {
        let _ = FLOWS.remove(key);
    }
}
