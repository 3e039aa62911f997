//! An endpoint's share of the connections: who opens many only crowds his own. Nobody is refused.
//!
//! Connections that begin faster than `LIMIT_CONNECTIONS` allows stand in `CROWDED`, where they push out each other, and
//! their packets are decided one by one. Those that both ends took part in leave it, up to `ESTABLISHED_MAX` that an
//! endpoint of this host opened, as many that others opened to it, and no more of a domain than the map has room for
//! besides a reserve: whoever holds many leaves as much again to all others, and the reserve to domains that have few.
//! What is gone unseen, user space sets right when it sweeps. One that is closed goes to `CROWDED` without a token: who
//! closes it did not open it, and there as many as may be opened and closed in a second leave those alone that others
//! open.

use core::arch::asm;
use core::ptr;

use aya_ebpf::bindings::BPF_NOEXIST;
use datapath_common::{
    CONNECTIONS_MAX, ESTABLISHED_DOMAIN, ESTABLISHED_MAX, FLOW_TUNNEL, LIMIT_CONNECTIONS, LIMIT_FLOWS, LIMIT_REMOTE,
    shares,
};

use crate::limit;
use crate::maps::ESTABLISHED;
use crate::seal;
use crate::walk::Walk;

/// Whom what a packet causes counts for in `LIMITS`: its sender, another host's by his station.
#[inline(always)]
pub fn sender(walk: &Walk) -> u32 {
    if walk.key.ingress & FLOW_TUNNEL != 0 {
        seal::remote(walk.source_vni, walk.source_mac)
    } else {
        walk.owner.endpoint
    }
}

/// Whether the packet's sender may have one more connection among all others'.
#[inline(always)]
pub fn fair(walk: &Walk) -> bool {
    limit::take(sender(walk), LIMIT_CONNECTIONS, walk.nanoseconds)
}

/// Whether one more decision about the packet's sender may be remembered among all others'.
#[inline(always)]
pub fn remembers(walk: &Walk) -> bool {
    limit::take(sender(walk), LIMIT_FLOWS, walk.nanoseconds)
}

/// Whom the packet's connection counts for among those that stay: the endpoint of this host that opened it, or, with
/// `LIMIT_REMOTE`, the one to which another host's workload did. `here`: the packet goes to a workload of this host.
#[inline(always)]
pub fn opener(walk: &Walk, tunnel: bool, reply: bool, here: bool) -> u32 {
    match (reply, tunnel, here) {
        (false, false, _) => walk.owner.endpoint,
        (false, true, _) => walk.flow.endpoint | LIMIT_REMOTE,
        (true, _, true) => walk.flow.endpoint,
        (true, _, false) => walk.owner.endpoint | LIMIT_REMOTE,
    }
}

/// Whether there is room for one more that stays.
#[inline(never)]
pub fn has_room(domain: u32, counts_for: u32) -> bool {
    let free = u64::from(CONNECTIONS_MAX).saturating_sub(counted(ESTABLISHED_DOMAIN));
    counted(counts_for) < ESTABLISHED_MAX.into() && shares(counted(ESTABLISHED_DOMAIN | domain), free)
}

/// One more.
#[inline(never)]
pub fn enter(domain: u32, counts_for: u32) {
    count_up(counts_for);
    count_up(ESTABLISHED_DOMAIN | domain);
    count_up(ESTABLISHED_DOMAIN);
}

/// One less.
#[inline(never)]
pub fn leave(domain: u32, counts_for: u32) {
    count_down(counts_for);
    count_down(ESTABLISHED_DOMAIN | domain);
    count_down(ESTABLISHED_DOMAIN);
}

/// What a counter says. One that was counted down below 0 by two CPUs at once says that nobody is counted.
#[inline(always)]
fn counted(key: u32) -> u64 {
    match counter(key) {
        Some(count) => {
            let count = said(count);
            if count > i64::MAX as u64 { 0 } else { count }
        }
        None => 0,
    }
}

#[inline(always)]
fn count_up(key: u32) {
    let count = match counter(key) {
        None => {
            // Fails where another CPU was faster, too: then the entry is there.
            let _ = ESTABLISHED.insert(key, 0, BPF_NOEXIST.into());
            counter(key)
        }
        count => count,
    };
    if let Some(count) = count {
        add(count, 1);
    }
}

#[inline(always)]
fn count_down(key: u32) {
    if let Some(count) = counter(key)
        && said(count) != 0
    {
        add(count, -1);
    }
}

/// A counter. Whoever a build that did not count wrote down is 0, and nobody's.
#[inline(always)]
fn counter(key: u32) -> Option<*mut u64> {
    if key == 0 {
        return None;
    }
    ESTABLISHED.get_ptr_mut(key)
}

#[inline(always)]
fn said(counter: *mut u64) -> u64 {
    // SAFETY: an element of the map, one word; it may be another's by now, which user space sets right.
    unsafe { ptr::read_volatile(counter) }
}

/// At once for all CPUs. The core library has nothing for that here, since it would return what was there before.
#[inline(always)]
fn add(counter: *mut u64, number: i64) {
    // SAFETY: as above; the kernel aligns it to eight bytes.
    unsafe {
        asm!(
            "lock *(u64 *)({counter} + 0) += {number}",
            counter = in(reg) counter,
            number = in(reg) number,
            options(nostack),
        );
    }
}
