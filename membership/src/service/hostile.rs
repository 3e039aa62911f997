//! A member with a good certificate and bad intentions against whole peers on loopback: what it says is refused or
//! bounded, counted and shown with its name, and between the others all goes on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, VarInt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::author::{self, Write};
use crate::batch::{Batch, RawFacts};
use crate::counter::Counters;
use crate::fixture::{stamp, write};
use crate::gossip::syn_of;
use crate::home::{Home, NodeFiles};
use crate::mesh::frame::{FRAME_MAX, GOSSIP, RECORDS};
use crate::mesh::{Close, Handlers, Settings, tls};
use crate::pki;
use crate::record::{Dot, Fact, Intent, VersionVector};
use crate::signed::Signed;
use crate::wire::versions::Hello;
use crate::wire::{self, Message, RawBatch};

const DEADLINE: Duration = Duration::from_secs(30);

type Answered = BoxFuture<'static, Result<Bytes, String>>;

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waits = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(DEADLINE, waits).await.is_ok(), "not in time: {what}");
}

fn label(text: &str) -> Label {
    text.parse().unwrap()
}

fn red() -> Scope {
    Scope::Domain(label("red"))
}

/// A directory for a node.
struct Host {
    config: Config,
    _dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data: dir.path().join("data"),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: Vec::new(),
            certificate_life: pki::LEAF_LIFE,
            wire: Versions::OWN,
        };
        Self { config, _dir: dir }
    }

    async fn start(&self) -> Membership {
        let silent = |_: NodeId, _: Bytes| -> Answered { Box::pin(std::future::ready(Ok(Bytes::new()))) };
        Membership::start(self.config.clone(), Arc::new(silent)).await.unwrap()
    }

    async fn joined(name: &str, anchor: &Membership) -> Self {
        let host = Self::new();
        let token = anchor.create_token(1, Duration::from_secs(60)).await.unwrap();
        join(&host.config, label(name), &token).await.unwrap();
        host
    }
}

fn address(peer: &Membership) -> SocketAddr {
    let members = peer.members();
    let own = members.iter().find(|member| member.id == peer.id());
    own.unwrap().record.addresses[0]
}

fn counter(peer: &Membership, name: &str) -> u64 {
    let found = peer.counters().into_iter().find(|(of, _)| *of == name);
    found.map_or(0, |(_, n)| n)
}

/// Whether a peer shows an alarm of this name that has all these words.
fn shows(peer: &Membership, name: &str, words: &[&str]) -> bool {
    let fits = |alarm: &Alarm| alarm.name == name && words.iter().all(|word| alarm.message.contains(word));
    peer.alarms().iter().any(fits)
}

fn liveness(peer: &Membership, of: NodeId) -> Option<Liveness> {
    let members = peer.members();
    members
        .iter()
        .find(|member| member.id == of)
        .map(|member| member.liveness)
}

/// Two honest peers, and a third node that runs no peer but only holds a good certificate.
struct Stage {
    a: Membership,
    b: Membership,
    enemy: NodeFiles,
    /// What it holds of its own.
    book: Replica,
    mesh: Mesh,
    _hosts: [Host; 3],
    _events: mpsc::Receiver<crate::mesh::Event>,
}

