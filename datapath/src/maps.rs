//! The pinned maps: what is installed is read from them, and operations are applied to them.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use aya::maps::lpm_trie::Key as TrieKey;
use aya::maps::{HashMap, IterableMap as _, Map, MapData, MapError, MapInfo, PerCpuHashMap, ProgramArray};
use aya::{Ebpf, Pod};
use datapath_common::probe::Probed;
use datapath_common::{
    ACTION_AUDIT, Address, Bucket, Connection, ConnectionKey, Count, Domain, DropKey, Factors, FloodTarget, Flow,
    FlowKey, FragmentKey, FragmentState, Function, Hop, LimitKey, MemberKey, Neighbour, NeighbourKey, Peer, Port,
    PrefixKey, Route, RouteKey, Rule, SLOTS, Segment, Settings, Station, StationKey,
};

use crate::batch::{Elements, Stopped};
use crate::bpffs::{Pins, outlives};
use crate::error::Error;
use crate::numbers::{Encoded, Name, Numbers};
use crate::tables::{Prefix, Tables};

mod mend;
mod obey;
mod traffic;

/// The map of probed hosts; `probe` reads and writes it.
pub(crate) const PROBES: &str = "PROBES";
/// The map of names; only user space knows it.
const NUMBERS: &str = "NUMBERS";
/// The map of what one load leaves to the next; only user space knows it.
const LOADS: &str = "LOADS";
/// Keys of `LOADS`: the mark of packets that we redirect, and the first slot of the bank of programs in force.
const MARK: u32 = 0;
const BANK: u32 = 1;
const LOADS_MAX: u32 = 2;
/// How many names it holds.
pub(crate) const NUMBERS_MAX: u32 = 65_536;
/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;

/// Every map that is pinned, with the sizes of its keys and values.
const LAYOUTS: [(&str, usize, usize); 31] = [
    ("PORTS", 4, size_of::<Port>()),
    ("STATIONS", size_of::<StationKey>(), size_of::<Station>()),
    ("NEIGHBOURS", size_of::<NeighbourKey>(), size_of::<Neighbour>()),
    ("PREFIXES", size_of::<TrieKey<PrefixKey>>(), size_of::<Neighbour>()),
    ("PEERS", 4, size_of::<Peer>()),
    ("VTEPS", size_of::<Address>(), 4),
    ("SEGMENTS", 4, size_of::<Segment>()),
    ("DOMAINS", 4, size_of::<Domain>()),
    ("RULES", size_of::<MemberKey>(), size_of::<Rule>()),
    ("ROUTES", size_of::<TrieKey<RouteKey>>(), size_of::<Route>()),
    ("HOPS", size_of::<MemberKey>(), size_of::<Hop>()),
    ("FLOODS", size_of::<MemberKey>(), size_of::<FloodTarget>()),
    ("GENERATIONS", 4, 4),
    ("CONNECTIONS", size_of::<ConnectionKey>(), size_of::<Connection>()),
    ("HALF_OPEN", size_of::<ConnectionKey>(), size_of::<Connection>()),
    ("CROWDED", size_of::<ConnectionKey>(), size_of::<Connection>()),
    ("ESTABLISHED", 4, 8),
    ("FLOWS", size_of::<FlowKey>(), size_of::<Flow>()),
    ("SECRETS", 4, size_of::<Factors>()),
    ("FRAGMENTS", size_of::<FragmentKey>(), size_of::<FragmentState>()),
    (
        "CROWDED_FRAGMENTS",
        size_of::<FragmentKey>(),
        size_of::<FragmentState>(),
    ),
    ("LIMITS", size_of::<LimitKey>(), size_of::<Bucket>()),
    ("AUDITS", size_of::<MemberKey>(), size_of::<Count>()),
    ("DROPS", size_of::<DropKey>(), size_of::<Count>()),
    ("SETTINGS", 4, size_of::<Settings>()),
    ("PROGRAMS", 4, 4),
    ("CHAIN", 4, 4),
    ("FUNCTIONS", 4, size_of::<Function>()),
    (PROBES, size_of::<Address>(), size_of::<Probed>()),
    (NUMBERS, 4, size_of::<Encoded>()),
    (LOADS, 4, 4),
];

/// Names of the maps that the object defines and that are pinned, each with its pin.
pub(crate) fn of_object(pins: &Pins) -> impl Iterator<Item = (&'static str, PathBuf)> {
    let names = LAYOUTS.into_iter().map(|(name, ..)| name);
    names
        .filter(|name| ![NUMBERS, LOADS].contains(name))
        .map(|name| (name, pins.map(name)))
}

