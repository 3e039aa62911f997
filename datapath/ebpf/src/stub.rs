//! The permanent programs of the hooks: each calls its slot of `PROGRAMS`, so that one map update swaps the programs under
//! traffic on every kernel. Those call others of the same load, in the bank of slots that the loader gave them. Where the
//! slot is empty, packets of workloads and tunnels are dropped and the underlay's pass.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::{Reason, SLOT_FROM_DEVICE, SLOT_FROM_ENDPOINT, SLOT_FROM_UNDERLAY, SLOT_TO_ENDPOINT};

use crate::drop::Owner;
use crate::maps::{PORTS, PROGRAMS};
use crate::packet::Packet;
use crate::{TC_ACT_UNSPEC, action};

/// At the ingress of the host side of a workload's interface.
#[classifier]
pub fn stub_from_endpoint(ctx: TcContext) -> i32 {
    enter(&ctx, SLOT_FROM_ENDPOINT);
    no_program(&ctx)
}

/// At the egress of the host side of a workload's interface.
#[classifier]
pub fn stub_to_endpoint(ctx: TcContext) -> i32 {
    enter(&ctx, SLOT_TO_ENDPOINT);
    no_program(&ctx)
}

/// At the ingress of an underlay interface.
#[classifier]
pub fn stub_from_underlay(ctx: TcContext) -> i32 {
    enter(&ctx, SLOT_FROM_UNDERLAY);
    TC_ACT_UNSPEC
}

/// At the ingress of a tunnel device of the kernel.
#[classifier]
pub fn stub_from_device(ctx: TcContext) -> i32 {
    enter(&ctx, SLOT_FROM_DEVICE);
    no_program(&ctx)
}

/// First slot of the bank of this load's programs; the loader sets it.
#[unsafe(no_mangle)]
static BANK: u32 = 0;

/// Calls the first program of a hook. Returns only if the slot is empty.
#[inline(always)]
fn enter(ctx: &TcContext, slot: u32) {
    // SAFETY: programs and map are of the same type; the callee ends this run.
    unsafe { PROGRAMS.tail_call(ctx, slot) };
}

/// Calls another program of the same load. Returns only if the slot is empty.
#[inline(always)]
pub fn call(ctx: &TcContext, slot: u32) {
    // SAFETY: it is set before the programs are loaded and never after.
    let bank = unsafe { core::ptr::read_volatile(&raw const BANK) };
    enter(ctx, bank + slot);
}

/// Drops a packet for which nothing is loaded.
#[inline(always)]
pub fn no_program(ctx: &TcContext) -> i32 {
    let packet = Packet::new(ctx);
    // SAFETY: a value may change while it is read; each field is valid by itself.
    let owner = unsafe { PORTS.get(packet.ifindex()) }.map_or(Owner::NOBODY, Owner::of);
    action(Err(Reason::NoProgram), owner, packet.len())
}