impl Stage {
    async fn new() -> Self {
        let one = Host::new();
        setup::init(&one.config, label("one"), label("lab"), None).unwrap();
        let a = one.start().await;
        let two = Host::joined("two", &a).await;
        let b = two.start().await;
        let three = Host::joined("three", &a).await;
        let enemy = Home::at(&three.config.data).node().unwrap().unwrap();
        let (events, receiver) = mpsc::channel(1_024);
        let roots = Roots::new(enemy.manifest.cluster, &enemy.bootstrap.cluster.roots).unwrap();
        let settings = Settings {
            key: &enemy.key,
            certificate: &enemy.certificate,
            roots,
            listen: three.config.listen,
            counters: Arc::new(Counters::default()),
            wire: Versions::OWN,
            agreed: 1,
        };
        let no = |_: Class, _: NodeId, _: Bytes| -> Answered { Box::pin(std::future::ready(Err("no".to_owned()))) };
        let nobody = |_: Connection| -> BoxFuture<'static, ()> { Box::pin(std::future::ready(())) };
        let nothing = Handlers {
            answer: Arc::new(no),
            join: Arc::new(nobody),
        };
        let mesh = Mesh::start(settings, nothing, events).unwrap();
        mesh.members(BTreeMap::from([(a.id(), vec![address(&a)])]));
        let stage = Self {
            a,
            b,
            enemy,
            book: Replica::default(),
            mesh,
            _hosts: [one, two, three],
            _events: receiver,
        };
        until("the enemy is connected", || stage.mesh.has(stage.a.id())).await;
        stage.settled().await;
        stage
    }

    /// The two others are well and agree.
    async fn settled(&self) {
        until("the two see each other", || {
            liveness(&self.a, self.b.id()) == Some(Liveness::Live)
                && liveness(&self.b, self.a.id()) == Some(Liveness::Live)
        })
        .await;
        until("they hold the same", || {
            self.a.read(Replica::root_of_roots) == self.b.read(Replica::root_of_roots)
        })
        .await;
    }

    fn name(&self) -> String {
        self.enemy.key.id().to_string()
    }

    /// Pushes a batch to the first peer.
    fn push(&self, batch: RawBatch) {
        self.send(wire::encode(&Message::Push(batch)).unwrap());
    }

    fn send(&self, frame: Bytes) {
        assert!(self.mesh.send(self.a.id(), frame), "there is room");
    }

    /// Says something of itself, as an honest node would.
    fn says(&mut self, scope: &Scope, writes: Vec<Write>) -> RawFacts {
        let made = author::facts(&self.book, &self.enemy.key, scope, writes, stamp(1)).unwrap();
        self.book.merge(&made.batch).unwrap();
        let Batch::Facts(batch) = made.batch else {
            unreachable!()
        };
        batch.to_raw()
    }

    /// Says who it is, so that its records count.
    async fn introduce(&mut self) {
        let record = NodeRecord {
            name: label("three"),
            certificate: self.enemy.certificate.clone(),
            addresses: Vec::new(),
            wire: Versions::OWN.pair(),
            intent: true,
            software: String::new(),
        };
        let write = Write {
            key: Key::new(crate::node::NODE_KIND, crate::keyring::NODE_NAME),
            body: Some(Body {
                version: 1,
                bytes: postcard::to_stdvec(&record).unwrap().into(),
            }),
        };
        let batch = self.says(&Scope::System, vec![write]);
        self.push(RawBatch::Facts(batch));
        let id = self.enemy.key.id();
        until("both know it", || {
            [&self.a, &self.b].iter().all(|peer| liveness(peer, id).is_some())
        })
        .await;
    }

    async fn refused(&self, before: u64) {
        until("it is refused and counted", || counter(&self.a, "bad_frames") > before).await;
        assert!(shows(&self.a, "bad-frame", &[&self.name()]), "{:?}", self.a.alarms());
    }

    /// A connection of its own, over which it can say anything.
    async fn connect(&self) -> (Endpoint, Connection) {
        let roots = Roots::new(self.enemy.manifest.cluster, &self.enemy.bootstrap.cluster.roots).unwrap();
        let client = tls::member(&self.enemy.key, &self.enemy.certificate, &roots).unwrap();
        let endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let name = pki::dns_name(self.a.id(), self.enemy.manifest.cluster);
        let connecting = endpoint.connect_with(client, address(&self.a), &name).unwrap();
        let connection = timeout(DEADLINE, connecting).await.unwrap().unwrap();
        (endpoint, connection)
    }

