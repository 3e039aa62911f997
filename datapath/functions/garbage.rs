//! Answers what its map says, whatever that is, and marks the packet and its words: for tests of what a function can do.

#![no_std]
#![no_main]

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;

/// What it answers, all 64 bits of the register.
#[map]
static ANSWER: Array<u64> = Array::with_max_entries(1, 0);

/// The entry: the datapath calls it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
pub extern "C" fn garbage(skb: *mut __sk_buff) -> u64 {
    // SAFETY: the context is valid for the whole run, and these fields may be written.
    unsafe {
        (*skb).mark = 0xffff_ffff;
        (*skb).priority = 0xffff_ffff;
        (*skb).cb[1] = 0xffff_ffff;
        (*skb).cb[4] = 0xffff_ffff;
    }
    ANSWER.get(0).copied().unwrap_or(u64::MAX)
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
