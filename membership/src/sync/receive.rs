//! Taking others' records in: check, merge, and say what follows. A record that is wrong spoils the batch it came in
//! and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::quota::Way;
use super::{Effect, Sync, Trouble};
use crate::author::SET_BYTES_MAX;
use crate::batch::{Batch, BatchError, FactBatch, IntentBatch, RawFacts};
use crate::facts::{self, Judgement, OriginFacts};
use crate::id::{NodeId, Scope};
use crate::keyring::{NODE_NAME, certified_key};
use crate::node::NODE_KIND;
use crate::record::{Head, Intent, Key};
use crate::replica::{Change, Gap, IntentChange};
use crate::signed::{Raw, Signed};
use crate::wire::Item;

/// Most scopes that others' records may make.
const SCOPES_MAX: usize = 10_000;

/// What became of received records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Something was merged.
    Changed,
    /// Nothing of it was of use.
    Known,
    /// Something before these is missing.
    Gap,
    /// It cannot be judged before the system scope is.
    Unknown,
    /// It is wrong.
    Bad,
    /// Its origin writes too much or too fast.
    Over,
}

/// What became of an answer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answered {
    /// Something was merged.
    pub(super) changed: bool,
    /// The same pull, asked again, brings more.
    pub(super) again: bool,
}

impl Sync {
    /// Takes what a peer answered to a pull that asked for all facts of the `whole` ones.
    pub(super) fn take_answer(
        &mut self,
        from: NodeId,
        scope: &Scope,
        items: Vec<Item>,
        whole: &BTreeSet<NodeId>,
        now: Duration,
    ) -> Answered {
        let way = (Way::Pulled, now);
        let mut answered = Answered::default();
        let mut batches: Vec<RawFacts> = Vec::new();
        let mut versions = Vec::new();
        for item in items {
            match item {
                Item::Head(head) => batches.push(RawFacts {
                    head,
                    facts: Vec::new(),
                }),
                Item::Fact(fact) => match batches.last_mut() {
                    Some(batch) => batch.facts.push(fact),
                    None => self.bad_frame(from, "a fact comes without its head".to_owned()),
                },
                Item::Intent(version) => versions.push(version),
            }
        }
        for batch in batches {
            let origin = Signed::<Head>::trust(batch.head.clone())
                .ok()
                .map(|head| head.value().origin);
            match self.take_facts(from, scope, batch, way) {
                Taken::Changed => answered.changed = true,
                Taken::Gap => {
                    answered.again |= origin.is_some_and(|origin| self.whole.insert((scope.clone(), origin)));
                    if let Some(origin) = origin.filter(|origin| whole.contains(origin)) {
                        self.name_withholder(from, origin, scope);
                    }
                }
                Taken::Known | Taken::Unknown | Taken::Bad | Taken::Over => {}
            }
        }
        answered.changed |= self.shade(scope, from, &versions);
        answered.changed |= self.take_intents(from, scope, versions, way) == Taken::Changed;
        answered
    }

    /// Who is asked for all facts of an origin answers with all of them, or tells nothing of it.
    fn name_withholder(&mut self, from: NodeId, origin: NodeId, scope: &Scope) {
        self.effects.push(Effect::Count("facts_withheld", 1));
        self.effects.push(Effect::Alarm(Trouble::Withheld {
            from,
            origin,
            scope: scope.clone(),
        }));
    }

    pub(super) fn take_facts(&mut self, from: NodeId, scope: &Scope, raw: RawFacts, way: (Way, Duration)) -> Taken {
        let head = match Signed::<Head>::trust(raw.head.clone()) {
            Ok(head) if head.value().scope == *scope => head,
            Ok(_) => return self.refuse(from, &BatchError::Inconsistent("a head is of another scope")),
            Err(error) => return self.refuse(from, &error.into()),
        };
        if self.replica.is_out(head.value().origin) || self.is_old(&head) {
            return Taken::Known;
        }
        if self.leaves_out(head.value().origin, scope, way.1) {
            return Taken::Over;
        }
        let (batch, learned) = match raw.verify(self.replica.keyring(), self.certify.as_ref()) {
            Ok(verified) => verified,
            Err(error) => return self.refuse(from, &error),
        };
        if head.value().origin == self.me {
            return self.take_own(batch);
        }
        let taken = self.merge(from, &Batch::Facts(batch), way);
        if taken == Taken::Changed {
            self.whole.remove(&(scope.clone(), head.value().origin));
            if let Some(key) = learned {
                self.replica.learn(&key);
            }
        }
        taken
    }

