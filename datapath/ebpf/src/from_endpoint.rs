//! What a workload sends: the fast path. A packet whose flow was decided before goes the same way; everything else is for
//! `slow_endpoint.rs`, which says why. Never passed to the host's stack.

use core::ptr;

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::{FLOW_CHAIN_SHIFT, FLOW_ROUTED, Reason, SLOT_SLOW_ENDPOINT};

use crate::drop::Owner;
use crate::headers::{ETHERNET, Ethernet};
use crate::maps::{PORTS, SETTINGS};
use crate::packet::Packet;
use crate::send::{self, Load};
use crate::{action, chain, flow, quick, stub};

/// At the ingress of the host side of a workload's interface.
#[classifier]
pub fn from_endpoint(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    // What the entry says is only a hint: whose the interface was when the decision was made is in its seal.
    if let Some(port) = PORTS.get_ptr(packet.ifindex())
        // SAFETY: one word of the kernel's entry; volatile, so that it is read once.
        && let Some(action) = fast(&mut packet, unsafe { ptr::read_volatile(&raw const (*port).endpoint) })
    {
        return action;
    }
    stub::call(&ctx, SLOT_SLOW_ENDPOINT);
    stub::no_program(&ctx)
}

/// What becomes of the packet if its decision is known.
#[inline(always)]
fn fast(packet: &mut Packet, endpoint: u32) -> Option<i32> {
    packet.linear(ETHERNET).ok()?;
    let frame = packet.at::<Ethernet>(0).ok()?;
    let (addresses, ether_type) = (frame.addresses(), frame.ether_type);
    if packet.tagged() {
        return None;
    }
    let quick = quick::parse(packet, ether_type, ETHERNET, endpoint)?;
    let (walk, entry) = flow::find(&quick, packet.ifindex(), &addresses, &[0; 16])?;
    let flow = &walk.flow;
    let owner = Owner {
        domain: flow.domain,
        endpoint,
    };
    if quick.longest > flow.mtu as usize || flow.flags & FLOW_ROUTED != 0 && quick.ttl <= 1 {
        return None;
    }
    let settings = SETTINGS.get(0)?;
    flow::tell(flow, entry, &quick)?;
    let load = Load {
        v4: quick.v4,
        ecn: quick.ecn,
        entropy: quick.entropy(),
        longest: quick.longest,
        fast: true,
    };
    let length = packet.len();
    if flow.flags >> FLOW_CHAIN_SHIFT != 0 {
        return chain::leave_fast(packet, walk, &load, owner).map(|r| action(r, owner, length));
    }
    match send::follow(packet, flow, &load, settings) {
        // The slow path says so to the workload.
        Err(Reason::Mtu) => None,
        result => Some(action(result, owner, length)),
    }
}
