//! What `tests/bench.sh state` tells of clusters that no one machine runs: replication alone, between hundreds of cores in one
//! event queue, each link with a delay of its own. Prints lines of JSON. Run it with
//! `cargo test --release -p membership -- --ignored --nocapture sync::bench`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::author;
use crate::fixture::{Host, Trusting, domain, stamp, write};
use crate::record::{Dot, Key};
use crate::signed::Signer;

/// One way over a link: at least this, at most ten times as much.
const DELAY: Duration = Duration::from_micros(200);

enum Happening {
    Arrive { from: usize, to: usize, frame: Bytes },
    Tick(usize),
}

struct World {
    hosts: Vec<Host>,
    index: BTreeMap<NodeId, usize>,
    syncs: Vec<Sync>,
    books: Vec<Option<(Key, Dot, Duration)>>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    order: u64,
    now: Duration,
    rng: StdRng,
    frames: u64,
    bytes: u64,
    /// How long each write took to each peer.
    took: Vec<Duration>,
    /// Links that are cut, by the side of their ends.
    split: bool,
    /// When the last frame of each link arrives: a stream keeps their order.
    last: BTreeMap<(usize, usize), Duration>,
    /// What the last node spent on thinking.
    worked: Duration,
}

impl World {
    /// All know each other, and all but the last one hold so many objects.
    fn new(nodes: usize, objects: usize) -> Self {
        let hosts: Vec<Host> = (0..nodes).map(Host::numbered).collect();
        let records: Vec<Batch> = hosts
            .iter()
            .map(|host| {
                let made = author::facts(&Replica::default(), host, &Scope::System, vec![host.record()], stamp(1));
                made.unwrap().batch
            })
            .collect();
        let contents = contents(&hosts, objects);
        let sync = |(index, host): (usize, &Host)| {
            let mut replica = Replica::default();
            let contents = if index + 1 < nodes { &contents[..] } else { &[] };
            for batch in records.iter().chain(contents) {
                replica.merge(batch).unwrap();
            }
            Sync::new(&host.public(), replica, Box::new(Trusting))
        };
        let mut world = Self {
            index: hosts
                .iter()
                .enumerate()
                .map(|(index, host)| (host.id(), index))
                .collect(),
            syncs: hosts.iter().enumerate().map(sync).collect(),
            books: vec![None; nodes],
            hosts,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            order: 0,
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(1),
            frames: 0,
            bytes: 0,
            took: Vec::new(),
            split: false,
            last: BTreeMap::new(),
            worked: Duration::ZERO,
        };
        for node in 0..nodes {
            for other in (0..nodes).filter(|other| *other != node) {
                let peer = world.hosts[other].id();
                // What they greet each other with is equal and of no interest.
                drop(world.syncs[node].handle(Event::PeerUp(peer), Duration::ZERO, &mut world.rng));
            }
            let first = world.rng.random_range(0..250);
            world.after(Duration::from_millis(first), Happening::Tick(node));
        }
        world
    }

    fn after(&mut self, time: Duration, happening: Happening) {
        self.order += 1;
        self.queue.push(Reverse((self.now + time, self.order)));
        self.happenings.insert(self.order, happening);
    }

    fn event(&mut self, node: usize, event: Event) {
        let began = clock();
        let effects = self.syncs[node].handle(event, self.now, &mut self.rng);
        if node + 1 == self.syncs.len() {
            self.worked += began.elapsed();
        }
        for effect in effects {
            if let Effect::Send { to, frame } = effect {
                let to = self.index[&to];
                self.frames += 1;
                self.bytes += frame.len() as u64;
                if !self.split || node % 2 == to % 2 {
                    let late = DELAY.mul_f64(self.rng.random_range(1.0..10.0));
                    let from = node;
                    let last = self.last.entry((from, to)).or_default();
                    *last = (*last).max(self.now + late);
                    let late = *last - self.now;
                    self.after(late, Happening::Arrive { from, to, frame });
                }
            }
        }
    }

    fn run(&mut self, until: Duration) {
        while let Some(&Reverse((at, order))) = self.queue.peek()
            && at <= until
        {
            self.queue.pop();
            self.now = at;
            match self.happenings.remove(&order).unwrap() {
                Happening::Arrive { from, to, frame } => {
                    let from = self.hosts[from].id();
                    self.event(to, Event::Frame(from, frame));
                    self.note(to);
                }
                Happening::Tick(node) => {
                    self.event(node, Event::Tick);
                    self.after(TICK, Happening::Tick(node));
                }
            }
        }
        self.now = until;
    }

    fn note(&mut self, node: usize) {
        if let Some((key, dot, since)) = &self.books[node]
            && self.syncs[node].replica().has_version(&domain("red"), key, *dot)
        {
            self.took.push(self.now - *since);
            self.books[node] = None;
        }
    }

