//! Reading the replica back. Signatures are not checked again: what is here was checked before it was written. What
//! does not fit together is an error if it is this node's own, and is else forgotten, for others have it.

use std::collections::BTreeMap;

use bytes::Bytes;
use redb::{ReadableDatabase, ReadableTable};

use super::{Durable, Store, StoreError, rows};
use crate::batch::{Batch, FactBatch, IntentBatch};
use crate::id::{NodeId, Scope};
use crate::record::{Fact, Head, Intent};
use crate::replica::Replica;
use crate::signed::{Content, Raw, Signed, SignedError};

/// What a store held.
#[derive(Debug)]
pub struct Loaded {
    /// All of it; the keyring is empty.
    pub replica: Replica,
    /// How many origins' facts of a scope, or versions of objects, did not fit together and were forgotten.
    pub forgotten: usize,
}

type Origin = (String, String);

pub(super) fn load(store: &Store, me: NodeId) -> Result<Loaded, StoreError> {
    let mut loaded = Loaded {
        replica: Replica::default(),
        forgotten: 0,
    };
    let mut heads = read_heads(store)?;
    let mut broken = Vec::new();
    for (origin, facts) in read_facts(store)? {
        let head = heads.remove(&origin);
        if !head.is_some_and(|head| merge_facts(&mut loaded.replica, head, facts)) {
            broken.push(origin);
        }
    }
    // Heads whose set is empty.
    for (origin, head) in heads {
        if !merge_facts(&mut loaded.replica, head, Vec::new()) {
            broken.push(origin);
        }
    }
    if let Some((scope, _)) = broken.iter().find(|(_, origin)| origin == me.as_str()) {
        return Err(StoreError::Damaged(format!(
            "own facts in scope {scope:?} do not fit their head"
        )));
    }
    loaded.forgotten = broken.len();
    forget(store, &broken)?;
    load_intents(store, &mut loaded)?;
    Ok(loaded)
}

fn trust<T: Content>(bytes: &[u8]) -> Result<Signed<T>, SignedError> {
    Signed::trust(Raw::new(Bytes::copy_from_slice(bytes))?)
}

fn read_heads(store: &Store) -> Result<BTreeMap<Origin, Bytes>, StoreError> {
    let read = store.database.begin_read()?;
    let mut heads = BTreeMap::new();
    for row in read.open_table(rows::HEADS)?.iter()? {
        let (key, head) = row?;
        let (scope, origin) = key.value();
        heads.insert(
            (scope.to_owned(), origin.to_owned()),
            Bytes::copy_from_slice(head.value()),
        );
    }
    Ok(heads)
}

fn read_facts(store: &Store) -> Result<BTreeMap<Origin, Vec<Bytes>>, StoreError> {
    let read = store.database.begin_read()?;
    let mut facts: BTreeMap<Origin, Vec<Bytes>> = BTreeMap::new();
    for row in read.open_table(rows::FACTS)?.iter()? {
        let (key, fact) = row?;
        let (scope, origin, _, _) = key.value();
        let of = facts.entry((scope.to_owned(), origin.to_owned())).or_default();
        of.push(Bytes::copy_from_slice(fact.value()));
    }
    Ok(facts)
}

/// Whether the facts were what the head says, and are now held.
fn merge_facts(replica: &mut Replica, head: Bytes, facts: Vec<Bytes>) -> bool {
    let batch = || -> Option<FactBatch> {
        let head: Signed<Head> = trust(&head).ok()?;
        let mut facts: Vec<Signed<Fact>> = facts.iter().map(|fact| trust(fact)).collect::<Result<_, _>>().ok()?;
        facts.sort_unstable_by_key(|fact| fact.value().seq);
        FactBatch::new(head, facts).ok()
    };
    batch().is_some_and(|batch| replica.merge(&Batch::Facts(batch)).is_ok())
}

/// Removes all rows of these origins, so that their next set does not meet leftovers.
fn forget(store: &Store, origins: &[Origin]) -> Result<(), StoreError> {
    if origins.is_empty() {
        return Ok(());
    }
    let write = store.begin(Durable::Before)?;
    for (scope, origin) in origins {
        write
            .open_table(rows::HEADS)?
            .remove((scope.as_str(), origin.as_str()))?;
        write
            .open_table(rows::FACTS)?
            .retain(|(s, o, _, _), _| (s, o) != (scope.as_str(), origin.as_str()))?;
    }
    Ok(write.commit()?)
}

fn load_intents(store: &Store, loaded: &mut Loaded) -> Result<(), StoreError> {
    let read = store.database.begin_read()?;
    let mut scopes: BTreeMap<Scope, Vec<Signed<Intent>>> = BTreeMap::new();
    for row in read.open_table(rows::INTENTS)?.iter()? {
        match trust::<Intent>(row?.1.value()) {
            Ok(version) => scopes.entry(version.value().scope.clone()).or_default().push(version),
            Err(_) => loaded.forgotten += 1,
        }
    }
    for (scope, versions) in scopes {
        match IntentBatch::new(scope, versions) {
            Ok(batch) => drop(loaded.replica.merge(&Batch::Intents(batch))),
            Err(error) => return Err(StoreError::Damaged(error.to_string())),
        }
    }
    Ok(())
}
