//! Waiting until no packet is on its way that saw what was before.

use nix::libc;

/// `MEMBARRIER_CMD_GLOBAL`: returns when every CPU has passed what the kernel calls a grace period, and so has every
/// program that ran when it was called.
const GLOBAL: libc::c_long = 1;

/// Returns when every program that was running has ended. Where the kernel cannot tell, a packet may meet an empty slot.
pub(super) fn wait() {
    // SAFETY: no pointers.
    unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) };
}
