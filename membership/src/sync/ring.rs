//! Honest nodes that hear each other at once, and a member with a good key that tells each of them what it likes, for tests.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::author;
use crate::fixture::{Host, Trusting, domain, stamp, write};
use crate::record::{Dot, Key, VersionVector};
use crate::replica::Limits;
use crate::signed::Signer as _;
use crate::wire::RawBatch;

pub(super) const HONEST: usize = 3;

/// The frame in which a batch is pushed.
pub(super) fn pushed(batch: &Batch) -> Bytes {
    let raw = match batch {
        Batch::Facts(batch) => RawBatch::Facts(batch.to_raw()),
        Batch::Intents(batch) => RawBatch::Intents {
            scope: batch.scope().clone(),
            after: VersionVector::default(),
            versions: batch.to_raw(),
        },
    };
    wire::encode(&Message::Push(raw)).unwrap()
}

/// Honest nodes that hear each other, and an enemy that they know and hear.
pub(super) struct Ring {
    pub(super) hosts: Vec<Host>,
    pub(super) enemy: Host,
    pub(super) syncs: Vec<Sync>,
    queue: Vec<(NodeId, NodeId, Bytes)>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// Who named whom as over its quota.
    pub(super) named: BTreeSet<(usize, NodeId)>,
    now: Duration,
    rng: StdRng,
}

impl Ring {
    pub(super) fn new() -> Self {
        Self::allowing(Limits::default())
    }

    /// Of nodes that let each write so much.
    pub(super) fn allowing(limits: Limits) -> Self {
        let hosts: Vec<Host> = (1..).take(HONEST).map(Host::new).collect();
        let sync = |host: &Host| Sync::new(&host.public(), Replica::default().allowing(limits), Box::new(Trusting));
        let mut ring = Self {
            syncs: hosts.iter().map(sync).collect(),
            hosts,
            enemy: Host::new(9),
            queue: Vec::new(),
            counts: BTreeMap::new(),
            named: BTreeSet::new(),
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(1),
        };
        let everybody: Vec<Host> = ring.hosts.iter().chain([&ring.enemy]).cloned().collect();
        for node in 0..HONEST {
            let host = ring.hosts[node].clone();
            for other in everybody.iter().filter(|other| other.id() != host.id()) {
                ring.event(node, Event::PeerUp(other.id()));
            }
            let made = author::facts(
                &Replica::default(),
                &host,
                &Scope::System,
                vec![host.record()],
                stamp(1),
            );
            ring.event(node, Event::LocalBatch(made.unwrap().batch));
        }
        let enemy = ring.enemy.clone();
        let record = author::facts(
            &Replica::default(),
            &enemy,
            &Scope::System,
            vec![enemy.record()],
            stamp(1),
        );
        let record = record.unwrap().batch;
        (0..HONEST).for_each(|node| ring.hears(node, &record));
        ring.pass(20);
        ring
    }

    fn event(&mut self, node: usize, event: Event) {
        for effect in self.syncs[node].handle(event, self.now, &mut self.rng) {
            match effect {
                Effect::Send { to, frame } => self.queue.push((self.hosts[node].id(), to, frame)),
                Effect::Count(name, n) => *self.counts.entry(name).or_default() += n,
                Effect::Alarm(Trouble::OverQuota { origin, .. }) => drop(self.named.insert((node, origin))),
                _ => {}
            }
        }
    }

    /// The enemy pushes this to one node.
    pub(super) fn hears(&mut self, node: usize, batch: &Batch) {
        self.event(node, Event::Frame(self.enemy.id(), pushed(batch)));
    }

    /// Delivers what was sent; what goes to the enemy is not answered.
    pub(super) fn settle(&mut self) {
        for _ in 0..1_000 {
            let sent = std::mem::take(&mut self.queue);
            if sent.is_empty() {
                return;
            }
            for (from, to, frame) in sent {
                if let Some(node) = self.hosts.iter().position(|host| host.id() == to) {
                    self.event(node, Event::Frame(from, frame));
                }
            }
        }
        panic!("they do not stop talking");
    }

    pub(super) fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds * 4 {
            self.now += TICK;
            (0..HONEST).for_each(|node| self.event(node, Event::Tick));
            self.settle();
        }
    }

    pub(super) fn wants(&mut self, node: usize, name: &str, text: &str) -> Dot {
        let (replica, host) = (self.syncs[node].replica(), &self.hosts[node]);
        let writes = vec![write(name, Some(text))];
        let made = author::intents(replica, host, &domain("red"), "me", writes, stamp(5_000)).unwrap();
        self.event(node, Event::LocalBatch(made.batch));
        made.dots[0].1
    }

    pub(super) fn held(&self, node: usize, name: &str) -> Vec<Dot> {
        let held = self.syncs[node].replica().intent(&domain("red"), &Key::new("K", name));
        held.into_iter()
            .flat_map(|held| held.all().map(|version| version.dot))
            .collect()
    }

    pub(super) fn agree(&self) -> bool {
        let root = |sync: &Sync| sync.replica().root_of_roots();
        self.syncs.iter().all(|sync| root(sync) == root(&self.syncs[0]))
    }
}
