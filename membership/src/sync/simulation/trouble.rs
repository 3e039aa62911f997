//! What goes wrong meanwhile, and what is written.

use std::collections::BTreeSet;

use rand::Rng;
use rand::seq::IndexedRandom;

use super::super::*;
use super::{Happening, Mark, Node, World};
use crate::author;
use crate::fixture::{domain, write};
use crate::record::Head;
use crate::signed::Signer;
use crate::store::Durable;

impl World {
    pub(super) fn trouble(&mut self) {
        let node = self.rng.random_range(0..self.nodes.len());
        let other = self.rng.random_range(0..self.nodes.len());
        match self.rng.random_range(0..100) {
            0..=9 if self.weather.cuts => drop(self.cut.insert((node, other))),
            10..=14 if self.weather.cuts => self.split(),
            15..=24 => self.cut.clear(),
            25..=34 if self.weather.crashes => self.crash(node),
            35..=44 => self.restart(node),
            45..=74 => self.want_something(node),
            _ => self.say_something(node),
        }
        let pause = self.rng.random_range(20..800);
        self.after(pause, Happening::Trouble);
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
        if std::mem::replace(&mut self.nodes[node].up, false) {
            let id = self.nodes[node].host.id();
            for other in 0..self.nodes.len() {
                if self.nodes[other].up {
                    self.event(other, Event::PeerDown(id));
                }
            }
        }
    }

    pub(super) fn restart(&mut self, node: usize) {
        if !self.nodes[node].up {
            let Node { host, disk, life, .. } = &self.nodes[node];
            let (host, disk, life) = (host.clone(), disk.clone(), life + 1);
            self.nodes[node] = Node {
                life,
                ..Node::start(host, disk, &mut self.rng)
            };
            self.greet(node);
        }
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
        let stamp = clock.tick(now + *skew);
        let made = author::intents(sync.replica(), host, &scope, "test", writes, stamp).unwrap();
        waiting.push(made.change);
        store.commit(&std::mem::take(waiting), Durable::Before).unwrap();
        *writing = true;
        let (life, mark) = (*life, Mark::Intents { scope, dots: made.dots });
        self.later_written(node, life, made.batch, mark);
    }

    pub(super) fn say_something(&mut self, node: usize) {
        let (scope, writes) = (self.some_scope(), self.some_writes());
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
        let said = writes
            .iter()
            .map(|write| (write.key.clone(), write.body.clone().map(|body| body.bytes)))
            .collect();
        let stamp = clock.tick(now + *skew);
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
                scope,
                origin,
                epoch,
                seq,
                said,
            },
        );
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
