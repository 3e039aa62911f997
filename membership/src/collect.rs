//! When a deleted object's tombstone may go: what each member says of what it has seen, and what follows from what all
//! of them said. Pure; the protocol's side is `sync/confirm.rs`.
//!
//! **What is said.** Each member may say one fact [`Seen`] per scope. It names the *member list* it means by a digest,
//! and per writer w a [`Column`]: how far the tombstones it holds need w to be covered (`want`), how far it vouches for w
//! (`seen`), and how far it holds w to be covered by all (`floor`). Beside them it *states* its own versions: "up to
//! counter c, these are the ones of mine that nothing has superseded", as the sum of their digests. Who held that same sum
//! of w's versions, once, may vouch for w up to c. This needs no trust in relays, and no belief in contexts: the writer
//! itself says what there was of it, and a writer that states it wrongly harms its own versions only.
//!
//! **What follows.** The floor of w is the lowest `seen` of w of all members, if all name the same list. A tombstone goes
//! when the floor covers its dot and its whole context. Then every member held it, or something that superseded it, so no
//! member holds what it deleted. What was deleted and arrives later (a push that was under way, an old disk) has a dot
//! below the floor and is not held: it is refused. What is alive below the floor is held by every member, since each
//! vouched for its writer's own sum. Floors only rise, and are on disk, as part of the node's own fact, before they count.
//!
//! **Why roots stay equal.** Whether a tombstone is held is a function of the floor alone, its siblings do not matter; and
//! the floor follows from facts that all hold. A tombstone beside a version that is alive is an open conflict, so nobody
//! vouches for it, and it is not collected before somebody resolved it. Who lacks a confirmation under a later list
//! follows the floor that most others signed, as far as it vouches for it itself.
//!
//! **Old disks.** A node whose disk is older than what it said finds that out by its facts, which it says again in a higher
//! epoch. A [`Seen`] carries the epoch it was said in; one of an earlier epoch is void. Until the node says another one it
//! hands out no objects. It pulls from one peer as if it held none, drops what that peer vouches for and does not hold, and
//! then says another one that vouches for nothing yet.
//!
//! Time removes nothing: an absent member holds the tombstones back until it returns or is removed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::author;
use crate::id::{NodeId, Scope};
use crate::keyring::NODE_NAME;
use crate::node::NODE_KIND;
use crate::record::{Body, Digest, Key, VersionVector};
use crate::replica::{Replica, Survey};

/// Key kind of [`Seen`].
pub const SEEN_KIND: &str = "Seen";
/// Its only key name per origin and scope.
pub const SEEN_NAME: &str = "seen";
/// Most writers of one scope that a confirmation tells of, about 40 bytes each; tombstones of others stay.
pub const WRITERS_MAX: usize = 256;
/// Most removed writers that one confirmation states.
const ORPHANS_MAX: usize = 64;
/// Most statements of one confirmation: of removed writers, and two of the sayer itself.
const STATED_MAX: usize = ORPHANS_MAX + 2;
/// Format of the body.
const BODY_VERSION: u16 = 1;

/// What one node has seen of the objects of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// The epoch of the fact that carries it; void in another one.
    pub epoch: u64,
    /// Digest of the member list that is meant.
    pub list: Digest,
    /// What the sayer states of its own versions, and the first member of those of writers that are no members. First of all
    /// its own; while a conflict of its is open, again up to that.
    pub stated: Vec<Stated>,
    /// Per writer.
    pub columns: BTreeMap<NodeId, Column>,
}

/// What a node says of one writer. Counters; zero says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Column {
    /// Up to here a tombstone that is held needs it.
    pub want: u64,
    /// Up to here the sayer once held exactly what the writer stated.
    pub seen: u64,
    /// Up to here all members did.
    pub floor: u64,
}

/// The versions of one writer that nothing has superseded, collected tombstones left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stated {
    /// Whose.
    pub writer: NodeId,
    /// Up to this counter.
    pub upto: u64,
    /// Sum of their digests.
    pub sum: Digest,
}