    fn write(&mut self, node: usize, name: &str) {
        let replica = self.syncs[node].replica();
        let at = stamp(u64::try_from(self.now.as_millis()).unwrap());
        let writes = vec![write(name, Some(&"x".repeat(300)))];
        let made = author::intents(replica, &self.hosts[node], &domain("red"), "x", writes, at).unwrap();
        let (key, dot) = made.dots[0].clone();
        for (other, book) in self.books.iter_mut().enumerate() {
            *book = (other != node).then(|| (key.clone(), dot, self.now));
        }
        self.event(node, Event::LocalBatch(made.batch));
    }

    fn agree(&self) -> bool {
        let root = self.syncs[0].replica().root_of_roots();
        self.syncs.iter().all(|sync| sync.replica().root_of_roots() == root)
    }
}

/// Objects as endpoints are: about 250 bytes each, all of one domain, written by the first host.
fn contents(hosts: &[Host], objects: usize) -> Vec<Batch> {
    let (mut book, text) = (Replica::default(), "x".repeat(250));
    let batches = (0..objects).step_by(250).map(|from| {
        let names = from..objects.min(from + 250);
        let writes = names.map(|n| write(&format!("endpoint-{n}"), Some(&text))).collect();
        hosts[0].wants(&mut book, &domain("red"), from as u64, writes).batch
    });
    batches.collect()
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// A peer that has nothing pulls all from two. How long that takes is what the links and limits take, and what it works.
#[test]
#[ignore = "a measurement"]
fn full() {
    let objects = std::env::var("FABRIC_OBJECTS").map_or(100_000, |count| count.parse().unwrap());
    let mut world = World::new(3, objects);
    let before = resident();
    for (node, other) in [(0, 2), (1, 2), (2, 0), (2, 1)] {
        let peer = world.syncs[other].me;
        world.event(node, Event::PeerUp(peer));
    }
    while !world.agree() {
        world.run(world.now + Duration::from_millis(50));
        assert!(world.now < Duration::from_secs(600), "it never has all");
    }
    println!(
        "{{\"objects\":{objects},\"simulated_s\":{:.2},\"worked_s\":{:.2},\"resident_bytes\":{}}}",
        world.now.as_secs_f64(),
        world.worked.as_secs_f64(),
        resident().saturating_sub(before),
    );
}

#[test]
#[ignore = "a measurement"]
fn state() {
    let sizes = std::env::var("FABRIC_PEERS").unwrap_or_else(|_| "100 200 800".to_owned());
    for nodes in sizes.split(' ').map(|size| size.parse::<usize>().unwrap()) {
        let mut world = World::new(nodes, 0);
        world.run(Duration::from_secs(2));
        // Idle.
        (world.frames, world.bytes) = (0, 0);
        world.run(world.now + Duration::from_secs(30));
        let idle = world.bytes as f64 / 30.0 / nodes as f64;
        let exchange = world.bytes as f64 / world.frames as f64;
        // One write after the other, by random peers.
        let writes = 20;
        (world.frames, world.bytes) = (0, 0);
        for number in 0..writes {
            let node = world.rng.random_range(0..nodes);
            world.write(node, &format!("n{number}"));
            world.run(world.now + Duration::from_secs(5));
        }
        let copies = (world.bytes as f64 - idle * 5.0 * f64::from(writes) * nodes as f64).max(0.0);
        let frame = 700.0;
        let missed = writes as usize * (nodes - 1) - world.took.len();
        world.took.sort_unstable();
        let p99 = world.took[world.took.len() * 99 / 100];
        // A split, in which both sides write, healed.
        world.split = true;
        for number in 0..20 {
            let node = world.rng.random_range(0..nodes);
            world.write(node, &format!("s{number}"));
            world.run(world.now + Duration::from_secs(3));
        }
        world.split = false;
        let healed = world.now;
        while !world.agree() {
            world.run(world.now + Duration::from_millis(50));
            assert!(world.now < healed + Duration::from_secs(120), "they never agree");
        }
        let heal = (world.now - healed).as_secs_f64();
        println!(
            "{{\"peers\":{nodes},\"write_to_all_p99_ms\":{:.1},\"missed\":{missed},\"bytes_per_write_and_peer\":{:.0},\
             \"copies_per_write_and_peer\":{:.1},\"idle_repair_bytes_per_second_and_peer\":{idle:.0},\"idle_exchange_bytes\":{exchange:.0},\"split_healed_s\":{heal:.2}}}",
            p99.as_secs_f64() * 1e3,
            copies / f64::from(writes) / nodes as f64,
            copies / f64::from(writes) / nodes as f64 / frame,
        );
    }
}
