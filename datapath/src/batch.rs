//! The elements of one map by bpf(2), many in one call: aya has no batches. Where a kernel lacks them for a kind of map,
//! it is one call for each element. What is written here is only bytes; what they mean is the caller's business.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::ptr::from_ref;

use aya::Pod;
use aya::maps::{Map, MapData, MapError};
use nix::libc;

use crate::error::Error;

/// Most elements in one call, so that none takes long.
const MOST: usize = 4096;
/// Most elements that a bucket of a hash can have; more is not asked for.
const ROOM_MAX: usize = 1 << 20;
/// What the kernel answers where a kind of map has no batches (`ENOTSUPP`, not in the C library).
const NO_BATCHES: i32 = 524;

/// Commands of bpf(2) (`enum bpf_cmd`).
pub(crate) const LOOKUP: libc::c_long = 1;
pub(crate) const UPDATE: libc::c_long = 2;
const DELETE: libc::c_long = 3;
pub(crate) const NEXT_KEY: libc::c_long = 4;
const LOOKUP_BATCH: libc::c_long = 24;
const UPDATE_BATCH: libc::c_long = 26;
const DELETE_BATCH: libc::c_long = 27;

/// `union bpf_attr` of the commands for one element.
#[repr(C)]
pub(crate) struct Element {
    pub(crate) map: u32,
    pub(crate) zero: u32,
    pub(crate) key: u64,
    /// Or the next key.
    pub(crate) value: u64,
    pub(crate) flags: u64,
}

/// `union bpf_attr` of the commands for many.
#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// A hash, an LRU hash, an array, a trie or a program array with keys `K` and values `V`.
pub(crate) struct Elements<K, V> {
    name: &'static str,
    map: OwnedFd,
    has_batches: bool,
    types: PhantomData<fn() -> (K, V)>,
}

/// How far a walk through a map came. Elements that come or go meanwhile may be met or not, and some twice.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    /// What the kernel calls the place; empty at the start.
    place: Vec<u8>,
    is_over: bool,
}

impl Cursor {
    /// Whether the walk came to the end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }
}

/// An operation stopped early: so many elements were done before the one that the kernel refused.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) done: usize,
    pub(crate) error: Error,
}