impl Seen {
    /// As the body of the fact.
    #[must_use]
    pub fn body(&self) -> Option<Body> {
        let bytes = postcard::to_stdvec(self).ok()?.into();
        Some(Body {
            version: BODY_VERSION,
            bytes,
        })
    }

    /// What all members have seen, by what the sayer knows.
    #[must_use]
    pub fn floor(&self) -> VersionVector {
        self.vector(|column| column.floor)
    }

    /// What the sayer vouches for.
    #[must_use]
    pub fn seen(&self) -> VersionVector {
        self.vector(|column| column.seen)
    }

    fn vector(&self, of: impl Fn(&Column) -> u64) -> VersionVector {
        let counters = self.columns.iter().map(|(&writer, column)| (writer, of(column)));
        VersionVector(counters.filter(|&(_, counter)| counter > 0).collect())
    }

    fn column(&self, writer: NodeId) -> Column {
        self.columns.get(&writer).copied().unwrap_or_default()
    }

    fn is_open(&self) -> bool {
        self.columns.values().any(|column| column.want > 0)
    }
}

/// The key of the fact.
#[must_use]
pub fn key() -> Key {
    Key::new(SEEN_KIND, SEEN_NAME)
}

/// The members whose confirmations count: those that have a node record.
#[must_use]
pub fn members(replica: &Replica) -> BTreeSet<NodeId> {
    let key = Key::new(NODE_KIND, NODE_NAME);
    let records = replica.facts_about(&Scope::System, &key);
    records.map(|fact| fact.origin).collect()
}

/// Names a member list.
#[must_use]
pub fn list_digest(members: &BTreeSet<NodeId>) -> Digest {
    let parts: Vec<&[u8]> = members.iter().map(|member| member.as_str().as_bytes()).collect();
    Digest::of(&parts)
}

/// What a node said last in a scope, void or not.
fn said(replica: &Replica, scope: &Scope, node: NodeId) -> Option<(u64, Seen)> {
    let fact = replica.fact(scope, node, &key())?;
    let body = fact.body.as_ref().filter(|body| body.version == BODY_VERSION)?;
    Some((fact.epoch, postcard::from_bytes(&body.bytes).ok()?))
}

/// What a node says in a scope.
#[must_use]
pub fn seen(replica: &Replica, scope: &Scope, node: NodeId) -> Option<Seen> {
    said(replica, scope, node).and_then(|(epoch, seen)| (seen.epoch == epoch).then_some(seen))
}

/// Whether what a node said of a scope is void, since its disk turned out to be older.
#[must_use]
pub fn is_void(replica: &Replica, scope: &Scope, node: NodeId) -> bool {
    said(replica, scope, node).is_some_and(|(epoch, seen)| seen.epoch != epoch)
}

/// Members by whom a node whose own word is void can put its objects right: those that vouch for all that anybody may have
/// collected, for only that can be dead.
#[must_use]
pub fn authorities(replica: &Replica, scope: &Scope, me: NodeId, members: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    let mut floor = VersionVector::default();
    for (_, seen) in members.iter().filter_map(|member| said(replica, scope, *member)) {
        floor.join(&seen.floor());
    }
    let knows = |member: &&NodeId| seen(replica, scope, **member).is_some_and(|seen| seen.seen().covers(&floor));
    let others = members.iter().filter(|member| **member != me);
    others.filter(knows).copied().collect()
}

/// What a node stated last of its own versions, void or not: it promised to write nothing more up to there.
#[must_use]
pub fn stated(replica: &Replica, scope: &Scope, writer: NodeId) -> Option<Stated> {
    let (_, seen) = said(replica, scope, writer)?;
    seen.stated.into_iter().find(|stated| stated.writer == writer)
}

/// What a node should say of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Next {
    /// If that is something else than it has said.
    pub say: Option<Seen>,
    /// Somebody holds tombstones: look again.
    pub open: bool,
}

/// Who looks at a scope, and with whom.
#[derive(Debug)]
pub struct Observer<'a> {
    /// What it holds.
    pub replica: &'a Replica,
    /// The scope.
    pub scope: &'a Scope,
    /// The node.
    pub me: NodeId,
    /// All members, this one included.
    pub members: &'a BTreeSet<NodeId>,
    /// All of them are connected, and nobody else is known. If not, nothing can come of asking for confirmations.
    pub gathered: bool,
}

