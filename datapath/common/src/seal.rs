//! How much the seal of a decision is about ([`Flow::seal`]), and what else is kept apart by the same secrets.

use core::mem::offset_of;

use crate::{Flow, FlowKey, LIMIT_REMOTE};

/// Words of eight bytes of a `Flow`'s key with its interface, and of what it says.
pub const FLOW_NAME: usize = (size_of::<FlowKey>() + size_of::<u32>()) / size_of::<u64>();
/// See `FLOW_NAME`.
pub const FLOW_SAID: usize = offset_of!(Flow, told) / size_of::<u64>();
/// The value of `SECRETS`: a factor for each of them.
pub type Factors = [u64; FLOW_NAME + FLOW_SAID];

/// `LimitKey::endpoint` of a station of another host. Two have the same with a probability of about 2^-30, whatever their
/// tenants choose, who do not know the factors.
#[must_use]
#[inline(always)]
pub fn remote_station(factors: &Factors, vni: u32, mac: [u8; 6]) -> u32 {
    let [a, b, c, d, e, f] = mac;
    let mac = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
    let sum = (u64::from(vni) | 1 << 32)
        .wrapping_mul(factors[0])
        .wrapping_add(mac.wrapping_mul(factors[1]));
    (sum >> 32) as u32 | LIMIT_REMOTE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot;

    #[test]
    fn stations_that_share_a_slot_share_nothing_else() {
        let factors: Factors =
            core::array::from_fn(|index| 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * index as u64 + 1));
        let macs = || {
            (0_u32..1 << 20).map(|number| {
                let [_, a, b, c] = number.to_be_bytes();
                [2, 0, 0, a, b, c]
            })
        };
        let first = [2, 0, 0, 0, 0, 1];
        let others = macs().filter(|mac| *mac != first && slot::station(7, *mac) == slot::station(7, first));
        let mut found = 0;
        for mac in others {
            found += 1;
            assert_ne!(remote_station(&factors, 7, mac), remote_station(&factors, 7, first));
            assert_eq!(remote_station(&factors, 7, mac) & LIMIT_REMOTE, LIMIT_REMOTE);
        }
        assert!(found > 2, "{found}");
        assert_ne!(remote_station(&factors, 7, first), remote_station(&factors, 8, first));
    }
}
