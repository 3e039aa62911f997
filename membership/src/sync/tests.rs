//! Single replicas against each other, without loss: sizes, spreading, strangers and nonsense.

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::author;
use crate::fixture::{Host, Trusting, domain, stamp, write};
use crate::signed::{Raw, Signed, Signer};
use crate::store::Durable;
use crate::store::crash_disk::CrashDisk;
use crate::wire::{Item, Part, RawBatch};

struct Net {
    hosts: Vec<Host>,
    syncs: Vec<Sync>,
    queue: Vec<(NodeId, NodeId, Bytes)>,
    sent: usize,
    largest: usize,
    others: Vec<(NodeId, Effect)>,
    now: Duration,
    rng: StdRng,
}

impl Net {
    /// Nodes that know and do not yet hear each other.
    fn new(nodes: u8) -> Self {
        let hosts: Vec<Host> = (1..=nodes).map(Host::new).collect();
        let sync = |host: &Host| Sync::new(&host.public(), Replica::default(), Box::new(Trusting));
        let mut net = Self {
            syncs: hosts.iter().map(sync).collect(),
            hosts,
            queue: Vec::new(),
            sent: 0,
            largest: 0,
            others: Vec::new(),
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(1),
        };
        for node in 0..net.syncs.len() {
            let host = net.hosts[node].clone();
            net.say(node, &Scope::System, vec![host.record()]);
        }
        net
    }

    fn connect_all(&mut self) {
        for node in 0..self.syncs.len() {
            self.connect(node);
        }
    }

    fn connect(&mut self, node: usize) {
        for other in 0..self.syncs.len() {
            if other != node {
                self.event(node, Event::PeerUp(self.hosts[other].id()));
            }
        }
    }

    fn say(&mut self, node: usize, scope: &Scope, writes: Vec<author::Write>) {
        let made = author::facts(self.syncs[node].replica(), &self.hosts[node], scope, writes, stamp(1)).unwrap();
        self.event(node, Event::LocalBatch(made.batch));
    }

    fn want(&mut self, node: usize, scope: &Scope, writes: Vec<author::Write>) {
        let made = author::intents(
            self.syncs[node].replica(),
            &self.hosts[node],
            scope,
            "test",
            writes,
            stamp(1),
        )
        .unwrap();
        self.event(node, Event::LocalBatch(made.batch));
    }

    fn event(&mut self, node: usize, event: Event) {
        let from = self.hosts[node].id();
        for effect in self.syncs[node].handle(event, self.now, &mut self.rng) {
            match effect {
                Effect::Send { to, frame } => {
                    self.sent += 1;
                    self.largest = self.largest.max(frame.len());
                    self.queue.push((from, to, frame));
                }
                other => self.others.push((from, other)),
            }
        }
    }

    /// Delivers, and lets no time pass, until nobody says any more.
    fn settle(&mut self) {
        while !self.queue.is_empty() {
            for (from, to, frame) in std::mem::take(&mut self.queue) {
                if let Some(node) = self.hosts.iter().position(|host| host.id() == to) {
                    self.event(node, Event::Frame(from, frame));
                }
            }
            assert!(self.sent < 100_000, "they do not stop talking");
        }
    }

    fn agree(&self) -> bool {
        let mut roots = self.syncs.iter().map(|sync| sync.replica().root_of_roots());
        let first = roots.next();
        roots.all(|root| Some(root) == first)
    }

    fn count(&self, name: &str) -> u64 {
        let count = |(_, effect): &(NodeId, Effect)| match effect {
            Effect::Count(counted, count) if *counted == name => *count,
            _ => 0,
        };
        self.others.iter().map(count).sum()
    }
}

#[test]
fn a_joining_node_takes_more_than_fits_an_answer() {
    let mut net = Net::new(2);
    let red = domain("red");
    let text = "x".repeat(3_000);
    for batch in 0..12 {
        let names: Vec<_> = (0..200).map(|number| format!("{batch}-{number}")).collect();
        let writes = || names.iter().map(|name| write(name, Some(&text))).collect();
        net.want(0, &red, writes());
        if batch < 4 {
            net.say(0, &red, writes());
        }
    }
    net.want(1, &red, vec![write("mine", Some("1"))]);
    net.connect_all();
    net.settle();
    assert!(net.agree());
    assert_eq!(net.syncs[1].replica().intents(&red).count(), 2_401);
    assert_eq!(net.syncs[1].replica().facts(&red).count(), 800);
    assert!((FRAME_MAX / 2..=FRAME_MAX).contains(&net.largest), "{}", net.largest);
    assert_eq!(net.count("bad_frames") + net.count("frames_not_sent"), 0);
}

