//! Whole clusters in one deterministic event queue: frames are lost, doubled, late and out of order, links are cut one
//! way or both, nodes lose power with a disk that forgets what was not synced. Then all heals, and all must agree on
//! all that was ever acknowledged.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;
use crate::author;
use crate::fixture::{Host, Trusting, domain, stamp, write};
use crate::hlc::Clock;
use crate::record::{Digest, Dot, Head, Key};
use crate::signed::Signer;
use crate::store::crash_disk::CrashDisk;
use crate::store::{Durable, Store};

/// How rough it gets, and for how long.
#[derive(Debug, Clone, Copy)]
struct Weather {
    nodes: u8,
    rough: Duration,
    loss: f64,
    cuts: bool,
    crashes: bool,
}

const CALM: Duration = Duration::from_secs(180);

#[derive(Debug)]
enum Happening {
    Arrive {
        from: usize,
        to: usize,
        life: u32,
        frame: Bytes,
    },
    Tick {
        node: usize,
        life: u32,
    },
    /// An own batch is on disk and is merged now.
    Written {
        node: usize,
        life: u32,
        batch: Batch,
        mark: Mark,
    },
    /// Others' records reach the disk's buffer.
    Flush {
        node: usize,
        life: u32,
    },
    Trouble,
}

/// An acknowledged write.
#[derive(Debug, Clone)]
enum Mark {
    Facts {
        scope: Scope,
        origin: NodeId,
        epoch: u64,
        seq: u64,
        said: BTreeMap<Key, Option<Bytes>>,
    },
    Intents {
        scope: Scope,
        dots: Vec<(Key, Dot)>,
    },
}

struct Node {
    host: Host,
    disk: CrashDisk,
    store: Store,
    sync: Sync,
    clock: Clock,
    skew: Duration,
    waiting: Vec<Change>,
    up: bool,
    writing: bool,
    /// Rises with each start, so that what was meant for an earlier life is dropped.
    life: u32,
}

