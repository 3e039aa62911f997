//! What goes wrong meanwhile, and what is written.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng;
use rand::seq::IndexedRandom;

use super::super::*;
use super::{Happening, Mark, Node, World, known};
use crate::author;
use crate::fixture::{domain, write};
use crate::record::{Dot, Head, Key};
use crate::signed::{Signed, Signer};
use crate::store::Durable;

impl World {
    pub(super) fn trouble(&mut self) {
        let node = self.rng.random_range(0..self.nodes.len());
        let other = self.rng.random_range(0..self.nodes.len());
        let spared = self.weather.rarely && self.rng.random_bool(0.8);
        if self.weather.removes && self.weather.pause < 500 && self.rng.random_bool(0.15) {
            self.remove_or_tell(node);
        }
        match self.rng.random_range(0..100) {
            0..=14 | 25..=33 if spared => self.restart(node),
            0..=9 if self.weather.cuts => drop(self.cut.insert((node, other))),
            10..=14 if self.weather.cuts => self.split(),
            15..=24 if self.weather.cuts => self.cut.clear(),
            25..=33 if self.weather.crashes => self.crash(node),
            34..=36 if self.weather.restores => self.keep_copy(node),
            37..=38 if self.weather.restores => self.put_copy_back(node),
            39..=44 if self.weather.crashes => self.restart(node),
            45..=59 => self.write_as_client(),
            60..=74 => self.want_something(node),
            _ => self.say_something(node),
        }
        let pause = self.rng.random_range(20..self.weather.pause);
        self.after(pause * self.haste, Happening::Trouble);
    }

    pub(super) fn split(&mut self) {
        let side: Vec<bool> = self.nodes.iter().map(|_| self.rng.random()).collect();
        for (from, to) in (0..side.len()).flat_map(|from| (0..side.len()).map(move |to| (from, to))) {
            if side[from] != side[to] {
                self.cut.insert((from, to));
            }
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        self.stalled.remove(&node);
        if std::mem::replace(&mut self.nodes[node].up, false) {
            self.crashes += 1;
            let id = self.nodes[node].host.id();
            for other in 0..self.nodes.len() {
                if self.nodes[other].up {
                    self.event(other, Event::PeerDown(id));
                }
            }
        }
    }

    pub(super) fn restart(&mut self, node: usize) {
        if !self.nodes[node].up && !self.is_gone(node) {
            let Node {
                host,
                disk,
                life,
                skew,
                restored,
                slow,
                ..
            } = &self.nodes[node];
            self.nodes[node] = Node {
                life: life + 1,
                restored: *restored,
                slow: *slow,
                ..Node::start(host.clone(), disk.clone(), *skew)
            };
            self.remember_removal(node);
            self.greet(node);
        }
    }

    /// Copies a disk as it is.
    pub(super) fn keep_copy(&mut self, node: usize) {
        self.backups.insert(node, self.nodes[node].disk.backup());
    }

    /// A node goes on from an old copy of its disk. What it acknowledged since is lost if no other disk has it.
    pub(super) fn put_copy_back(&mut self, node: usize) {
        let Some(disk) = self.backups.remove(&node) else {
            return;
        };
        self.crash(node);
        self.clients.iter_mut().for_each(|client| client.forget(node));
        self.nodes[node].disk = disk;
        self.nodes[node].restored = true;
        self.forget_lost();
        self.restart(node);
    }

    pub(super) fn some_writes(&mut self) -> Vec<author::Write> {
        let mut names = BTreeSet::new();
        for _ in 0..self.rng.random_range(1..4) {
            names.insert(*["a", "b", "c", "d", "e"].choose(&mut self.rng).unwrap());
        }
        let text = self.order.to_string();
        let kept = self.rng.random_bool(0.8);
        names
            .into_iter()
            .map(|name| write(name, kept.then_some(text.as_str())))
            .collect()
    }

    pub(super) fn some_scope(&mut self) -> Scope {
        domain(["red", "blue"].choose(&mut self.rng).unwrap())
    }

    pub(super) fn want_something(&mut self, node: usize) {
        let (scope, writes) = (self.some_scope(), self.some_writes());
        self.want(node, scope, writes);
    }

    /// Writes objects, unless the node is down or busy. Tells what was written; it is acknowledged a moment later.
    pub(super) fn want(&mut self, node: usize, scope: Scope, writes: Vec<author::Write>) -> Option<Vec<(Key, Dot)>> {
        if !self.nodes[node].may_say() {
            return None;
        }
        let now = self.now;
        let Node {
            host,
            sync,
            store,
            clock,
            skew,
            up: true,
            writing: writing @ false,
            life,
            waiting,
            ..
        } = &mut self.nodes[node]
        else {
            return None;
        };
        let stamp = clock.tick(now + *skew);
        let made = author::intents(sync.replica(), host, &scope, "test", writes, stamp).unwrap();
        waiting.push(made.change);
        store.commit(&std::mem::take(waiting), Durable::Before).unwrap();
        *writing = true;
        let Batch::Intents(batch) = &made.batch else {
            unreachable!()
        };
        for version in batch.versions().iter().map(Signed::value) {
            let made = self.made.entry((scope.clone(), version.key.clone())).or_default();
            made.push(version.clone());
        }
        let dots = made.dots.clone();
        let (life, mark) = (*life, Mark::Intents { scope, dots: made.dots });
        self.later_written(node, life, made.batch, mark);
        Some(dots)
    }

    pub(super) fn say_something(&mut self, node: usize) {
        if self.nodes[node].may_say() {
            let (scope, writes) = (self.some_scope(), self.some_writes());
            self.say_these(node, scope, writes);
        }
    }

    /// Says facts, unless the node is down or busy.
    pub(super) fn say_these(&mut self, node: usize, scope: Scope, writes: Vec<author::Write>) {
        let now = self.now;
        let Node {
            host,
            sync,
            store,
            clock,
            skew,
            up: true,
            writing: writing @ false,
            life,
            waiting,
            ..
        } = &mut self.nodes[node]
        else {
            return;
        };
        let said: BTreeMap<_, _> = writes
            .iter()
            .map(|write| (write.key.clone(), write.body.clone().map(|body| body.bytes)))
            .collect();
        let stamp = clock.tick(now + *skew);
        for (key, body) in &said {
            let of = (scope.clone(), host.id(), key.clone());
            self.said.entry(of).or_default().push((stamp, body.clone()));
        }
        let knew = known(sync.replica(), &scope, host.id());
        let made = author::facts(sync.replica(), host, &scope, writes, stamp).unwrap();
        waiting.push(made.change);
        store.commit(&std::mem::take(waiting), Durable::Before).unwrap();
        *writing = true;
        let Batch::Facts(batch) = &made.batch else {
            unreachable!()
        };
        let Head { epoch, seq, origin, .. } = *batch.head().value();
        let (life, mark) = (
            *life,
            Mark::Facts {
                scope: scope.clone(),
                origin,
                epoch,
                seq,
                stamp,
                said,
            },
        );
        self.forget_unheard(node, &scope, knew);
        self.later_written(node, life, made.batch, mark);
    }

    pub(super) fn later_written(&mut self, node: usize, life: u32, batch: Batch, mark: Mark) {
        let late = self.rng.random_range(0..20);
        self.after(
            late,
            Happening::Written {
                node,
                life,
                batch,
                mark,
            },
        );
    }
}
