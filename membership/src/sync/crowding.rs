//! A member that signs more versions of one object side by side than it may, and tells each node others first: the honest
//! ones come to hold the same of it, it is named, and what they write themselves goes on.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::author;
use crate::batch::IntentBatch;
use crate::fixture::{Host, Trusting, domain, stamp, write};
use crate::record::{Dot, Intent, Key, VersionVector};
use crate::signed::Signer as _;
use crate::wire::RawBatch;

const HONEST: usize = 3;

/// Honest nodes that hear each other, and an enemy that they know and hear.
struct Ring {
    hosts: Vec<Host>,
    enemy: Host,
    syncs: Vec<Sync>,
    queue: Vec<(NodeId, NodeId, Bytes)>,
    counts: BTreeMap<&'static str, u64>,
    /// Who named whom as over its quota.
    named: BTreeSet<(usize, NodeId)>,
    now: Duration,
    rng: StdRng,
}

impl Ring {
    fn new() -> Self {
        let hosts: Vec<Host> = (1..).take(HONEST).map(Host::new).collect();
        let sync = |host: &Host| Sync::new(&host.public(), Replica::default(), Box::new(Trusting));
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
    fn hears(&mut self, node: usize, batch: &Batch) {
        let raw = match batch {
            Batch::Facts(batch) => RawBatch::Facts(batch.to_raw()),
            Batch::Intents(batch) => RawBatch::Intents {
                scope: batch.scope().clone(),
                after: VersionVector::default(),
                versions: batch.to_raw(),
            },
        };
        let frame = wire::encode(&Message::Push(raw)).unwrap();
        self.event(node, Event::Frame(self.enemy.id(), frame));
    }

    /// Delivers what was sent; what goes to the enemy is not answered.
    fn settle(&mut self) {
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

    fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds * 4 {
            self.now += TICK;
            (0..HONEST).for_each(|node| self.event(node, Event::Tick));
            self.settle();
        }
    }

    fn wants(&mut self, node: usize, name: &str, text: &str) -> Dot {
        let (replica, host) = (self.syncs[node].replica(), &self.hosts[node]);
        let writes = vec![write(name, Some(text))];
        let made = author::intents(replica, host, &domain("red"), "me", writes, stamp(5_000)).unwrap();
        self.event(node, Event::LocalBatch(made.batch));
        made.dots[0].1
    }

    fn held(&self, node: usize, name: &str) -> Vec<Dot> {
        let held = self.syncs[node].replica().intent(&domain("red"), &Key::new("K", name));
        held.into_iter()
            .flat_map(|held| held.all().map(|version| version.dot))
            .collect()
    }

    fn agree(&self) -> bool {
        let root = |sync: &Sync| sync.replica().root_of_roots();
        self.syncs.iter().all(|sync| root(sync) == root(&self.syncs[0]))
    }
}

/// One version of an object that saw nothing but this.
fn version(writer: &Host, name: &str, counter: u64, saw: VersionVector) -> Batch {
    let intent = Intent {
        scope: domain("red"),
        key: Key::new("K", name),
        dot: Dot {
            writer: writer.id(),
            counter,
        },
        context: saw,
        stamp: stamp(1_000 - counter),
        author: "x".into(),
        body: None,
    };
    let signed = Signed::sign(intent, writer).unwrap();
    Batch::Intents(IntentBatch::new(domain("red"), vec![signed]).unwrap())
}

#[test]
fn different_versions_for_each_node_do_not_keep_them_apart() {
    let mut ring = Ring::new();
    let honest = ring.wants(0, "a", "mine");
    ring.settle();
    // Before any of them can tell the others, each has heard more than it keeps.
    for counter in 1..=30 {
        let batch = version(&ring.enemy.clone(), "a", counter, VersionVector::default());
        ring.hears(counter as usize % HONEST, &batch);
    }
    ring.pass(60);
    assert!(
        ring.agree(),
        "{:?}",
        (0..HONEST).map(|node| ring.held(node, "a")).collect::<Vec<_>>()
    );
    let mut kept: Vec<u64> = ring
        .held(0, "a")
        .into_iter()
        .filter(|dot| dot.writer == ring.enemy.id())
        .map(|dot| dot.counter)
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, (23..=30).collect::<Vec<u64>>(), "the last ones");
    assert!(ring.held(0, "a").contains(&honest), "nobody crowds out another one's");
    assert_eq!(ring.counts.get("scopes_in_doubt"), None);
    assert_eq!(ring.named, (0..HONEST).map(|node| (node, ring.enemy.id())).collect());

    // In whatever order they come, and while they come, what is written goes on and resolves them.
    for counter in (31..=90).rev() {
        let batch = version(&ring.enemy.clone(), "a", counter, VersionVector::default());
        ring.hears(counter as usize % HONEST, &batch);
    }
    let other = ring.wants(1, "b", "meanwhile");
    ring.pass(5);
    assert!(ring.agree());
    assert!((0..HONEST).all(|node| ring.held(node, "b") == [other]));
    let last = ring.wants(2, "a", "resolved");
    ring.pass(5);
    assert!((0..HONEST).all(|node| ring.held(node, "a") == [last]));
    assert!(ring.agree());
}
