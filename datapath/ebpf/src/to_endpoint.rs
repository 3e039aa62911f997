//! What leaves the host side of a workload's interface: only what we sent there.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::Reason;

use crate::drop::Owner;
use crate::maps::{PORTS, SETTINGS};
use crate::packet::Packet;
use crate::{Verdict, action};

/// Passes what carries our mark, without it.
#[classifier]
pub fn to_endpoint(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    let length = packet.len();
    match try_to_endpoint(&mut packet) {
        Ok(verdict) => action(Ok(verdict), Owner::NOBODY, length),
        Err(reason) => {
            // SAFETY: a value may change while it is read; each field is valid by itself.
            let owner = unsafe { PORTS.get(packet.ifindex()) }.map_or(Owner::NOBODY, Owner::of);
            action(Err(reason), owner, length)
        }
    }
}

#[inline(always)]
fn try_to_endpoint(packet: &mut Packet) -> Result<Verdict, Reason> {
    let settings = SETTINGS.get(0).ok_or(Reason::NoProgram)?;
    // Zero is what every packet carries that nobody marked.
    if settings.mark == 0 || packet.mark() != settings.mark {
        return Err(Reason::NotForwarded);
    }
    packet.set_mark(0);
    Ok(Verdict::Pass)
}
