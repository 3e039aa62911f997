//! The pinned maps: what is installed is read from them, and operations are applied to them.

use std::collections::BTreeMap;
use std::fmt;

use aya::maps::{Array, HashMap, Map, MapData, MapError, MapInfo, PerCpuHashMap, ProgramArray};
use aya::{Ebpf, Pod};
use datapath_common::probe::Probed;
use datapath_common::{
    Address, Count, Domain, DropKey, Neighbour, NeighbourKey, Peer, Port, Segment, Settings, Station, StationKey, slot,
};

use crate::bpffs::Pins;
use crate::diff::{Entry, Key, Operation};
use crate::error::Error;
use crate::numbers::{Encoded, Name, Numbers};
use crate::tables::Tables;

type Hash<K, V> = HashMap<MapData, K, V>;

/// The map of probed hosts; `probe` reads and writes it.
pub(crate) const PROBES: &str = "PROBES";
/// The map of names; only user space knows it.
const NUMBERS: &str = "NUMBERS";
/// How many names it holds.
pub(crate) const NUMBERS_MAX: u32 = 65_536;
/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;

/// Every map that is pinned, with the sizes of its keys and values.
const LAYOUTS: [(&str, usize, usize); 12] = [
    ("PORTS", 4, size_of::<Port>()),
    ("STATIONS", size_of::<StationKey>(), size_of::<Station>()),
    ("NEIGHBOURS", size_of::<NeighbourKey>(), size_of::<Neighbour>()),
    ("PEERS", 4, size_of::<Peer>()),
    ("VTEPS", size_of::<Address>(), 4),
    ("SEGMENTS", 4, size_of::<Segment>()),
    ("DOMAINS", 4, size_of::<Domain>()),
    ("DROPS", size_of::<DropKey>(), size_of::<Count>()),
    ("SETTINGS", 4, size_of::<Settings>()),
    ("PROGRAMS", 4, 4),
    (PROBES, size_of::<Address>(), size_of::<Probed>()),
    (NUMBERS, 4, size_of::<Encoded>()),
];

/// Names of the maps that the object defines and that are pinned.
pub(crate) fn of_object() -> impl Iterator<Item = &'static str> {
    LAYOUTS
        .into_iter()
        .map(|(name, ..)| name)
        .filter(|name| *name != NUMBERS)
}

/// Whether the maps that are pinned have the layout that this build knows.
pub(crate) fn compatible(pins: &Pins) -> bool {
    LAYOUTS.into_iter().all(|(name, key, value)| {
        MapInfo::from_pin(pins.map(name)).map_or(true, |info| {
            info.key_size() as usize == key && info.value_size() as usize == value
        })
    })
}

