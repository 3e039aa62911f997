//! One node is removed while it writes. Some hear of it later than others, and until then hear that node as well.

use std::collections::BTreeSet;

use super::agreement::knows;
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
    /// Void versions that were made, when all know, until all agree.
    covered: Vec<Intent>,
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
        let (told, covered) = Default::default();
        self.removed = Some(Out {
            node,
            removal,
            wiped,
            told,
            covered,
        });
    }

    /// A node hears of it, and hears that one no more.
    pub(super) fn tell(&mut self, node: usize) {
        let Some(Out {
            node: gone,
            removal,
            told,
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
        self.nodes[node].hear_of(removal, self.now);
        self.cut.extend([(node, gone), (gone, node)]);
        if self.nodes[node].up {
            self.event(node, Event::PeerDown(id));
        }
    }

    fn is_void(&self, version: &Intent) -> bool {
        let Some(Out { removal, .. }) = &self.removed else {
            return false;
        };
        version.dot.writer == removal.node && version.dot.counter > removal.cut
    }

    /// Whether a write is void, or a void one replaced it somewhere.
    pub(super) fn is_covered(&self, scope: &Scope, key: &Key, dot: Dot) -> bool {
        let Some(Out { covered, .. }) = &self.removed else {
            return false;
        };
        let made = self.made.get(&(scope.clone(), key.clone())).into_iter().flatten();
        covered
            .iter()
            .any(|version| version.scope == *scope && version.key == *key && knows(version, dot))
            || made
                .filter(|version| self.is_void(version))
                .any(|version| knows(version, dot))
    }

    /// All agree.
    pub(super) fn forget_covered(&mut self) {
        if let Some(out) = &mut self.removed {
            out.covered.clear();
        }
    }

    /// What a start does with removals that are known.
    pub(super) fn remember_removal(&mut self, node: usize) {
        if let Some(out) = self.removed.as_ref().filter(|out| out.told.contains(&node)) {
            self.nodes[node].hear_of(&out.removal, self.now);
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
        // One cut serves all scopes: what it wrote in one of them before it was heard in another may have come to nobody.
        let heard: BTreeSet<Dot> = self.members().flat_map(|member| member.has_heard_of(id)).collect();
        self.crash(node);
        self.cut.clear();
        let counts = |ack: &Ack| match &ack.mark {
            Mark::Facts { origin, .. } => *origin != id,
            Mark::Intents { dots, .. } => {
                let stands = |dot: &Dot| dot.writer != id || dot.counter <= cut && heard.contains(dot);
                dots.iter().all(|(_, dot)| stands(dot))
            }
        };
        self.acknowledged.retain(counts);
        self.clients.iter_mut().for_each(|client| client.forget(node));
        let mut covered = Vec::new();
        for versions in self.made.values_mut() {
            covered.extend(versions.extract_if(.., |version| version.dot.writer == id && version.dot.counter > cut));
        }
        if let Some(out) = &mut self.removed {
            out.covered = covered;
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

impl Node {
    /// The writes of another node that this one has, as they count or as they were replaced.
    fn has_heard_of(&self, writer: NodeId) -> BTreeSet<Dot> {
        let replica = self.sync.replica();
        let replaced = replica.scopes().flat_map(|scope| self.store.history(scope).unwrap());
        let objects = replica.scopes().flat_map(|scope| replica.intents(scope));
        let versions = objects.flat_map(|(_, siblings)| siblings.versions().cloned());
        let dots = replaced.chain(versions).map(|version| version.value().dot);
        dots.filter(|dot| dot.writer == writer).collect()
    }

    /// Does what follows from a removal, as the shell does it.
    fn hear_of(&mut self, removal: &Removal, now: Duration) {
        let past = self.store.replaced(&self.sync.replica().void_after(removal)).unwrap();
        let removed = self.sync.remove(removal, &past, now);
        let kept = self.store.remove(removal.node, &removed.changes, &removed.void);
        kept.unwrap();
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
