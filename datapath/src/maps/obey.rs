//! Operations on the maps, those of one kind that stand together in few calls.

use std::mem::discriminant;

use aya::Pod;

use super::{Maps, NO_PEER, counts, trie_key};
use crate::batch::{Elements, Stopped};
use crate::diff::{Entry, Key, Operation};
use crate::error::Error;
use crate::installed::Installed;

impl Maps {
    /// Does the operations, also those behind one for which a map has no room: whatever is not there is not reached,
    /// and nothing can be done for want of it. But where a set of rules or routes has no room, what was installed stays
    /// in force, less what had to go. `installed` follows. Returns the first such error, any other at once.
    pub(crate) fn obey(&mut self, operations: &[Operation], installed: &mut Installed) -> Result<(), Error> {
        let mut full = Ok(());
        for run in operations.chunk_by(|a, b| kind(a) == kind(b)) {
            match self.all(run, installed) {
                Err(error @ Error::Full { .. }) => full = full.and(Err(error)),
                other => other?,
            }
            if full.is_err() && run.iter().any(|operation| member(operation).is_some()) {
                self.give_up(operations, installed)?;
                break;
            }
        }
        full
    }

    /// Operations of one kind, also those behind one for which there is no room.
    fn all(&mut self, run: &[Operation], installed: &mut Installed) -> Result<(), Error> {
        let mut full = Ok(());
        let mut left = run;
        while !left.is_empty() {
            // Where one found no room, few others do: each is tried by itself.
            let (some, rest) = left.split_at(if full.is_ok() { left.len() } else { 1 });
            match self.run(some, installed) {
                Ok(()) => {
                    some.iter().for_each(|operation| installed.note(operation));
                    left = rest;
                }
                Err(Stopped { done, error }) => {
                    let (did, undone) = left.split_at(done.min(left.len()));
                    did.iter().for_each(|operation| installed.note(operation));
                    if !matches!(error, Error::Full { .. }) {
                        return Err(error);
                    }
                    full = full.and(Err(error));
                    left = undone.get(1..).unwrap_or_default();
                }
            }
        }
        full
    }

    /// Removes what was written of sets that nothing refers to yet, and voids what was decided before.
    fn give_up(&mut self, operations: &[Operation], installed: &mut Installed) -> Result<(), Error> {
        let removals: Vec<_> = operations.iter().filter_map(member).map(Operation::Remove).collect();
        let bumps = operations.iter().filter(|o| matches!(o, Operation::Bump(_))).copied();
        let both: Vec<_> = removals.into_iter().chain(bumps).collect();
        for run in both.chunk_by(|a, b| kind(a) == kind(b)) {
            self.all(run, installed)?;
        }
        Ok(())
    }

    /// Operations of one kind.
    fn run(&mut self, run: &[Operation], installed: &Installed) -> Result<(), Stopped> {
        match run.first() {
            None => Ok(()),
            Some(Operation::Bump(_)) => self.bump(run),
            Some(Operation::Put(entry)) => self.put(*entry, run),
            Some(Operation::Remove(key)) => self.remove(*key, run, installed),
        }
    }

    fn put(&self, first: Entry, run: &[Operation]) -> Result<(), Stopped> {
        macro_rules! put {
            ($elements:expr, $($kind:ident)::+ ($k:ident, $v:ident) => $key:expr) => {
                put_all(&$elements, run, |entry| match entry {
                    $($kind)::+($k, $v) => Some(($key, $v)),
                    _ => None,
                })
            };
        }
        match first {
            Entry::Port(..) => put!(self.ports, Entry::Port(k, v) => k),
            Entry::Vtep(..) => put!(self.vteps, Entry::Vtep(k, v) => k),
            Entry::Segment(..) => put!(self.segments, Entry::Segment(k, v) => k),
            Entry::Station(..) => put!(self.stations, Entry::Station(k, v) => k),
            Entry::Neighbour(..) => put!(self.neighbours, Entry::Neighbour(k, v) => k),
            Entry::Prefix(..) => put!(self.prefixes, Entry::Prefix(k, v) => trie_key(k)),
            Entry::Domain(..) => put!(self.domains, Entry::Domain(k, v) => k),
            Entry::Rule(..) => put!(self.rules, Entry::Rule(k, v) => k),
            Entry::Route(..) => put!(self.routes, Entry::Route(k, v) => trie_key(k)),
            Entry::Hop(..) => put!(self.hops, Entry::Hop(k, v) => k),
            Entry::Flood(..) => put!(self.floods, Entry::Flood(k, v) => k),
            Entry::Peer(..) => put!(self.peers, Entry::Peer(k, v) => k),
        }
    }

