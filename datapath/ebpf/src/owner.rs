//! Whose a MAC or an IP address is, and who sends from where: the lookups behind every check.

use datapath_common::{Address, Neighbour, NeighbourKey, Station, StationKey};

use crate::headers::MacWords;
use crate::maps::{NEIGHBOURS, STATIONS};

/// The words of a MAC address as it stands in a map.
#[inline(always)]
pub fn mac_words(mac: &[u8; 6]) -> MacWords {
    [
        u16::from_ne_bytes([mac[0], mac[1]]),
        u16::from_ne_bytes([mac[2], mac[3]]),
        u16::from_ne_bytes([mac[4], mac[5]]),
    ]
}

/// The bytes of a MAC address as it stands in a packet.
#[inline(always)]
pub fn mac_bytes(mac: MacWords) -> [u8; 6] {
    let ([a, b], [c, d], [e, f]) = (mac[0].to_ne_bytes(), mac[1].to_ne_bytes(), mac[2].to_ne_bytes());
    [a, b, c, d, e, f]
}

/// Whether two addresses are the same.
#[inline(always)]
pub fn same(a: MacWords, b: MacWords) -> bool {
    (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) == 0
}

/// Whether it is a group address (broadcast included).
#[inline(always)]
pub fn group(mac: MacWords) -> bool {
    mac[0].to_ne_bytes()[0] & 1 != 0
}

/// Where a MAC address of a segment lives.
#[inline(always)]
pub fn station(vni: u32, mac: MacWords) -> Option<&'static Station> {
    let key = StationKey {
        vni,
        mac: mac_bytes(mac),
        zero: [0; 2],
    };
    // SAFETY: a value may change while it is read; each field is valid by itself.
    unsafe { STATIONS.get(key) }
}

/// The MAC address that an IP address of a segment belongs to.
#[inline(always)]
pub fn neighbour(vni: u32, address: &Address) -> Option<&'static Neighbour> {
    let key = NeighbourKey { vni, address: *address };
    // SAFETY: as in `station`.
    unsafe { NEIGHBOURS.get(key) }
}

/// Whether an IP address of a segment belongs to this MAC address.
#[inline(always)]
pub fn owns(vni: u32, mac: MacWords, address: &Address) -> bool {
    match neighbour(vni, address) {
        Some(neighbour) => same(mac_words(&neighbour.mac), mac),
        None => false,
    }
}
