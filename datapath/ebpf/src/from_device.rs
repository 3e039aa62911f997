//! What the kernel's tunnel devices took out of tunnels: the fast path. Tunnel packets come here that arrived by an
//! interface without `from_underlay`, or in a form that it leaves to the kernel, and tunnel packets to other addresses of
//! this host. A device has no stack behind it: whatever is not delivered to a workload ends here.

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::{Reason, SLOT_SLOW_DEVICE};

use crate::drop::Owner;
use crate::maps::SETTINGS;
use crate::packet::Packet;
use crate::{action, device, from_underlay, stub};

/// At the ingress of a tunnel device.
#[classifier]
pub fn from_device(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    if !packet.tagged()
        && let Some(settings) = SETTINGS.get(0)
        && let Ok((outer, vni)) = device::outer(&mut packet, settings)
        && let Some(action) = from_underlay::known(&mut packet, &outer, vni, 0, settings)
    {
        return action;
    }
    stub::call(&ctx, SLOT_SLOW_DEVICE);
    action(Err(Reason::NoProgram), Owner::NOBODY, packet.len())
}