    /// Whether a head says nothing that this node does not know, so that its signature need not be checked. A twin of
    /// the one that is held is of interest: its origin contradicts itself.
    fn is_old(&self, head: &Signed<Head>) -> bool {
        let Head {
            scope,
            origin,
            epoch,
            seq,
            ..
        } = head.value();
        self.replica.origin(scope, *origin).is_some_and(|held| {
            let known = held.head.value();
            held.head.digest() == head.digest() || (known.epoch, known.seq) > (*epoch, *seq)
        })
    }

    /// Facts of this node that came from a peer are never merged as they are: what is held as own must be on disk
    /// first, and must be what this node goes on from.
    fn take_own(&mut self, batch: FactBatch) -> Taken {
        let scope = &batch.head().value().scope;
        let held = self.replica.origin(scope, self.me);
        if facts::forked(held, &batch) {
            let trouble = Trouble::Forked {
                origin: self.me,
                scope: scope.clone(),
            };
            self.effects.push(Effect::Alarm(trouble));
        }
        match facts::judge(held, &batch) {
            Judgement::Stale => Taken::Known,
            Judgement::Gap => Taken::Gap,
            Judgement::Applies(change) => {
                self.whole.remove(&(scope.clone(), self.me));
                let set = OriginFacts::change(held.cloned(), &change);
                let (mine, theirs) = (held.map(|held| held.head.value().epoch), set.head.value().epoch);
                let before = self.reclaimed.insert(scope.clone(), theirs);
                // It said all again above that, and somebody went on from there.
                if before.is_some_and(|before| before < theirs && mine > Some(before)) {
                    self.effects.push(Effect::Alarm(Trouble::Forked {
                        origin: self.me,
                        scope: scope.clone(),
                    }));
                }
                // Its parts were just checked against each other.
                if let Ok(all) = FactBatch::new(set.head.clone(), set.after(0)) {
                    self.effects.push(Effect::Reclaim(all));
                }
                Taken::Known
            }
        }
    }

    pub(super) fn take_intents(
        &mut self,
        from: NodeId,
        scope: &Scope,
        versions: Vec<Raw>,
        way: (Way, Duration),
    ) -> Taken {
        let versions: Vec<_> = versions
            .into_iter()
            .filter(|raw| !self.is_settled(scope, raw, way.1))
            .collect();
        let versions = self.without_void(versions);
        if versions.is_empty() {
            return Taken::Known;
        }
        let batch = match IntentBatch::verify(scope.clone(), versions, self.replica.keyring()) {
            Ok(batch) => batch,
            Err(error) => return self.refuse(from, &error),
        };
        let Ok(merged) = self.replica.plan(&Batch::Intents(batch.clone())) else {
            return Taken::Known;
        };
        self.name_crowded(merged.crowded, way.1);
        let Some(change) = merged.change else {
            return Taken::Known;
        };
        let over = self.writers_over_quota(&change, way);
        if over.is_empty() {
            return self.admit(from, scope, change, way.1);
        }
        let fine = |version: &&Signed<Intent>| !over.contains(&version.value().dot.writer);
        let rest: Vec<_> = batch.versions().iter().filter(fine).cloned().collect();
        if rest.is_empty() {
            return Taken::Over;
        }
        match IntentBatch::new(scope.clone(), rest) {
            Ok(batch) => self.merge(from, &Batch::Intents(batch), way),
            Err(error) => self.refuse(from, &error),
        }
    }

    /// Sorts out what removed nodes wrote beyond their cut; it is handed to who keeps it, if they did write it.
    fn without_void(&mut self, versions: Vec<Raw>) -> Vec<Raw> {
        let (void, good): (Vec<Raw>, Vec<Raw>) = versions.into_iter().partition(|raw| {
            let version = Signed::<Intent>::trust(raw.clone());
            version.is_ok_and(|version| self.replica.is_void(version.value().dot))
        });
        for raw in void {
            self.effects.push(Effect::Count("versions_of_removed_nodes", 1));
            let signed = Signed::<Intent>::trust(raw.clone()).map(|version| version.value().dot.writer);
            let key = signed.ok().and_then(|writer| self.replica.keyring().key(writer));
            let checked = key.and_then(|key| Signed::<Intent>::verify(raw, key).ok());
            self.effects.extend(checked.map(Effect::Void));
        }
        good
    }

