//! What arrives from the underlay: the fast path. What is no tunnel packet of ours passes untouched; one whose flow was
//! decided before goes the same way; everything else is for `slow_underlay.rs`.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::{FLOW_CHAIN_SHIFT, FLOW_GENEVE, FLOW_TUNNEL, Reason, SLOT_SLOW_UNDERLAY, Settings};

use crate::decap::{self, Inner};
use crate::drop::Owner;
use crate::headers::{ETHERNET, Ethernet};
use crate::maps::SETTINGS;
use crate::outer::{Outer, ours};
use crate::packet::Packet;
use crate::{TC_ACT_UNSPEC, Verdict, action, chain, device, flow, quick, stub, trace, tunnel};

/// At the ingress of an underlay interface.
#[classifier]
pub fn from_underlay(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    let Some(settings) = SETTINGS.get(0) else {
        return TC_ACT_UNSPEC;
    };
    let Some(outer) = ours(&mut packet, settings) else {
        trace::end(Owner::NOBODY, TC_ACT_UNSPEC, 0);
        return TC_ACT_UNSPEC;
    };
    if let Some(action) = fast(&mut packet, &outer, settings) {
        return action;
    }
    stub::call(&ctx, SLOT_SLOW_UNDERLAY);
    action(Err(Reason::NoProgram), Owner::NOBODY, packet.len())
}

/// What becomes of the packet if its decision is known.
#[inline(always)]
fn fast(packet: &mut Packet, outer: &Outer, settings: &Settings) -> Option<i32> {
    if outer.fragment || !outer.sound {
        return None;
    }
    let (vni, start) = tunnel::plain(packet, outer)?;
    known(packet, outer, vni, start, settings)
}

/// What becomes of the frame at `start` that came in a tunnel, if its decision is known.
#[inline(always)]
pub fn known(packet: &mut Packet, outer: &Outer, vni: u32, start: usize, settings: &Settings) -> Option<i32> {
    packet.linear(start + ETHERNET).ok()?;
    let frame = packet.at::<Ethernet>(start).ok()?;
    let (addresses, ether_type) = (frame.addresses(), frame.ether_type);
    let quick = quick::parse(packet, ether_type, start + ETHERNET, vni | FLOW_TUNNEL)?;
    if start != 0 && device::needed(packet, settings, outer.geneve, quick.key.protocol) {
        return Some(TC_ACT_UNSPEC);
    }
    let (walk, entry) = flow::find(&quick, 0, &addresses, &outer.source)?;
    let flow = &walk.flow;
    if (flow.flags & FLOW_GENEVE != 0) != outer.geneve {
        return None;
    }
    flow::tell(flow, entry, &quick)?;
    let inner = Inner {
        start,
        v4: quick.v4,
        ecn: quick.ecn,
        outer_ecn: outer.ecn,
        outer_v4: outer.v4,
        fast: true,
    };
    let length = packet.len();
    let owner = Owner {
        domain: flow.domain,
        endpoint: flow.endpoint,
    };
    if flow.flags >> FLOW_CHAIN_SHIFT != 0 {
        let result = chain::arrive_fast(packet, walk, &inner, &quick, owner);
        return Some(action(result, owner, length));
    }
    let result: Result<Verdict, Reason> = decap::follow(packet, flow, &inner, settings);
    Some(action(result, owner, length))
}