    fn remove(&mut self, first: Key, run: &[Operation], installed: &Installed) -> Result<(), Stopped> {
        macro_rules! remove {
            ($elements:expr, $($kind:ident)::+ ($k:ident) => $key:expr) => {
                $elements.remove(&keys(run, |key| match key {
                    $($kind)::+($k) => Some($key),
                    _ => None,
                }))
            };
        }
        match first {
            Key::Port(_) => remove!(self.ports, Key::Port(k) => k),
            Key::Vtep(_) => remove!(self.vteps, Key::Vtep(k) => k),
            Key::Segment(_) => remove!(self.segments, Key::Segment(k) => k),
            Key::Station(_) => remove!(self.stations, Key::Station(k) => k),
            Key::Neighbour(_) => remove!(self.neighbours, Key::Neighbour(k) => k),
            Key::Prefix(_) => remove!(self.prefixes, Key::Prefix(k) => trie_key(k)),
            Key::Domain(_) => remove!(self.domains, Key::Domain(k) => k),
            Key::Route(_) => remove!(self.routes, Key::Route(k) => trie_key(k)),
            Key::Hop(_) => remove!(self.hops, Key::Hop(k) => k),
            Key::Flood(_) => remove!(self.floods, Key::Flood(k) => k),
            Key::Peer(_) => {
                let numbers = keys(run, |key| {
                    if let Key::Peer(k) = key {
                        Some((k, NO_PEER))
                    } else {
                        None
                    }
                });
                self.peers.put(&numbers)
            }
            Key::Rule(_) => {
                let members = keys(run, |key| if let Key::Rule(k) = key { Some(k) } else { None });
                self.rules.remove(&members)?;
                // A number may be given out again: its counters go with it.
                let rules = &installed.tables().rules;
                let counted = members.into_iter().filter(|key| rules.get(key).is_some_and(counts));
                self.forget_audits(counted).map_err(|error| Stopped { done: 0, error })
            }
        }
    }

    fn bump(&mut self, run: &[Operation]) -> Result<(), Stopped> {
        let mut counts = Vec::new();
        for operation in run {
            if let Operation::Bump(slot) = operation
                && let Some(count) = self.counted.get_mut(*slot as usize)
            {
                *count = count.wrapping_add(1);
                counts.push((*slot, *count));
            }
        }
        self.generations.put(&counts)
    }
}

fn put_all<K: Pod, V: Pod>(
    elements: &Elements<K, V>,
    run: &[Operation],
    which: impl Fn(Entry) -> Option<(K, V)>,
) -> Result<(), Stopped> {
    let entries = run.iter().filter_map(|operation| match operation {
        Operation::Put(entry) => which(*entry),
        Operation::Remove(_) | Operation::Bump(_) => None,
    });
    elements.put(&entries.collect::<Vec<_>>())
}

fn keys<K>(run: &[Operation], which: impl Fn(Key) -> Option<K>) -> Vec<K> {
    let keys = run.iter().filter_map(|operation| match operation {
        Operation::Remove(key) => which(*key),
        Operation::Put(_) | Operation::Bump(_) => None,
    });
    keys.collect()
}

/// Operations of the same kind are about the same map and do the same.
fn kind(operation: &Operation) -> impl PartialEq + use<> {
    match operation {
        Operation::Put(entry) => (discriminant(operation), Some(discriminant(entry)), None),
        Operation::Remove(key) => (discriminant(operation), None, Some(discriminant(key))),
        Operation::Bump(_) => (discriminant(operation), None, None),
    }
}

/// The member of a set that an operation writes. What refers to a set takes it for whole.
fn member(operation: &Operation) -> Option<Key> {
    match operation {
        Operation::Put(Entry::Rule(key, _)) => Some(Key::Rule(*key)),
        Operation::Put(Entry::Route(key, _)) => Some(Key::Route(*key)),
        Operation::Put(Entry::Hop(key, _)) => Some(Key::Hop(*key)),
        Operation::Put(Entry::Flood(key, _)) => Some(Key::Flood(*key)),
        _ => None,
    }
}