#[test]
fn a_small_difference_in_a_large_scope_costs_little() {
    let mut net = Net::new(2);
    let red = domain("red");
    net.connect_all();
    for batch in 0..20 {
        let names: Vec<_> = (0..100).map(|number| format!("{batch}-{number}")).collect();
        net.want(0, &red, names.iter().map(|name| write(name, Some("x"))).collect());
    }
    net.settle();
    assert!(net.agree());
    for node in 0..2 {
        let other = net.hosts[1 - node].id();
        net.event(node, Event::PeerDown(other));
    }
    net.want(0, &red, vec![write("0-0", Some("left")), write("new", Some("left"))]);
    net.want(1, &red, vec![write("0-1", Some("right"))]);
    let (sent, largest) = (net.sent, std::mem::take(&mut net.largest));
    net.connect_all();
    net.settle();
    assert!(net.agree());
    assert!(largest > 10_000 && net.largest < 15_000, "{largest} {}", net.largest);
    assert!(net.sent - sent <= 20, "{}", net.sent - sent);
    let (sent, _) = (net.sent, net.now = Duration::from_secs(5));
    net.event(0, Event::Tick);
    net.settle();
    assert_eq!(net.sent - sent, 1, "equal replicas exchange one root");
}

#[test]
fn many_peers_pass_it_on() {
    let mut net = Net::new(40);
    net.connect_all();
    net.settle();
    assert!(net.agree());
    let sent = net.sent;
    net.want(0, &domain("red"), vec![write("a", Some("1"))]);
    assert_eq!(net.queue.len(), 6);
    net.settle();
    let reached = net
        .syncs
        .iter()
        .filter(|sync| sync.replica().scopes().count() == 2)
        .count();
    assert!(reached >= 38, "{reached}");
    assert!(net.sent - sent <= 6 * 40, "each passes it on once");
}

#[test]
fn facts_of_an_unknown_origin_wait_for_its_record() {
    let mut net = Net::new(2);
    net.connect_all();
    net.queue.clear();
    net.say(0, &domain("red"), vec![write("a", Some("1"))]);
    net.settle();
    assert_eq!(net.count("records_of_unknown_origin"), 1);
    assert!(net.agree(), "the record was pulled, then the facts");
    let stranger = Host::new(99);
    let made = author::intents(
        &Replica::default(),
        &stranger,
        &domain("red"),
        "x",
        vec![write("b", None)],
        stamp(1),
    )
    .unwrap();
    let Batch::Intents(batch) = made.batch else {
        unreachable!()
    };
    let push = RawBatch::Intents {
        scope: batch.scope().clone(),
        after: Default::default(),
        versions: batch.to_raw(),
    };
    let before = net.syncs[1].replica().root_of_roots();
    let frame = wire::encode(&Message::Push(push)).unwrap();
    net.event(1, Event::Frame(net.hosts[0].id(), frame));
    net.settle();
    assert_eq!(net.syncs[1].replica().root_of_roots(), before);
}

#[test]
fn a_host_speaks_for_itself_only() {
    let mut net = Net::new(3);
    net.connect_all();
    net.settle();
    // Node 0 says something in the name of node 1.
    let made = author::facts(
        &Replica::default(),
        &Forger {
            id: net.hosts[1].id(),
            key: net.hosts[0].clone(),
        },
        &domain("red"),
        vec![write("a", Some("1"))],
        stamp(1),
    )
    .unwrap();
    let Batch::Facts(batch) = made.batch else {
        unreachable!()
    };
    let frame = wire::encode(&Message::Push(RawBatch::Facts(batch.to_raw()))).unwrap();
    net.event(2, Event::Frame(net.hosts[0].id(), frame));
    let alarm = net.others.iter().find_map(|(_, effect)| match effect {
        Effect::Alarm(trouble) => Some(trouble),
        _ => None,
    });
    let expected = Trouble::BadFrame {
        from: net.hosts[0].id(),
        reason: format!("a record has a bad signature of node {}", net.hosts[1].id()),
    };
    assert_eq!(alarm, Some(&expected));
    assert_eq!(net.syncs[2].replica().scopes().collect::<Vec<_>>(), [&Scope::System]);
}

struct Forger {
    id: NodeId,
    key: Host,
}

impl Signer for Forger {
    fn id(&self) -> NodeId {
        self.id
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message)
    }
}

#[test]
fn nonsense_changes_nothing() {
    let mut net = Net::new(2);
    net.connect_all();
    net.settle();
    net.want(0, &domain("red"), vec![write("a", Some("1"))]);
    let (from, _, push) = net.queue.pop().unwrap();
    let root = net.syncs[1].replica().root_of_roots();
    for cut in 0..push.len() {
        net.event(1, Event::Frame(from, push.slice(..cut)));
        let mut flipped = push.to_vec();
        flipped[cut] ^= 0x10;
        net.event(1, Event::Frame(from, flipped.into()));
    }
    assert_eq!(
        net.syncs[1].replica().root_of_roots(),
        root,
        "a changed byte is a refused record"
    );
    let raw = Raw::new(Bytes::from(vec![0; 100])).unwrap();
    for items in [
        vec![Item::Fact(raw.clone())],
        vec![Item::Head(raw.clone())],
        vec![Item::Intent(raw)],
    ] {
        let part = Part {
            id: 1,
            index: 0,
            last: true,
            more: true,
            items,
        };
        net.event(1, Event::Frame(from, wire::encode(&Message::Part(part)).unwrap()));
    }
    net.event(1, Event::Frame(Host::new(77).id(), push.clone()));
    assert_eq!(net.count("frames_from_strangers"), 1);
    assert_eq!(net.syncs[1].replica().root_of_roots(), root);
    net.event(1, Event::Frame(from, push));
    assert!(net.syncs[1].replica().root_of_roots() != root, "and it still listens");
}

