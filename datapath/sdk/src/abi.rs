//! The numbers of the interface between the datapath and a function. `include/fabric_function.h` has the same ones.
//!
//! ```text
//!  skb->cb[0]  31     24 23     16 15      8 7        0
//!             | version |  hook   |direction| position |
//!  skb->cb[1]  number of the domain on this host
//!  skb->cb[2]  number of the endpoint on this host: who sends (egress, local) or receives (ingress)
//!  skb->cb[3]  hash of the flow: one value for all packets of one direction, on every host
//!  skb->cb[4]  where the workload's Ethernet frame starts in the packet, in bytes
//! ```

/// Version of the interface. It is provisional: another version may mean anything else.
pub const VERSION: u32 = 1;

/// What a function returns to let the packet go on to the next function, and in the end to where it was going.
pub const NEXT: u32 = 0;
/// What a function returns to have the packet dropped and counted (reason `function`). Any other value is a failure.
pub const DROP: u32 = 1;

/// Asked when a flow's way is decided: once, and again after a change of the domain, its endpoints or its functions, for
/// TCP's SYN, FIN and RST, and for packets whose decisions are not kept (fragments, IP options, ICMP but echo).
pub const HOOK_FLOW: u32 = 1;
/// Asked for each packet.
pub const HOOK_PACKET: u32 = 2;

/// A workload here sends to one on another host.
pub const EGRESS: u32 = 1;
/// A workload here receives from one on another host.
pub const INGRESS: u32 = 2;
/// A workload here sends to another one here: asked once, for both.
pub const LOCAL: u32 = 3;

/// The first word of the context.
#[must_use]
#[inline(always)]
pub const fn head(hook: u32, direction: u32, position: u32) -> u32 {
    VERSION << 24 | hook << 16 | direction << 8 | position
}