    /// Says bytes on the first stream of a connection of its own; how the peer ended it.
    async fn ended(&self, first: &[u8]) -> VarInt {
        let (_endpoint, connection) = self.connect().await;
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(first).await.unwrap();
        match timeout(DEADLINE, connection.closed()).await.unwrap() {
            ConnectionError::ApplicationClosed(close) => close.error_code,
            other => panic!("{other}"),
        }
    }
}

/// The stream of records with this as its first frame.
fn opening(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap().to_be_bytes();
    [&[RECORDS][..], &length, frame].concat()
}

fn hello(wire: (u16, u16)) -> Vec<u8> {
    opening(&postcard::to_stdvec(&Hello { wire }).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_says_in_the_name_of_others_is_refused() {
    let mut stage = Stage::new().await;
    stage.introduce().await;
    let root = stage.a.read(|replica| replica.root(&red()));
    let good = stage.says(&red(), vec![write("a", Some("1"))]);
    // Facts and a head that claim to be the other peer's.
    let fact = Signed::<Fact>::trust(good.facts[0].clone()).unwrap().value().clone();
    let head = Signed::<crate::record::Head>::trust(good.head.clone())
        .unwrap()
        .value()
        .clone();
    let (own, other) = (stage.enemy.key.id(), stage.b.id());
    let forged = |origin_of_fact, origin_of_head| {
        let fact = Fact {
            origin: origin_of_fact,
            ..fact.clone()
        };
        let fact = Signed::sign(fact, &stage.enemy.key).unwrap();
        let head = crate::record::Head {
            origin: origin_of_head,
            chain: fact.digest(),
            set: crate::record::Digest::default().plus(fact.digest()),
            ..head.clone()
        };
        RawFacts {
            head: Signed::sign(head, &stage.enemy.key).unwrap().raw().clone(),
            facts: vec![fact.raw().clone()],
        }
    };
    for (fact, head) in [(other, other), (other, own), (own, other)] {
        let before = counter(&stage.a, "bad_frames");
        stage.push(RawBatch::Facts(forged(fact, head)));
        stage.refused(before).await;
    }
    for junk in [&b""[..], b"junk", &[1; 100], &[0xff; 1_000]] {
        let before = counter(&stage.a, "bad_frames");
        stage.send(Bytes::copy_from_slice(junk));
        stage.refused(before).await;
    }
    assert_eq!(
        stage.a.read(|replica| replica.root(&red())),
        root,
        "nothing of it is there"
    );
    stage.settled().await;
    assert_eq!(counter(&stage.b, "bad_frames"), 0, "none of it was passed on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_change_nothing_and_stamps_far_ahead_rule_nothing() {
    let mut stage = Stage::new().await;
    stage.introduce().await;
    let first = stage.says(&red(), vec![write("a", Some("1"))]);
    let second = stage.says(&red(), vec![write("a", Some("2"))]);
    for batch in [&first, &second] {
        stage.push(RawBatch::Facts(batch.clone()));
    }
    let fact = |peer: &Membership| {
        let shown = |replica: &Replica| {
            Some(
                replica
                    .fact(&red(), stage.enemy.key.id(), &Key::new("K", "a"))?
                    .body
                    .clone()?
                    .bytes,
            )
        };
        peer.read(shown)
    };
    until("both have it", || {
        [&stage.a, &stage.b]
            .iter()
            .all(|peer| fact(peer).as_deref() == Some(&b"2"[..]))
    })
    .await;
    let root = stage.a.read(Replica::root_of_roots);
    for _ in 0..50 {
        stage.push(RawBatch::Facts(first.clone()));
        stage.push(RawBatch::Facts(second.clone()));
    }
    let intent = Intent {
        scope: red(),
        key: Key::new("Network", "lan"),
        dot: Dot {
            writer: stage.enemy.key.id(),
            counter: u64::MAX,
        },
        context: VersionVector::default(),
        stamp: stamp(u64::MAX),
        author: "enemy".into(),
        body: write("lan", Some("enemy")).body,
    };
    let version = Signed::sign(intent, &stage.enemy.key).unwrap().raw().clone();
    stage.push(RawBatch::Intents {
        scope: red(),
        after: VersionVector::default(),
        versions: vec![version],
    });
    let shown = |peer: &Membership| {
        peer.read(|replica| {
            let siblings = replica.intent(&red(), &Key::new("Network", "lan"))?;
            Some((siblings.all().count(), siblings.shown().body.clone()?.bytes))
        })
    };
    until("its object is there, as any member's", || shown(&stage.b).is_some()).await;
    // Frames come in order: the replays were before it, and changed nothing but by the object.
    assert_ne!(stage.a.read(Replica::root_of_roots), root);
    assert_eq!(
        fact(&stage.a).as_deref(),
        Some(&b"2"[..]),
        "a replay takes nothing back"
    );
    assert_eq!(counter(&stage.a, "bad_frames"), 0, "a replay is no offence");
    let ahead = Duration::from_millis(stage.a.stamp().millis).saturating_sub(crate::wallclock::since_epoch());
    assert!(
        ahead < Duration::from_secs(60),
        "the clock was not carried along: {ahead:?}"
    );

    let ours = IntentWrite {
        key: Key::new("Network", "lan"),
        body: write("lan", Some("ours")).body,
    };
    stage.b.write_intent(red(), "tester", vec![ours]).await.unwrap();
    let wanted = Some((1, Bytes::from_static(b"ours")));
    until("who saw it overwrites it", || {
        shown(&stage.a) == wanted && shown(&stage.b) == wanted
    })
    .await;
    stage.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_protocol_ends_what_it_came_in() {
    let stage = Stage::new().await;
    // Or it would dial again whenever another connection takes its place.
    stage.mesh.close().await;
    let before = counter(&stage.b, "links_down");
    let protocol = VarInt::from_u32(Close::Protocol as u32);
    let large = u32::try_from(FRAME_MAX + 1).unwrap().to_be_bytes();

    let junk = stage.ended(&opening(b"")).await;
    let other = stage.ended(&[0x77]).await;
    let older = stage.ended(&hello((90, 99))).await;
    let oversized = stage.ended(&[&[RECORDS][..], &large].concat()).await;
    assert_eq!([junk, other, oversized], [protocol; 3]);
    assert_eq!(older, VarInt::from_u32(Close::WireVersion as u32));
    until("they are counted", || {
        counter(&stage.a, "refused_protocol") == 3 && counter(&stage.a, "refused_wire_version") == 1
    })
    .await;

    // After a good hello, gossip larger than any and a stream of no kind end their streams, and a frame larger than any
    // the connection.
    let good = hello(Versions::OWN.pair());
    let gossip = [&[GOSSIP][..], &vec![0; crate::mesh::frame::GOSSIP_MAX + 1]].concat();
    let (_endpoint, connection) = stage.connect().await;
    let mut records = connection.open_uni().await.unwrap();
    records.write_all(&good).await.unwrap();
    for stream in [gossip, vec![0x77]] {
        let mut uni = connection.open_uni().await.unwrap();
        // The peer may end it before all is said.
        let _said = uni.write_all(&stream).await;
        let _ended = uni.finish();
    }
    until("they are counted", || counter(&stage.a, "gossip_invalid") == 2).await;
    assert_eq!(connection.close_reason(), None, "only the streams are over");
    assert_eq!(counter(&stage.a, "links_broken"), 0);
    records.write_all(&large).await.unwrap();
    let ended = timeout(DEADLINE, connection.closed()).await.unwrap();
    assert!(
        matches!(&ended, ConnectionError::ApplicationClosed(close) if close.error_code == protocol),
        "{ended}"
    );
    until("it is counted", || counter(&stage.a, "links_broken") == 1).await;
    assert!(
        shows(&stage.a, "peer-refused", &["links_broken", &stage.name()]),
        "{:?}",
        stage.a.alarms()
    );
    stage.settled().await;
    assert_eq!(counter(&stage.b, "links_down"), before, "the others stayed connected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_without_end_are_closed_but_for_a_few() {
    let stage = Stage::new().await;
    stage.mesh.close().await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(stage.connect().await);
    }
    let mut codes = Vec::new();
    for (_endpoint, connection) in &silent {
        match timeout(DEADLINE, connection.closed()).await.unwrap() {
            ConnectionError::ApplicationClosed(close) => codes.push(close.error_code),
            other => panic!("{other}"),
        }
    }
    let count = |close: Close| {
        codes
            .iter()
            .filter(|code| **code == VarInt::from_u32(close as u32))
            .count()
    };
    let (busy, slow) = (count(Close::Busy), count(Close::Slow));
    assert!(busy > 0 && slow >= 4 && busy + slow == 20, "{busy} {slow}");
    until("it is named", || {
        shows(&stage.a, "peer-refused", &["refused_busy", &stage.name()])
    })
    .await;
    stage.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_bounded_and_named_and_silence_nobody() {
    let mut stage = Stage::new().await;
    stage.introduce().await;
    let (to, cluster) = (stage.a.id(), stage.enemy.manifest.cluster);
    let invented: Vec<_> = (0..200).map(|n| NodeId::of_key(&[n; 32])).collect();
    let poison = syn_of(cluster, &invented);
    let (mesh, stop) = (stage.mesh.clone(), tokio_util::sync::CancellationToken::new());
    let stopped = stop.clone();
    let flood = tokio::spawn(async move {
        while !stopped.is_cancelled() {
            mesh.gossip(to, poison.clone());
            mesh.gossip(to, Bytes::from_static(b"junk"));
            // Where its own queue is full, it waits for room.
            let _room = mesh.send(to, Bytes::from_static(b"junk"));
            let _answer = mesh
                .call(
                    to,
                    Class::Internal,
                    Bytes::from_static(&[0xff; 4_096]),
                    Duration::from_secs(1),
                )
                .await;
        }
    });
    until("the flood is cut and named", || {
        counter(&stage.a, "gossip_flood") > 100
            && shows(&stage.a, "peer-refused", &["gossip_flood", &stage.name()])
            && shows(&stage.a, "bad-gossip", &[&stage.name()])
            && shows(&stage.a, "bad-frame", &[&stage.name()])
    })
    .await;
    // While it goes on, what others write goes on.
    for n in 0..20 {
        let name = format!("net-{n}");
        let write = IntentWrite {
            key: Key::new("Network", &name),
            body: write(&name, Some("x")).body,
        };
        let mark = stage.b.write_intent(red(), "tester", vec![write]).await.unwrap();
        until("it arrives", || stage.a.holds(&mark)).await;
        assert_eq!(liveness(&stage.a, stage.b.id()), Some(Liveness::Live));
        assert_eq!(liveness(&stage.b, stage.a.id()), Some(Liveness::Live));
    }
    stop.cancel();
    flood.await.unwrap();
    stage.settled().await;
    assert_eq!(stage.a.members().len(), 3, "none of the invented nodes is one");
    assert_eq!(
        counter(&stage.a, "gossip_restarts") + counter(&stage.b, "gossip_restarts"),
        0
    );
    assert!(
        stage.a.alarms().len() < 64,
        "alarms are bounded: {:?}",
        stage.a.alarms()
    );
    assert!(
        stage
            .b
            .alarms()
            .iter()
            .all(|alarm| alarm.name != "bad-frame" && alarm.name != "bad-gossip")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_seated_anchor_says_that_a_key_is_free() {
    let stage = Stage::new().await;
    let freed = |by: &Membership| {
        let state = by.0.state.clone();
        async move { internal::release(&state, state.own(), red(), "10.0.0.1".to_owned()).await }
    };
    assert_eq!(freed(&stage.a).await, Ok(()));
    assert_eq!(freed(&stage.b).await, Err(internal::NOT_SEATED.to_owned()));
}
