//! What one replica says to another one that asks: its roots, what it holds of a scope, and what the other one lacks.
//! Pure reading.

use std::collections::{BTreeMap, BTreeSet};

use super::ANSWER_BYTES_MAX;
use crate::facts::{self, OriginFacts};
use crate::id::{NodeId, Scope};
use crate::replica::{Replica, Siblings};
use crate::wire::{FRAME_MAX, Have, Item, Listed, Message, Part, Pull, Short, short};

/// Scopes with no more objects than this are listed at once, which saves a round trip.
const LIST_AT_ONCE: usize = 512;
/// Most objects in the lists of one pull: 32 bytes each must fit a frame.
const LISTED_MAX: usize = 24_000;
/// Scopes in one frame of roots: a scope and its root take about 100 bytes.
const ROOTS_MAX: usize = 8_000;
/// Bytes of records in one part of an answer; the rest of the frame is for what is around them.
const PART_BYTES: usize = FRAME_MAX - 64 * 1024;

/// The roots of all scopes, in as many messages as it takes.
pub(super) fn roots(replica: &Replica) -> Vec<Message> {
    let roots: Vec<_> = replica
        .scopes()
        .map(|scope| (scope.clone(), replica.root(scope)))
        .collect();
    roots
        .chunks(ROOTS_MAX)
        .map(|roots| Message::Roots(roots.to_vec()))
        .collect()
}

/// The heads held in a scope, those left out for which `whole` asks for everything.
pub(super) fn vector(replica: &Replica, scope: &Scope, whole: impl Fn(NodeId) -> bool) -> Vec<Have> {
    let have = |held: &OriginFacts| {
        let head = held.head.value();
        Have {
            origin: head.origin,
            epoch: head.epoch,
            seq: head.seq,
            head: held.head.digest(),
        }
    };
    replica
        .heads(scope)
        .map(have)
        .filter(|have| !whole(have.origin))
        .collect()
}

/// The sums of a scope's buckets as a pull carries them.
pub(super) fn sums(replica: &Replica, scope: &Scope) -> Vec<(u8, Short)> {
    let sums = replica
        .sums(scope)
        .into_iter()
        .flat_map(|sums| sums.buckets().iter().map(short));
    (0..=u8::MAX)
        .zip(sums)
        .filter(|(_, sum)| *sum != Short::default())
        .collect()
}

/// The lists of these buckets, or of all if none are named and the scope is small, and whether some were left out.
pub(super) fn lists(replica: &Replica, scope: &Scope, buckets: Option<&BTreeSet<u8>>) -> (Vec<Listed>, bool) {
    let small = replica.intents(scope).take(LIST_AT_ONCE + 1).count() <= LIST_AT_ONCE;
    if buckets.is_none() && !small {
        return (Vec::new(), false);
    }
    let mut lists: BTreeMap<u8, Vec<(Short, Short)>> = BTreeMap::new();
    for (_, siblings) in replica.intents(scope) {
        let bucket = siblings.bucket();
        if buckets.is_none_or(|buckets| buckets.contains(&bucket)) {
            lists.entry(bucket).or_default().push(entry(siblings));
        }
    }
    let mut room = LISTED_MAX;
    let all = lists.len();
    let fits = |(bucket, objects): (u8, Vec<_>)| {
        room = room.checked_sub(objects.len())?;
        Some(Listed { bucket, objects })
    };
    let listed: Vec<_> = lists.into_iter().map_while(fits).collect();
    let partial = listed.len() < all;
    (listed, partial)
}

fn entry(siblings: &Siblings) -> (Short, Short) {
    (short(&siblings.key_digest()), short(&siblings.digest()))
}

/// Buckets in which the asker differs and that it did not list, though it holds something there. Empty if the answer
/// can be exact.
pub(super) fn unlisted(replica: &Replica, pull: &Pull) -> BTreeSet<u8> {
    let listed: BTreeSet<u8> = pull.listed.iter().map(|listed| listed.bucket).collect();
    let held: BTreeSet<u8> = pull.sums.iter().map(|&(bucket, _)| bucket).collect();
    &(&differing(replica, pull) & &held) - &listed
}

/// Buckets in which the asker differs.
pub(super) fn differing(replica: &Replica, pull: &Pull) -> BTreeSet<u8> {
    let mine: BTreeSet<_> = sums(replica, &pull.scope).into_iter().collect();
    let theirs: BTreeSet<_> = pull.sums.iter().copied().collect();
    mine.symmetric_difference(&theirs).map(|&(bucket, _)| bucket).collect()
}

