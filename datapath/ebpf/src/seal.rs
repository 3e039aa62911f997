//! What makes an entry of `FLOWS` say itself whose it is.
//!
//! The kernel gives an element of an LRU hash to another key at once, whoever still holds a pointer to it, and writes the
//! other value over the one that is being read. No lookup before the reading tells, and one behind it only that the element
//! is the key's again. So a value carries a sum over its key, the interface, and all that it says, each word times a factor
//! of its own; who reads makes a copy first and believes it where the sum of the copy is right for his own packet. Then it
//! is whole and was decided for a packet like this one, whatever happened to the element meanwhile.
//!
//! The factors are random and leave the kernel only for its root user: no workload can choose addresses and ports for
//! which another's decision would sum up. Two packets that differ in the endpoint, or in the VNI, have equal sums with a
//! probability of about 2^-33.

use core::mem::offset_of;
use core::ptr;

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use datapath_common::{FLOW_NAME, FLOW_SAID, Factors, Flow, FlowKey, LIMIT_REMOTE, remote_station};

use crate::headers::MacWords;
use crate::ip;
use crate::maps::SECRETS;
use crate::owner::mac_bytes;
use crate::walk::Walk;

const _: () = assert!(FLOW_NAME * size_of::<u64>() == size_of::<FlowKey>() + size_of::<u32>());
const _: () = assert!(FLOW_SAID * size_of::<u64>() == offset_of!(Flow, told));
const _: () = assert!(offset_of!(Walk, flow) % align_of::<u64>() == 0);

/// Copies what a flow says into `copy`; whether that was decided for packets of this key by this interface.
///
/// # Safety
/// `entry` is the kernel's, `copy` a map's value at a multiple of eight bytes; neither is read or written otherwise
/// meanwhile, but `entry` by other CPUs.
#[inline(never)]
pub unsafe fn copy(entry: *const Flow, copy: *mut Flow, key: &FlowKey, ifindex: u32) -> bool {
    let Some(factors) = SECRETS.get(0) else { return false };
    let mut sum = name(key, ifindex, factors);
    let (from, to): (*const u64, *mut u64) = (entry.cast(), copy.cast());
    for index in 0..FLOW_SAID {
        // SAFETY: within both; volatile, so that each word is read once, and is the one that is summed up.
        let word = unsafe { ptr::read_volatile(from.add(index)) };
        // SAFETY: as above.
        unsafe { ptr::write_volatile(to.add(index), word) };
        sum = sum.wrapping_add(word.wrapping_mul(factors[FLOW_NAME + index]));
    }
    // SAFETY: as above; in units of four bytes, as the fields are aligned.
    let (told, [low, high]) = unsafe {
        let seal = (&raw const (*entry).seal).cast::<u32>();
        (
            ptr::read_volatile(&raw const (*entry).told),
            [ptr::read_volatile(seal), ptr::read_volatile(seal.add(1))],
        )
    };
    // SAFETY: as above.
    unsafe { ptr::write_volatile(&raw mut (*copy).told, told) };
    u64::from(low) | u64::from(high) << 32 == sum
}

/// Whom `LIMITS` knows a station of another host as.
#[inline(always)]
pub fn remote(vni: u32, mac: MacWords) -> u32 {
    match factors() {
        Some(factors) => remote_station(factors, vni, mac_bytes(mac)),
        None => LIMIT_REMOTE,
    }
}

/// The secrets, made when they are first needed.
#[inline(always)]
fn factors() -> Option<&'static Factors> {
    let factors = SECRETS.get_ptr_mut(0)?;
    // SAFETY: the map's value. Two CPUs may make factors at once, or one may read what another is making: then a seal is
    // never right, and the packets to come are decided anew, and a bucket is used once.
    let factors = unsafe { &mut *factors };
    if factors[0] == 0 {
        make(factors);
    }
    Some(factors)
}

/// Seals the walk's decision.
#[inline(always)]
pub fn close(walk: &mut Walk) {
    let Some(factors) = factors() else { return };
    let mut sum = name(&walk.key, walk.ifindex, factors);
    let said: *const u64 = (&raw const walk.flow).cast();
    for index in 0..FLOW_SAID {
        // SAFETY: within the flow, aligned as asserted above.
        let word = unsafe { ptr::read(said.add(index)) };
        sum = sum.wrapping_add(word.wrapping_mul(factors[FLOW_NAME + index]));
    }
    walk.flow.seal = [sum as u32, (sum >> 32) as u32];
}

/// Random ones; the first, by which it is known that there are any, last.
#[inline(always)]
fn make(factors: &mut Factors) {
    for factor in factors.iter_mut().rev() {
        // SAFETY: no arguments.
        let (low, high) = unsafe { (bpf_get_prandom_u32(), bpf_get_prandom_u32()) };
        let random = u64::from(low as u32) | u64::from(high as u32) << 32 | 1;
        // SAFETY: a reference is valid; volatile, so that they are written in this order.
        unsafe { ptr::write_volatile(factor, random) };
    }
}

/// The part of a sum that is about the packet.
#[inline(always)]
fn name(key: &FlowKey, ifindex: u32, factors: &Factors) -> u64 {
    let two = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let ([a, b, c, d], [e, f, g, h]) = (ip::words(&key.source), ip::words(&key.destination));
    let words: [u64; FLOW_NAME] = [
        two(key.ingress, key.ports),
        two(key.protocol, ifindex),
        two(a, b),
        two(c, d),
        two(e, f),
        two(g, h),
    ];
    let terms = words
        .into_iter()
        .zip(factors)
        .map(|(word, factor)| word.wrapping_mul(*factor));
    terms.fold(0, u64::wrapping_add)
}
