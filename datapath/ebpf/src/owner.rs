//! Whose a MAC or an IP address is, and who sends from where: the lookups behind every check.

use aya_ebpf::maps::lpm_trie::Key;
use datapath_common::{Address, HERE, Neighbour, NeighbourKey, PrefixKey, ROUTER, Reason, Station, StationKey};

use crate::headers::MacWords;
use crate::maps::PREFIXES;
use crate::walk::Walk;
use crate::{entry, ip, words};

/// Bits of a whole key of `PREFIXES`.
const WHOLE: u32 = 32 + 32 + 128;
/// fe80::/64, the first two words of a link-local address.
const LINK_LOCAL: [u32; 2] = [0xfe80_0000_u32.to_be(), 0];

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
    entry::station(key)
}

/// Whether a MAC address of a segment lives at another host.
#[inline(never)]
pub fn elsewhere(vni: u32, mac: MacWords) -> bool {
    station(vni, mac).is_some_and(|station| station.peer != HERE && station.peer != ROUTER)
}

/// Who answers for an IP address of a segment.
#[inline(never)]
pub fn neighbour(vni: u32, address: &Address) -> Option<&'static Neighbour> {
    let key = NeighbourKey { vni, address: *address };
    entry::neighbour(key)
}

/// Who may use an IP address of a segment without answering for it.
#[inline(never)]
pub fn prefix(vni: u32, address: &Address, v4: bool) -> Option<&'static Neighbour> {
    let data = PrefixKey {
        vni: vni.to_be_bytes(),
        family: family(v4),
        address: *address,
    };
    PREFIXES.get(Key::new(WHOLE, data))
}

/// The family in the key of a trie.
#[inline(always)]
pub fn family(v4: bool) -> [u8; 4] {
    u32::to_be_bytes(if v4 { 4 } else { 6 })
}

/// Whether an address is one of this MAC address's, as [`owns`] decides it.
#[inline(never)]
pub fn has(vni: u32, address: &Address, v4: bool, mac: MacWords) -> bool {
    if !v4 && ip::pretends(address) {
        return false;
    }
    let exact = neighbour(vni, address);
    let owner = match exact {
        None => prefix(vni, address, v4),
        owner => owner,
    };
    owner.is_some_and(|owner| same(mac_words(&owner.mac), mac)) || exact.is_none() && !v4 && link_local(address)
}

/// Whether an address is in fe80::/64.
#[inline(always)]
pub fn link_local(address: &Address) -> bool {
    let words = ip::words(address);
    [words[0], words[1]] == LINK_LOCAL
}

/// Notes the groups of the station that has this MAC address; nobody, and who is for everybody, has none.
#[inline(always)]
pub fn receives(walk: &mut Walk, vni: u32, mac: MacWords) {
    words::zero(&mut walk.destination_groups);
    if let Some(station) = station(vni, mac) {
        walk.destination_groups = words::copied(&station.groups);
    }
}

/// Refuses a packet whose destination address is exactly another one's than this MAC address's: table D of the reference
/// model.
#[inline(always)]
pub fn meant(walk: &mut Walk, vni: u32, mac: MacWords) -> Result<(), Reason> {
    match neighbour(vni, &walk.key.destination) {
        Some(owner) if same(mac_words(&owner.mac), mac) => Ok(()),
        Some(_) => Err(Reason::DestinationAddress),
        None => {
            // Who comes to have the address may do so without a change of what the decision depends on, unless it is
            // taken from this station's prefixes.
            let owner = prefix(vni, &walk.key.destination, walk.ip.v4());
            walk.cache &= owner.is_some_and(|owner| same(mac_words(&owner.mac), mac));
            Ok(())
        }
    }
}

/// Refuses a packet for everybody whose destination address is somebody's.
#[inline(always)]
pub fn meant_for_all(walk: &Walk, vni: u32) -> Result<(), Reason> {
    match neighbour(vni, &walk.key.destination) {
        Some(_) => Err(Reason::DestinationAddress),
        None => Ok(()),
    }
}

/// Whether the packet's source address is one of this MAC address's: table S of the reference model. Leaves the MAC
/// address and the groups of its station in the walk.
#[inline(always)]
pub fn owns(walk: &mut Walk, vni: u32, mac: MacWords) -> bool {
    walk.source_mac = mac;
    words::zero(&mut walk.source_groups);
    match station(vni, mac) {
        Some(station) => walk.source_groups = words::copied(&station.groups),
        None => return false,
    }
    let (address, v4) = (&walk.key.source, walk.ip.v4());
    if !v4 && ip::pretends(address) {
        return false;
    }
    let exact = neighbour(vni, address);
    let owner = match exact {
        None => prefix(vni, address, v4),
        owner => owner,
    };
    if owner.is_some_and(|owner| same(mac_words(&owner.mac), mac)) {
        return true;
    }
    // A link-local address that nobody else has (RFC 4291 section 2.5.6, RFC 7217). Who gets it, gets it without a
    // change of what the decision depends on.
    walk.cache = false;
    exact.is_none() && !v4 && link_local(address)
}
