//! The eBPF programs: three hooks, each a stub that tail-calls one slot of `PROGRAMS`, and the program of that slot.
//!
//! ```text
//!  workload ─► stub_from_endpoint ─► from_endpoint ─┬─► answer ARP/ND in place ─► the workload
//!                                                   ├─► encapsulate ─► underlay
//!                                                   └─► deliver ─► the other workload
//!  underlay ─► stub_from_underlay ─► from_underlay ─┬─► decapsulate ─► deliver ─► the workload
//!                                                   └─► answer a path probe in place, or note an answer
//!  host     ─► stub_to_endpoint ─► to_endpoint ──────► passes what carries our mark, drops the rest
//! ```
//!
//! Nothing else is decided here than what the maps say. A packet of a workload never reaches the host's stack, a
//! tunnelled one never leaves by a tunnel, and whatever is dropped has a [`Reason`] and is counted.
//! Start reading at `from_endpoint.rs`; each file is one step of a packet's way.

#![no_std]
#![no_main]

mod arp;
mod decap;
mod deliver;
mod drop;
mod encap;
mod from_endpoint;
mod from_underlay;
mod headers;
mod icmp6;
mod ip;
mod kernel;
mod maps;
mod nd;
mod outer;
mod owner;
mod packet;
mod probe;
mod stub;
mod to_endpoint;

use datapath_common::Reason;

/// What becomes of a packet that is not dropped.
enum Verdict {
    /// Goes on to the next program, then to where it was going.
    Pass,
    /// Somewhere else; what the redirect helper returned.
    Redirect(i32),
    /// Nowhere: what it had to say is noted.
    Taken,
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
        Ok(Verdict::Pass) => TC_ACT_UNSPEC,
        Ok(Verdict::Redirect(action)) => action,
        Ok(Verdict::Taken) => TC_ACT_SHOT,
        Err(reason) => {
            drop::count(owner, reason, length);
            TC_ACT_SHOT
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
