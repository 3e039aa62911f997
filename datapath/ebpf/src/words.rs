//! Copying and zeroing word by word. Left to the compiler, what is longer than two words becomes a call that goes byte by
//! byte.

use core::ptr;

use datapath_common::Address;

/// A copy.
#[inline(always)]
pub fn copied<T: Copy>(words: &[T; 4]) -> [T; 4] {
    let [a, b, c, d] = *words;
    [a, b, c, d]
}

/// Zeroes them.
#[inline(always)]
pub fn zero<const N: usize>(words: &mut [u64; N]) {
    for word in words {
        // SAFETY: a reference is valid; volatile, or the compiler makes one call of all.
        unsafe { ptr::write_volatile(word, 0) };
    }
}

/// Zeroes an address.
///
/// # Safety
/// It lies at a multiple of four bytes.
#[inline(always)]
pub unsafe fn zero_address(address: &mut Address) {
    let words: *mut u32 = (&raw mut *address).cast();
    for index in 0..4 {
        // SAFETY: within the address, and aligned, as the caller says; volatile as above.
        unsafe { ptr::write_volatile(words.add(index), 0) };
    }
}
