//! Handing a frame to a workload on this host.

use datapath_common::{FLOW_NAMESPACE, Flow, Reason, Settings};

use crate::packet::Packet;
use crate::{Verdict, kernel};

/// To the flow's interface. `protocol_agrees`: the kernel's idea of the packet's ethertype is the frame's; where it is
/// not, a namespace would not get the packet by `bpf_redirect_peer`, which does not recompute it.
#[inline(always)]
pub fn to(packet: &mut Packet, flow: &Flow, settings: &Settings, protocol_agrees: bool) -> Result<Verdict, Reason> {
    if flow.flags & FLOW_NAMESPACE != 0 && protocol_agrees {
        return kernel::redirect_peer(packet, flow.target);
    }
    packet.set_mark(settings.mark);
    kernel::redirect(flow.target)
}

/// Back to the workload that sent it.
#[inline(always)]
pub fn back(packet: &mut Packet, settings: &Settings) -> Result<Verdict, Reason> {
    packet.set_mark(settings.mark);
    kernel::redirect(packet.ifindex())
}