impl Observer<'_> {
    /// What this node should say.
    #[must_use]
    pub fn next(&self) -> Next {
        if is_void(self.replica, self.scope, self.me) {
            return Next { say: None, open: true };
        }
        let own = seen(self.replica, self.scope, self.me);
        let others = self.others();
        let survey = self.replica.survey(self.scope);
        let list = list_digest(self.members);
        let open = !survey.wanted.0.is_empty() || others.values().any(|seen| seen.list == list && seen.is_open());
        if own.is_none() && !open {
            return Next::default();
        }
        let mut draft = Seen {
            epoch: self.replica.head(self.scope, self.me).map_or(1, |head| head.epoch),
            ..own.clone().unwrap_or_default()
        };
        if self.gathered && open {
            draft.list = list;
            self.want(&mut draft, &others, &survey);
            self.vouch(&mut draft, &others, &survey);
        } else if self.gathered {
            draft.columns.values_mut().for_each(|column| column.want = 0);
        }
        self.raise(&mut draft, &others);
        let said = own.unwrap_or_default();
        if draft.columns != said.columns || draft.list != said.list || self.is_asked(&draft, &others) {
            self.state(&mut draft, &survey);
        }
        draft.columns.retain(|_, column| *column != Column::default());
        Next {
            say: (draft != said).then_some(draft),
            open,
        }
    }

    /// Members that hold back what this node would like to collect.
    #[must_use]
    pub fn missing(&self) -> BTreeSet<NodeId> {
        let survey = self.replica.survey(self.scope);
        let list = list_digest(self.members);
        let holds_back = |member: &&NodeId| {
            seen(self.replica, self.scope, **member)
                .is_none_or(|seen| seen.list != list || !seen.seen().covers(&survey.wanted))
        };
        if survey.wanted.0.is_empty() {
            return BTreeSet::new();
        }
        let others = self.members.iter().filter(|member| **member != self.me);
        others.filter(holds_back).copied().collect()
    }

    fn others(&self) -> BTreeMap<NodeId, Seen> {
        let others = self.members.iter().filter(|&&member| member != self.me);
        others
            .filter_map(|&member| Some((member, seen(self.replica, self.scope, member)?)))
            .collect()
    }

    /// Which writers matter, to this node and to others.
    fn want(&self, draft: &mut Seen, others: &BTreeMap<NodeId, Seen>, survey: &Survey) {
        for column in draft.columns.values_mut() {
            column.want = 0;
        }
        let theirs = others.values().filter(|seen| seen.list == draft.list);
        let theirs = theirs.flat_map(|seen| seen.columns.iter().filter(|(_, column)| column.want > 0));
        let writers: BTreeSet<NodeId> = survey
            .wanted
            .0
            .keys()
            .chain(theirs.map(|(writer, _)| writer))
            .copied()
            .collect();
        for writer in writers {
            if draft.columns.contains_key(&writer) || draft.columns.len() < WRITERS_MAX {
                let want = survey.wanted.0.get(&writer).copied().unwrap_or_default();
                draft.columns.entry(writer).or_default().want = want;
            }
        }
    }

    /// Vouches for the writers of which this node holds what they state.
    fn vouch(&self, draft: &mut Seen, others: &BTreeMap<NodeId, Seen>, survey: &Survey) {
        let speaker = self.members.first().copied();
        let mut stated: BTreeMap<(NodeId, u64), (Stated, VersionVector)> = BTreeMap::new();
        for (&sayer, seen) in others {
            let may = |writer: NodeId| writer == sayer || (Some(sayer) == speaker && !self.members.contains(&writer));
            for entry in seen.stated.iter().take(STATED_MAX).filter(|entry| may(entry.writer)) {
                stated.insert((entry.writer, entry.upto), (*entry, seen.floor()));
            }
        }
        stated.retain(|(writer, upto), _| draft.columns.get(writer).is_some_and(|column| column.seen < *upto));
        let held = self
            .replica
            .sums_of(self.scope, stated.iter().map(|(&at, (_, floor))| (at, floor)));
        // Ascending, so that the last one that fits counts.
        for (&(writer, upto), (entry, _)) in &stated {
            let same = held.get(&(writer, upto)).copied().unwrap_or_default() == entry.sum;
            if same && !survey.is_open(writer, upto) {
                draft.columns.entry(writer).or_default().seen = upto;
            }
        }
        let mine = draft.columns.keys().copied().filter(|writer| self.speaks_for(*writer));
        for writer in mine.collect::<Vec<_>>() {
            let upto = survey.settled(writer, self.last_of(writer));
            let column = draft.columns.entry(writer).or_default();
            column.seen = column.seen.max(upto);
        }
    }

    /// Raises the floors to what all members vouch for, and to what most others hold to be so, as far as this node
    /// vouches for it.
    fn raise(&self, draft: &mut Seen, others: &BTreeMap<NodeId, Seen>) {
        let alone = self.members.len() == 1 && !self.gathered;
        let all = !alone && others.len() + 1 == self.members.len();
        let all = all && others.values().all(|seen| seen.list == draft.list);
        for (writer, column) in &mut draft.columns {
            let said = || others.values().map(|seen| seen.column(*writer));
            if all {
                let lowest = said().map(|column| column.seen).fold(column.seen, u64::min);
                column.floor = column.floor.max(lowest);
            }
            let mut claims: Vec<u64> = said().map(|column| column.floor).collect();
            claims.sort_unstable_by(|a, b| b.cmp(a));
            // The highest that more than half of all other members claim.
            let most = claims
                .get(self.members.len().saturating_sub(1) / 2)
                .copied()
                .unwrap_or_default();
            column.floor = column.floor.max(most.min(column.seen));
        }
    }

    /// Whether somebody waits for what this node states.
    fn is_asked(&self, draft: &Seen, others: &BTreeMap<NodeId, Seen>) -> bool {
        let waits = |(writer, column): (&NodeId, &Column)| self.speaks_for(*writer) && column.want > column.seen;
        let theirs = others.values().filter(|seen| seen.list == draft.list);
        self.gathered && theirs.flat_map(|seen| &seen.columns).any(waits)
    }

    fn state(&self, draft: &mut Seen, survey: &Survey) {
        let writers: Vec<NodeId> = draft
            .columns
            .keys()
            .copied()
            .filter(|writer| self.speaks_for(*writer))
            .collect();
        let orphans = writers.into_iter().filter(|writer| *writer != self.me);
        let own = (self.me, self.last_of(self.me));
        // What is contended is stated of this node only, as a promise: nobody can vouch for it, but for what is below.
        let settled = std::iter::once(self.me)
            .chain(orphans.take(ORPHANS_MAX))
            .map(|writer| (writer, survey.settled(writer, self.last_of(writer))));
        let settled = settled.filter(|at| *at != own && at.1 > 0);
        let all: Vec<(NodeId, u64)> = std::iter::once(own).chain(settled).collect();
        let floor = draft.floor();
        let sums = self.replica.sums_of(self.scope, all.iter().map(|&at| (at, &floor)));
        let stated = all.into_iter().map(|(writer, upto)| Stated {
            writer,
            upto,
            sum: sums.get(&(writer, upto)).copied().unwrap_or_default(),
        });
        draft.stated = stated.collect();
    }

    fn speaks_for(&self, writer: NodeId) -> bool {
        writer == self.me || (self.members.first() == Some(&self.me) && !self.members.contains(&writer))
    }

    fn last_of(&self, writer: NodeId) -> u64 {
        if writer != self.me {
            return u64::MAX;
        }
        let said = [self.scope, &Scope::System].map(|scope| self.replica.facts_from(scope, self.me));
        let stamp = said
            .into_iter()
            .flatten()
            .map(|fact| fact.stamp)
            .max()
            .unwrap_or_default();
        author::last_counter(self.replica, self.scope, self.me, stamp)
    }
}

#[cfg(test)]
mod tests;
