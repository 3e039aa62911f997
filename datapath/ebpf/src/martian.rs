//! Addresses that no packet of a workload may carry (RFC 1122 section 3.2.1.3, RFC 6890): table M of the reference model.

use datapath_common::{Address, Reason};

use crate::ip;
use crate::walk::Walk;

/// Refuses them. `everybody`: the frame goes to all of its segment, where group addresses belong, and who has no address
/// yet may speak.
#[inline(always)]
pub fn check(walk: &Walk, everybody: bool) -> Result<(), Reason> {
    let (source, destination) = (&walk.key.source, &walk.key.destination);
    let v4 = walk.ip.v4();
    let wrong_destination = nobodys(destination, v4) && !(everybody && group(destination, v4));
    let wrong_source = nobodys(source, v4) && !(everybody && unspecified(source, v4));
    if wrong_destination || wrong_source || ip::same(source, destination) {
        return Err(Reason::Martian);
    }
    Ok(())
}

/// Whether nobody can be reached at it alone.
#[inline(always)]
fn nobodys(address: &Address, v4: bool) -> bool {
    if v4 { nobodys4(address[12]) } else { nobodys6(address) }
}

/// This network, loopback, multicast, reserved and broadcast.
#[inline(always)]
fn nobodys4(first: u8) -> bool {
    matches!(first, 0 | 127 | 224..)
}

/// Unspecified, loopback, multicast; and what pretends to be IPv4, for which it would be taken from here on.
#[inline(always)]
fn nobodys6(address: &Address) -> bool {
    let words = ip::words(address);
    let low = words[0] | words[1] | words[2] == 0 && u32::from_be(words[3]) <= 1;
    low || address[0] == 0xff || ip::pretends(address)
}

/// Multicast, and IPv4's limited broadcast.
#[inline(always)]
fn group(destination: &Address, v4: bool) -> bool {
    if v4 {
        matches!(destination[12], 224..=239) || ip::words(destination)[3] == u32::MAX
    } else {
        destination[0] == 0xff
    }
}

#[inline(always)]
fn unspecified(source: &Address, v4: bool) -> bool {
    let words = ip::words(source);
    words[3] == 0 && (v4 || words[0] | words[1] | words[2] == 0)
}
