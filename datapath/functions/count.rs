//! Counts what it is asked, and keeps the words of the last time it was.

#![no_std]
#![no_main]

use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use fabric_function::{Answer, Context};

/// What was seen.
#[repr(C)]
pub struct Seen {
    packets: u64,
    words: [u32; 5],
    /// The first bytes of the workload's frame: whom it is to.
    to: [u8; 4],
}

#[map]
static SEEN: Array<Seen> = Array::with_max_entries(1, 0);

fabric_function::function!("Dual MIT/GPL", count);

#[inline(always)]
fn count(context: &Context) -> Answer {
    let Some(seen) = SEEN.get_ptr_mut(0) else {
        return Answer::Next;
    };
    // SAFETY: the entry is there as long as the map; each field is valid whatever another CPU writes meanwhile.
    let seen = unsafe { &mut *seen };
    // Rust has no atomic addition here: two CPUs at once may count one. count.c counts both.
    seen.packets += 1;
    // SAFETY: the context is valid for the whole run.
    let skb = unsafe { &*context.skb() };
    seen.words[0] = skb.cb[0];
    seen.words[1] = context.domain();
    seen.words[2] = context.endpoint();
    seen.words[3] = context.flow_hash();
    seen.words[4] = context.frame();
    if let Some(to) = context.load::<4>(0) {
        seen.to = to;
    }
    Answer::Next
}