/// Sets aside what is pinned and has not the sizes that this build knows.
pub(crate) fn set_others_aside(pins: &Pins) -> Result<(), Error> {
    pins.adopt_state()?;
    let other = LAYOUTS.into_iter().filter(|(name, key, value)| {
        MapInfo::from_pin(pins.map(name))
            .is_ok_and(|info| info.key_size() as usize != *key || info.value_size() as usize != *value)
    });
    let (state, tables): (Vec<_>, Vec<_>) = other.map(|(name, ..)| name).partition(|name| outlives(name));
    if !tables.is_empty() {
        pins.set_tables_aside()?;
    }
    state.into_iter().try_for_each(|name| pins.set_state_aside(name))
}

/// The maps.
pub(crate) struct Maps {
    ports: Elements<u32, Port>,
    stations: Elements<StationKey, Station>,
    neighbours: Elements<NeighbourKey, Neighbour>,
    prefixes: Elements<TrieKey<PrefixKey>, Neighbour>,
    peers: Elements<u32, Peer>,
    vteps: Elements<Address, u32>,
    segments: Elements<u32, Segment>,
    domains: Elements<u32, Domain>,
    rules: Elements<MemberKey, Rule>,
    routes: Elements<TrieKey<RouteKey>, Route>,
    hops: Elements<MemberKey, Hop>,
    floods: Elements<MemberKey, FloodTarget>,
    generations: Elements<u32, u32>,
    /// What is in `generations`: nobody else writes it.
    counted: Vec<u32>,
    pub(crate) connections: Elements<ConnectionKey, Connection>,
    pub(crate) half_open: Elements<ConnectionKey, Connection>,
    pub(crate) crowded: Elements<ConnectionKey, Connection>,
    pub(crate) established: Elements<u32, u64>,
    pub(crate) flows: Elements<FlowKey, Flow>,
    pub(crate) fragments: Elements<FragmentKey, FragmentState>,
    audits: PerCpuHashMap<MapData, MemberKey, Count>,
    drops: PerCpuHashMap<MapData, DropKey, Count>,
    settings: Elements<u32, Settings>,
    /// What was written to `settings`.
    told: Option<Settings>,
    numbers: Elements<u32, Encoded>,
    loads: Elements<u32, u32>,
    pub(crate) functions: Elements<u32, Function>,
    pub(crate) chain: Elements<u32, u32>,
    pub(crate) programs: ProgramArray<MapData>,
    /// The same, to be read: ids of programs.
    pub(crate) entered: Elements<u32, u32>,
    /// Id of `PROGRAMS`.
    pub(crate) programs_id: u32,
}

impl fmt::Debug for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maps").finish_non_exhaustive()
    }
}

impl Maps {
    /// The maps of a loaded object, and the map of names: opened, or made where there is none.
    pub(crate) fn of(ebpf: &Ebpf, pins: &Pins) -> Result<Self, Error> {
        Self::with(ebpf, open_numbers(pins)?, open_loads(pins)?)
    }

    /// The maps of a loaded object, and a map of names that goes with them.
    pub(crate) fn unpinned(ebpf: &Ebpf) -> Result<Self, Error> {
        let numbers = make_hash::<Encoded>(NUMBERS, NUMBERS_MAX)?;
        let loads = make_hash::<u32>(LOADS, LOADS_MAX)?;
        Self::with(
            ebpf,
            Elements::new(NUMBERS, numbers.map())?,
            Elements::new(LOADS, loads.map())?,
        )
    }

    fn with(ebpf: &Ebpf, numbers: Elements<u32, Encoded>, loads: Elements<u32, u32>) -> Result<Self, Error> {
        let generations: Elements<u32, u32> = elements(ebpf, "GENERATIONS")?;
        Ok(Self {
            ports: elements(ebpf, "PORTS")?,
            stations: elements(ebpf, "STATIONS")?,
            neighbours: elements(ebpf, "NEIGHBOURS")?,
            prefixes: elements(ebpf, "PREFIXES")?,
            peers: elements(ebpf, "PEERS")?,
            vteps: elements(ebpf, "VTEPS")?,
            segments: elements(ebpf, "SEGMENTS")?,
            domains: elements(ebpf, "DOMAINS")?,
            rules: elements(ebpf, "RULES")?,
            routes: elements(ebpf, "ROUTES")?,
            hops: elements(ebpf, "HOPS")?,
            floods: elements(ebpf, "FLOODS")?,
            counted: generations.read()?.into_values().collect(),
            generations,
            connections: elements(ebpf, "CONNECTIONS")?,
            half_open: elements(ebpf, "HALF_OPEN")?,
            crowded: elements(ebpf, "CROWDED")?,
            established: elements(ebpf, "ESTABLISHED")?,
            flows: elements(ebpf, "FLOWS")?,
            fragments: elements(ebpf, "FRAGMENTS")?,
            audits: shared(ebpf, "AUDITS")?,
            drops: shared(ebpf, "DROPS")?,
            settings: elements(ebpf, "SETTINGS")?,
            told: None,
            functions: elements(ebpf, "FUNCTIONS")?,
            chain: elements(ebpf, "CHAIN")?,
            programs_id: id(ebpf, "PROGRAMS")?,
            programs: shared(ebpf, "PROGRAMS")?,
            entered: elements(ebpf, "PROGRAMS")?,
            numbers,
            loads,
        })
    }

