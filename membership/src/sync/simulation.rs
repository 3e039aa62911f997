//! Whole clusters in one deterministic event queue: frames are lost, doubled, late and out of order, links are cut one
//! way or both, nodes lose power with a disk that forgets what was not synced, or get an old one back; some are slow, and
//! some have wrong clocks. Then all heals, and all must agree on all that was ever acknowledged, and on nothing that was
//! deleted.

mod agreement;
mod clients;
mod liars;
mod loss;
mod removal;
mod scenarios;
mod seeds;
mod storms;
mod trouble;
mod twins;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::author;
use crate::collect;
use crate::fixture::{Host, Trusting, stamp};
use crate::hlc::{Clock, Stamp};
use crate::record::{Dot, Intent, Key};
use crate::signed::Signer;
use crate::store::crash_disk::CrashDisk;
use crate::store::{Durable, Store};

/// How rough it gets, and for how long.
#[derive(Debug, Clone, Copy)]
struct Weather {
    nodes: u8,
    rough: Duration,
    /// Most milliseconds between two things that happen.
    pause: u64,
    loss: f64,
    cuts: bool,
    crashes: bool,
    /// Disks are copied, and the copies are put back later.
    restores: bool,
    /// Nodes are mostly up, so that tombstones are collected meanwhile.
    rarely: bool,
    /// Clocks are wrong by an hour, and some nodes take seconds for what others do at once.
    odd: bool,
    /// Nodes stand still, all lose power at once, and withdraw more facts than are kept.
    storms: bool,
    /// In a storm, one node is removed, or wiped and comes back as another one.
    removes: bool,
}

const CALM: Duration = Duration::from_secs(180);
/// What clocks show at the start, one hour before the right time for those that are slow.
const HOUR: Duration = Duration::from_secs(3_600);

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
    /// An own fact is to be written, behind what is being written.
    Say {
        node: usize,
        life: u32,
        what: Own,
    },
    Trouble,
    Storm,
    /// The power is back.
    Back(usize),
}

/// What the core asks to be said.
#[derive(Debug)]
enum Own {
    Again(FactBatch),
    Seen(Scope, Body),
}

/// What became of a fact, and when.
type Said = (Stamp, Option<Bytes>);

/// Epoch and number of what a node says of itself.
type Known = Option<(u64, u64)>;

fn known(replica: &Replica, scope: &Scope, origin: NodeId) -> Known {
    replica.head(scope, origin).map(|head| (head.epoch, head.seq))
}

/// What was acknowledged.
#[derive(Debug)]
struct Ack {
    mark: Mark,
}

/// An acknowledged write.
#[derive(Debug, Clone)]
enum Mark {
    Facts {
        scope: Scope,
        origin: NodeId,
        epoch: u64,
        seq: u64,
        stamp: Stamp,
        said: BTreeMap<Key, Option<Bytes>>,
    },
    Intents {
        scope: Scope,
        dots: Vec<(Key, Dot)>,
    },
}

