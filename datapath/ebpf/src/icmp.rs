//! The ICMP and ICMPv6 messages that matter to forwarding (RFC 792, 4443, 4861, 2710, 3810).

use crate::walk::Ip;

pub const ECHO_REPLY: u8 = 0;
pub const ECHO_REQUEST: u8 = 8;
pub const UNREACHABLE: u32 = 3;
pub const TIME_EXCEEDED: u32 = 11;

pub const UNREACHABLE6: u32 = 1;
pub const TOO_BIG6: u32 = 2;
pub const TIME_EXCEEDED6: u32 = 3;
pub const ECHO_REQUEST6: u8 = 128;
pub const ECHO_REPLY6: u8 = 129;
pub const ROUTER_SOLICITATION: u8 = 133;
pub const ROUTER_ADVERTISEMENT: u8 = 134;
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT6: u8 = 137;
/// Multicast listener report, version 1, and done.
const LISTENER_REPORT: u8 = 131;
const LISTENER_DONE: u8 = 132;
/// Multicast listener report, version 2.
const LISTENER_REPORT2: u8 = 143;

/// What a message is to a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No ICMP, or a later fragment of which it is not known.
    Other,
    /// Opens a connection.
    EchoRequest,
    /// Belongs to one.
    EchoReply,
    /// Quotes a packet of one.
    Error,
    /// None of these: has no connection.
    Message,
}

/// What the packet's message is to a connection.
#[inline(always)]
pub fn kind(ip: &Ip) -> Kind {
    match (ip.icmp_kind(), ip.v4()) {
        (None, _) => Kind::Other,
        (Some(ECHO_REQUEST), true) | (Some(ECHO_REQUEST6), false) => Kind::EchoRequest,
        (Some(ECHO_REPLY), true) | (Some(ECHO_REPLY6), false) => Kind::EchoReply,
        (Some(3 | 11 | 12), true) | (Some(1..=4), false) => Kind::Error,
        _ => Kind::Message,
    }
}

/// Whether no error may be sent about it (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)).
#[inline(always)]
pub fn silent(ip: &Ip) -> bool {
    match (ip.icmp_kind(), ip.v4()) {
        (None, _) => false,
        (Some(kind), true) => matches!(kind, 3 | 4 | 5 | 11 | 12),
        (Some(kind), false) => kind < 128 || kind == REDIRECT6,
    }
}

/// The type of an ICMPv6 message, if the packet is one.
#[inline(always)]
pub fn kind6(ip: &Ip) -> Option<u8> {
    if ip.v4() { None } else { ip.icmp_kind() }
}

/// Whether a host sends it before it has an address (RFC 4862 section 5.4.2).
#[inline(always)]
pub fn without_address(kind: u8) -> bool {
    matches!(
        kind,
        LISTENER_REPORT | LISTENER_DONE | ROUTER_SOLICITATION | NEIGHBOUR_SOLICITATION | LISTENER_REPORT2
    )
}
