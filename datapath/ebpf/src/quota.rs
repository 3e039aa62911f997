//! An endpoint's share of the connections: who opens many only crowds his own. Nobody is refused.
//!
//! Connections that begin faster than `LIMIT_CONNECTIONS` allows stand in `CROWDED`, where they push out each other, and
//! their packets are decided one by one. Those that both ends took part in leave it, up to `ESTABLISHED_MAX` of an
//! endpoint of this host; CPUs that count at once may miss one, which user space sets right when it sweeps.
//! One that is closed goes among all others' without a token, unless its opener has none left.

use aya_ebpf::bindings::BPF_NOEXIST;
use datapath_common::{ESTABLISHED_MAX, LIMIT_CONNECTIONS, LIMIT_REMOTE};

use crate::limit;
use crate::maps::ESTABLISHED;
use crate::walk::{On, Walk};

/// Whether the packet's sender may have one more connection among all others'.
#[inline(always)]
pub fn fair(walk: &Walk, tunnel: bool) -> bool {
    let opener = if tunnel {
        walk.flow.slots[On::Source as usize] | LIMIT_REMOTE
    } else {
        walk.owner.endpoint
    };
    limit::take(opener, LIMIT_CONNECTIONS, walk.nanoseconds)
}

/// Whether who opened the packet's connection, which `counts_for` it, has none left of what [`fair`] takes. Nothing is
/// taken.
#[inline(always)]
pub fn crowded(walk: &Walk, counts_for: u32, reply: bool) -> bool {
    let opener = match (counts_for, reply) {
        (0, false) => walk.flow.slots[On::Source as usize] | LIMIT_REMOTE,
        (0, true) => walk.flow.slots[On::Destination as usize] | LIMIT_REMOTE,
        _ => counts_for,
    };
    !limit::left(opener, LIMIT_CONNECTIONS, walk.nanoseconds)
}

/// The endpoint of this host that opened the packet's connection; 0 if it is another host's.
#[inline(always)]
pub fn opener(walk: &Walk, tunnel: bool, reply: bool) -> u32 {
    match (reply, tunnel) {
        (true, _) => walk.flow.endpoint,
        (false, true) => 0,
        (false, false) => walk.owner.endpoint,
    }
}

/// Whether an endpoint has room for one more that stays.
#[inline(always)]
pub fn has_room(endpoint: u32) -> bool {
    endpoint == 0 || counter(endpoint).is_none_or(|count| *count < ESTABLISHED_MAX.into())
}

/// One more.
#[inline(always)]
pub fn enter(endpoint: u32) {
    if endpoint == 0 {
        return;
    }
    if counter(endpoint).is_none() {
        // Fails where another CPU was faster, too: then the entry is there.
        let _ = ESTABLISHED.insert(endpoint, 0, BPF_NOEXIST.into());
    }
    if let Some(count) = counter(endpoint) {
        *count += 1;
    }
}

/// One less.
#[inline(always)]
pub fn leave(endpoint: u32) {
    if endpoint != 0
        && let Some(count) = counter(endpoint)
        && *count > 0
    {
        *count -= 1;
    }
}

#[inline(always)]
fn counter(endpoint: u32) -> Option<&'static mut u64> {
    let count = ESTABLISHED.get_ptr_mut(endpoint)?;
    // SAFETY: a value may change while it is read or written; it is one word.
    Some(unsafe { &mut *count })
}
