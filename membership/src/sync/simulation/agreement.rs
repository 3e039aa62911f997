//! What must hold: at any moment of each node, at the end of all of them.

use std::collections::BTreeMap;

use super::super::*;
use super::{Ack, Mark, Node, World};
use crate::hlc::Stamp;
use crate::record::{Digest, Dot, Intent, Key};

/// Whether this version is that write, or saw it.
pub(super) fn knows(version: &Intent, dot: Dot) -> bool {
    version.dot == dot || version.context.contains(dot)
}

pub(super) fn holds(replica: &Replica, scope: &Scope, key: &Key, dot: Dot) -> bool {
    let siblings = replica.intent(scope, key);
    siblings.is_some_and(|siblings| siblings.all().any(|version| knows(version, dot)))
}

impl World {
    /// Whether somebody deleted this version. It may be collected.
    pub(super) fn is_deleted(&self, scope: &Scope, key: &Key, dot: Dot) -> bool {
        let made = self.made.get(&(scope.clone(), key.clone()));
        made.is_some_and(|made| made.iter().any(|version| version.body.is_none() && knows(version, dot)))
    }

    /// Of each batch of objects, a node sees all or nothing, also one whose disk is old. Of one that is void, or of which void
    /// versions replaced a part somewhere, it may see a part until all agree; so does one to which a relay lies, for no
    /// signature holds a batch of objects together.
    pub(super) fn check_wholeness(&self, node: usize) {
        if self.liar.is_some() {
            return;
        }
        let replica = self.nodes[node].sync.replica();
        for Ack { mark, .. } in &self.acknowledged {
            let Mark::Intents { scope, dots } = mark else { continue };
            if self.twice.is_some() && dots.iter().all(|(_, dot)| Some(dot.writer) == self.twice) {
                continue;
            }
            if dots.iter().any(|(key, dot)| self.is_covered(scope, key, *dot)) {
                continue;
            }
            let here = |(key, dot): &&(Key, Dot)| holds(replica, scope, key, *dot);
            let seen = dots.iter().filter(here).count();
            let gone = || {
                dots.iter()
                    .filter(|at| !here(at) && self.is_deleted(scope, &at.0, at.1))
            };
            assert!(
                seen == 0 || seen == dots.len() || seen + gone().count() == dots.len(),
                "node {node} sees a part of {mark:?} at {:?}",
                self.now
            );
        }
    }

    pub(super) fn roots(&self) -> Vec<Digest> {
        self.members().map(|node| node.sync.replica().root_of_roots()).collect()
    }

    /// All nodes but one that was removed.
    pub(super) fn members(&self) -> impl Iterator<Item = &Node> {
        let here = |at: &(usize, &Node)| !self.is_gone(at.0);
        self.nodes.iter().enumerate().filter(here).map(|(_, node)| node)
    }

    pub(super) fn agree(&self) -> bool {
        let roots = self.roots();
        roots.iter().all(|root| *root == roots[0]) && self.members().all(|node| !node.writing)
    }

    /// Whether no tombstones are left, but where a conflict is open.
    pub(super) fn has_collected(&self) -> bool {
        self.members().all(|node| {
            let replica = node.sync.replica();
            let done = |scope| {
                let survey = replica.survey(scope);
                survey.count == 0 || !survey.open.is_empty()
            };
            replica.scopes().all(done)
        })
    }

    /// For who looks why they differ.
    pub(super) fn differences(&self) -> String {
        let mut words = String::new();
        for node in &self.nodes {
            let replica = node.sync.replica();
            words += &format!("\n{:?} {:?}", node.sync, node.sync.tombstones());
            for scope in replica.scopes() {
                words += &format!("\n  {scope} {:?} floor {:?}", replica.root(scope), replica.floor(scope));
                words += &format!(" seen {:?}", crate::collect::seen(replica, scope, node.sync.me));
                for (key, siblings) in replica.intents(scope) {
                    let versions = siblings.all().map(|version| (version.dot, version.body.is_some()));
                    words += &format!("\n    {key} {:?}", versions.collect::<Vec<_>>());
                }
            }
        }
        words
    }

    /// Nothing that was acknowledged is lost, and nothing that it deleted is there.
    pub(super) fn check_acknowledged(&self) {
        for node in self.members() {
            let replica = node.sync.replica();
            let mut said: BTreeMap<_, (Stamp, Option<Bytes>)> = BTreeMap::new();
            for Ack { mark, .. } in &self.acknowledged {
                match mark {
                    Mark::Intents { scope, dots } => self.check_objects(replica, scope, dots),
                    Mark::Facts {
                        scope,
                        origin,
                        epoch,
                        seq,
                        stamp,
                        said: batch,
                    } => {
                        assert!(replica.has_facts(scope, *origin, *epoch, *seq), "{mark:?} is lost");
                        let of = |(key, body): (&Key, &Option<Bytes>)| {
                            ((scope.clone(), *origin, key.clone()), (*stamp, body.clone()))
                        };
                        said.extend(batch.iter().map(of));
                    }
                }
            }
            for (of, (stamp, body)) in said {
                let held = replica
                    .fact(&of.0, of.1, &of.2)
                    .and_then(|fact| fact.body.as_ref())
                    .map(|body| body.bytes.clone());
                // What was said later may be there instead, though it was not acknowledged, or no disk seemed to hold it.
                let later = self.said[&of].iter().filter(|(at, _)| *at > stamp);
                let fine = held == body || later.into_iter().any(|(_, body)| held == *body);
                assert!(fine, "{of:?} is {held:?}, not {body:?}");
            }
        }
        self.check_clients();
    }

    fn check_objects(&self, replica: &Replica, scope: &Scope, dots: &[(Key, Dot)]) {
        for (key, dot) in dots {
            let there = holds(replica, scope, key, *dot);
            assert!(
                there || self.is_deleted(scope, key, *dot),
                "{scope} {key} {dot:?} is lost"
            );
            let made = self.made[&(scope.clone(), key.clone())].iter();
            let Some(written) = made.clone().find(|version| version.dot == *dot) else {
                continue;
            };
            let siblings = replica.intent(scope, key);
            let back = siblings
                .into_iter()
                .flat_map(|siblings| siblings.all())
                .find(|held| written.dominates(held));
            assert_eq!(back, None, "{scope} {key} {dot:?} replaced it: it is there again");
        }
    }
}