impl<K, V> fmt::Debug for Elements<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elements")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<K: Pod, V: Pod> Elements<K, V> {
    /// Of a map whose keys and values have the sizes of `K` and `V`.
    pub(crate) fn of(name: &'static str, map: &Map) -> Result<Self, Error> {
        match map {
            Map::HashMap(data)
            | Map::LruHashMap(data)
            | Map::Array(data)
            | Map::LpmTrie(data)
            | Map::ProgramArray(data) => Self::new(name, data),
            _ => Err(Error::Part(name)),
        }
    }

    /// As `of`, of a map by itself.
    pub(crate) fn new(name: &'static str, data: &MapData) -> Result<Self, Error> {
        let info = data.info().map_err(Error::map("look at", name))?;
        if (info.key_size() as usize, info.value_size() as usize) != (size_of::<K>(), size_of::<V>()) {
            return Err(Error::Part(name));
        }
        let map = data.fd().as_fd().try_clone_to_owned();
        Ok(Self {
            name,
            map: map.map_err(|e| Error::map("open", name)(MapError::IoError(e)))?,
            has_batches: true,
            types: PhantomData,
        })
    }

    /// All of it.
    pub(crate) fn read(&self) -> Result<BTreeMap<K, V>, Error>
    where
        K: Ord,
    {
        Ok(self.read_all()?.into_iter().collect())
    }

    /// All of it, in no order.
    pub(crate) fn read_all(&self) -> Result<Vec<(K, V)>, Error> {
        let mut entries = Vec::new();
        let mut cursor = Cursor::default();
        while !cursor.is_over() {
            entries.extend(self.walk(&mut cursor, MOST)?);
        }
        Ok(entries)
    }

    /// How many values are like that.
    pub(crate) fn count(&self, is_counted: impl Fn(&V) -> bool) -> Result<usize, Error> {
        let mut count = 0;
        let mut cursor = Cursor::default();
        while !cursor.is_over() {
            let found = self.walk(&mut cursor, MOST)?;
            count += found.iter().filter(|(_, value)| is_counted(value)).count();
        }
        Ok(count)
    }

    /// The next elements of a walk, about `most` of them; none or few is not the end.
    pub(crate) fn walk(&self, cursor: &mut Cursor, most: usize) -> Result<Vec<(K, V)>, Error> {
        let result = if self.has_batches {
            match self.walk_batch(cursor, most.clamp(1, MOST)) {
                Err(e) if lacks_batches(&e) => self.walk_each(cursor, most),
                other => other,
            }
        } else {
            self.walk_each(cursor, most)
        };
        result.map_err(self.failed("read"))
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> Result<Option<V>, Error> {
        self.lookup(key).map_err(self.failed("read"))
    }

    /// Inserts or replaces, in this order.
    pub(crate) fn put(&self, entries: &[(K, V)]) -> Result<(), Stopped> {
        for (number, chunk) in entries.chunks(MOST).enumerate() {
            let (keys, values): (Vec<K>, Vec<V>) = chunk.iter().copied().unzip();
            self.many(UPDATE_BATCH, &keys, &values)
                .map_err(self.stopped(number * MOST))?;
        }
        Ok(())
    }

    /// Removes, in this order; what is not there is fine.
    pub(crate) fn remove(&self, keys: &[K]) -> Result<(), Stopped> {
        let mut done = 0;
        while let Some(left) = keys.get(done..).filter(|left| !left.is_empty()) {
            let chunk = &left[..left.len().min(MOST)];
            done += match self.many(DELETE_BATCH, chunk, &[]) {
                Ok(()) => chunk.len(),
                Err((at, error)) if error.raw_os_error() == Some(libc::ENOENT) => at + 1,
                Err(refused) => return Err(self.stopped(done)(refused)),
            };
        }
        Ok(())
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        let name = self.name;
        move |error| Error::map(action, name)(MapError::IoError(error))
    }

    fn stopped(&self, before: usize) -> impl FnOnce((usize, io::Error)) -> Stopped {
        let name = self.name;
        move |(done, error)| Stopped {
            done: before + done,
            error: match error.raw_os_error() {
                // What a trie says where a hash says E2BIG.
                Some(libc::ENOSPC) => Error::Full { table: name },
                _ => Error::map("write", name)(MapError::IoError(error)),
            },
        }
    }

    /// Updates or deletes; how many were done before an error.
    fn many(&self, command: libc::c_long, keys: &[K], values: &[V]) -> Result<(), (usize, io::Error)> {
        if !self.has_batches || keys.len() == 1 {
            return self.each(command, keys, values);
        }
        let mut batch = self.batch(keys.as_ptr(), values.as_ptr(), keys.len());
        // SAFETY: `batch` points to `count` keys and, for an update, as many values, which the kernel only reads.
        match unsafe { bpf(command, &mut batch) } {
            Err(e) if lacks_batches(&e) => self.each(command, keys, values),
            result => result.map_err(|e| (batch.count as usize, e)),
        }
    }

    fn each(&self, command: libc::c_long, keys: &[K], values: &[V]) -> Result<(), (usize, io::Error)> {
        for (at, key) in keys.iter().enumerate() {
            let value = values.get(at).map_or(0, address);
            let single = if command == UPDATE_BATCH { UPDATE } else { DELETE };
            // SAFETY: the kernel reads a key and, for an update, a value, both of which outlive the call.
            unsafe { self.one(single, address(key), value) }.map_err(|e| (at, e))?;
        }
        Ok(())
    }

    fn lookup(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = MaybeUninit::<V>::uninit();
        // SAFETY: the kernel reads a key and writes a value, for which there is room.
        match unsafe { self.one(LOOKUP, address(key), value.as_mut_ptr() as u64) } {
            // SAFETY: the kernel wrote all of it, and any bytes are a `Pod`.
            Ok(()) => Ok(Some(unsafe { value.assume_init() })),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn walk_batch(&self, cursor: &mut Cursor, most: usize) -> io::Result<Vec<(K, V)>> {
        let mut room = most;
        loop {
            let (mut keys, mut values) = (Vec::<K>::with_capacity(room), Vec::<V>::with_capacity(room));
            // A hash's place is four bytes, an array's or a trie's is a key.
            let mut place = vec![0_u8; size_of::<K>().max(4)];
            let mut batch = self.batch(keys.as_mut_ptr(), values.as_mut_ptr(), room);
            batch.from = if cursor.place.is_empty() {
                0
            } else {
                cursor.place.as_ptr() as u64
            };
            batch.to = place.as_mut_ptr() as u64;
            // SAFETY: there is room for `count` keys and values and for a place; the place to go on from is one that the
            // kernel wrote.
            let result = unsafe { bpf(LOOKUP_BATCH, &mut batch) };
            match result.as_ref().map_err(io::Error::raw_os_error) {
                Ok(()) => {}
                Err(Some(libc::ENOENT)) => cursor.is_over = true,
                // A bucket of a hash has more than there is room for.
                Err(Some(libc::ENOSPC)) if room < ROOM_MAX => {
                    room *= 4;
                    continue;
                }
                Err(_) => return result.map(|()| Vec::new()),
            }
            let count = (batch.count as usize).min(room);
            // SAFETY: the kernel wrote so many of each, and any bytes are a `Pod`.
            unsafe { keys.set_len(count) };
            // SAFETY: as above.
            unsafe { values.set_len(count) };
            cursor.place = place;
            return Ok(keys.into_iter().zip(values).collect());
        }
    }

    fn walk_each(&self, cursor: &mut Cursor, most: usize) -> io::Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        while entries.len() < most {
            let from = if cursor.place.is_empty() {
                0
            } else {
                cursor.place.as_ptr() as u64
            };
            let mut next = MaybeUninit::<K>::uninit();
            // SAFETY: the kernel reads a key, if there is one, and writes one, for which there is room.
            match unsafe { self.one(NEXT_KEY, from, next.as_mut_ptr() as u64) } {
                Ok(()) => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                    cursor.is_over = true;
                    break;
                }
                Err(e) => return Err(e),
            }
            // SAFETY: the kernel wrote all of it, and any bytes are a `Pod`.
            let key = unsafe { next.assume_init() };
            // SAFETY: a `Pod` without padding, which is as many bytes.
            let bytes = unsafe { std::slice::from_raw_parts(from_ref(&key).cast::<u8>(), size_of::<K>()) };
            cursor.place = bytes.to_vec();
            entries.extend(self.lookup(&key)?.map(|value| (key, value)));
        }
        Ok(entries)
    }

    fn batch(&self, keys: *const K, values: *const V, count: usize) -> Batch {
        Batch {
            from: 0,
            to: 0,
            keys: keys as u64,
            values: values as u64,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            map: self.map.as_raw_fd().cast_unsigned(),
            element_flags: 0,
            flags: 0,
        }
    }

    /// # Safety
    /// `key` and `value` are what the command makes of them: addresses of a `K` and of a `V` or another `K`.
    unsafe fn one(&self, command: libc::c_long, key: u64, value: u64) -> io::Result<()> {
        let mut element = Element {
            map: self.map.as_raw_fd().cast_unsigned(),
            zero: 0,
            key,
            value,
            flags: 0,
        };
        // SAFETY: said by the caller.
        unsafe { bpf(command, &mut element) }
    }
}

