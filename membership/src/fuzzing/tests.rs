//! Valid inputs of all targets, and their replay.

use super::replay::replay;
use super::*;
use crate::author;
use crate::batch::Batch;
use crate::fixture::{Host, domain, stamp, write};
use crate::home::Home;
use crate::id::Scope;
use crate::identity::NodeKey;
use crate::record::{Digest, VersionVector};
use crate::service::{Config, Outcome, set_up};
use crate::token::{Secret, TokenId};
use crate::wire::{Have, Item, Listed, Part, Pull};

/// Messages of each kind, as one honest node makes them.
fn frames() -> Vec<Vec<u8>> {
    let (host, red) = (Host::new(1), domain("red"));
    let mut book = Replica::default();
    let record = author::facts(&book, &host, &Scope::System, vec![host.record()], stamp(1)).unwrap();
    let facts = host.says(&mut book, &red, 2, vec![write("a", Some("1")), write("b", None)]);
    let wants = host.wants(&mut book, &red, 3, vec![write("c", Some("2"))]);
    let push = |batch: &Batch| match batch {
        Batch::Facts(facts) => Message::Push(RawBatch::Facts(facts.to_raw())),
        Batch::Intents(intents) => Message::Push(RawBatch::Intents {
            scope: domain("red"),
            after: VersionVector::default(),
            versions: intents.versions().iter().map(|version| version.raw().clone()).collect(),
        }),
    };
    let Batch::Facts(of_host) = &facts.batch else {
        unreachable!()
    };
    let head = Item::Head(of_host.head().raw().clone());
    let items = of_host.facts().iter().map(|fact| Item::Fact(fact.raw().clone()));
    let messages = [
        Message::Hello { root: Digest([1; 32]) },
        Message::Roots(vec![(Scope::System, Digest([2; 32])), (red.clone(), Digest([3; 32]))]),
        Message::Pull(Pull {
            id: 1,
            scope: red,
            vector: vec![Have {
                origin: NodeId::of_key(&[3; 32]),
                epoch: 1,
                seq: 2,
                head: Digest([4; 32]),
            }],
            sums: vec![(1, [5; 16])],
            listed: vec![Listed {
                bucket: 1,
                objects: vec![([6; 16], [7; 16])],
            }],
            partial: false,
            back: true,
        }),
        Message::Detail {
            id: 1,
            buckets: vec![1, 2],
        },
        Message::Part(Part {
            id: 0,
            index: 0,
            last: true,
            more: false,
            items: std::iter::once(head).chain(items).collect(),
        }),
        push(&record.batch),
        push(&facts.batch),
        push(&wants.batch),
    ];
    messages
        .iter()
        .map(|message| wire::encode(message).unwrap().to_vec())
        .collect()
}

fn records() -> Vec<Vec<u8>> {
    let (host, red, mut book) = (Host::new(1), domain("red"), Replica::default());
    let facts = host.says(&mut book, &red, 2, vec![write("a", Some("1"))]);
    let wants = host.wants(&mut book, &red, 3, vec![write("c", Some("2"))]);
    let (Batch::Facts(facts), Batch::Intents(wants)) = (facts.batch, wants.batch) else {
        unreachable!()
    };
    vec![
        facts.head().raw().as_bytes().to_vec(),
        facts.facts()[0].raw().as_bytes().to_vec(),
        wants.versions()[0].raw().as_bytes().to_vec(),
    ]
}

/// What `init` writes.
fn made() -> (NodeKey, Vec<u8>, Bootstrap, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        data: dir.path().join("data"),
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: vec!["192.0.2.1:7790".parse().unwrap()],
        certificate_life: crate::pki::LEAF_LIFE,
        wire: Versions::OWN,
    };
    let outcome = set_up(&config, "one".parse().unwrap(), "lab".parse().unwrap(), None);
    assert!(matches!(outcome, Ok(Outcome::Made { .. })));
    let files = Home::at(&config.data).node().unwrap().unwrap();
    let manifest = std::fs::read(config.data.join("node.json")).unwrap();
    (files.key, files.certificate.to_vec(), files.bootstrap, manifest)
}

fn packed<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap()
}

fn valid(target: &str) -> Vec<Vec<u8>> {
    let (key, certificate, bootstrap, manifest) = made();
    let secret = Secret([9; 32]);
    match target {
        "membership-frame" | "membership-sync" => frames(),
        "membership-record" => records(),
        "membership-store" => {
            let row = |(table, row): (u8, &Vec<u8>)| {
                let length = u16::try_from(row.len()).unwrap().to_le_bytes();
                [&[table][..], &length, row].concat()
            };
            let all: Vec<_> = (0..).zip(&records()).map(row).collect();
            vec![all.concat(), all[2].clone(), all[1].clone()]
        }
        "membership-bodies" => vec![
            Host::new(1).record().body.unwrap().bytes.to_vec(),
            packed(&bootstrap.cluster),
            packed(&internal::Request::Claim {
                scope: domain("red"),
                key: "10.0.0.1".to_owned(),
            }),
            packed(&internal::Claimed::Held(key.id())),
            packed(&Seen::default()),
        ],
        "membership-token" => {
            let token = Token {
                cluster: bootstrap.cluster.id,
                anchor: key.id(),
                seeds: vec!["192.0.2.1:7790".parse().unwrap()],
                root: certificate.into(),
                id: TokenId([1; 8]),
                secret,
            };
            vec![token.to_string().into_bytes()]
        }
        "membership-join" => {
            let request = join::Request {
                version: 1,
                token: TokenId([1; 8]),
                secret,
                name: "two".parse().unwrap(),
                key: key.public(),
                proof: Bytes::from_static(&[3; 64]),
            };
            let grant = Grant {
                certificate: certificate.into(),
                bootstrap,
            };
            vec![
                packed(&request),
                packed(&Ok::<_, Denied>(grant)),
                packed(&Err::<Grant, _>(Denied::CellFull(800))),
            ]
        }
        "membership-mesh" => vec![packed(&Hello::of(Versions::OWN)), vec![1, 0, 0, 3, 0xe8, 7, 7]],
        "membership-gossip" => gossip::valid_messages(),
        "membership-certificate" => {
            let request = request::make(&key, &"alice".parse().unwrap()).unwrap();
            vec![certificate, request.into_bytes()]
        }
        "membership-files" => {
            let mut book = Tokens::default();
            let (id, hour) = (TokenId([1; 8]), Duration::from_secs(3_600));
            book.create(id, &secret, 2, hour, hour).unwrap();
            vec![packed(&bootstrap), packed(&book), manifest]
        }
        other => panic!("no inputs for {other}"),
    }
}

#[test]
fn no_target_fails_on_its_corpus_nor_near_it() {
    for (name, target) in TARGETS {
        let made = valid(name);
        replay(name, *target, made);
    }
}
