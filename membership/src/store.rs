//! The store: what must survive the process, in one `redb` file. Own records are on disk before anybody hears of them
//! ([`Durable::Before`]); others' records are a cache that may lag ([`Durable::Later`]), since they can be pulled again.
//! Beside records it keeps the versions of objects that were replaced, the anchor's ledger of claims, and small opaque
//! tables for its neighbours. Calls block on the disk; an async caller moves them to a thread.

mod history;
mod ledger;
mod load;
#[cfg(any(test, feature = "fuzzing"))]
mod planted;
mod removal;
mod rows;

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, WriteTransaction};

use crate::claim::{self, Granted};
use crate::id::{IdError, NodeId, Scope};
use crate::replica::Change;

pub use history::{BYTES_MAX as HISTORY_BYTES_MAX, VERSIONS_MAX as HISTORY_VERSIONS_MAX};
pub use ledger::ClaimRow;
pub use load::Loaded;

/// The format of the tables. A store of another one is refused.
const FORMAT: u64 = 1;

/// When a commit is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durable {
    /// Before the call returns: fsynced.
    Before,
    /// With the next commit that is durable before it returns, or never if the process dies first.
    Later,
}

/// Why the store does not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the file.
    #[error("the store {0} is in use by another process")]
    InUse(PathBuf),
    /// Written by another version of the software.
    #[error("the store has format {found}, this version reads {FORMAT}; run the version that wrote it")]
    Format {
        /// What it says.
        found: u64,
    },
    /// Rows that only this node can have written do not fit together.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The disk refused, or the file is broken.
    #[error("the store could not be read or written: {0}")]
    Disk(#[source] Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> Self {
        Self::Disk(Box::new(error.into()))
    }
}

impl StoreError {
    fn identifier(error: &IdError) -> Self {
        Self::Damaged(error.to_string())
    }
}

/// Bytes of the file that are kept in memory. It is read as a whole at the start only; what is written lies in the kernel's
/// cache too.
const CACHE: usize = 1 << 20;

/// Key and value of an opaque table.
pub type Entry = (Vec<u8>, Vec<u8>);