struct World {
    weather: Weather,
    rng: StdRng,
    now: Duration,
    order: u64,
    queue: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    nodes: Vec<Node>,
    cut: BTreeSet<(usize, usize)>,
    acknowledged: Vec<Mark>,
    counts: BTreeMap<&'static str, u64>,
    troubles: Vec<Trouble>,
}

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes = (1..=weather.nodes).map(|number| Node::start(Host::new(number), CrashDisk::default(), &mut rng));
        let mut world = Self {
            weather,
            nodes: nodes.collect(),
            rng,
            now: Duration::ZERO,
            order: 0,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            cut: BTreeSet::new(),
            acknowledged: Vec::new(),
            counts: BTreeMap::new(),
            troubles: Vec::new(),
        };
        for node in 0..world.nodes.len() {
            world.introduce(node);
            world.greet(node);
        }
        world.after(100, Happening::Trouble);
        world
    }

    /// A node's first word is its own record.
    fn introduce(&mut self, node: usize) {
        let Node { host, sync, store, .. } = &mut self.nodes[node];
        let made = author::facts(sync.replica(), host, &Scope::System, vec![host.record()], stamp(1)).unwrap();
        store.commit(&[made.change], Durable::Before).unwrap();
        self.event(node, Event::LocalBatch(made.batch));
    }

    fn after(&mut self, millis: u64, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((
            self.now + Duration::from_millis(millis),
            self.order,
            self.happenings.len(),
        )));
        self.happenings.push(Some(happening));
    }

    /// Connects a node that just started with all others that run.
    fn greet(&mut self, node: usize) {
        let life = self.nodes[node].life;
        self.after(0, Happening::Tick { node, life });
        self.after(50, Happening::Flush { node, life });
        for other in 0..self.nodes.len() {
            if other != node && self.nodes[other].up {
                let ids = [self.nodes[node].host.id(), self.nodes[other].host.id()];
                self.event(node, Event::PeerUp(ids[1]));
                self.event(other, Event::PeerUp(ids[0]));
            }
        }
    }

    fn event(&mut self, node: usize, event: Event) {
        let effects = self.nodes[node].sync.handle(event, self.now, &mut self.rng);
        for effect in effects {
            self.obey(node, effect);
        }
    }

    fn obey(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Send { to, frame } => {
                assert!(frame.len() <= FRAME_MAX);
                self.send(node, to, &frame);
            }
            Effect::Persist(change) => self.nodes[node].waiting.push(change),
            Effect::ScopeChanged(_) => {}
            Effect::Reclaim(theirs) => self.reclaim(node, &theirs),
            Effect::Alarm(trouble) => self.troubles.push(trouble),
            Effect::Count(name, count) => *self.counts.entry(name).or_default() += count,
        }
    }

    fn reclaim(&mut self, node: usize, theirs: &FactBatch) {
        let Node { host, sync, store, .. } = &self.nodes[node];
        if let Some(made) = author::reclaim(sync.replica(), host, theirs).unwrap() {
            store.commit(&[made.change], Durable::Before).unwrap();
            self.event(node, Event::LocalBatch(made.batch));
        }
    }

    fn send(&mut self, from: usize, to: NodeId, frame: &Bytes) {
        let to = self.nodes.iter().position(|node| node.host.id() == to).unwrap();
        let calm = self.now >= self.weather.rough;
        let copies = match self.rng.random::<f64>() {
            _ if self.cut.contains(&(from, to)) => 0,
            _ if calm => 1,
            dice if dice < self.weather.loss => 0,
            dice if dice > 0.95 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let late = if calm { 1 } else { self.rng.random_range(1..200) };
            let life = self.nodes[to].life;
            self.after(
                late,
                Happening::Arrive {
                    from,
                    to,
                    life,
                    frame: frame.clone(),
                },
            );
        }
    }

    fn step(&mut self) {
        let Reverse((now, _, index)) = self.queue.pop().unwrap();
        self.now = now;
        match self.happenings[index].take().unwrap() {
            Happening::Arrive { from, to, life, frame } if self.alive(to, life) => {
                let from = self.nodes[from].host.id();
                self.event(to, Event::Frame(from, frame));
                self.check_wholeness(to);
            }
            Happening::Tick { node, life } if self.alive(node, life) => {
                self.event(node, Event::Tick);
                self.after(250, Happening::Tick { node, life });
            }
            Happening::Flush { node, life } if self.alive(node, life) => {
                let Node { store, waiting, .. } = &mut self.nodes[node];
                store.commit(waiting, Durable::Later).unwrap();
                waiting.clear();
                let pause = self.rng.random_range(100..3_000);
                self.after(pause, Happening::Flush { node, life });
            }
            Happening::Written {
                node,
                life,
                batch,
                mark,
            } if self.alive(node, life) => {
                self.event(node, Event::LocalBatch(batch));
                self.nodes[node].writing = false;
                self.acknowledged.push(mark);
            }
            Happening::Trouble if self.now < self.weather.rough => self.trouble(),
            _ => {}
        }
    }

    fn alive(&self, node: usize, life: u32) -> bool {
        self.nodes[node].up && self.nodes[node].life == life
    }

    fn trouble(&mut self) {
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

    fn split(&mut self) {
        let side: Vec<bool> = self.nodes.iter().map(|_| self.rng.random()).collect();
        for (from, to) in (0..side.len()).flat_map(|from| (0..side.len()).map(move |to| (from, to))) {
            if side[from] != side[to] {
                self.cut.insert((from, to));
            }
        }
    }

    fn crash(&mut self, node: usize) {
        if std::mem::replace(&mut self.nodes[node].up, false) {
            let id = self.nodes[node].host.id();
            for other in 0..self.nodes.len() {
                if self.nodes[other].up {
                    self.event(other, Event::PeerDown(id));
                }
            }
        }
    }

    fn restart(&mut self, node: usize) {
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

    fn some_writes(&mut self) -> Vec<author::Write> {
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

    fn some_scope(&mut self) -> Scope {
        domain(["red", "blue"].choose(&mut self.rng).unwrap())
    }

    fn want_something(&mut self, node: usize) {
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

    fn say_something(&mut self, node: usize) {
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

    fn later_written(&mut self, node: usize, life: u32, batch: Batch, mark: Mark) {
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

    /// Of each batch of objects, a node sees all or nothing.
    fn check_wholeness(&self, node: usize) {
        let replica = self.nodes[node].sync.replica();
        for mark in &self.acknowledged {
            if let Mark::Intents { scope, dots } = mark {
                let seen = dots
                    .iter()
                    .filter(|(key, dot)| replica.has_version(scope, key, *dot))
                    .count();
                assert!(
                    seen == 0 || seen == dots.len(),
                    "node {node} sees a part of {mark:?} at {:?}",
                    self.now
                );
            }
        }
    }

    fn run(&mut self) {
        while self.now < self.weather.rough {
            self.step();
        }
        self.cut.clear();
        for node in 0..self.nodes.len() {
            self.restart(node);
        }
        while !self.agree() {
            assert!(
                self.now < self.weather.rough + CALM,
                "still different: {:?}",
                self.roots()
            );
            self.step();
        }
        self.check_acknowledged();
    }

    fn roots(&self) -> Vec<Digest> {
        self.nodes
            .iter()
            .map(|node| node.sync.replica().root_of_roots())
            .collect()
    }

    fn agree(&self) -> bool {
        let roots = self.roots();
        roots.iter().all(|root| *root == roots[0]) && self.nodes.iter().all(|node| !node.writing)
    }

    fn check_acknowledged(&self) {
        for node in &self.nodes {
            let replica = node.sync.replica();
            let mut said: BTreeMap<_, Option<Bytes>> = BTreeMap::new();
            for mark in &self.acknowledged {
                match mark {
                    Mark::Intents { scope, dots } => {
                        for (key, dot) in dots {
                            assert!(replica.has_version(scope, key, *dot), "{scope} {key} {dot:?} is lost");
                        }
                    }
                    Mark::Facts {
                        scope,
                        origin,
                        epoch,
                        seq,
                        said: batch,
                    } => {
                        assert!(replica.has_facts(scope, *origin, *epoch, *seq), "{mark:?} is lost");
                        said.extend(batch.iter().map(|(key, body)| ((scope, *origin, key), body.clone())));
                    }
                }
            }
            for ((scope, origin, key), body) in said {
                let held = replica
                    .fact(scope, origin, key)
                    .and_then(|fact| fact.body.as_ref())
                    .map(|body| &body.bytes);
                // A batch that was on disk when the power went, but not acknowledged, may be there instead.
                assert!(
                    self.weather.crashes || held == body.as_ref(),
                    "{origin} said {body:?} of {key}, not {held:?}"
                );
            }
        }
    }
}

impl Node {
    fn start(host: Host, mut disk: CrashDisk, rng: &mut StdRng) -> Self {
        let store = disk.open();
        let loaded = store.load(host.id()).unwrap();
        assert_eq!(loaded.forgotten, 0, "a crash leaves whole transactions only");
        let sync = Sync::new(&host.public(), loaded.replica, Box::new(Trusting));
        let skew = Duration::from_millis(rng.random_range(0..5_000));
        let clock = Clock::default();
        Self {
            host,
            disk,
            store,
            sync,
            clock,
            skew,
            waiting: Vec::new(),
            up: true,
            writing: false,
            life: 0,
        }
    }
}

fn weather(seed: u64) -> Weather {
    let nodes = 3 + u8::try_from(seed % 5).unwrap();
    let loss = [0.0, 0.1, 0.3][usize::try_from(seed / 5 % 3).unwrap()];
    Weather {
        nodes,
        rough: Duration::from_secs(20),
        loss,
        cuts: seed % 2 == 1,
        crashes: seed % 4 >= 2,
    }
}

fn run(seeds: std::ops::Range<u64>) {
    let (mut writes, mut merged) = (0, 0);
    for seed in seeds {
        let weather = weather(seed);
        let mut world = World::new(seed, weather);
        println!("seed {seed}: {weather:?}");
        let start = std::time::Instant::now();
        world.run();
        println!(
            "{:?} acks {} {:?}",
            start.elapsed(),
            world.acknowledged.len(),
            world.counts
        );
        assert_eq!(world.troubles, [], "seed {seed}");
        assert_eq!(world.counts.get("own_batches_out_of_order"), None);
        writes += world.acknowledged.len();
        merged += world.counts.get("records_merged").copied().unwrap_or_default();
    }
    assert!(
        writes > 100 && merged > 500,
        "the weather was too quiet: {writes} writes, {merged} merged"
    );
}

#[test]
fn all_agree_on_all_that_was_acknowledged_1() {
    run(0..100);
}

#[test]
fn all_agree_on_all_that_was_acknowledged_2() {
    run(100..200);
}
