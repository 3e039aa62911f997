//! Showing decisions to tests.

use datapath_common::{FLOW_FLOOD, Flow, KERNEL_TRACE, Settings, Trace};

use crate::drop::Owner;
use crate::maps::{SETTINGS, TRACE};
use crate::packet::Packet;
use crate::walk::Walk;
use crate::{TC_ACT_REDIRECT, TC_ACT_SHOT};

/// Nothing of any packet.
const BLANK: Trace = Trace {
    verdict: 0,
    reason: 0,
    domain: 0,
    endpoint: 0,
    egress: 0,
    peer: 0,
    vni: 0,
    flags: 0,
    fast: 0,
    zero: 0,
    copies: 0,
};

/// That a packet was passed or dropped.
#[inline(always)]
pub fn end(owner: Owner, verdict: i32, reason: u32) {
    ends(owner, verdict, reason, 0);
}

/// That what became of a packet goes back by the interface it came from; the reason if it was dropped.
#[inline(always)]
pub fn back(packet: &Packet, owner: Owner, reason: u32) {
    ends(owner, TC_ACT_REDIRECT, reason, packet.ifindex());
}

#[inline(always)]
fn ends(owner: Owner, verdict: i32, reason: u32, egress: u32) {
    let Some(settings) = SETTINGS.get(0) else { return };
    if settings.kernel & KERNEL_TRACE != 0 {
        write(Trace {
            verdict: verdict as u32,
            reason,
            domain: owner.domain,
            endpoint: owner.endpoint,
            egress,
            ..BLANK
        });
    }
}

/// That a packet goes to a workload here as its flow says.
#[inline(always)]
pub fn delivers(settings: &Settings, flow: &Flow, fast: bool) {
    follows(settings, flow, flow.target, 0, fast);
}

/// That a packet goes through a tunnel as its flow says, by this interface.
#[inline(always)]
pub fn tunnels(settings: &Settings, flow: &Flow, egress: u32, fast: bool) {
    follows(settings, flow, egress, flow.target, fast);
}

#[inline(always)]
fn follows(settings: &Settings, flow: &Flow, egress: u32, peer: u32, fast: bool) {
    if settings.kernel & KERNEL_TRACE != 0 {
        write(Trace {
            verdict: TC_ACT_REDIRECT as u32,
            domain: flow.domain,
            endpoint: flow.endpoint,
            egress,
            peer,
            vni: flow.vni,
            flags: flow.flags,
            fast: fast.into(),
            ..BLANK
        });
    }
}

/// That copies of a packet went to members of a set, or to none.
#[inline(always)]
pub fn flooded(settings: &Settings, walk: &Walk) {
    if settings.kernel & KERNEL_TRACE != 0 {
        write(Trace {
            verdict: TC_ACT_SHOT as u32,
            domain: walk.owner.domain,
            endpoint: walk.owner.endpoint,
            vni: walk.flow.vni,
            flags: walk.flow.flags | FLOW_FLOOD,
            copies: walk.flood.copies,
            ..BLANK
        });
    }
}

#[inline(always)]
fn write(trace: Trace) {
    if let Some(entry) = TRACE.get_ptr_mut(0) {
        // SAFETY: this CPU's only value, written as a whole.
        unsafe { *entry = trace };
    }
}
