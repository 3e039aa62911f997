//! Collecting tombstones: says what this node has seen, takes in what others said, and puts the objects of a restored disk
//! right. What may be collected when is told in `collect`.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::{Rng, RngCore};

use super::{Effect, Sync};
use crate::batch::{Batch, IntentBatch};
use crate::collect::{self, Observer, Seen};
use crate::id::{NodeId, Scope};
use crate::record::{Digest, Intent};
use crate::replica::{Change, Replica};
use crate::signed::{Raw, Signed};

/// Between two looks at the tombstones: at least this, at most twice, and longer by as much for every so many members.
const PACE: Duration = Duration::from_secs(10);
const MEMBERS_PER_PACE: usize = 50;

/// How long after it connected a peer is taken at its word: by then it knows whether its disk is an old one too.
const NOTICED: Duration = Duration::from_secs(5);

/// How long two nodes differ, though both took in all that the other one holds and nothing else changed, until this node
/// doubts its own disk.
const STUBBORN: Duration = Duration::from_secs(20);

/// The tombstones that a node holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tombstones {
    /// How many.
    pub count: usize,
    /// Their bytes as signed.
    pub bytes: usize,
    /// Members that have not confirmed all of them: collection waits for them.
    pub waiting_for: BTreeSet<NodeId>,
}

/// What one peer holds of a scope, while the objects of a restored disk are compared with it.
#[derive(Debug)]
pub(super) struct Shadow {
    peer: NodeId,
    pub(super) replica: Replica,
}

impl Sync {
    /// The tombstones of all scopes, and who holds them back.
    #[must_use]
    pub fn tombstones(&self) -> Tombstones {
        let members = collect::members(&self.replica);
        let mut all = Tombstones::default();
        for scope in self.replica.scopes().filter(|scope| self.replica.tombstones(scope) > 0) {
            let survey = self.replica.survey(scope);
            all.count += survey.count;
            all.bytes += survey.bytes;
            all.waiting_for.extend(self.observer(scope, &members).missing());
        }
        all
    }

    /// There are other members, though the replica may not have heard of them yet.
    pub fn expect_others(&mut self) {
        self.accompanied = true;
    }

    fn observer<'a>(&'a self, scope: &'a Scope, members: &'a BTreeSet<NodeId>) -> Observer<'a> {
        let connected = |member: &NodeId| *member == self.me || self.peers.contains_key(member);
        let alone = self.accompanied && members.len() == 1;
        Observer {
            replica: &self.replica,
            scope,
            me: self.me,
            members,
            gathered: !alone && members.iter().all(connected) && self.peers.keys().all(|peer| members.contains(peer)),
        }
    }

    /// Takes up the floors that this node's own facts tell, and collects again what the disk had not forgotten yet.
    pub(super) fn restore_floors(&mut self) {
        let scopes: Vec<Scope> = self.replica.scopes().cloned().collect();
        for scope in scopes {
            self.unconfirmed.insert(scope.clone());
            self.take_floor(&scope);
        }
    }

    /// Looks at the tombstones, if it is time to.
    pub(super) fn look_at_tombstones(&mut self, now: Duration, rng: &mut dyn RngCore) {
        if now < self.next_look {
            return;
        }
        let members = collect::members(&self.replica);
        let stretch = u32::try_from(members.len() / MEMBERS_PER_PACE + 1).unwrap_or(u32::MAX);
        self.next_look = now + (PACE * stretch).mul_f64(rng.random_range(1.0..2.0));
        let mut scopes = std::mem::take(&mut self.unconfirmed);
        let with = self.replica.scopes().filter(|scope| self.replica.tombstones(scope) > 0);
        scopes.extend(with.cloned());
        for scope in scopes {
            let next = self.observer(&scope, &members).next();
            if next.open {
                self.unconfirmed.insert(scope.clone());
            }
            if let Some(seen) = next.say {
                self.confirm(scope, &seen);
            }
        }
    }

    fn confirm(&mut self, scope: Scope, seen: &Seen) {
        if let Some(body) = seen.body() {
            self.effects.push(Effect::Confirm(scope, body));
        }
    }

    /// What the merged change means for tombstones.
    pub(super) fn note_for_tombstones(&mut self, change: &Change) {
        if let Change::Facts(change) = change
            && change.put.iter().any(|fact| fact.value().key == collect::key())
        {
            let scope = change.head.value().scope.clone();
            if change.head.value().origin == self.me {
                self.take_floor(&scope);
            }
            self.unconfirmed.insert(scope);
        }
    }

    /// The floor is what this node's own fact says, which is on disk.
    fn take_floor(&mut self, scope: &Scope) {
        if collect::is_void(&self.replica, scope, self.me) {
            self.void.insert(scope.clone());
        } else {
            self.void.remove(scope);
        }
        let floor = collect::seen(&self.replica, scope, self.me).map(|seen| seen.floor());
        self.replica.set_floor(scope, floor.unwrap_or_default());
        if let Some(change) = self.replica.collectable(scope) {
            let count = u64::try_from(change.removed.len()).unwrap_or(u64::MAX);
            self.effects.push(Effect::Count("tombstones_collected", count));
            self.take_away(Change::Intents(change));
        }
    }

    fn take_away(&mut self, change: Change) {
        self.replica.apply(&change);
        if let Change::Intents(change) = &change {
            self.changed.insert(change.scope.clone());
        }
        self.effects.push(Effect::Persist(change));
    }
}

