//! The tables and their rows. The system scope's name is empty, which no label is.

use redb::{TableDefinition, WriteTransaction};

use super::StoreError;
use crate::facts::FactChange;
use crate::id::Scope;
use crate::record::Head;
use crate::replica::{Change, IntentChange};

/// `format` → number.
pub(super) const FORMAT: TableDefinition<'_, &str, u64> = TableDefinition::new("format");
/// (scope, origin) → signed head.
pub(super) const HEADS: TableDefinition<'_, (&str, &str), &[u8]> = TableDefinition::new("heads");
/// (scope, origin, kind, name) → signed fact.
pub(super) const FACTS: TableDefinition<'_, (&str, &str, &str, &str), &[u8]> = TableDefinition::new("facts");
/// (scope, kind, name, digest) → signed version. The digest in the key lets two commits on one object pass in any
/// order: neither overwrites the other one's version.
pub(super) const INTENTS: TableDefinition<'_, (&str, &str, &str, [u8; 32]), &[u8]> = TableDefinition::new("intents");
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
    }
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
        intents.remove((of, &*key.kind, &*key.name, digest.0))?;
    }
    for version in &change.put {
        let key = &version.value().key;
        intents.insert(
            (of, &*key.kind, &*key.name, version.digest().0),
            version.raw().as_bytes(),
        )?;
    }
    Ok(())
}
