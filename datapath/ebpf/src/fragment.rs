//! Fragments: table F of the reference model. What the first one says holds for all; none is ever put together here.
//! Who sends more of them than his fair rate has them stand apart, where only those that crowd push out each other.

use datapath_common::connection::elapsed;
use datapath_common::{FragmentState, LIMIT_FRAGMENTS, Reason};

use crate::maps::{CROWDED_FRAGMENTS, FRAGMENTS};
use crate::transport::{self, is_icmp};
use crate::walk::{IP_FRAGMENT, IP_LATER, IP_TINY, Walk};
use crate::{entry, limit, quota};

/// Seconds for which the first fragment speaks for the others.
const LIFE: u32 = 30;

/// Refuses what hides the upper layer's header; gives a later fragment the ports of its first.
#[inline(always)]
pub fn check(walk: &mut Walk) -> Result<(), Reason> {
    if !walk.ip.is(IP_FRAGMENT) {
        return Ok(());
    }
    if walk.ip.is(IP_TINY) {
        return Err(Reason::TinyFragment);
    }
    name(walk);
    if !walk.ip.is(IP_LATER) {
        return Ok(());
    }
    let first = match entry::fragment(&FRAGMENTS, &walk.fragment) {
        None => entry::fragment(&CROWDED_FRAGMENTS, &walk.fragment),
        first => first,
    };
    let first = first.ok_or(Reason::FragmentState)?;
    if elapsed(first.seen, walk.now) >= LIFE {
        return Err(Reason::FragmentState);
    }
    // What an earlier build left does not say where its header ends.
    if first.header_end == 0 {
        return Err(Reason::FragmentState);
    }
    // It would overwrite what was decided about (RFC 1858, RFC 3128, RFC 5722).
    if walk.ip.position < first.header_end {
        return Err(Reason::TinyFragment);
    }
    walk.key.ports = first.ports;
    walk.key.protocol = first.protocol;
    if is_icmp(first.protocol, walk.ip.v4()) {
        walk.ip.icmp = first.ports >> 16;
    }
    Ok(())
}

/// The name of the whole packet.
#[inline(always)]
fn name(walk: &mut Walk) {
    walk.fragment.domain = walk.owner.domain;
    walk.fragment.ingress = walk.key.ingress;
    walk.fragment.source = walk.key.source;
    walk.fragment.destination = walk.key.destination;
}

/// Remembers a first fragment that was allowed.
#[inline(always)]
pub fn remember(walk: &Walk) {
    if !walk.ip.is(IP_FRAGMENT) || walk.ip.is(IP_LATER) {
        return;
    }
    // Of several first ones the receiver may take any.
    let before = match entry::fragment(&FRAGMENTS, &walk.fragment) {
        None => entry::fragment(&CROWDED_FRAGMENTS, &walk.fragment),
        before => before,
    };
    let before = before
        .filter(|before| elapsed(before.seen, walk.now) < LIFE)
        .map_or(1, |before| before.header_end);
    let state = FragmentState {
        ports: walk.key.ports,
        protocol: walk.key.protocol,
        seen: walk.now,
        header_end: transport::header_end(walk).max(before),
    };
    // One of the same name may stand in the other.
    let (into, other) = if limit::take(quota::sender(walk), LIMIT_FRAGMENTS, walk.nanoseconds) {
        (&FRAGMENTS, &CROWDED_FRAGMENTS)
    } else {
        (&CROWDED_FRAGMENTS, &FRAGMENTS)
    };
    let _ = other.remove(&walk.fragment);
    // Where it fails, later fragments are dropped and counted.
    let _ = into.insert(&walk.fragment, state, 0);
}