    /// What is installed.
    pub(crate) fn read(&self) -> Result<Tables, Error> {
        let mut peers = self.peers.read()?;
        peers.retain(|_, peer| *peer != NO_PEER);
        Ok(Tables {
            ports: self.ports.read()?,
            stations: self.stations.read()?,
            neighbours: self.neighbours.read()?,
            prefixes: read_trie(&self.prefixes)?,
            segments: self.segments.read()?,
            domains: self.domains.read()?,
            rules: self.rules.read()?,
            routes: read_trie(&self.routes)?,
            hops: self.hops.read()?,
            floods: self.floods.read()?,
            peers,
            vteps: self.vteps.read()?,
        })
    }

    /// Counts up every slot of `GENERATIONS`: no decision that was made before stays in force.
    pub(crate) fn bump_all(&mut self) -> Result<(), Error> {
        self.counted.iter_mut().for_each(|count| *count = count.wrapping_add(1));
        let all: Vec<(u32, u32)> = (0..).zip(self.counted.iter().copied()).collect();
        self.generations.put(&all).map_err(|stopped| stopped.error)
    }

    /// The settings; all zero before the first run.
    pub(crate) fn settings(&self) -> Result<Option<Settings>, Error> {
        self.settings.get(&0)
    }

    /// The mark of packets that we redirect, from the first load on.
    pub(crate) fn mark(&self, first: impl FnOnce() -> Result<u32, Error>) -> Result<u32, Error> {
        match self.loads.get(&MARK)? {
            Some(mark) => Ok(mark),
            None => {
                let mark = first()?;
                self.loads.put(&[(MARK, mark)]).map_err(|stopped| stopped.error)?;
                Ok(mark)
            }
        }
    }

    /// Says which bank of programs is in force.
    pub(crate) fn set_bank(&self, bank: u32) -> Result<(), Error> {
        self.loads.put(&[(BANK, bank)]).map_err(|stopped| stopped.error)
    }

    pub(crate) fn set_settings(&mut self, settings: Settings) -> Result<(), Error> {
        self.settings.put(&[(0, settings)]).map_err(|stopped| stopped.error)?;
        self.told = Some(settings);
        Ok(())
    }

    /// The drop counters, summed over CPUs.
    pub(crate) fn drops(&self) -> Result<BTreeMap<DropKey, Count>, Error> {
        read_counts("DROPS", &self.drops)
    }

    /// Removes drop counters.
    pub(crate) fn forget_drops(&mut self, keys: &[DropKey]) -> Result<(), Error> {
        for key in keys {
            absent_is_fine(self.drops.remove(key)).map_err(Error::map("write", "DROPS"))?;
        }
        Ok(())
    }

    /// What audit rules counted, summed over CPUs.
    pub(crate) fn audits(&self) -> Result<BTreeMap<MemberKey, Count>, Error> {
        read_counts("AUDITS", &self.audits)
    }

    /// Removes the counters of audit rules.
    pub(crate) fn forget_audits(&mut self, keys: impl IntoIterator<Item = MemberKey>) -> Result<(), Error> {
        for key in keys {
            absent_is_fine(self.audits.remove(&key)).map_err(Error::map("write", "AUDITS"))?;
        }
        Ok(())
    }

    /// The names of numbers. A name that cannot be read is skipped; its number is not given out while it stands.
    pub(crate) fn read_numbers(&self) -> Result<Numbers, Error> {
        let entries = self.numbers.read()?;
        Ok(entries
            .iter()
            .filter_map(|(number, bytes)| Some((*number, Name::decode(bytes)?)))
            .collect())
    }

    /// Writes names of numbers, in this order; how many were written before an error.
    pub(crate) fn put_numbers(&mut self, names: &[(u32, Name)]) -> Result<(), Stopped> {
        let encoded: Vec<_> = names.iter().map(|(number, name)| (*number, name.encode())).collect();
        self.numbers.put(&encoded)
    }

