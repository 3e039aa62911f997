//! Versions of objects that others replaced, kept per scope in the order in which they were replaced. Bounded: the first
//! ones go. What counts is not here but among the objects, so that nothing of it is ever dropped for this.

use std::collections::BTreeSet;

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};

use super::{Store, StoreError, rows};
use crate::hlc::Stamp;
use crate::id::Scope;
use crate::record::{Digest, Intent};
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

/// Keeps a version that was replaced at that time by its writer's clock.
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
        let all = (scope, 0, 0, [0; 32])..=(scope, u64::MAX, u32::MAX, [u8::MAX; 32]);
        let first = history.range(all)?.next().transpose()?;
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
                let all = (of, 0, 0, [0; 32])..=(of, u64::MAX, u32::MAX, [u8::MAX; 32]);
                for row in history.range(all)? {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Host, domain, write};
    use crate::record::Key;
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
