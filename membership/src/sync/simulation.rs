//! Whole clusters in one deterministic event queue: frames are lost, doubled, late and out of order, links are cut one
//! way or both, nodes lose power with a disk that forgets what was not synced. Then all heals, and all must agree on
//! all that was ever acknowledged.

mod agreement;
mod trouble;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::author;
use crate::fixture::{Host, Trusting, stamp};
use crate::hlc::Clock;
use crate::record::{Dot, Key};
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
#[expect(clippy::large_enum_variant, reason = "a test's queue")]
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
            Effect::ScopeChanged(_) | Effect::Void(_) => {}
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
            let next = self.now + Duration::from_millis(500);
            while self.now < next {
                self.step();
            }
        }
        self.check_acknowledged();
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
        world.run();
        println!(
            "{:?} acks {} counts {:?} {:?}",
            seed,
            world.acknowledged.len(),
            world.counts,
            world.now
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
