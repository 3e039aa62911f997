//! What a workload sends: the fast path. A packet whose flow was decided before goes the same way; everything else is for
//! `slow_endpoint.rs`, which says why. Never passed to the host's stack.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::{FLOW_CHAIN, FLOW_ROUTED, Port, Reason, SLOT_SLOW_ENDPOINT};

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
    // SAFETY: a value may change while it is read; each field is valid by itself.
    if let Some(port) = unsafe { PORTS.get(packet.ifindex()) }
        && let Some(action) = fast(&mut packet, port)
    {
        return action;
    }
    stub::call(&ctx, SLOT_SLOW_ENDPOINT);
    stub::no_program(&ctx)
}

/// What becomes of the packet if its decision is known.
#[inline(always)]
fn fast(packet: &mut Packet, port: &Port) -> Option<i32> {
    packet.linear(ETHERNET).ok()?;
    let frame = packet.at::<Ethernet>(0).ok()?;
    let (addresses, ether_type) = (frame.addresses(), frame.ether_type);
    if packet.tagged() {
        return None;
    }
    let quick = quick::parse(packet, ether_type, ETHERNET, port.endpoint)?;
    let flow = flow::find(&quick, &addresses, &[0; 16])?;
    if quick.longest > flow.mtu as usize || flow.flags & FLOW_ROUTED != 0 && quick.ttl <= 1 {
        return None;
    }
    let settings = SETTINGS.get(0)?;
    let load = Load {
        v4: quick.v4,
        ecn: quick.ecn,
        entropy: quick.entropy(),
        longest: quick.longest,
        fast: true,
    };
    let length = packet.len();
    if flow.flags & FLOW_CHAIN != 0 {
        return chain::leave_fast(packet, flow, &load, Owner::of(port)).map(|r| action(r, Owner::of(port), length));
    }
    match send::follow(packet, flow, &load, settings) {
        // The slow path says so to the workload.
        Err(Reason::Mtu) => None,
        result => Some(action(result, Owner::of(port), length)),
    }
}
