//! Saying to a workload why its packet went nowhere: notes in the walk, from which `router.rs` makes an ICMP error.

use crate::icmp::{self, TIME_EXCEEDED, TIME_EXCEEDED6, TOO_BIG6, UNREACHABLE, UNREACHABLE6};
use crate::walk::{ANSWER_NONE, IP_LATER, Walk};

/// Codes of "unreachable": of ICMP, and of ICMPv6.
const NETWORK: u32 = 0;
const HOST: u32 = 1;
const FRAGMENTATION_NEEDED: u32 = 4;
const NO_ROUTE6: u32 = 0;
const ADDRESS6: u32 = 3;

/// The TTL or hop limit ran out.
#[inline(always)]
pub fn time_exceeded(walk: &mut Walk) {
    say(walk, TIME_EXCEEDED << 8, TIME_EXCEEDED6 << 8);
}

/// No route matches.
#[inline(always)]
pub fn no_route(walk: &mut Walk) {
    say(walk, UNREACHABLE << 8 | NETWORK, UNREACHABLE6 << 8 | NO_ROUTE6);
}

/// Nobody has the destination or the next hop.
#[inline(always)]
pub fn no_host(walk: &mut Walk) {
    say(walk, UNREACHABLE << 8 | HOST, UNREACHABLE6 << 8 | ADDRESS6);
}

/// It is longer than `mtu`.
#[inline(always)]
pub fn too_big(walk: &mut Walk, mtu: u32) {
    walk.answer_mtu = mtu;
    say(walk, UNREACHABLE << 8 | FRAGMENTATION_NEEDED, TOO_BIG6 << 8);
}

/// Says one of the two, by family; never about an error or a later fragment (RFC 1122 section 3.2.2, RFC 4443
/// section 2.4). Sources that nobody can answer to are refused long before (`martian.rs`).
#[inline(always)]
fn say(walk: &mut Walk, v4: u32, v6: u32) {
    walk.answer = if icmp::silent(&walk.ip) || walk.ip.is(IP_LATER) {
        ANSWER_NONE
    } else if walk.ip.v4() {
        v4
    } else {
        v6
    };
}
