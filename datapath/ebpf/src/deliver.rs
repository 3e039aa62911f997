//! Handing a frame to a workload on this host.

use datapath_common::{PORT_NAMESPACE, Reason, Settings, Station};

use crate::packet::Packet;
use crate::{Verdict, kernel};

/// To the station's interface. `protocol_agrees`: the kernel's idea of the packet's ethertype is the frame's; where it
/// is not, a namespace would not get the packet by `bpf_redirect_peer`, which does not recompute it.
#[inline(always)]
pub fn to(
    packet: &mut Packet,
    station: &Station,
    settings: &Settings,
    protocol_agrees: bool,
) -> Result<Verdict, Reason> {
    if station.flags & PORT_NAMESPACE != 0 && protocol_agrees {
        return kernel::redirect_peer(packet, station.ifindex);
    }
    packet.set_mark(settings.mark);
    kernel::redirect(station.ifindex)
}

/// Back to the workload that sent it.
#[inline(always)]
pub fn back(packet: &mut Packet, settings: &Settings) -> Result<Verdict, Reason> {
    packet.set_mark(settings.mark);
    kernel::redirect(packet.ifindex())
}
