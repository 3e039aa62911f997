//! Addresses that no packet of a workload may carry (RFC 1122 section 3.2.1.3, RFC 6890): table M of the reference model.

use datapath_common::Reason;

use crate::ip;
use crate::walk::Walk;

/// Refuses them.
#[inline(always)]
pub fn check(walk: &Walk) -> Result<(), Reason> {
    let destination = ip::words(&walk.key.destination);
    let martian = if walk.ip.v4() {
        martian4(destination[3].to_ne_bytes())
    } else {
        martian6(destination)
    };
    if martian || ip::same(&walk.key.source, &walk.key.destination) {
        return Err(Reason::Martian);
    }
    Ok(())
}

/// This network, loopback, multicast, reserved and broadcast.
#[inline(always)]
fn martian4(destination: [u8; 4]) -> bool {
    matches!(destination[0], 0 | 127 | 224..)
}

/// Unspecified, loopback, multicast.
#[inline(always)]
fn martian6(destination: [u32; 4]) -> bool {
    let nearly_zero = destination[0] | destination[1] | destination[2] == 0;
    let last = u32::from_be(destination[3]);
    nearly_zero && last <= 1 || destination[0].to_ne_bytes()[0] == 0xff
}
