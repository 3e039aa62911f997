//! Counting what is dropped.

use aya_ebpf::bindings::BPF_NOEXIST;
use datapath_common::{Count, DropKey, Port, Reason};

use crate::maps::DROPS;

/// For whom a drop is counted.
#[derive(Clone, Copy)]
pub struct Owner {
    /// The domain's number, 0 while it is not known.
    pub domain: u32,
    /// The endpoint's number, 0 while it is not known.
    pub endpoint: u32,
}

impl Owner {
    /// Nobody is known yet.
    pub const NOBODY: Self = Self { domain: 0, endpoint: 0 };

    /// The endpoint behind a port.
    #[inline(always)]
    pub fn of(port: &Port) -> Self {
        Self {
            domain: port.domain,
            endpoint: port.endpoint,
        }
    }
}

/// Counts one packet of `length` bytes. Where the map is full, the packet counts for nobody.
#[inline(never)]
pub fn count(owner: Owner, reason: Reason, length: u32) {
    let key = DropKey {
        domain: owner.domain,
        endpoint: owner.endpoint,
        reason: reason as u32,
    };
    if !add(&key, length) {
        add(
            &DropKey {
                domain: 0,
                endpoint: 0,
                reason: reason as u32,
            },
            length,
        );
    }
}

#[inline(always)]
fn add(key: &DropKey, length: u32) -> bool {
    if increment(key, length) {
        return true;
    }
    let first = Count { packets: 0, bytes: 0 };
    // Fails where another CPU was faster, too: then the entry is there.
    let _ = DROPS.insert(key, first, BPF_NOEXIST.into());
    increment(key, length)
}

#[inline(always)]
fn increment(key: &DropKey, length: u32) -> bool {
    let Some(count) = DROPS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: the kernel returned this CPU's value; a program is not preempted by one that counts on the same CPU.
    let count = unsafe { &mut *count };
    count.packets += 1;
    count.bytes += u64::from(length);
    true
}
