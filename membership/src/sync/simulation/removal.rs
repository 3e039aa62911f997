//! One node is removed while it writes. Some hear of it later than others, and until then hear that node as well.

use std::collections::BTreeSet;

use super::seeds::{times, weather};
use super::*;
use crate::decree::Removal;
use crate::fixture::domain;

/// A node that was removed.
#[derive(Debug)]
pub(super) struct Out {
    node: usize,
    removal: Removal,
    /// Its store is no more.
    wiped: bool,
    /// Who knows.
    told: BTreeSet<usize>,
    /// Who dropped something void, and may lack what that had replaced until others send it.
    lacking: BTreeSet<usize>,
}

impl World {
    pub(super) fn is_gone(&self, node: usize) -> bool {
        let others = self.nodes.len() - 1;
        let out = self.removed.as_ref();
        self.dead.contains(&node) || out.is_some_and(|out| out.node == node && (out.wiped || out.told.len() == others))
    }

    /// Removes a node: what a majority of the others has seen of it counts. Nobody knows yet.
    pub(super) fn remove(&mut self, node: usize, wiped: bool) {
        let host = &self.nodes[node].host;
        let id = host.id();
        let others = self.nodes.iter().filter(|other| other.host.id() != id);
        let seen = others.map(|other| other.sync.replica().highest_counter(id));
        let majority = self.nodes.len() / 2 + 1;
        let removal = Removal {
            node: id,
            key: host.public(),
            name: "out".parse().unwrap(),
            cut: seen.take(majority).max().unwrap(),
        };
        let (told, lacking) = Default::default();
        self.removed = Some(Out {
            node,
            removal,
            wiped,
            told,
            lacking,
        });
    }

    /// A node hears of it, and hears that one no more.
    pub(super) fn tell(&mut self, node: usize) {
        let Some(Out {
            node: gone,
            removal,
            told,
            lacking,
            ..
        }) = &mut self.removed
        else {
            return;
        };
        if node == *gone || !told.insert(node) {
            return;
        }
        let (gone, id) = (*gone, removal.node);
        let Node { store, waiting, .. } = &mut self.nodes[node];
        store.commit(&std::mem::take(waiting), Durable::Later).unwrap();
        let removed = self.nodes[node].sync.remove(removal);
        if !removed.void.is_empty() {
            lacking.insert(node);
        }
        let kept = self.nodes[node].store.remove(id, &removed.changes, &removed.void);
        kept.unwrap();
        self.cut.extend([(node, gone), (gone, node)]);
        if self.nodes[node].up {
            self.event(node, Event::PeerDown(id));
        }
    }

    pub(super) fn lacks(&self, node: usize) -> bool {
        self.removed.as_ref().is_some_and(|out| out.lacking.contains(&node))
    }

    /// All agree.
    pub(super) fn forget_lacks(&mut self) {
        if let Some(out) = &mut self.removed {
            out.lacking.clear();
        }
    }

    /// What a start does with removals that are known.
    pub(super) fn remember_removal(&mut self, node: usize) {
        if let Some(out) = self.removed.as_ref().filter(|out| out.told.contains(&node)) {
            let removed = self.nodes[node].sync.remove(&out.removal);
            let store = &self.nodes[node].store;
            store.remove(out.removal.node, &removed.changes, &removed.void).unwrap();
        }
    }

    /// All know, at the end. What the node wrote beyond the cut is void, and was said to nobody else.
    pub(super) fn shut_out(&mut self) {
        for node in 0..self.nodes.len() {
            self.tell(node);
        }
        let Some(Out { node, removal, .. }) = &self.removed else {
            return;
        };
        let (node, id, cut) = (*node, removal.node, removal.cut);
        self.crash(node);
        self.cut.clear();
        let counts = |ack: &Ack| match &ack.mark {
            Mark::Facts { origin, .. } => *origin != id,
            Mark::Intents { dots, .. } => dots.iter().all(|(_, dot)| dot.writer != id || dot.counter <= cut),
        };
        self.acknowledged.retain(counts);
        self.clients.iter_mut().for_each(|client| client.forget(node));
        for versions in self.made.values_mut() {
            versions.retain(|version| version.dot.writer != id || version.dot.counter <= cut);
        }
    }

    fn void(&self) -> usize {
        let Some(Out { removal, .. }) = &self.removed else {
            return 0;
        };
        let beyond = |node: &Node| {
            let replica = node.sync.replica();
            let scope = domain("red");
            let of = replica.intents(&scope).flat_map(|(_, siblings)| siblings.all());
            of.filter(|version| version.dot.writer == removal.node && version.dot.counter > removal.cut)
                .count()
        };
        self.members().map(beyond).sum()
    }
}

/// Its last writes reached a minority, some of which replaced what others still have.
#[test]
fn a_removed_node_that_writes_on_in_a_minority_is_void_everywhere() {
    let mut voided = 0;
    for seed in 0..8 * times() {
        let weather = Weather {
            nodes: 5,
            rough: Duration::from_secs(60),
            cuts: false,
            crashes: seed % 2 == 0,
            restores: false,
            ..weather(seed)
        };
        let mut world = World::new(seed, weather);
        world.go_on(Duration::from_secs(20));
        world.restart(4);
        world.go_on(Duration::from_secs(2));
        world.remove(4, false);
        // Only the last one but it hears it from here on, and hears of its end when all is over.
        for node in 0..3 {
            world.tell(node);
            world.go_on(Duration::from_secs(2));
        }
        voided += world.void();
        world.run();
        assert_eq!(world.void(), 0, "seed {seed}");
    }
    assert!(voided > 0, "nothing was void");
}
