//! From what another build left in force to what this one applied, under traffic.
//!
//! Stubs on interfaces, and the program array that they call, outlive builds. While a build with other tables is in force,
//! its programs go on with its tables, which they hold; this build fills its own. Then the hooks' slots turn to this
//! build's programs, one map update each.
//!
//! Connections and whatever else has to outlive a build are in maps that both share (see [`crate::bpffs`]). Where this
//! build gives such a map another size, the two have maps of their own and what is in the one is carried over to the
//! other: while the tables are filled, again until there is little left, and once more behind the turn. The front of each
//! value is the same in every build; what a build adds stands behind it and is zero in what came from before. A connection
//! that began between the last two rounds, some milliseconds, may have to repeat its first answer. Of what both have, the
//! one counts that was seen later: a turn that was cut off anywhere is gone through again, and does no harm.
//!
//! Until the turn nothing is taken away that the other build's programs use: tunnel devices, stubs on uplinks, next hops.

use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::time::Duration;

use aya::maps::{MapData, MapError, MapType};
use datapath_common::{Connection, FragmentState};
use nix::libc;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::batch::{Element, LOOKUP, NEXT_KEY, UPDATE, bpf};
use crate::bpffs::Pins;
use crate::datapath::Datapath;
use crate::error::Error;
use crate::load::enter;

/// Rounds of carrying over before the turn, at most; each takes as long as the table is large.
const ROUNDS: usize = 3;

/// What is left to do until this build is in force.
#[derive(Debug)]
pub(crate) struct Succession {
    /// First slot of the bank of this build's programs.
    bank: u32,
    /// Since when this build has waited, while another one is in force.
    pending: Option<Instant>,
}

impl Succession {
    /// Carries over what another build left, so that names of numbers can be read.
    pub(crate) fn begin(pins: &Pins, bank: u32) -> Result<Self, Error> {
        carry_all(pins, false)?;
        Ok(Self {
            bank,
            pending: pins.has_others()?.then(Instant::now),
        })
    }

    /// Whether the tables of another build are in force.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// First slot of the bank of this build's programs.
    pub(crate) fn bank(&self) -> u32 {
        self.bank
    }
}

impl Datapath {
    /// For how long this build has waited while another one's tables are in force; see [`Datapath::take_over`]. Nothing where
    /// packets go by this build's.
    #[must_use]
    pub fn waits(&self) -> Option<Duration> {
        self.succession.pending.map(|since| since.elapsed())
    }

    /// Lets packets go by what this build applied, where a build with other layouts was in force until here: to be called
    /// when every domain was applied once, for those that were not are forwarded no more. It does nothing where no such
    /// build was.
    pub fn take_over(&mut self) -> Result<(), Error> {
        if !self.succession.is_pending() {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            if carry_all(&self.stubs.pins, true)? == 0 {
                break;
            }
        }
        enter(&self.stubs.ebpf, &mut self.maps, self.succession.bank)?;
        carry_all(&self.stubs.pins, false)?;
        self.stubs.pins.forget_others()?;
        self.succession.pending = None;
        info!("took over from a build with other tables");
        self.look_soon();
        self.find_functions()
    }

    /// Lets packets go by this load's programs, unless another build's tables are in force.
    pub(crate) fn succeed(&mut self) -> Result<(), Error> {
        if self.succession.is_pending() {
            info!("the tables of another build are in force until all domains are applied");
            return Ok(());
        }
        enter(&self.stubs.ebpf, &mut self.maps, self.succession.bank)
    }
}

/// Carries over all maps that were set aside; how many elements were not there. `replace`: of elements of which it cannot be
/// told which was seen later, those that are there are older than those that come.
fn carry_all(pins: &Pins, replace: bool) -> Result<usize, Error> {
    let mut added = 0;
    for former in pins.set_aside()? {
        let Some(name) = former.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        added += carry(name, &former, &pins.map(name), replace)?;
    }
    Ok(added)
}