#[test]
fn a_restored_disk_gets_back_what_peers_kept() {
    let mut net = Net::new(2);
    let red = domain("red");
    let mut disk = CrashDisk::default();
    let store = disk.open();
    net.connect_all();
    let host = net.hosts[0].clone();
    let mut backup = None;
    for text in ["1", "2", "3"] {
        let made = author::facts(
            net.syncs[0].replica(),
            &host,
            &red,
            vec![write("a", Some(text))],
            stamp(1),
        )
        .unwrap();
        store.commit(&[made.change], Durable::Before).unwrap();
        net.event(0, Event::LocalBatch(made.batch));
        net.settle();
        backup.get_or_insert_with(|| disk.backup());
    }
    let loaded = backup.unwrap().open().load(host.id()).unwrap().replica;
    assert_eq!(loaded.head(&red, host.id()).map(|head| head.seq), Some(1));
    net.syncs[0] = Sync::new(&host.public(), loaded, Box::new(Trusting));
    net.connect(0);
    net.settle();
    let reclaim = net.others.iter().find_map(|(node, effect)| match effect {
        Effect::Reclaim(theirs) if *node == host.id() && theirs.head().value().scope == red => Some(theirs.clone()),
        _ => None,
    });
    assert_eq!(
        net.syncs[0].replica().head(&red, host.id()).map(|head| head.seq),
        Some(1),
        "not before it is on disk"
    );
    let made = author::reclaim(net.syncs[0].replica(), &host, &reclaim.unwrap())
        .unwrap()
        .unwrap();
    net.event(0, Event::LocalBatch(made.batch));
    net.settle();
    for sync in &net.syncs {
        assert_eq!(sync.replica().head(&red, host.id()).map(|head| head.epoch), Some(2));
        let texts: Vec<_> = sync
            .replica()
            .facts(&red)
            .filter_map(|fact| fact.body.clone())
            .collect();
        assert_eq!(texts.iter().map(|body| &body.bytes[..]).collect::<Vec<_>>(), [b"3"]);
    }
}

#[test]
fn a_copied_disk_is_reported_and_all_settle_on_one_state() {
    let mut net = Net::new(3);
    let red = domain("red");
    net.connect_all();
    net.settle();
    net.say(0, &red, vec![write("a", Some("1"))]);
    net.settle();
    // Two batches under one number, each seen by one peer only.
    let host = net.hosts[0].clone();
    for (peer, text) in [(1, "left"), (2, "right")] {
        let replica = net.syncs[peer].replica();
        let made = author::facts(replica, &host, &red, vec![write("a", Some(text))], stamp(2)).unwrap();
        let Batch::Facts(batch) = made.batch else {
            unreachable!()
        };
        let frame = wire::encode(&Message::Push(RawBatch::Facts(batch.to_raw()))).unwrap();
        net.event(peer, Event::Frame(host.id(), frame));
    }
    for round in 1..=20 {
        net.now = Duration::from_secs(3 * round);
        (1..3).for_each(|node| net.event(node, Event::Tick));
        net.queue.retain(|(from, to, _)| ![*from, *to].contains(&host.id()));
        net.settle();
    }
    assert_eq!(net.syncs[1].replica().root(&red), net.syncs[2].replica().root(&red));
    let forked = |(_, effect): &(NodeId, Effect)| matches!(effect, Effect::Alarm(Trouble::Forked { origin, .. }) if *origin == host.id());
    assert!(net.others.iter().any(forked));
}

#[test]
fn a_signed_value_is_its_signers_and_of_its_kind() {
    let [one, two] = [Host::new(1), Host::new(2)];
    let mut replica = Replica::default();
    let Batch::Facts(batch) = one.says(&mut replica, &Scope::System, 1, vec![one.record()]).batch else {
        unreachable!()
    };
    let (head, fact) = (batch.head(), &batch.facts()[0]);
    let key = |host: &Host| ed25519_dalek::VerifyingKey::from_bytes(&host.public()).unwrap();
    assert_eq!(Signed::verify(head.raw().clone(), &key(&one)).as_ref(), Ok(head));
    assert!(Signed::<crate::record::Head>::verify(head.raw().clone(), &key(&two)).is_err());
    assert!(Signed::<crate::record::Head>::verify(fact.raw().clone(), &key(&one)).is_err());
    assert!(Raw::new(Bytes::from(vec![0; crate::record::RECORD_MAX + 1])).is_err());
    let long = postcard::to_stdvec(&Bytes::from(vec![0; crate::record::RECORD_MAX + 1])).unwrap();
    assert!(postcard::from_bytes::<Raw>(&long).is_err());
}