fn address<T>(value: &T) -> u64 {
    from_ref(value) as u64
}

fn lacks_batches(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(NO_BATCHES | libc::EOPNOTSUPP))
}

/// # Safety
/// `attributes` are those of the command, and what they point to has the sizes of the map's keys and values.
pub(crate) unsafe fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<()> {
    // SAFETY: said by the caller.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use aya::EbpfLoader;
    use aya::maps::lpm_trie::Key;
    use datapath_common::{Hop, MemberKey, Route, RouteKey, mapped};

    use super::*;
    use crate::object::OBJECT;
    use crate::privileged::privileged;

    fn hop(index: u32) -> (MemberKey, Hop) {
        let hop = Hop {
            vni: index,
            address: [7; 16],
        };
        (MemberKey { set: 1, index }, hop)
    }

    fn route(third: u8) -> (Key<RouteKey>, Route) {
        let key = RouteKey {
            router: 1_u32.to_be_bytes(),
            family: 4_u32.to_be_bytes(),
            address: mapped([10, 0, third, 0]),
        };
        let route = Route {
            kind: 1,
            vni: third.into(),
            set: 0,
            hops: 0,
        };
        (Key::new(64 + 96 + 24, key), route)
    }

    fn elements<K: Pod, V: Pod>(ebpf: &aya::Ebpf, name: &'static str, has_batches: bool) -> Elements<K, V> {
        let mut elements = Elements::of(name, ebpf.map(name).expect("a map")).expect("the sizes agree");
        elements.has_batches = has_batches;
        elements
    }

    #[test]
    fn elements_are_written_read_and_removed_with_and_without_batches() {
        if !privileged("elements_are_written_read_and_removed_with_and_without_batches") {
            return;
        }
        for has_batches in [true, false] {
            let ebpf = EbpfLoader::new().load(OBJECT).expect("the maps are made");
            let hops: Elements<MemberKey, Hop> = elements(&ebpf, "HOPS", has_batches);
            assert_eq!(hops.read().expect("nothing"), BTreeMap::new());
            let all: Vec<_> = (0..10_000).map(hop).collect();
            hops.put(&all).expect("there is room");
            assert_eq!(hops.read().expect("all"), all.iter().copied().collect());
            assert_eq!(hops.get(&hop(77).0).expect("one"), Some(hop(77).1));
            let gone: Vec<_> = (0..10_000).step_by(2).map(|index| hop(index).0).collect();
            for _ in 0..2 {
                hops.remove(&gone).expect("also what is not there");
            }
            let odd = all.iter().filter(|(key, _)| key.index % 2 == 1);
            assert_eq!(hops.read().expect("half"), odd.copied().collect());

            let slots: Elements<u32, u32> = elements(&ebpf, "GENERATIONS", has_batches);
            slots.put(&[(0, 5), (81_919, 6)]).expect("there is room");
            let read = slots.read().expect("all");
            assert_eq!((read.len(), read[&0], read[&1], read[&81_919]), (81_920, 5, 0, 6));
        }
    }

    #[test]
    fn a_trie_is_read_and_written() {
        if !privileged("a_trie_is_read_and_written") {
            return;
        }
        for has_batches in [true, false] {
            let ebpf = EbpfLoader::new().load(OBJECT).expect("the maps are made");
            let routes: Elements<Key<RouteKey>, Route> = elements(&ebpf, "ROUTES", has_batches);
            let all: Vec<_> = (0..200).map(route).collect();
            routes.put(&all).expect("there is room");
            routes.remove(&[route(3).0, route(3).0, route(4).0]).expect("removed");
            let (mut cursor, mut seen) = (Cursor::default(), Vec::new());
            while !cursor.is_over() {
                seen.extend(routes.walk(&mut cursor, 7).expect("read"));
            }
            let mut vnis: Vec<u32> = seen.iter().map(|(_, route)| route.vni).collect();
            vnis.sort_unstable();
            assert_eq!(vnis, (0..200).filter(|n| ![3, 4].contains(n)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_has_no_room_is_named_and_what_came_before_is_there() {
        if !privileged("what_has_no_room_is_named_and_what_came_before_is_there") {
            return;
        }
        for has_batches in [true, false] {
            let mut loader = EbpfLoader::new();
            loader.map_max_entries("HOPS", 100).map_max_entries("ROUTES", 10);
            let ebpf = loader.load(OBJECT).expect("the maps are made");
            let hops: Elements<MemberKey, Hop> = elements(&ebpf, "HOPS", has_batches);
            let stopped = hops.put(&(0..200).map(hop).collect::<Vec<_>>()).expect_err("full");
            assert!(
                matches!(
                    stopped,
                    Stopped {
                        done: 100,
                        error: Error::Full { table: "HOPS" }
                    }
                ),
                "{stopped:?}"
            );
            assert_eq!(hops.read().expect("what fits").len(), 100);
            let routes: Elements<Key<RouteKey>, Route> = elements(&ebpf, "ROUTES", has_batches);
            let stopped = routes.put(&(0..20).map(route).collect::<Vec<_>>()).expect_err("full");
            assert!(
                matches!(
                    stopped,
                    Stopped {
                        done: 10,
                        error: Error::Full { table: "ROUTES" }
                    }
                ),
                "{stopped:?}"
            );
        }
    }

    #[test]
    fn a_map_of_other_sizes_is_refused() {
        if !privileged("a_map_of_other_sizes_is_refused") {
            return;
        }
        let ebpf = EbpfLoader::new().load(OBJECT).expect("the maps are made");
        let map = ebpf.map("HOPS").expect("a map");
        assert!(matches!(
            Elements::<u32, Hop>::of("HOPS", map),
            Err(Error::Part("HOPS"))
        ));
        assert!(matches!(
            Elements::<MemberKey, u32>::of("HOPS", map),
            Err(Error::Part("HOPS"))
        ));
    }
}
