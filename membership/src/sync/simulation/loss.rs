//! What may be lost when an old disk is put back, or a store is wiped: what no disk holds then. Whatever one disk holds
//! is to be on all of them at the end.

use super::super::*;
use super::agreement::holds;
use super::{Ack, Known, Mark, Node, World, known};
use crate::collect;
use crate::record::Dot;
use crate::signed::Signer;

impl World {
    /// What each member would find if the power went.
    fn disks(&self, of: impl Fn(&&Node) -> bool) -> Vec<Replica> {
        let load = |node: &Node| node.disk.backup().open().load(node.host.id()).unwrap().replica;
        self.members().filter(of).map(load).collect()
    }

    /// Asks no more for what no disk holds.
    pub(super) fn forget_lost(&mut self) {
        let disks = self.disks(|_| true);
        self.keep_what(&disks.iter().collect::<Vec<_>>());
    }

    /// Of two copies of a node only this one is left: what it does not hold of itself may be gone, whoever heard it.
    pub(super) fn forget_facts_but_of(&mut self, node: usize) {
        self.forget_facts_in(node, |_| true);
    }

    /// A node with an old disk said more of itself, above what it knew, and others may hold what it had not heard of.
    pub(super) fn forget_unheard(&mut self, node: usize, of: &Scope, knew: Known) {
        let Node { id, restored, .. } = self.nodes[node];
        let is_above = |replica: &Replica| known(replica, of, id) > knew;
        if restored && self.disks(|other| other.id != id).iter().any(is_above) {
            *self.counts.entry("spoke_too_soon").or_default() += 1;
            self.forget_facts_in(node, |scope| scope == of);
        }
    }

    fn forget_facts_in(&mut self, node: usize, of: impl Fn(&Scope) -> bool) {
        let id = self.nodes[node].id;
        let replica = self.nodes[node].disk.backup().open().load(id).unwrap().replica;
        let mut acknowledged = std::mem::take(&mut self.acknowledged);
        let is_other = |mark: &Mark| !matches!(mark, Mark::Facts { origin, scope, .. } if *origin == id && of(scope));
        acknowledged.retain_mut(|ack| is_other(&ack.mark) || self.survives(ack, &[&replica]));
        self.acknowledged = acknowledged;
    }

    fn keep_what(&mut self, held: &[&Replica]) {
        let mut acknowledged = std::mem::take(&mut self.acknowledged);
        acknowledged.retain_mut(|ack| self.survives(ack, held));
        self.acknowledged = acknowledged;
    }

    /// Whether a disk says that all had seen what deleted this version. That it was deleted alone does not count: the delete
    /// may be lost as well, and what the version replaced be there again.
    fn was_collected(&self, replica: &Replica, scope: &Scope, dot: Dot) -> bool {
        let mut said = self
            .nodes
            .iter()
            .filter_map(|node| collect::seen(replica, scope, node.id));
        said.any(|seen| seen.floor().contains(dot))
    }

    /// Leaves of an acknowledged write what is there. Says whether anything is.
    fn survives(&self, ack: &mut Ack, held: &[&Replica]) -> bool {
        match &mut ack.mark {
            Mark::Intents { scope, dots } => {
                dots.retain(|(key, dot)| {
                    let is_there = |replica: &&Replica| {
                        holds(replica, scope, key, *dot) || self.was_collected(replica, scope, *dot)
                    };
                    held.iter().any(is_there)
                });
                !dots.is_empty()
            }
            Mark::Facts {
                scope,
                origin,
                epoch,
                seq,
                stamp,
                said,
            } => {
                said.retain(|key, body| {
                    let of = |replica: &&Replica| replica.fact(scope, *origin, key).map(|fact| fact.stamp);
                    let is_kept = |replica: &&Replica| match of(replica) {
                        Some(held) => held >= *stamp,
                        None => body.is_none() && replica.has_facts(scope, *origin, *epoch, *seq),
                    };
                    held.iter().any(is_kept)
                });
                !said.is_empty()
                    && held
                        .iter()
                        .any(|replica| replica.has_facts(scope, *origin, *epoch, *seq))
            }
        }
    }
}
