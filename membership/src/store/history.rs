//! Versions of objects that others replaced, kept per scope in the order in which they were replaced. Bounded: the first
//! ones go. What counts is not here but among the objects, so that nothing of it is ever dropped for this.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::{Store, StoreError, rows};
use crate::hlc::Stamp;
use crate::id::Scope;
use crate::record::{Digest, Intent, Key};
use crate::replica::Replaced;
use crate::signed::{Raw, Signed};

/// Most replaced versions that are kept of one scope.
pub const VERSIONS_MAX: u64 = 10_000;
/// Most bytes of them.
pub const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Scope, when it was replaced (milliseconds, logical), digest.
type Place<'a> = (&'a str, u64, u32, [u8; 32]);

/// (scope, when it was replaced, digest) → signed version.
const HISTORY: TableDefinition<'_, Place<'_>, &[u8]> = TableDefinition::new("history");
/// scope → (versions, bytes) in [`HISTORY`].
const TOTALS: TableDefinition<'_, &str, (u64, u64)> = TableDefinition::new("history totals");

/// Keeps a version with the stamp of the one that replaced it, or its own if it went without one.
pub(super) fn keep(
    write: &WriteTransaction,
    scope: &str,
    at: Stamp,
    digest: Digest,
    version: &[u8],
) -> Result<(), StoreError> {
    let (mut history, mut totals) = (write.open_table(HISTORY)?, write.open_table(TOTALS)?);
    let (mut count, mut bytes) = totals.get(scope)?.map_or((0, 0), |totals| totals.value());
    let place = (scope, at.millis, at.logical, digest.0);
    if history.insert(place, version)?.is_none() {
        count += 1;
        bytes += size(version);
    }
    while count > VERSIONS_MAX || bytes > BYTES_MAX {
        let first = history.range(all_of(scope))?.next().transpose()?;
        let Some((millis, logical, digest, gone)) = first.map(|(place, version)| {
            let (_, millis, logical, digest) = place.value();
            (millis, logical, digest, size(version.value()))
        }) else {
            break;
        };
        history.remove((scope, millis, logical, digest))?;
        count -= 1;
        bytes = bytes.saturating_sub(gone);
    }
    totals.insert(scope, (count, bytes))?;
    Ok(())
}

fn size(version: &[u8]) -> u64 {
    u64::try_from(version.len()).unwrap_or(u64::MAX)
}

impl Store {
    /// Every version of the objects of a scope that is still known: those that count, and those that were replaced. Rows
    /// that cannot be read are left out.
    pub fn history(&self, scope: &Scope) -> Result<Vec<Signed<Intent>>, StoreError> {
        let (read, of) = (self.database.begin_read()?, rows::scope(scope));
        let mut rows = Vec::new();
        for row in read.open_table(rows::INTENTS)?.range((of, "", "", [0; 32])..)? {
            let (key, version) = row?;
            if key.value().0 != of {
                break;
            }
            rows.push(Bytes::copy_from_slice(version.value()));
        }
        match read.open_table(HISTORY) {
            // A store in which nothing was ever replaced.
            Err(TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(error.into()),
            Ok(history) => {
                for row in history.range(all_of(of))? {
                    rows.push(Bytes::copy_from_slice(row?.1.value()));
                }
            }
        }
        let mut known = BTreeSet::new();
        let versions = rows
            .into_iter()
            .filter_map(|row| Signed::trust(Raw::new(row).ok()?).ok());
        Ok(versions.filter(|version| known.insert(version.digest())).collect())
    }

    /// What is still known of the former versions of the objects that these are versions of.
    pub fn replaced(&self, of: &[Signed<Intent>]) -> Result<Vec<Replaced>, StoreError> {
        let mut objects: BTreeMap<&Scope, BTreeSet<&Key>> = BTreeMap::new();
        for Intent { scope, key, .. } in of.iter().map(Signed::value) {
            objects.entry(scope).or_default().insert(key);
        }
        let read = self.database.begin_read()?;
        let history = match read.open_table(HISTORY) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            opened => opened?,
        };
        let mut replaced = Vec::new();
        for (scope, keys) in objects {
            for row in history.range(all_of(rows::scope(scope)))? {
                let (place, version) = row?;
                let (_, millis, logical, _) = place.value();
                let at = Stamp { millis, logical };
                let version = rows::signed(version.value()).filter(|version| keys.contains(&version.value().key));
                replaced.extend(version.map(|version| Replaced { version, at }));
            }
        }
        Ok(replaced)
    }
}