/// A difference from others that repair does not close: this node's disk may be an old one that ran on alone, so that
/// nothing that it says of itself tells it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    /// What it has held since then.
    root: Digest,
    since: Duration,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It may close still.
    Watched,
    /// It is compared with a peer as an old disk is.
    Open,
    /// It was.
    Done,
}

/// A restored disk.
impl Sync {
    /// A peer was asked for all that this node lacks of a scope, and told this root before.
    pub(super) fn doubt(&mut self, scope: &Scope, theirs: Digest, now: Duration) {
        let root = self.replica.root(scope);
        if root == theirs {
            self.doubts.remove(scope);
            return;
        }
        let fresh = Doubt {
            root,
            since: now,
            stage: Stage::Watched,
        };
        let doubt = self.doubts.entry(scope.clone()).or_insert(fresh);
        if doubt.root != root {
            *doubt = fresh;
        } else if doubt.stage == Stage::Watched && now >= doubt.since + STUBBORN {
            doubt.stage = Stage::Open;
            self.effects.push(Effect::Count("scopes_in_doubt", 1));
        }
    }

    /// Whether the objects of a scope may be older than what this node said of them.
    pub(super) fn is_doubtful(&self, scope: &Scope) -> bool {
        let open = |doubt: &Doubt| doubt.stage == Stage::Open;
        self.void.contains(scope) || self.doubts.get(scope).is_some_and(open)
    }

    /// Before a pull: while this node's disk is known or thought to be older than what it said, what one peer holds is kept
    /// apart.
    pub(super) fn prepare_shadow(&mut self, scope: &Scope, peer: NodeId) {
        let alive = |shadow: &Shadow| self.peers.contains_key(&shadow.peer);
        let doubted = self.is_doubtful(scope) && self.may_go_by(scope, peer);
        if !self.void.contains(scope) && !doubted {
            self.shadows.remove(scope);
        } else if !self.shadows.get(scope).is_some_and(alive) {
            let replica = Replica::default();
            self.shadows.insert(scope.clone(), Shadow { peer, replica });
        }
    }

    /// What a pull of a scope from a peer is built of: what this node holds, or only what it heard of that peer.
    pub(super) fn held_for(&self, scope: &Scope, peer: NodeId) -> &Replica {
        let shadow = self.shadows.get(scope).filter(|shadow| shadow.peer == peer);
        shadow.map_or(&self.replica, |shadow| &shadow.replica)
    }

    /// Keeps apart what the peer sent. Says whether that was more than was known of it.
    pub(super) fn shade(&mut self, scope: &Scope, peer: NodeId, versions: &[Raw]) -> bool {
        let Some(shadow) = self.shadows.get_mut(scope).filter(|shadow| shadow.peer == peer) else {
            return false;
        };
        match IntentBatch::verify(scope.clone(), versions.to_vec(), self.replica.keyring()) {
            Ok(batch) => shadow
                .replica
                .merge(&Batch::Intents(batch))
                .is_ok_and(|merged| merged.change.is_some()),
            // Nothing can be concluded from a part.
            Err(_) => {
                self.shadows.remove(scope);
                false
            }
        }
    }

