//! An anchor's ledger of claims as a whole: handed on to who becomes an anchor, and cleared of those who are out.

use std::collections::BTreeSet;
use std::ops::Bound;

use redb::ReadableDatabase;
use serde::{Deserialize, Serialize};

use super::{Durable, Store, StoreError, rows};
use crate::id::NodeId;

/// A claim in an anchor's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRow {
    /// The name of its scope; empty for the system scope.
    pub scope: String,
    /// The claimed key.
    pub key: String,
    /// Who has it.
    pub holder: NodeId,
}

/// An anchor's ledger as a whole.
impl Store {
    /// At most `most` claims behind one, ascending.
    pub fn claims(&self, after: Option<(String, String)>, most: usize) -> Result<Vec<ClaimRow>, StoreError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(rows::CLAIMS)?;
        let from = match &after {
            Some((scope, key)) => Bound::Excluded((scope.as_str(), key.as_str())),
            None => Bound::Unbounded,
        };
        let mut claims = Vec::new();
        for entry in table.range::<(&str, &str)>((from, Bound::Unbounded))?.take(most) {
            let (row, holder) = entry?;
            let (scope, key) = row.value();
            claims.push(ClaimRow {
                scope: scope.to_owned(),
                key: key.to_owned(),
                holder: holder.value().parse().map_err(|error| StoreError::identifier(&error))?,
            });
        }
        Ok(claims)
    }

    /// Puts these claims in place of all that were there, and sets a value of a small table, both or neither, on disk when
    /// this returns.
    pub fn take_seat(&self, claims: &[ClaimRow], table: &str, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let write = self.begin(Durable::Before)?;
        {
            let mut ledger = write.open_table(rows::CLAIMS)?;
            ledger.retain(|_, _| false)?;
            for ClaimRow { scope, key, holder } in claims {
                ledger.insert((scope.as_str(), key.as_str()), holder.as_str())?;
            }
            write.open_table(rows::KV)?.insert((table, key), value)?;
        }
        Ok(write.commit()?)
    }

    /// Frees all keys of nodes that are out, on disk when this returns. Says how many.
    pub fn release_all(&self, holders: &BTreeSet<NodeId>) -> Result<usize, StoreError> {
        let holders: BTreeSet<&str> = holders.iter().map(NodeId::as_str).collect();
        let write = self.begin(Durable::Before)?;
        let mut freed = 0;
        {
            let mut ledger = write.open_table(rows::CLAIMS)?;
            ledger.retain(|_, held| {
                let gone = holders.contains(held);
                freed += usize::from(gone);
                !gone
            })?;
        }
        if freed == 0 {
            write.abort()?;
        } else {
            write.commit()?;
        }
        Ok(freed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::claim::Granted;
    use crate::fixture::{Host, domain};
    use crate::signed::Signer as _;
    use crate::store::crash_disk::CrashDisk;

    #[test]
    fn a_ledger_is_handed_on_in_pages_and_cleared_of_who_is_out() {
        let [a, b] = [Host::new(1).id(), Host::new(2).id()];
        let mut disk = CrashDisk::default();
        let store = disk.open();
        for n in 0..5_u8 {
            let holder = if n == 3 { b } else { a };
            store.grant(&domain("red"), &n.to_string(), holder).unwrap();
        }
        let first = store.claims(None, 3).unwrap();
        assert_eq!(first.iter().map(|row| &*row.key).collect::<Vec<_>>(), ["0", "1", "2"]);
        let after = ("red".to_owned(), "2".to_owned());
        let rest = store.claims(Some(after), 3).unwrap();
        assert_eq!(
            rest.iter().map(|row| (&*row.key, row.holder)).collect::<Vec<_>>(),
            [("3", b), ("4", a)]
        );
        let out = BTreeSet::from([b]);
        assert_eq!(
            (store.release_all(&out).unwrap(), store.release_all(&out).unwrap()),
            (1, 0)
        );

        let mut other = CrashDisk::default();
        let theirs = other.open();
        theirs.grant(&domain("blue"), "stale", b).unwrap();
        theirs.take_seat(&first, "seat", b"since", b"7").unwrap();
        drop(theirs);
        let theirs = other.open();
        assert_eq!(theirs.claims(None, 9).unwrap(), first, "what it had before is gone");
        assert_eq!(theirs.get("seat", b"since").unwrap().as_deref(), Some(b"7".as_slice()));
        assert_eq!(theirs.grant(&domain("red"), "0", b).unwrap(), Granted::Held(a));
    }
}
