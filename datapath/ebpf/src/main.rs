//! The eBPF programs: four hooks, each a stub that tail-calls one slot of `PROGRAMS`, the program of that slot, which is
//! the fast path, and behind it the slow path in slots of its own.
//!
//! ```text
//!  workload ─► stub_from_endpoint ─► from_endpoint ── flow known ──────────────┬─► encapsulate ─► underlay
//!                                        └─► slow_endpoint ── decides, caches ─┴─► deliver ─► the other workload
//!                                                 ├─► answer ARP/ND in place ─► the workload
//!                                                 ├─► router ─► echo reply, ICMP error ─► the workload
//!                                                 └─► flood ─► copies to workloads and hosts, frames that are not IP
//!  underlay ─► stub_from_underlay ─► from_underlay ── flow known ──────────────┬─► decapsulate ─► deliver ─► the workload
//!                                        └─► slow_underlay ── decides, caches ─┘
//!                                                 ├─► flood ─► copies to workloads
//!                                                 └─► answer a path probe in place, or note an answer
//!  kernel's tunnel device ─► stub_from_device ─► from_device ── as from_underlay, the frame being out of its tunnel
//!                                                             slow_endpoint ─► punt ─► user space ─► from_punt ─► flood
//!  the domain's functions stand between the decision and encapsulating or delivering, known flow or not
//!  host     ─► stub_to_endpoint ─► to_endpoint ──────► passes what carries our mark, drops the rest
//! ```
//!
//! Nothing else is decided here than what the maps say. A packet of a workload never reaches the host's stack, a
//! tunnelled one never leaves by a tunnel, and whatever is dropped has a [`Reason`] and is counted.
//! Start reading at `from_endpoint.rs`, then `slow_endpoint.rs`; each file is one step of a packet's way.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod answer;
mod arp;
mod chain;
mod connection;
mod decap;
mod deliver;
mod device;
mod drop;
mod encap;
mod entry;
mod flood;
mod flow;
mod fragment;
mod from_device;
mod from_endpoint;
mod from_underlay;
mod group;
mod headers;
mod icmp;
mod ip;
mod kernel;
mod limit;
mod maps;
mod martian;
mod nd;
mod origin;
mod outer;
mod owner;
mod packet;
mod policy;
mod probe;
mod punt;
mod quick;
mod quota;
mod related;
mod route;
mod router;
mod seal;
mod send;
mod server;
mod slow_device;
mod slow_endpoint;
mod slow_underlay;
mod stub;
mod to_endpoint;
mod trace;
mod transport;
mod tunnel;
mod walk;
mod words;

use aya_ebpf::programs::TcContext;
use datapath_common::{Reason, SLOT_CHAIN_FLOOD, SLOT_FLOOD, SLOT_ROUTER};

use walk::{ANSWER_NONE, Walk};

/// What becomes of a packet that is not dropped.
enum Verdict {
    /// Goes on to the next program, then to where it was going.
    Pass,
    /// Somewhere else; what the redirect helper returned.
    Redirect(i32),
    /// Nowhere: what it had to say is noted.
    Taken,
    /// The router answers it, as the walk says.
    Router,
    /// It, or copies of it, go where the walk says.
    Flood,
}

/// Ends the chain of programs and the packet.
const TC_ACT_SHOT: i32 = 2;
/// Ends the chain of programs; the packet goes where the redirect helper said.
const TC_ACT_REDIRECT: i32 = 7;
/// Asks the next program; `TC_ACT_OK` would end the chain of other owners.
const TC_ACT_UNSPEC: i32 = -1;

/// The hook's return value for a program's result; a drop is counted for `owner`.
#[inline(always)]
fn action(result: Result<Verdict, Reason>, owner: drop::Owner, length: u32) -> i32 {
    match result {
        Ok(Verdict::Pass) => {
            trace::end(owner, TC_ACT_UNSPEC, 0);
            TC_ACT_UNSPEC
        }
        Ok(Verdict::Redirect(action)) => action,
        Ok(Verdict::Taken) => {
            trace::end(owner, TC_ACT_SHOT, 0);
            TC_ACT_SHOT
        }
        // There is nobody to answer it.
        Ok(Verdict::Router | Verdict::Flood) => TC_ACT_SHOT,
        Err(reason) => {
            drop::count(owner, reason, length);
            trace::end(owner, TC_ACT_SHOT, reason as u32);
            TC_ACT_SHOT
        }
    }
}

/// As [`action`], for a slow path: if the walk leaves an answer, the router gives it.
#[inline(always)]
fn finish(ctx: &TcContext, walk: &mut Walk, result: Result<Verdict, Reason>, length: u32) -> i32 {
    walk.reason = match result {
        Err(reason) => reason as u32,
        Ok(_) => 0,
    };
    if matches!(result, Ok(Verdict::Flood)) {
        let reason = match chain::spreads(walk) {
            Ok(true) => {
                stub::call(ctx, SLOT_CHAIN_FLOOD);
                Reason::NoProgram
            }
            Ok(false) => {
                stub::call(ctx, SLOT_FLOOD);
                Reason::NoProgram
            }
            Err(reason) => reason,
        };
        drop::count(walk.owner, reason, length);
        return TC_ACT_SHOT;
    }
    let unanswered = matches!(result, Ok(Verdict::Router));
    let action = action(result, walk.owner, length);
    if walk.answer != ANSWER_NONE {
        stub::call(ctx, SLOT_ROUTER);
        if unanswered {
            drop::count(walk.owner, Reason::NoProgram, length);
        }
    }
    action
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