/// The places of a scope.
fn all_of(scope: &str) -> RangeInclusive<Place<'_>> {
    (scope, 0, 0, [0; 32])..=(scope, u64::MAX, u32::MAX, [u8::MAX; 32])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Host, domain, write};
    use crate::replica::{Change, Replica};
    use crate::store::Durable;
    use crate::store::crash_disk::CrashDisk;

    fn texts(store: &Store, name: &str) -> Vec<String> {
        let key = Key::new("K", name);
        let mut versions: Vec<_> = store.history(&domain("red")).unwrap();
        versions.retain(|version| version.value().key == key);
        versions.sort_by_key(|version| version.value().stamp);
        let text = |version: &Signed<Intent>| match &version.value().body {
            Some(body) => String::from_utf8(body.bytes.to_vec()).unwrap(),
            None => "-".to_owned(),
        };
        versions.iter().map(text).collect()
    }

    #[test]
    fn every_version_is_kept_with_the_one_that_replaced_it() {
        let (host, mut disk) = (Host::new(1), CrashDisk::default());
        let (mut store, mut replica) = (disk.open(), Replica::default());
        let mut wants = |store: &Store, at, text, durable| {
            let made = host.wants(&mut replica, &domain("red"), at, vec![write("a", text)]);
            store.commit(&[made.change], durable).unwrap();
        };
        assert_eq!(texts(&store, "a"), [""; 0]);
        wants(&store, 1, Some("1"), Durable::Before);
        wants(&store, 2, Some("2"), Durable::Before);
        wants(&store, 3, None, Durable::Before);
        wants(&store, 4, Some("4"), Durable::Later);
        assert_eq!(texts(&store, "a"), ["1", "2", "-", "4"]);
        store = disk.open();
        assert_eq!(
            texts(&store, "a"),
            ["1", "2", "-"],
            "what was not synced is lost with its record"
        );
        assert_eq!(store.history(&domain("blue")).unwrap(), []);
    }

    /// An own write may be committed before the version of another node that it replaces.
    #[test]
    fn a_version_that_comes_after_its_successor_is_history_at_once() {
        let (host, mut disk) = (Host::new(1), CrashDisk::default());
        let (store, mut replica) = (disk.open(), Replica::default());
        let [one, two] = [1, 2].map(|at| {
            let text = at.to_string();
            host.wants(&mut replica, &domain("red"), at, vec![write("a", Some(&text))])
                .change
        });
        store.commit(&[two, one], Durable::Before).unwrap();
        assert_eq!(texts(&store, "a"), ["1", "2"]);
        let read = store.database.begin_read().unwrap();
        assert_eq!(read.open_table(rows::INTENTS).unwrap().iter().unwrap().count(), 1);
    }

    /// What a version replaces may have been committed after that was planned.
    #[test]
    fn what_is_there_already_is_replaced_and_known_with_what_did_it() {
        let (host, mut disk) = (Host::new(1), CrashDisk::default());
        let (store, mut replica) = (disk.open(), Replica::default());
        let mut wants = |at, name: &str, text: &str| {
            host.wants(&mut replica, &domain("red"), at, vec![write(name, Some(text))])
                .change
        };
        let changes = [
            (1, "a", "1"),
            (2, "a", "2"),
            (3, "b", "3"),
            (4, "b", "4"),
            (5, "a", "5"),
        ];
        let mut changes = changes.map(|(at, name, text)| wants(at, name, text));
        let Change::Intents(last) = &mut changes[4] else {
            panic!()
        };
        let of = last.put.clone();
        last.removed.clear();
        store.commit(&changes, Durable::Before).unwrap();
        let known = store.replaced(&of).unwrap();
        let known = known
            .iter()
            .map(|Replaced { version, at }| (version.value().stamp.millis, at.millis));
        assert_eq!(known.collect::<Vec<_>>(), [(1, 2), (2, 5)]);
        assert_eq!(texts(&store, "a"), ["1", "2", "5"]);
        let read = store.database.begin_read().unwrap();
        assert_eq!(read.open_table(rows::INTENTS).unwrap().iter().unwrap().count(), 2);
        assert_eq!(store.replaced(&[]).unwrap(), []);
    }

    #[test]
    fn the_first_go_when_there_are_too_many_and_what_counts_stays() {
        let (host, mut disk) = (Host::new(1), CrashDisk::default());
        let (store, mut replica) = (disk.open(), Replica::default());
        let large = "x".repeat(12_000);
        let mut wants = |at: u64, name: &str, text: &str| -> Change {
            host.wants(&mut replica, &domain("red"), at, vec![write(name, Some(text))])
                .change
        };
        let rounds = BYTES_MAX / 12_000 + 10;
        let mut changes = vec![wants(1, "kept", &large)];
        changes.extend((2..rounds).map(|at| wants(at, "a", &format!("{at} {large}"))));
        changes.push(wants(rounds, "small", "1"));
        changes.push(wants(rounds + 1, "small", "2"));
        for part in changes.chunks(64) {
            store.commit(part, Durable::Later).unwrap();
        }
        assert_eq!(
            texts(&store, "kept"),
            std::slice::from_ref(&large),
            "it counts, however old it is"
        );
        assert_eq!(texts(&store, "small"), ["1", "2"]);
        let left = texts(&store, "a");
        let bytes: u64 = left.iter().map(|text| text.len() as u64).sum();
        assert!(bytes > BYTES_MAX / 2 && bytes <= BYTES_MAX + 12_100, "{bytes}");
        assert!(!left.iter().any(|text| text.starts_with("2 ")), "the first is gone");
        assert!(
            left.last()
                .is_some_and(|text| text.starts_with(&format!("{} ", rounds - 1)))
        );
    }
}
