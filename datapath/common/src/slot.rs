//! Places in `GENERATIONS`. A change of a station or of a domain counts up its slot, and with that every flow that was
//! decided from it is void. Two that share a slot only void each other's flows.

use crate::{DOMAIN_SLOTS, STATION_SLOTS};

const OFFSET_BASIS: u32 = 0x811c_9dc5;
const PRIME: u32 = 0x0100_0193;

/// The slot of the station with this MAC address in this segment (FNV-1a over the VNI in network order and the address).
#[must_use]
#[inline(always)]
pub const fn station(vni: u32, mac: [u8; 6]) -> u32 {
    let [a, b, c, d] = vni.to_be_bytes();
    let bytes = [a, b, c, d, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]];
    let mut hash = OFFSET_BASIS;
    let mut index = 0;
    while index < bytes.len() {
        hash = (hash ^ bytes[index] as u32).wrapping_mul(PRIME);
        index += 1;
    }
    hash % STATION_SLOTS
}

/// The slot of the domain with this number.
#[must_use]
#[inline(always)]
pub const fn domain(number: u32) -> u32 {
    STATION_SLOTS + number % DOMAIN_SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stations_and_domains_have_slots_of_their_own() {
        for number in [0, 1, DOMAIN_SLOTS - 1, DOMAIN_SLOTS, u32::MAX] {
            assert!(
                (STATION_SLOTS..STATION_SLOTS + DOMAIN_SLOTS).contains(&domain(number)),
                "{number}"
            );
            assert!(station(number, [0xff; 6]) < STATION_SLOTS, "{number}");
        }
        assert_ne!(domain(1), domain(2));
    }

    #[test]
    fn stations_spread() {
        let mut hits = [0_u8; STATION_SLOTS as usize];
        for number in 0..1000_u32 {
            let [_, _, c, d] = number.to_be_bytes();
            hits[station(100, [2, 0, 0, 0, c, d]) as usize] += 1;
        }
        let shared = hits.iter().filter(|hits| **hits > 1).count();
        assert!(shared < 40, "{shared} slots are shared by 1000 stations");
        assert_ne!(station(100, [2; 6]), station(101, [2; 6]));
    }
}