fn carry(name: &str, former: &Path, path: &Path, replace: bool) -> Result<usize, Error> {
    let (from, to) = (Raw::open(former)?, Raw::open(path)?);
    let (Some(from), Some(to)) = (from, to) else {
        warn!(
            map = name,
            "a build with other tables counted in a way that this one cannot read: it starts anew"
        );
        return Ok(0);
    };
    if from.key != to.key {
        warn!(
            map = name,
            "a build with other tables had keys that this one cannot read: it starts anew"
        );
        return Ok(0);
    }
    from.carry_to(&to, seen_in(name), replace)
        .map_err(|e| Error::map("carry over", "a map of another build")(MapError::IoError(e)))
}

/// Where in the values of a map it stands when each was seen last.
fn seen_in(map: &str) -> Option<usize> {
    match map {
        "CONNECTIONS" | "HALF_OPEN" | "CROWDED" => Some(offset_of!(Connection, seen)),
        "FRAGMENTS" => Some(offset_of!(FragmentState, seen)),
        _ => None,
    }
}

/// The seconds at a place of a value.
fn seconds(value: &[u8], place: usize) -> Option<u32> {
    let bytes = value.get(place..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

/// A map of keys and values of whatever size.
struct Raw {
    data: MapData,
    key: usize,
    value: usize,
    most: usize,
}

impl Raw {
    /// The map at a pin; `None` if its elements are none of one key and one value.
    fn open(path: &Path) -> Result<Option<Self>, Error> {
        let failed = || Error::map("open", "a map of another build");
        let data = MapData::from_pin(path).map_err(failed())?;
        let info = data.info().map_err(failed())?;
        let is_plain = matches!(info.map_type(), Ok(MapType::Hash | MapType::LruHash));
        let (key, value, most) = (info.key_size(), info.value_size(), info.max_entries());
        let raw = Self {
            data,
            key: key as usize,
            value: value as usize,
            most: most as usize,
        };
        Ok(is_plain.then_some(raw))
    }

    /// How many elements were not in `to`. What does not fit into it stays behind. `seen`: where it stands when an element
    /// was seen last.
    fn carry_to(&self, to: &Self, seen: Option<usize>, replace: bool) -> io::Result<usize> {
        let (mut key, mut next) = (Vec::new(), vec![0; self.key]);
        let mut value = vec![0; self.value.max(to.value)];
        let mut scratch = vec![0; to.value];
        let mut added = 0;
        // Where elements go meanwhile, the kernel may begin anew.
        for _ in 0..2 * self.most {
            let from = if key.is_empty() { 0 } else { key.as_ptr() as u64 };
            // SAFETY: the kernel reads a key, if there is one, and writes one, for which there is room.
            let Some(()) = absent(unsafe { self.call(NEXT_KEY, from, next.as_mut_ptr() as u64, 0) })? else {
                break;
            };
            key.clone_from(&next);
            value.fill(0);
            // SAFETY: the kernel reads a key and writes a value, for which there is room.
            if absent(unsafe { self.call(LOOKUP, key.as_ptr() as u64, value.as_mut_ptr() as u64, 0) })?.is_none() {
                continue;
            }
            // SAFETY: as above.
            let is_there = absent(unsafe { to.call(LOOKUP, key.as_ptr() as u64, scratch.as_mut_ptr() as u64, 0) })?;
            let at = |value: &[u8]| seen.and_then(|place| seconds(value, place));
            let is_later = at(&value).cmp(&at(&scratch));
            if is_there.is_some() && (is_later.is_lt() || is_later.is_eq() && !replace) {
                continue;
            }
            // SAFETY: the kernel reads a key and a value, of which there is as much as the map's values have.
            match unsafe { to.call(UPDATE, key.as_ptr() as u64, value.as_ptr() as u64, 0) } {
                Err(e) if e.raw_os_error() == Some(libc::E2BIG) => break,
                other => other?,
            }
            added += usize::from(is_there.is_none());
        }
        Ok(added)
    }

    /// # Safety
    /// `key` and `value` are what the command makes of them: addresses of a key and of a value or another key.
    unsafe fn call(&self, command: libc::c_long, key: u64, value: u64, flags: u64) -> io::Result<()> {
        let mut element = Element {
            map: self.data.fd().as_fd().as_raw_fd().cast_unsigned(),
            zero: 0,
            key,
            value,
            flags,
        };
        // SAFETY: said by the caller.
        unsafe { bpf(command, &mut element) }
    }
}

fn absent(result: io::Result<()>) -> io::Result<Option<()>> {
    match result {
        Ok(()) => Ok(Some(())),
        Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use aya::Pod;
    use aya::maps::{HashMap, IterableMap as _};

    use super::*;
    use crate::privileged::privileged;

    fn raw(data: &MapData) -> Raw {
        let info = data.info().expect("a map");
        Raw {
            data: MapData::from_id(info.id()).expect("it is there"),
            key: info.key_size() as usize,
            value: info.value_size() as usize,
            most: info.max_entries() as usize,
        }
    }

    fn hash<V: Pod>(entries: &[(u32, V)]) -> (HashMap<MapData, u32, V>, Raw) {
        let mut map = HashMap::create(100, 0).expect("a map");
        for (key, value) in entries {
            map.insert(key, value, 0).expect("there is room");
        }
        let raw = raw(map.map());
        (map, raw)
    }

    fn content<V: Pod + Ord>(map: &HashMap<MapData, u32, V>) -> Vec<(u32, V)> {
        let mut all: Vec<_> = map.iter().map(|entry| entry.expect("an element")).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn values_that_grow_or_shrink_keep_their_front() {
        if !privileged("values_that_grow_or_shrink_keep_their_front") {
            return;
        }
        let (_small, from) = hash::<[u32; 2]>(&[(1, [10, 11]), (2, [20, 21])]);
        let (grown, to) = hash::<[u32; 3]>(&[(2, [7, 7, 7])]);
        assert_eq!(from.carry_to(&to, None, false).expect("carried"), 1);
        assert_eq!(
            content(&grown),
            [(1, [10, 11, 0]), (2, [7, 7, 7])],
            "what is there is not older"
        );
        assert_eq!(from.carry_to(&to, None, true).expect("carried"), 0);
        assert_eq!(
            content(&grown),
            [(1, [10, 11, 0]), (2, [20, 21, 0])],
            "what is there is older"
        );

        let (shrunk, back) = hash::<u32>(&[]);
        assert_eq!(to.carry_to(&back, None, true).expect("carried"), 2);
        assert_eq!(content(&shrunk), [(1, 10), (2, 20)]);
    }

    #[test]
    fn of_what_both_have_the_one_counts_that_was_seen_later() {
        if !privileged("of_what_both_have_the_one_counts_that_was_seen_later") {
            return;
        }
        for (replace, tie) in [(false, 'b'), (true, 'a')] {
            let value = |seen, who: char| [seen, who.into()];
            let (_former, from) = hash::<[u32; 2]>(&[(1, value(7, 'a')), (2, value(7, 'a')), (3, value(7, 'a'))]);
            let (map, to) = hash::<[u32; 2]>(&[(1, value(6, 'b')), (2, value(7, 'b')), (3, value(8, 'b'))]);
            assert_eq!(from.carry_to(&to, Some(0), replace).expect("carried"), 0);
            assert_eq!(
                content(&map),
                [(1, value(7, 'a')), (2, value(7, tie)), (3, value(8, 'b'))]
            );
        }
    }

    #[test]
    fn what_has_no_room_stays_behind() {
        if !privileged("what_has_no_room_stays_behind") {
            return;
        }
        let all: Vec<(u32, u32)> = (0..100).map(|n| (n, n)).collect();
        let (_all, from) = hash::<u32>(&all);
        let few = HashMap::<MapData, u32, u32>::create(10, 0).expect("a map");
        assert_eq!(from.carry_to(&raw(few.map()), None, true).expect("carried"), 10);
    }
}
