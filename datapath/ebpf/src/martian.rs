//! Addresses that no packet of a workload may carry (RFC 1122 section 3.2.1.3, RFC 6890): table M of the reference model.

use datapath_common::{Address, Reason};

use crate::ip;
use crate::walk::Walk;

/// Refuses them. `everybody`: the frame goes to all of its segment, where group addresses belong.
#[inline(always)]
pub fn check(walk: &Walk, everybody: bool) -> Result<(), Reason> {
    let destination = &walk.key.destination;
    let martian = if walk.ip.v4() {
        martian4(destination[12]) && !(everybody && group4(destination))
    } else {
        martian6(destination) && !(everybody && destination[0] == 0xff)
    };
    if martian || ip::same(&walk.key.source, &walk.key.destination) {
        return Err(Reason::Martian);
    }
    Ok(())
}

/// This network, loopback, multicast, reserved and broadcast.
#[inline(always)]
fn martian4(first: u8) -> bool {
    matches!(first, 0 | 127 | 224..)
}

/// Multicast and the limited broadcast.
#[inline(always)]
fn group4(destination: &Address) -> bool {
    matches!(destination[12], 224..=239) || ip::words(destination)[3] == u32::MAX
}

/// Unspecified, loopback, multicast; and what pretends to be IPv4, for which it would be taken from here on.
#[inline(always)]
fn martian6(destination: &Address) -> bool {
    let words = ip::words(destination);
    let low = words[0] | words[1] | words[2] == 0 && u32::from_be(words[3]) <= 1;
    low || destination[0] == 0xff || ip::pretends(destination)
}
