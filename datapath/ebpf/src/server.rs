//! What only servers send that the fabric is itself: router advertisements, DHCP.

use datapath_common::Reason;

use crate::headers::protocol;
use crate::icmp::{self, ROUTER_ADVERTISEMENT};
use crate::walk::{IP_LATER, Walk};

/// Ports of DHCP clients (RFC 2131 section 4.1, RFC 9915 section 7.2).
const CLIENT4: u32 = 68;
const CLIENT6: u32 = 546;

/// Refuses it.
#[inline(always)]
pub fn check(walk: &Walk) -> Result<(), Reason> {
    let client = if walk.ip.v4() { CLIENT4 } else { CLIENT6 };
    let udp = walk.key.protocol == protocol::UDP.into() && !walk.ip.is(IP_LATER);
    let dhcp = udp && walk.key.ports & 0xffff == client;
    if dhcp || icmp::kind6(&walk.ip) == Some(ROUTER_ADVERTISEMENT) {
        return Err(Reason::RogueServer);
    }
    Ok(())
}
