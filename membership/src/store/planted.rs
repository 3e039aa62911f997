//! Rows that no version of this software wrote, for fuzzers and tests: what a damaged disk may hold.

use redb::Database;
use redb::backends::InMemoryBackend;

use super::{Durable, Store, StoreError, rows};

/// Whose the rows are.
const ORIGIN: &str = "aaaaaaaaaaaa";

impl Store {
    /// A store in memory with these rows: number of the table, and what stands there.
    pub(crate) fn planted<'a>(planted: impl Iterator<Item = (u8, &'a [u8])>) -> Result<Self, StoreError> {
        let store = Self::with(Database::builder().create_with_backend(InMemoryBackend::new())?)?;
        let write = store.begin(Durable::Later)?;
        for (number, (table, row)) in (0u32..).zip(planted) {
            let scope = if table & 0x80 == 0 { "red" } else { "" };
            let name = number.to_string();
            match table % 3 {
                0 => drop(write.open_table(rows::HEADS)?.insert((scope, ORIGIN), row)?),
                1 => {
                    let key = (scope, ORIGIN, "K", name.as_str());
                    drop(write.open_table(rows::FACTS)?.insert(key, row)?);
                }
                _ => {
                    let key = (scope, "K", name.as_str(), [0; 32]);
                    drop(write.open_table(rows::INTENTS)?.insert(key, row)?);
                }
            }
        }
        write.commit()?;
        Ok(store)
    }
}
