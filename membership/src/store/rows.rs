//! The tables and their rows. The system scope's name is empty, which no label is.

use bytes::Bytes;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::{StoreError, history};
use crate::facts::FactChange;
use crate::hlc::Stamp;
use crate::id::{NodeId, Scope};
use crate::record::{Digest, Head, Intent, Key};
use crate::replica::{Change, IntentChange};
use crate::signed::{Raw, Signed};

/// Scope, kind, name, digest.
type IntentRow = (&'static str, &'static str, &'static str, [u8; 32]);

/// `format` → number.
pub(super) const FORMAT: TableDefinition<'_, &str, u64> = TableDefinition::new("format");
/// (scope, origin) → signed head.
pub(super) const HEADS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("heads");
/// (scope, origin, kind, name) → signed fact.
pub(super) const FACTS: TableDefinition<'_, (&str, &str, &str, &str), &[u8]> = TableDefinition::new("facts");
/// (scope, kind, name, digest) → signed version. The digest in the key lets two commits on one object pass in any
/// order: neither overwrites the other one's version.
pub(super) const INTENTS: TableDefinition<'_, IntentRow, &[u8]> = TableDefinition::new("intents");
/// (scope, claimed key) → holder.
pub(super) const CLAIMS: TableDefinition<'_, (&str, &str), &str> = TableDefinition::new("claims");
/// (table, key) → value.
pub(super) const KV: TableDefinition<'_, (&str, &[u8]), &[u8]> = TableDefinition::new("kv");

/// Makes all tables, so that reading an empty store finds them.
pub(super) fn make_tables(write: &WriteTransaction) -> Result<(), StoreError> {
    write.open_table(HEADS)?;
    write.open_table(FACTS)?;
    write.open_table(INTENTS)?;
    write.open_table(CLAIMS)?;
    write.open_table(KV)?;
    Ok(())
}

/// A scope as it stands in keys.
pub(super) fn scope(scope: &Scope) -> &str {
    match scope {
        Scope::System => "",
        Scope::Domain(name) => name.as_str(),
    }
}

pub(super) fn put(write: &WriteTransaction, change: &Change) -> Result<(), StoreError> {
    match change {
        Change::Facts(change) => put_facts(write, change),
        Change::Intents(change) => put_intents(write, change),
        Change::Forgotten(scope, node) => forget_facts(write, scope, *node),
    }
}

fn forget_facts(write: &WriteTransaction, of: &Scope, node: NodeId) -> Result<(), StoreError> {
    let (of, node) = (scope(of), node.as_str());
    write.open_table(HEADS)?.remove((of, node))?;
    let mut facts = write.open_table(FACTS)?;
    let rows = (of, node, "", "")..;
    let mut keys = Vec::new();
    for row in facts.range(rows)? {
        let (key, _) = row?;
        let (scope, origin, kind, name) = key.value();
        if (scope, origin) != (of, node) {
            break;
        }
        keys.push((kind.to_owned(), name.to_owned()));
    }
    for (kind, name) in keys {
        facts.remove((of, node, kind.as_str(), name.as_str()))?;
    }
    Ok(())
}

fn put_facts(write: &WriteTransaction, change: &FactChange) -> Result<(), StoreError> {
    let Head { scope: of, origin, .. } = change.head.value();
    let (of, origin) = (scope(of), origin.as_str());
    write
        .open_table(HEADS)?
        .insert((of, origin), change.head.raw().as_bytes())?;
    let mut facts = write.open_table(FACTS)?;
    for key in &change.removed {
        facts.remove((of, origin, &*key.kind, &*key.name))?;
    }
    for fact in &change.put {
        let key = &fact.value().key;
        facts.insert((of, origin, &*key.kind, &*key.name), fact.raw().as_bytes())?;
    }
    Ok(())
}

fn put_intents(write: &WriteTransaction, change: &IntentChange) -> Result<(), StoreError> {
    let of = scope(&change.scope);
    let mut intents = write.open_table(INTENTS)?;
    for (key, digest) in &change.removed {
        let row = intents.remove((of, &*key.kind, &*key.name, digest.0))?;
        let row = row.map(|row| row.value().to_vec());
        if let Some(row) = row {
            history::keep(write, of, gone_at(&row, key, change), *digest, &row)?;
        }
    }
    for version in &change.put {
        let (key, digest, raw) = (&version.value().key, version.digest(), version.raw().as_bytes());
        let beside = beside(&intents, of, key)?;
        if let Some((_, by, _)) = beside.iter().find(|(_, other, _)| other.dominates(version.value())) {
            history::keep(write, of, by.stamp, digest, raw)?;
            continue;
        }
        for (gone, _, row) in beside.iter().filter(|(_, other, _)| version.value().dominates(other)) {
            intents.remove((of, &*key.kind, &*key.name, gone.0))?;
            history::keep(write, of, version.value().stamp, *gone, row)?;
        }
        intents.insert((of, &*key.kind, &*key.name, digest.0), raw)?;
    }
    Ok(())
}

/// When a version goes: with the one that replaces it, or if none does, as of its own time.
fn gone_at(row: &[u8], key: &Key, change: &IntentChange) -> Stamp {
    let Some(gone) = read(row) else {
        return Stamp::default();
    };
    let put = change.put.iter().map(Signed::value);
    let by = put.filter(|by| by.key == *key && by.dominates(&gone));
    by.map(|by| by.stamp).max().unwrap_or(gone.stamp)
}

/// The versions of an object that are there already. What replaced a version may have come before it, and what it replaces may have
/// come meanwhile: two commits may pass in any order.
fn beside(
    intents: &impl ReadableTable<IntentRow, &'static [u8]>,
    of: &str,
    Key { kind, name }: &Key,
) -> Result<Vec<(Digest, Intent, Vec<u8>)>, StoreError> {
    let mut rows = Vec::new();
    for row in intents.range((of, &**kind, &**name, [0; 32])..=(of, &**kind, &**name, [u8::MAX; 32]))? {
        let (place, row) = row?;
        let digest = Digest(place.value().3);
        rows.extend(read(row.value()).map(|version| (digest, version, row.value().to_vec())));
    }
    Ok(rows)
}

/// The version in a row, if it can be read.
pub(super) fn signed(row: &[u8]) -> Option<Signed<Intent>> {
    Signed::trust(Raw::new(Bytes::copy_from_slice(row)).ok()?).ok()
}

/// What it says.
fn read(row: &[u8]) -> Option<Intent> {
    Some(signed(row)?.value().clone())
}