    /// Those writers of a change that may not add theirs.
    fn writers_over_quota(&mut self, change: &Change, way: (Way, Duration)) -> BTreeSet<NodeId> {
        let Change::Intents(change) = change else {
            return BTreeSet::new();
        };
        let mut by_writer: BTreeMap<NodeId, IntentChange> = BTreeMap::new();
        for version in &change.put {
            let of = by_writer
                .entry(version.value().dot.writer)
                .or_insert_with(|| IntentChange {
                    scope: change.scope.clone(),
                    put: Vec::new(),
                    removed: Vec::new(),
                });
            of.put.push(version.clone());
        }
        let changes = by_writer
            .into_iter()
            .map(|(writer, change)| (writer, Change::Intents(change)));
        let over = changes.filter(|(writer, change)| !self.is_within_quota(*writer, change, way.0, way.1));
        over.map(|(writer, _)| writer).collect()
    }

    /// Whether exactly these bytes are held, so that their signature need not be checked again; or are not, and will not be:
    /// what deleted them was collected, or their writer has as many later ones as it may.
    fn is_settled(&mut self, scope: &Scope, raw: &Raw, now: Duration) -> bool {
        let Ok(version) = Signed::<Intent>::trust(raw.clone()) else {
            return false;
        };
        let siblings = self.replica.intent(scope, &version.value().key);
        if siblings.is_some_and(|siblings| siblings.versions().any(|held| held.digest() == version.digest())) {
            return true;
        }
        let dead = self.replica.is_dead(scope, version.value());
        if dead {
            self.effects.push(Effect::Count("versions_of_deleted_objects", 1));
        }
        dead || self.crowds_out(&version, now)
    }

    fn merge(&mut self, from: NodeId, batch: &Batch, way: (Way, Duration)) -> Taken {
        let scope = batch.scope();
        let (change, forked) = match self.replica.plan(batch) {
            Ok(merged) => (merged.change, merged.forked),
            Err(Gap { origin, forked }) => {
                self.report_fork(scope, forked.then_some(origin));
                return Taken::Gap;
            }
        };
        self.report_fork(scope, forked);
        let Some(change) = change else { return Taken::Known };
        if let Change::Facts(facts) = &change
            && !self.is_within_quota(facts.head.value().origin, &change, way.0, way.1)
        {
            return Taken::Over;
        }
        self.admit(from, scope, change, way.1)
    }

    /// Takes a change in that no quota forbids.
    fn admit(&mut self, from: NodeId, scope: &Scope, change: Change, now: Duration) -> Taken {
        if let Err(why) = self.check(scope, &change) {
            return self.refuse(from, &BatchError::Inconsistent(why));
        }
        self.replica.apply(&change);
        self.note_for_tombstones(&change);
        let (records, writers) = (change.added(), change.writers());
        self.effects.push(Effect::Count(
            "records_merged",
            u64::try_from(records).unwrap_or(u64::MAX),
        ));
        self.effects.push(Effect::Persist(change));
        self.changed.insert(scope.clone());
        self.trim(writers, now);
        Taken::Changed
    }

    /// Refuses what an honest node never writes and what would do lasting harm: it could not be handed on, or would
    /// keep those who come later from judging its origin's other records.
    fn check(&self, scope: &Scope, change: &Change) -> Result<(), &'static str> {
        if !self.replica.has_room_for(scope, SCOPES_MAX) {
            return Err("there are too many scopes");
        }
        let Change::Facts(change) = change else { return Ok(()) };
        let held = self.replica.origin(scope, change.head.value().origin);
        if OriginFacts::bytes_after(held, change) > SET_BYTES_MAX {
            return Err("a host has too many facts in a scope");
        }
        let node = Key::new(NODE_KIND, NODE_NAME);
        let said = change.put.iter().map(Signed::value).find(|fact| fact.key == node);
        let certified = said.is_none_or(|fact| certified_key(fact, self.certify.as_ref()).is_some());
        if *scope == Scope::System && (!certified || change.removed.contains(&node)) {
            return Err("a host takes back what certifies it");
        }
        Ok(())
    }

    fn report_fork(&mut self, scope: &Scope, forked: Option<NodeId>) {
        if let Some(origin) = forked {
            self.effects.push(Effect::Alarm(Trouble::Forked {
                origin,
                scope: scope.clone(),
            }));
        }
    }

    fn refuse(&mut self, from: NodeId, error: &BatchError) -> Taken {
        match error {
            BatchError::UnknownOrigin(_) => {
                self.effects.push(Effect::Count("records_of_unknown_origin", 1));
                Taken::Unknown
            }
            BatchError::Signed(_) | BatchError::Inconsistent(_) => {
                self.bad_frame(from, error.to_string());
                Taken::Bad
            }
        }
    }
}
