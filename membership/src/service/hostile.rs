//! A member with a good certificate and bad intentions against whole peers on loopback: what it says is refused or
//! bounded, counted and shown with its name, and between the others all goes on.

mod connections;
mod floods;
mod gigabyte;
mod records;

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

async fn until(what: &str, holds: impl FnMut() -> bool) {
    within(DEADLINE, what, holds).await;
}

async fn within(deadline: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let waits = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(deadline, waits).await.is_ok(), "not in time: {what}");
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
    hosts: [Host; 3],
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
            hosts: [one, two, three],
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
async fn only_a_seated_anchor_says_that_a_key_is_free() {
    let stage = Stage::new().await;
    let freed = |by: &Membership| {
        let state = by.0.state.clone();
        async move { internal::release(&state, state.own(), red(), "10.0.0.1".to_owned()).await }
    };
    assert_eq!(freed(&stage.a).await, Ok(()));
    assert_eq!(freed(&stage.b).await, Err(internal::NOT_SEATED.to_owned()));
}
