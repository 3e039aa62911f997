//! What becomes of a node that was removed from the cluster: its facts go, and what it wrote beyond the cut is kept apart
//! for people to look at, bounded.

use redb::ReadableTable;

use super::{Durable, Store, StoreError, rows};
use crate::id::NodeId;
use crate::record::Intent;
use crate::replica::Change;
use crate::signed::{Raw, Signed};

/// The small table of void versions; the key is the version's digest.
const VOID: &str = "void";
/// Most that are kept.
pub(crate) const VOID_MAX: usize = 1_000;

impl Store {
    /// Removes all facts of a node, makes these changes, and keeps these versions as void: all or nothing, on disk when this
    /// returns.
    pub fn remove(&self, node: NodeId, changes: &[Change], void: &[Signed<Intent>]) -> Result<(), StoreError> {
        let write = self.begin(Durable::Before)?;
        {
            let mut heads = write.open_table(rows::HEADS)?;
            heads.retain(|(_, origin), _| origin != node.as_str())?;
            let mut facts = write.open_table(rows::FACTS)?;
            facts.retain(|(_, origin, _, _), _| origin != node.as_str())?;
        }
        for change in changes {
            rows::put(&write, change)?;
        }
        keep_void(&write, void)?;
        Ok(write.commit()?)
    }

    /// Keeps versions as void, on disk some time later.
    pub fn keep_void(&self, void: &[Signed<Intent>]) -> Result<(), StoreError> {
        let write = self.begin(Durable::Later)?;
        keep_void(&write, void)?;
        Ok(write.commit()?)
    }

    /// The versions that are kept as void, by digest.
    pub fn void(&self) -> Result<Vec<Signed<Intent>>, StoreError> {
        let entries = self.entries(VOID)?;
        let read = |bytes: Vec<u8>| Signed::trust(Raw::new(bytes.into()).ok()?).ok();
        Ok(entries.into_iter().filter_map(|(_, bytes)| read(bytes)).collect())
    }
}

fn keep_void(write: &redb::WriteTransaction, void: &[Signed<Intent>]) -> Result<(), StoreError> {
    let mut table = write.open_table(rows::KV)?;
    let mut held = 0;
    for entry in table.range((VOID, [].as_slice())..)? {
        if entry?.0.value().0 != VOID {
            break;
        }
        held += 1;
    }
    for version in void.iter().take(VOID_MAX.saturating_sub(held)) {
        table.insert((VOID, version.digest().0.as_slice()), version.raw().as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decree::Removal;
    use crate::fixture::{Host, domain, write};
    use crate::replica::Replica;
    use crate::signed::Signer as _;
    use crate::store::crash_disk::CrashDisk;

    #[test]
    fn a_removed_node_is_gone_from_the_disk_and_its_void_versions_are_kept() {
        let (a, b, scope) = (Host::new(1), Host::new(2), domain("red"));
        let mut replica = Replica::default();
        let made = [
            a.says(&mut replica, &scope, 1, vec![write("a", Some("x"))]),
            b.says(&mut replica, &scope, 1, vec![write("b", Some("x"))]),
            b.wants(&mut replica, &scope, 10, vec![write("early", Some("x"))]),
            b.wants(&mut replica, &scope, 90, vec![write("late", Some("x"))]),
        ];
        let mut disk = CrashDisk::default();
        let store = disk.open();
        let changes: Vec<_> = made.into_iter().map(|made| made.change).collect();
        store.commit(&changes, Durable::Later).unwrap();
        let removal = Removal {
            node: b.id(),
            key: b.public(),
            name: "b".parse().unwrap(),
            cut: 50,
        };
        let removed = replica.remove(&removal, &[]);
        store.remove(b.id(), &removed.changes, &removed.void).unwrap();
        drop(store);
        let store = disk.open();
        let loaded = store.load(a.id()).unwrap();
        assert_eq!(
            (loaded.forgotten, loaded.replica.root(&scope)),
            (0, replica.root(&scope))
        );
        assert_eq!(loaded.replica.head(&scope, b.id()), None);
        assert_eq!(store.void().unwrap(), removed.void);
        assert_eq!(removed.void[0].value().key.name.as_ref(), "late");
        store.keep_void(&removed.void).unwrap();
        assert_eq!(store.void().unwrap().len(), 1, "the same one once");
    }
}
