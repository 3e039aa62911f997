//! The ICMPv6 messages that matter to forwarding (RFC 4443, 4861, 2710, 3810).

use datapath_common::Reason;

use crate::headers::{Icmp6, protocol};
use crate::ip::Ip;
use crate::packet::Packet;

pub const ROUTER_SOLICITATION: u8 = 133;
pub const ROUTER_ADVERTISEMENT: u8 = 134;
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Multicast listener report, version 1, and done.
const LISTENER_REPORT: u8 = 131;
const LISTENER_DONE: u8 = 132;
/// Multicast listener report, version 2.
const LISTENER_REPORT2: u8 = 143;

/// The type of an ICMPv6 message, if the packet is one.
#[inline(always)]
pub fn kind(packet: &mut Packet, ip: &Ip) -> Result<Option<u8>, Reason> {
    if ip.v4 || ip.protocol != Some(protocol::ICMP6) {
        return Ok(None);
    }
    packet.linear(ip.upper + size_of::<Icmp6>())?;
    Ok(Some(packet.at::<Icmp6>(ip.upper)?.kind))
}

/// Whether a host sends it before it has an address (RFC 4862 section 5.4.2).
#[inline(always)]
pub fn without_address(kind: u8) -> bool {
    matches!(
        kind,
        LISTENER_REPORT | LISTENER_DONE | ROUTER_SOLICITATION | NEIGHBOUR_SOLICITATION | LISTENER_REPORT2
    )
}