/// The maps.
pub(crate) struct Maps {
    ports: Hash<u32, Port>,
    stations: Hash<StationKey, Station>,
    neighbours: Hash<NeighbourKey, Neighbour>,
    peers: Array<MapData, Peer>,
    vteps: Hash<Address, u32>,
    segments: Hash<u32, Segment>,
    domains: Hash<u32, Domain>,
    drops: PerCpuHashMap<MapData, DropKey, Count>,
    settings: Array<MapData, Settings>,
    numbers: Hash<u32, Encoded>,
    pub(crate) programs: ProgramArray<MapData>,
    /// Id of `PROGRAMS`.
    pub(crate) programs_id: u32,
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl Maps {
    /// Takes the maps of a loaded object, and opens or makes the map of names.
    pub(crate) fn take(ebpf: &mut Ebpf, pins: &Pins) -> Result<Self, Error> {
        Ok(Self {
            ports: take(ebpf, "PORTS")?,
            stations: take(ebpf, "STATIONS")?,
            neighbours: take(ebpf, "NEIGHBOURS")?,
            peers: take(ebpf, "PEERS")?,
            vteps: take(ebpf, "VTEPS")?,
            segments: take(ebpf, "SEGMENTS")?,
            domains: take(ebpf, "DOMAINS")?,
            drops: take(ebpf, "DROPS")?,
            settings: take(ebpf, "SETTINGS")?,
            programs_id: id(ebpf, "PROGRAMS")?,
            programs: take(ebpf, "PROGRAMS")?,
            numbers: open_numbers(pins)?,
        })
    }

    /// What is installed.
    pub(crate) fn read(&self) -> Result<Tables, Error> {
        Ok(Tables {
            ports: read("PORTS", &self.ports)?,
            stations: read("STATIONS", &self.stations)?,
            neighbours: read("NEIGHBOURS", &self.neighbours)?,
            segments: read("SEGMENTS", &self.segments)?,
            peers: self.read_peers()?,
            vteps: read("VTEPS", &self.vteps)?,
        })
    }

    /// Only the tunnels: `PEERS`.
    pub(crate) fn read_peers(&self) -> Result<BTreeMap<u32, Peer>, Error> {
        let mut peers = BTreeMap::new();
        for number in 0..self.peers.len() {
            let peer = self.peers.get(&number, 0).map_err(Error::map("read", "PEERS"))?;
            if peer.remote != [0; 16] {
                peers.insert(number, peer);
            }
        }
        Ok(peers)
    }

    /// Does one operation. Doing it again changes nothing.
    pub(crate) fn apply(&mut self, operation: Operation) -> Result<(), Error> {
        match operation {
            Operation::Put(Entry::Port(k, v)) => put("PORTS", &mut self.ports, k, v),
            Operation::Put(Entry::Vtep(k, v)) => put("VTEPS", &mut self.vteps, k, v),
            Operation::Put(Entry::Segment(k, v)) => {
                put(
                    "DOMAINS",
                    &mut self.domains,
                    v.domain,
                    Domain {
                        flags: v.zero[0].into(),
                        slot: slot::domain(v.domain),
                        egress: 0,
                        egress_rules: 0,
                        ingress: 0,
                        ingress_rules: 0,
                    },
                )?;
                put("SEGMENTS", &mut self.segments, k, v)
            }
            Operation::Put(Entry::Station(k, v)) => put("STATIONS", &mut self.stations, k, v),
            Operation::Put(Entry::Neighbour(k, v)) => put("NEIGHBOURS", &mut self.neighbours, k, v),
            Operation::Put(Entry::Peer(k, v)) => self.peers.set(k, v, 0).map_err(Error::map("write", "PEERS")),
            Operation::Remove(Key::Port(k)) => remove("PORTS", &mut self.ports, k),
            Operation::Remove(Key::Vtep(k)) => remove("VTEPS", &mut self.vteps, k),
            Operation::Remove(Key::Segment(k)) => remove("SEGMENTS", &mut self.segments, k),
            Operation::Remove(Key::Station(k)) => remove("STATIONS", &mut self.stations, k),
            Operation::Remove(Key::Neighbour(k)) => remove("NEIGHBOURS", &mut self.neighbours, k),
            Operation::Remove(Key::Peer(k)) => {
                let none = Peer {
                    local: [0; 16],
                    remote: [0; 16],
                    next_hop: [0; 16],
                    ifindex: 0,
                    mtu: 0,
                    flags: 0,
                    source_mac: [0; 6],
                    next_hop_mac: [0; 6],
                };
                self.peers.set(k, none, 0).map_err(Error::map("write", "PEERS"))
            }
        }
    }

    /// The settings; all zero before the first run.
    pub(crate) fn settings(&self) -> Result<Settings, Error> {
        self.settings.get(&0, 0).map_err(Error::map("read", "SETTINGS"))
    }

    pub(crate) fn set_settings(&mut self, settings: Settings) -> Result<(), Error> {
        self.settings
            .set(0, settings, 0)
            .map_err(Error::map("write", "SETTINGS"))
    }

    /// The drop counters, summed over CPUs.
    pub(crate) fn drops(&self) -> Result<BTreeMap<DropKey, Count>, Error> {
        let mut counts = BTreeMap::new();
        for entry in self.drops.iter() {
            let (key, cpus) = entry.map_err(Error::map("read", "DROPS"))?;
            let sum = cpus.iter().fold(Count { packets: 0, bytes: 0 }, |sum, cpu| Count {
                packets: sum.packets.wrapping_add(cpu.packets),
                bytes: sum.bytes.wrapping_add(cpu.bytes),
            });
            counts.insert(key, sum);
        }
        Ok(counts)
    }

    /// Removes drop counters.
    pub(crate) fn forget_drops(&mut self, keys: &[DropKey]) -> Result<(), Error> {
        for key in keys {
            absent_is_fine(self.drops.remove(key)).map_err(Error::map("write", "DROPS"))?;
        }
        Ok(())
    }

    /// The names of numbers. A name that cannot be read is skipped; its number is not given out while it stands.
    pub(crate) fn read_numbers(&self) -> Result<Numbers, Error> {
        let entries = read(NUMBERS, &self.numbers)?;
        Ok(entries
            .iter()
            .filter_map(|(number, bytes)| Some((*number, Name::decode(bytes)?)))
            .collect())
    }

    pub(crate) fn put_number(&mut self, number: u32, name: &Name) -> Result<(), Error> {
        put(NUMBERS, &mut self.numbers, number, name.encode())
    }

    pub(crate) fn remove_number(&mut self, number: u32) -> Result<(), Error> {
        remove(NUMBERS, &mut self.numbers, number)
    }
}

fn take<T: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, Error> {
    let map = ebpf.take_map(name).ok_or(Error::Part(name))?;
    T::try_from(map).map_err(Error::map("open", name))
}

fn id(ebpf: &Ebpf, name: &'static str) -> Result<u32, Error> {
    match ebpf.map(name) {
        Some(Map::ProgramArray(data)) => Ok(data.info().map_err(Error::map("look at", name))?.id()),
        _ => Err(Error::Part(name)),
    }
}

fn open_numbers(pins: &Pins) -> Result<Hash<u32, Encoded>, Error> {
    let path = pins.map(NUMBERS);
    if !path.exists() {
        Hash::<u32, Encoded>::create(NUMBERS_MAX, NO_PREALLOC)
            .map_err(Error::map("make", NUMBERS))?
            .pin(&path)
            .map_err(Error::pin(&path))?;
    }
    MapData::from_pin(&path)
        .and_then(Map::from_map_data)
        .and_then(Hash::try_from)
        .map_err(Error::map("open", NUMBERS))
}

fn read<K: Pod + Ord, V: Pod>(table: &'static str, map: &Hash<K, V>) -> Result<BTreeMap<K, V>, Error> {
    let mut entries = BTreeMap::new();
    for entry in map.iter() {
        let (key, value) = entry.map_err(Error::map("read", table))?;
        entries.insert(key, value);
    }
    Ok(entries)
}

fn put<K: Pod, V: Pod>(table: &'static str, map: &mut Hash<K, V>, key: K, value: V) -> Result<(), Error> {
    map.insert(key, value, 0).map_err(Error::map("write", table))
}

fn remove<K: Pod, V: Pod>(table: &'static str, map: &mut Hash<K, V>, key: K) -> Result<(), Error> {
    absent_is_fine(map.remove(&key)).map_err(Error::map("write", table))
}

pub(crate) fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(()),
        other => other,
    }
}