    /// All that a peer holds of a scope was taken in.
    pub(super) fn compared(&mut self, scope: &Scope, peer: NodeId, now: Duration) {
        let seen = collect::seen(&self.replica, scope, peer);
        if let Some(shadow) = self.shadows.remove(scope) {
            if shadow.peer != peer {
                self.shadows.insert(scope.clone(), shadow);
            } else if self.is_settled_peer(peer, now) && self.may_go_by(scope, peer) {
                let gave_up = self.give_up(scope, &shadow.replica, seen.as_ref());
                if gave_up || self.void.contains(scope) {
                    self.confirm_anew(scope);
                }
                self.doubts
                    .entry(scope.clone())
                    .and_modify(|doubt| doubt.stage = Stage::Done);
            }
        }
        if let Some(seen) = seen {
            self.replica.note_seen(scope, &seen.floor());
        }
    }

    /// A peer holds the same.
    pub(super) fn equal(&mut self, peer: NodeId, scope: Option<&Scope>) {
        self.doubts
            .retain(|doubted, _| scope.is_some_and(|scope| scope != doubted));
        let void: Vec<Scope> = self
            .void
            .iter()
            .filter(|void| scope.is_none_or(|scope| scope == *void))
            .cloned()
            .collect();
        for scope in void {
            if self.may_go_by(&scope, peer) {
                self.confirm_anew(&scope);
            }
        }
    }

    /// Whether a peer had the time to notice that its own disk is old.
    fn is_settled_peer(&self, peer: NodeId, now: Duration) -> bool {
        self.peers.get(&peer).is_some_and(|peer| now >= peer.up + NOTICED)
    }

    /// Whether the objects of a scope can be put right by what this peer holds. If nobody knows better than this node, then
    /// by whoever is there, once all are.
    fn may_go_by(&self, scope: &Scope, peer: NodeId) -> bool {
        let members = collect::members(&self.replica);
        let authorities = collect::authorities(&self.replica, scope, self.me, &members);
        let said = |member: &NodeId| collect::seen(&self.replica, scope, *member).is_some();
        let nobody = authorities.is_empty();
        authorities.contains(&peer) || nobody && (self.observer(scope, &members).gathered || !members.iter().any(said))
    }

    /// Objects of an old disk may be deleted ones: they are not handed out, if somebody knows better.
    pub(super) fn hands_out(&self, scope: &Scope) -> bool {
        let members = collect::members(&self.replica);
        !self.void.contains(scope) || collect::authorities(&self.replica, scope, self.me, &members).is_empty()
    }

    /// Drops what the peer vouches for and does not hold. Says whether there was such.
    fn give_up(&mut self, scope: &Scope, theirs: &Replica, seen: Option<&Seen>) -> bool {
        let vouched = seen.map(Seen::seen).unwrap_or_default();
        let there = |version: &Signed<Intent>| {
            let held = theirs.intent(scope, &version.value().key);
            held.is_some_and(|held| held.versions().any(|other| other.digest() == version.digest()))
        };
        let dead = self.replica.without(scope, |version| {
            vouched.contains(version.value().dot) && !there(version)
        });
        let Some(dead) = dead else { return false };
        let count = u64::try_from(dead.removed.len()).unwrap_or(u64::MAX);
        self.effects.push(Effect::Count("versions_given_up", count));
        self.take_away(Change::Intents(dead));
        true
    }

    /// Vouches for nothing, in the epoch that holds: what it holds is compared with each writer's word again.
    fn confirm_anew(&mut self, scope: &Scope) {
        let seen = Seen {
            epoch: self.replica.head(scope, self.me).map_or(1, |head| head.epoch),
            stated: collect::stated(&self.replica, scope, self.me).into_iter().collect(),
            ..Seen::default()
        };
        self.confirm(scope.clone(), &seen);
    }
}