/// Whether the asker holds facts that this replica lacks.
pub(super) fn lacks_facts(replica: &Replica, pull: &Pull) -> bool {
    pull.vector.iter().any(|have| {
        let mine = replica
            .origin(&pull.scope, have.origin)
            .map(|held| facts::rank(&held.head));
        mine < Some((have.epoch, have.seq, have.head))
    })
}

/// The records the asker lacks, objects only if they are asked for, and whether there are more than fit one answer.
pub(super) fn items(replica: &Replica, pull: &Pull, objects: bool) -> (Vec<Item>, bool) {
    let mut answer = Answer::default();
    facts_for(replica, &pull.scope, &pull.vector, &mut answer);
    if objects && !answer.more {
        objects_for(replica, pull, &mut answer);
    }
    (answer.items, answer.more)
}

#[derive(Default)]
struct Answer {
    items: Vec<Item>,
    bytes: usize,
    more: bool,
}

impl Answer {
    /// Adds what belongs together, unless the answer is full. One that exceeds the limit alone is sent alone.
    fn add(&mut self, items: Vec<Item>) {
        let bytes: usize = items.iter().map(Item::len).sum();
        if self.bytes > 0 && self.bytes + bytes > ANSWER_BYTES_MAX {
            self.more = true;
        }
        if !self.more {
            self.bytes += bytes;
            self.items.extend(items);
        }
    }
}

fn facts_for(replica: &Replica, scope: &Scope, vector: &[Have], answer: &mut Answer) {
    let known: BTreeMap<_, _> = vector.iter().map(|have| (have.origin, have)).collect();
    // Who writes little comes first, so that a flood of one does not keep others' from coming.
    let mut heads: Vec<_> = replica.heads(scope).collect();
    heads.sort_by_key(|held| replica.usage(held.head.value().origin).fact_bytes);
    for held in heads {
        let head = held.head.value();
        let after = match known.get(&head.origin) {
            Some(have) if (have.epoch, have.seq, have.head) >= facts::rank(&held.head) => continue,
            Some(have) if follows(have, held) => have.seq,
            _ => 0,
        };
        let facts = held.after(after).into_iter().map(|fact| Item::Fact(fact.raw().clone()));
        answer.add(
            std::iter::once(Item::Head(held.head.raw().clone()))
                .chain(facts)
                .collect(),
        );
    }
}

/// Whether the facts after what the asker has lead it to the head: no withdrawn one that it has not heard of is gone.
fn follows(have: &Have, held: &OriginFacts) -> bool {
    let head = held.head.value();
    have.epoch == head.epoch && have.seq < head.seq && have.seq.saturating_add(1) >= head.floor
}

fn objects_for(replica: &Replica, pull: &Pull, answer: &mut Answer) {
    let wanted = &differing(replica, pull) - &unlisted(replica, pull);
    if wanted.is_empty() {
        return;
    }
    let theirs: BTreeMap<_, _> = pull
        .listed
        .iter()
        .flat_map(|listed| listed.objects.iter().copied())
        .collect();
    let lacking = |siblings: &&Siblings| {
        wanted.contains(&siblings.bucket()) && {
            let (key, versions) = entry(siblings);
            theirs.get(&key) != Some(&versions)
        }
    };
    let all = replica.intents(&pull.scope).map(|(_, siblings)| siblings);
    let mut objects: Vec<_> = all.filter(lacking).collect();
    objects.sort_by_key(|siblings| replica.usage(siblings.shown().dot.writer).version_bytes);
    for siblings in objects {
        let versions = siblings.versions().map(|version| Item::Intent(version.raw().clone()));
        answer.add(versions.collect());
        if answer.more {
            break;
        }
    }
}

/// An answer in frames. There is always a last part, even if nothing is lacking.
pub(super) fn parts(id: u64, items: Vec<Item>, more: bool) -> Vec<Message> {
    let mut parts: Vec<Vec<Item>> = vec![Vec::new()];
    let mut bytes = 0;
    for item in items {
        // An item is its bytes, a tag and a length.
        bytes += item.len() + 4;
        if bytes > PART_BYTES {
            bytes = item.len() + 4;
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push(item);
        }
    }
    let count = parts.len();
    let message = |(index, items)| {
        let last = index + 1 == count;
        Message::Part(Part {
            id,
            index: u32::try_from(index).unwrap_or(u32::MAX),
            last,
            more: last && more,
            items,
        })
    };
    parts.into_iter().enumerate().map(message).collect()
}
