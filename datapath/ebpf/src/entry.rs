//! Checked copies of entries of hash maps: the only way in which the programs read what may be gone while they read it.
//!
//! The kernel gives an element that left a hash to another key at once (since Linux 6.1 whether it is preallocated or
//! not), whoever still holds a pointer to it. So whatever is used of an entry is copied, and the key looked up again:
//! where that finds the same element, it was the key's from before the copy until behind it, but for an element that was
//! given away and came back to the same key in between, on another CPU, within the few instructions of a copy. Where it
//! finds another one, the value was replaced: that one is copied instead.
//!
//! Copies lie in a map of each CPU, one of a kind, and stand until the next of the kind is asked for.

use core::ptr::{self, NonNull};

use aya_ebpf::maps::{HashMap, LruHashMap};
use datapath_common::punt::{PuntKey, PuntRule};
use datapath_common::{
    Address, Connection, ConnectionKey, Domain, FloodTarget, FragmentKey, FragmentState, Hop, MemberKey, Neighbour,
    NeighbourKey, Port, Segment, Station, StationKey,
};

use crate::maps::{COPIES, DOMAINS, FLOODS, HOPS, NEIGHBOURS, PORTS, PUNT_RULES, SEGMENTS, STATIONS, VTEPS};

/// How often a value that is replaced meanwhile is copied; then it counts as not there.
const ATTEMPTS: usize = 2;

/// A copy of each kind.
#[repr(C)]
pub struct Copies {
    port: Port,
    segment: Segment,
    beyond: Segment,
    station: Station,
    neighbour: Neighbour,
    domain: Domain,
    hop: Hop,
    target: FloodTarget,
    punt: PuntRule,
    host: u32,
    fragment: FragmentState,
    connection: Connection,
}

/// A map that gives its elements away.
pub trait Hash<K, V> {
    /// The element that is a key's at this moment.
    fn at(&self, key: &K) -> Option<*mut V>;
}

impl<K, V> Hash<K, V> for HashMap<K, V> {
    #[inline(always)]
    fn at(&self, key: &K) -> Option<*mut V> {
        self.get_ptr_mut(key)
    }
}

impl<K, V> Hash<K, V> for LruHashMap<K, V> {
    #[inline(always)]
    fn at(&self, key: &K) -> Option<*mut V> {
        self.get_ptr_mut(key)
    }
}

/// Copies an entry; where it stands.
#[inline(always)]
fn copied<K, V: Copy>(map: &impl Hash<K, V>, key: &K, copy: *mut V) -> Option<*mut V> {
    const { assert!(size_of::<V>() % size_of::<u32>() == 0) };
    let mut entry = map.at(key)?;
    for _ in 0..ATTEMPTS {
        let (from, to): (*const u32, *mut u32) = (entry.cast_const().cast(), copy.cast());
        for index in 0..size_of::<V>() / size_of::<u32>() {
            // SAFETY: within both, which the kernel aligns to eight bytes; volatile, so that it happens between the lookups.
            unsafe { ptr::write_volatile(to.add(index), ptr::read_volatile(from.add(index))) };
        }
        let again = map.at(key)?;
        if ptr::eq(again, entry) {
            return Some(entry);
        }
        entry = again;
    }
    None
}

macro_rules! copies {
    ($($(#[doc = $text:literal])+ $name:ident($($argument:ident: $type:ty),+ => $key:expr) in $map:ident: $place:ident, $value:ty;)+) => {
        $(
            $(#[doc = $text])+
            #[inline(never)]
            pub fn $name($($argument: $type),+) -> Option<&'static $value> {
                let copies = COPIES.get_ptr_mut(0)?;
                // SAFETY: this CPU's only value, of which only this module has pointers.
                let copy = unsafe { &raw mut (*copies).$place };
                copied(&$map, &$key, copy)?;
                // SAFETY: it was written, and stands until the next of its kind is asked for (see the head of this file).
                Some(unsafe { &*copy })
            }
        )+
    };
}

copies! {
    /// Who sends by an interface.
    port(ifindex: u32 => ifindex) in PORTS: port, Port;
    /// What a VNI is.
    segment(vni: u32 => vni) in SEGMENTS: segment, Segment;
    /// As `segment`, of the one that a packet is routed into.
    beyond(vni: u32 => vni) in SEGMENTS: beyond, Segment;
    /// Where a MAC address lives.
    station(key: StationKey => key) in STATIONS: station, Station;
    /// Whose an address is.
    neighbour(key: NeighbourKey => key) in NEIGHBOURS: neighbour, Neighbour;
    /// What a domain does with connections.
    domain(number: u32 => number) in DOMAINS: domain, Domain;
    /// A next hop of a set.
    hop(key: MemberKey => key) in HOPS: hop, Hop;
    /// One who gets group frames.
    target(key: MemberKey => key) in FLOODS: target, FloodTarget;
    /// What user space wants of packets like this.
    punt(key: PuntKey => key) in PUNT_RULES: punt, PuntRule;
    /// Which host sends tunnels from an address.
    host(source: Address => source) in VTEPS: host, u32;
}

/// What an interface's entry says that the generations of a decision are found by: the slot of its endpoint, and its domain.
/// Not checked: whoever goes by it compares it with a copy that is made later.
#[inline(always)]
pub fn generations_of(ifindex: u32) -> Option<(u32, u32)> {
    let port = PORTS.get_ptr(ifindex)?;
    // SAFETY: words of an element of the map, whatever stands in it; volatile, so that it happens before what comes next.
    Some(unsafe {
        (
            ptr::read_volatile(&raw const (*port).slot),
            ptr::read_volatile(&raw const (*port).domain),
        )
    })
}

/// What the first fragment said.
#[inline(always)]
pub fn fragment(map: &LruHashMap<FragmentKey, FragmentState>, key: &FragmentKey) -> Option<&'static FragmentState> {
    let copies = COPIES.get_ptr_mut(0)?;
    // SAFETY: as in `copies!`.
    let copy = unsafe { &raw mut (*copies).fragment };
    copied(map, key, copy)?;
    // SAFETY: as above.
    Some(unsafe { &*copy })
}

/// A connection: where it stands, of which only `seen` may be written, and what it said. Whatever else may stand there by
/// then was written this moment, too, and lives no longer by it.
#[inline(always)]
pub fn connection(map: &impl Hash<ConnectionKey, Connection>, tuple: &ConnectionKey) -> Option<NonNull<Connection>> {
    let copies = COPIES.get_ptr_mut(0)?;
    // SAFETY: as in `copies!`.
    let copy = unsafe { &raw mut (*copies).connection };
    NonNull::new(copied(map, tuple, copy)?)
}

/// What the connection said that was found last.
#[inline(always)]
pub fn said() -> Option<Connection> {
    let copies = COPIES.get_ptr(0)?;
    // SAFETY: as in `copies!`.
    Some(unsafe { (*copies).connection })
}