/// An open store. Clones are not needed: all calls take `&self` and commits queue up inside.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        // Only its owner may read it.
        let mut file = OpenOptions::new();
        file.create(true).truncate(false).write(true).mode(0o600);
        drop(file.open(path).map_err(redb::Error::Io)?);
        let database = Database::builder()
            .set_cache_size(CACHE)
            .create(path)
            .map_err(|error| match error {
                DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
                other => other.into(),
            })?;
        Self::with(database)
    }

    /// A store on another kind of disk, as a simulated one.
    pub fn with(database: Database) -> Result<Self, StoreError> {
        let store = Self { database };
        store.check_format()?;
        Ok(store)
    }

    fn check_format(&self) -> Result<(), StoreError> {
        let write = self.begin(Durable::Before)?;
        let found = {
            let mut table = write.open_table(rows::FORMAT)?;
            let found = table.get("format")?.map(|format| format.value());
            if found.is_none() {
                table.insert("format", FORMAT)?;
            }
            found
        };
        match found {
            Some(FORMAT) => return Ok(write.abort()?),
            Some(found) => return Err(StoreError::Format { found }),
            None => rows::make_tables(&write)?,
        }
        Ok(write.commit()?)
    }

    fn begin(&self, durable: Durable) -> Result<WriteTransaction, StoreError> {
        let mut write = self.database.begin_write()?;
        let durability = match durable {
            Durable::Before => Durability::Immediate,
            Durable::Later => Durability::None,
        };
        write.set_durability(durability)?;
        Ok(write)
    }

    /// What was committed: the replica without its keyring. `me` is the node whose own rows must be whole; others' rows
    /// that are not are forgotten, and pulled again.
    pub fn load(&self, me: NodeId) -> Result<Loaded, StoreError> {
        load::load(self, me)
    }

    /// Writes changes in one transaction: all or nothing.
    pub fn commit(&self, changes: &[Change], durable: Durable) -> Result<(), StoreError> {
        let write = self.begin(durable)?;
        for change in changes {
            rows::put(&write, change)?;
        }
        Ok(write.commit()?)
    }

    /// Makes all that was committed durable.
    pub fn flush(&self) -> Result<(), StoreError> {
        Ok(self.begin(Durable::Before)?.commit()?)
    }

    /// The anchor's decision on a key, on disk when this returns: the first that asks gets it, for good.
    pub fn grant(&self, scope: &Scope, key: &str, holder: NodeId) -> Result<Granted, StoreError> {
        let write = self.begin(Durable::Before)?;
        let granted = {
            let mut table = write.open_table(rows::CLAIMS)?;
            let row = (rows::scope(scope), key);
            let held = table.get(row)?.map(|held| held.value().parse()).transpose();
            let granted = claim::grant(held.map_err(|error| StoreError::identifier(&error))?, holder);
            if granted == Granted::First {
                table.insert(row, holder.as_str())?;
            }
            granted
        };
        match granted {
            Granted::First => write.commit()?,
            Granted::Again | Granted::Held(_) => write.abort()?,
        }
        Ok(granted)
    }

    /// Frees a key if that node holds it, on disk when this returns.
    pub fn release(&self, scope: &Scope, key: &str, holder: NodeId) -> Result<(), StoreError> {
        let write = self.begin(Durable::Before)?;
        let held = {
            let mut table = write.open_table(rows::CLAIMS)?;
            let row = (rows::scope(scope), key);
            let held = table.get(row)?.is_some_and(|held| held.value() == holder.as_str());
            if held {
                table.remove(row)?;
            }
            held
        };
        if held {
            write.commit()?;
        } else {
            write.abort()?;
        }
        Ok(())
    }
}

/// Small opaque tables. Keys and values are the caller's affair.
impl Store {
    /// One value.
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let read = self.database.begin_read()?;
        Ok(read
            .open_table(rows::KV)?
            .get((table, key))?
            .map(|value| value.value().to_vec()))
    }

    /// All of a table, ascending by key.
    pub fn entries(&self, table: &str) -> Result<Vec<Entry>, StoreError> {
        let read = self.database.begin_read()?;
        let mut entries = Vec::new();
        for entry in read.open_table(rows::KV)?.range((table, [].as_slice())..)? {
            let (key, value) = entry?;
            if key.value().0 != table {
                break;
            }
            entries.push((key.value().1.to_vec(), value.value().to_vec()));
        }
        Ok(entries)
    }

    /// Sets a value, on disk when this returns.
    pub fn put(&self, table: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.update(table, key, |_| (Some(value.to_vec()), ()))
    }

    /// Removes a value, on disk when this returns.
    pub fn delete(&self, table: &str, key: &[u8]) -> Result<(), StoreError> {
        self.update(table, key, |_| (None, ()))
    }

    /// Reads, decides and writes with nothing in between, on disk when this returns. The closure gets the value and
    /// tells what becomes of it, and what the caller wants to know.
    pub fn update<R>(
        &self,
        table: &str,
        key: &[u8],
        decide: impl FnOnce(Option<&[u8]>) -> (Option<Vec<u8>>, R),
    ) -> Result<R, StoreError> {
        let write = self.begin(Durable::Before)?;
        let answer = {
            let mut rows = write.open_table(rows::KV)?;
            let (value, answer) = {
                let held = rows.get((table, key))?;
                decide(held.as_ref().map(|held| held.value()))
            };
            match value {
                Some(value) => rows.insert((table, key), value.as_slice())?,
                None => rows.remove((table, key))?,
            };
            answer
        };
        write.commit()?;
        Ok(answer)
    }
}

#[cfg(test)]
pub(crate) mod crash_disk;
#[cfg(test)]
mod crash_points;
#[cfg(test)]
mod tests;
