//! Traffic that has to be forgotten: its domain is gone, and the domain's number will be another one's.

use std::collections::BTreeSet;

use aya::Pod;
use datapath_common::{AUDIT_CONNECTIONS_FULL, AUDIT_VXLAN_RESERVED, MemberKey};

use super::Maps;
use crate::batch::{Cursor, Elements};
use crate::error::Error;

/// Counters in `AUDITS` that are no rule's.
const OWN: [MemberKey; 2] = [AUDIT_CONNECTIONS_FULL, AUDIT_VXLAN_RESERVED];
/// How many elements are looked at in one call.
const STEP: usize = 4096;

impl Maps {
    /// Removes connections and fragments of domains. Flows of theirs are void with their generations.
    pub(crate) fn forget_traffic(&self, is_gone: impl Fn(u32) -> bool) -> Result<(), Error> {
        forget(&self.connections, |key| is_gone(key.domain))?;
        forget(&self.half_open, |key| is_gone(key.domain))?;
        forget(&self.crowded, |key| is_gone(key.domain))?;
        forget(&self.fragments, |key| is_gone(key.domain))
    }

    /// Removes the counters of audit rules of all sets but these.
    pub(crate) fn forget_audits_but(&mut self, sets: &BTreeSet<u32>) -> Result<(), Error> {
        let counted = self.audits()?.into_keys();
        let stale = counted.filter(|key| !sets.contains(&key.set) && !OWN.contains(key));
        self.forget_audits(stale)
    }
}

fn forget<K: Pod, V: Pod>(elements: &Elements<K, V>, is_gone: impl Fn(&K) -> bool) -> Result<(), Error> {
    let mut cursor = Cursor::default();
    while !cursor.is_over() {
        let found = elements.walk(&mut cursor, STEP)?.into_iter().map(|(key, _)| key);
        let stale: Vec<K> = found.filter(|key| is_gone(key)).collect();
        elements.remove(&stale).map_err(|stopped| stopped.error)?;
    }
    Ok(())
}