struct Node {
    host: Host,
    id: NodeId,
    disk: CrashDisk,
    store: Store,
    sync: Sync,
    clock: Clock,
    skew: Duration,
    waiting: Vec<Change>,
    up: bool,
    writing: bool,
    /// It runs on an older copy of its disk.
    restored: bool,
    slow: bool,
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
    acknowledged: Vec<Ack>,
    /// All versions ever written.
    made: BTreeMap<(Scope, Key), Vec<Intent>>,
    /// All that was ever said of a fact, and when.
    said: BTreeMap<(Scope, NodeId, Key), Vec<Said>>,
    backups: BTreeMap<usize, CrashDisk>,
    /// Who stands still, and until when.
    stalled: BTreeMap<usize, Duration>,
    clients: Vec<clients::Client>,
    crashes: usize,
    counts: BTreeMap<&'static str, u64>,
    troubles: Vec<Trouble>,
    /// Time passes so many times as fast between what nodes do of themselves.
    haste: u64,
    removed: Option<removal::Out>,
    liar: Option<liars::Liar>,
    /// Nothing happens but what a scenario makes.
    quiet: bool,
    /// Two copies of this node run: its counters do not tell what was seen of it.
    twice: Option<NodeId>,
    /// They never start again, and count no more.
    dead: BTreeSet<usize>,
}

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let nodes = (1..=weather.nodes).map(|number| {
            let skew = match number % 3 {
                1 if weather.odd => HOUR * 2,
                2 if weather.odd => Duration::ZERO,
                _ => HOUR + Duration::from_millis(rng.random_range(0..5_000)),
            };
            let mut node = Node::start(Host::new(number), CrashDisk::default(), skew);
            node.slow = weather.odd && number == 3;
            node
        });
        let mut world = Self {
            weather,
            nodes: nodes.collect(),
            rng,
            made: BTreeMap::new(),
            said: BTreeMap::new(),
            stalled: BTreeMap::new(),
            backups: BTreeMap::new(),
            clients: Vec::new(),
            crashes: 0,
            now: Duration::ZERO,
            order: 0,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            cut: BTreeSet::new(),
            acknowledged: Vec::new(),
            counts: BTreeMap::new(),
            troubles: Vec::new(),
            haste: 1,
            removed: None,
            liar: None,
            quiet: false,
            twice: None,
            dead: BTreeSet::new(),
        };
        for node in 0..world.nodes.len() {
            world.introduce(node);
            world.greet(node);
        }
        world.after(100, Happening::Trouble);
        if weather.storms {
            world.after(1_000, Happening::Storm);
        }
        world.open_clients();
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
        if self.nodes.len() > 1 {
            self.nodes[node].sync.expect_others();
        }
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
                match self.liar.as_mut().filter(|liar| liar.node == node) {
                    Some(liar) => {
                        let said = liar.twist(to, &frame, &mut self.rng);
                        said.iter().for_each(|frame| self.send(node, to, frame));
                    }
                    None => self.send(node, to, &frame),
                }
            }
            Effect::Persist(change) => self.nodes[node].waiting.push(change),
            Effect::ScopeChanged(_) | Effect::Void(_) => {}
            Effect::Reclaim(theirs) => {
                *self.counts.entry("reclaims").or_default() += 1;
                self.say_soon(node, 0, Own::Again(theirs));
            }
            Effect::Confirm(scope, body) => self.say_soon(node, 0, Own::Seen(scope, body)),
            Effect::Alarm(trouble) => self.troubles.push(trouble),
            Effect::Count(name, count) => *self.counts.entry(name).or_default() += count,
        }
    }

    fn say_soon(&mut self, node: usize, millis: u64, what: Own) {
        let life = self.nodes[node].life;
        self.after(millis, Happening::Say { node, life, what });
    }

    /// Own batches are made one after the other, as the shell does it.
    fn say(&mut self, node: usize, what: Own) {
        let again = matches!(what, Own::Again(_));
        if self.nodes[node].writing || !(again || self.nodes[node].may_say()) {
            return self.say_soon(node, 20, what);
        }
        let now = self.now;
        let Node {
            host,
            sync,
            store,
            waiting,
            clock,
            skew,
            ..
        } = &mut self.nodes[node];
        let (scope, heard) = match &what {
            Own::Again(theirs) => {
                let head = theirs.head().value();
                (head.scope.clone(), Some((head.epoch, head.seq)))
            }
            Own::Seen(scope, _) => (scope.clone(), None),
        };
        let knew = known(sync.replica(), &scope, host.id()).max(heard);
        let made = match what {
            Own::Again(theirs) => author::reclaim(sync.replica(), host, &theirs).unwrap(),
            Own::Seen(scope, body) => {
                let key = collect::key();
                let write = author::Write { key, body: Some(body) };
                let stamp = clock.tick(now + *skew);
                Some(author::facts(sync.replica(), host, &scope, vec![write], stamp).unwrap())
            }
        };
        if let Some(made) = made {
            waiting.push(made.change);
            store.commit(&std::mem::take(waiting), Durable::Before).unwrap();
            self.forget_unheard(node, &scope, knew);
            self.event(node, Event::LocalBatch(made.batch));
        }
    }

    fn send(&mut self, from: usize, to: NodeId, frame: &Bytes) {
        let to = self.heard_as(from, to);
        let calm = self.now >= self.weather.rough;
        let copies = match self.rng.random::<f64>() {
            _ if self.cut.contains(&(from, to)) => 0,
            _ if calm => 1,
            dice if dice < self.weather.loss => 0,
            dice if dice > 0.95 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let slow = [from, to].iter().any(|node| self.nodes[*node].slow);
            let late = match calm {
                true => 1,
                false if slow => self.rng.random_range(1_000..5_000),
                false => self.rng.random_range(1..200),
            };
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

    /// Which node another one reaches by this name.
    fn heard_as(&self, from: usize, id: NodeId) -> usize {
        let mut all = (0..self.nodes.len()).filter(|node| self.nodes[*node].id == id);
        let is_heard = |node: &usize| !self.dead.contains(node) && !self.cut.contains(&(from, *node));
        all.clone().find(is_heard).or_else(|| all.next()).unwrap()
    }

    fn step(&mut self) {
        let Reverse((now, order, index)) = self.queue.pop().unwrap();
        self.now = now;
        let happening = self.happenings[index].take().unwrap();
        if let Some(until) = self.waits(&happening) {
            self.happenings[index] = Some(happening);
            return self.queue.push(Reverse((until, order, index)));
        }
        match happening {
            Happening::Arrive { from, to, life, frame } if self.alive(to, life) => {
                let from = self.nodes[from].id;
                self.event(to, Event::Frame(from, frame));
                self.check_wholeness(to);
            }
            Happening::Tick { node, life } if self.alive(node, life) => {
                self.event(node, Event::Tick);
                self.after(250 * self.haste, Happening::Tick { node, life });
            }
            Happening::Flush { node, life } if self.alive(node, life) => {
                let Node { store, waiting, .. } = &mut self.nodes[node];
                store.commit(waiting, Durable::Later).unwrap();
                waiting.clear();
                let pause = self.rng.random_range(100..3_000);
                self.after(pause * self.haste, Happening::Flush { node, life });
            }
            Happening::Written {
                node,
                life,
                batch,
                mark,
            } if self.alive(node, life) => {
                self.event(node, Event::LocalBatch(batch));
                self.nodes[node].writing = false;
                self.acknowledged.push(Ack { mark });
            }
            Happening::Say { node, life, what } if self.alive(node, life) => self.say(node, what),
            Happening::Trouble if self.now < self.weather.rough && !self.quiet => self.trouble(),
            Happening::Storm if self.now < self.weather.rough => self.storm(),
            Happening::Back(node) => self.restart(node),
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
        self.stalled.clear();
        for node in 0..self.nodes.len() {
            self.restart(node);
        }
        self.shut_out();
        self.until("still different", Self::agree);
        self.forget_covered();
        self.check_acknowledged();
        self.until("tombstones stay", Self::has_collected);
        self.until("different again", Self::agree);
        self.check_acknowledged();
    }

    /// Goes on until it is so.
    fn until(&mut self, otherwise: &str, is_so: impl Fn(&Self) -> bool) {
        let limit = self.now + CALM;
        while !is_so(self) {
            assert!(self.now < limit, "{otherwise}: {}", self.differences());
            self.go_on(Duration::from_millis(500));
        }
    }

    fn go_on(&mut self, time: Duration) {
        let next = self.now + time;
        while self.now < next {
            self.step();
        }
    }
}

impl Node {
    fn start(host: Host, mut disk: CrashDisk, skew: Duration) -> Self {
        let store = disk.open();
        let loaded = store.load(host.id()).unwrap();
        assert_eq!(loaded.forgotten, 0, "a crash leaves whole transactions only");
        let sync = Sync::new(&host.public(), loaded.replica, Box::new(Trusting));
        let clock = Clock::default();
        Self {
            id: host.id(),
            host,
            disk,
            store,
            sync,
            clock,
            skew,
            waiting: Vec::new(),
            up: true,
            writing: false,
            restored: false,
            slow: false,
            life: 0,
        }
    }

    /// An old disk would contradict what was told: the shell waits until a peer was heard.
    fn may_say(&self) -> bool {
        !self.restored || self.sync.has_met()
    }
}