    pub(crate) fn remove_numbers(&mut self, numbers: &[u32]) -> Result<(), Error> {
        self.numbers.remove(numbers).map_err(|stopped| stopped.error)
    }
}

/// A tunnel that is none.
const NO_PEER: Peer = Peer {
    local: [0; 16],
    remote: [0; 16],
    next_hop: [0; 16],
    ifindex: 0,
    mtu: 0,
    flags: 0,
    source_mac: [0; 6],
    next_hop_mac: [0; 6],
};

/// Whether a rule has a counter.
fn counts(rule: &Rule) -> bool {
    rule.action == ACTION_AUDIT
}

fn elements<K: Pod, V: Pod>(ebpf: &Ebpf, name: &'static str) -> Result<Elements<K, V>, Error> {
    Elements::of(name, ebpf.map(name).ok_or(Error::Part(name))?)
}

/// A map that the object keeps, too.
fn shared<T: TryFrom<Map, Error = MapError>>(ebpf: &Ebpf, name: &'static str) -> Result<T, Error> {
    let (Some(Map::PerCpuHashMap(data)) | Some(Map::ProgramArray(data))) = ebpf.map(name) else {
        return Err(Error::Part(name));
    };
    let fd = data.fd().as_fd().try_clone_to_owned();
    let fd = fd.map_err(|error| Error::map("open", name)(MapError::IoError(error)))?;
    let map = MapData::from_fd(fd).and_then(Map::from_map_data);
    T::try_from(map.map_err(Error::map("open", name))?).map_err(Error::map("open", name))
}

fn id(ebpf: &Ebpf, name: &'static str) -> Result<u32, Error> {
    match ebpf.map(name) {
        Some(Map::ProgramArray(data)) => Ok(data.info().map_err(Error::map("look at", name))?.id()),
        _ => Err(Error::Part(name)),
    }
}

/// The bank of programs that is not in force.
pub(crate) fn spare_bank(pins: &Pins) -> Result<u32, Error> {
    match open_loads(pins)?.get(&BANK)? {
        Some(0) => Ok(SLOTS),
        Some(_) | None => Ok(0),
    }
}

fn open_numbers(pins: &Pins) -> Result<Elements<u32, Encoded>, Error> {
    open_hash(NUMBERS, NUMBERS_MAX, pins)
}

fn open_loads(pins: &Pins) -> Result<Elements<u32, u32>, Error> {
    open_hash(LOADS, LOADS_MAX, pins)
}

/// Opens or makes a map that no program knows.
fn open_hash<V: Pod>(name: &'static str, most: u32, pins: &Pins) -> Result<Elements<u32, V>, Error> {
    let path = pins.map(name);
    if !path.exists() {
        make_hash::<V>(name, most)?.pin(&path).map_err(Error::pin(&path))?;
    }
    let map = MapData::from_pin(&path).and_then(Map::from_map_data);
    Elements::of(name, &map.map_err(Error::map("open", name))?)
}

fn make_hash<V: Pod>(name: &'static str, most: u32) -> Result<HashMap<MapData, u32, V>, Error> {
    HashMap::create(most, NO_PREALLOC).map_err(Error::map("make", name))
}

fn read_trie<K: Pod + Ord, V: Pod>(trie: &Elements<TrieKey<K>, V>) -> Result<BTreeMap<Prefix<K>, V>, Error> {
    let entries = trie.read_all()?.into_iter();
    let key = |key: TrieKey<K>| Prefix {
        data: key.data(),
        length: key.prefix_len(),
    };
    Ok(entries.map(|(found, value)| (key(found), value)).collect())
}

fn trie_key<K: Pod>(prefix: Prefix<K>) -> TrieKey<K> {
    TrieKey::new(prefix.length, prefix.data)
}

fn read_counts<K: Pod + Ord>(
    table: &'static str,
    map: &PerCpuHashMap<MapData, K, Count>,
) -> Result<BTreeMap<K, Count>, Error> {
    let mut counts = BTreeMap::new();
    for entry in map.iter() {
        let (key, cpus) = entry.map_err(Error::map("read", table))?;
        let sum = cpus.iter().fold(Count { packets: 0, bytes: 0 }, |sum, cpu| Count {
            packets: sum.packets.wrapping_add(cpu.packets),
            bytes: sum.bytes.wrapping_add(cpu.bytes),
        });
        counts.insert(key, sum);
    }
    Ok(counts)
}

pub(crate) fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(e)) if e.io_error.raw_os_error() == Some(nix::libc::ENOENT) => Ok(()),
        other => other,
    }
}
