//! What version 1 put on the wire, as it was recorded: read for ever, and written again bit for bit, so that nodes of
//! different releases understand each other and signatures stay valid. Lines of `version-1.txt` are never changed.

use std::collections::BTreeMap;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::versions::Hello;
use super::*;
use crate::author;
use crate::batch::Batch;
use crate::decree::{self, Act, Ballot, Kept, Removal, Seal, Sealed, Standing};
use crate::fixture::{Host, domain, stamp, write};
use crate::id::ClusterId;
use crate::node::{Anchors, Cluster, NodeRecord};
use crate::record::{Fact, Head, Intent};
use crate::replica::Replica;
use crate::service::internal::{Claimed, Request};
use crate::signed::{Content, Signed, Signer as _};

const RECORDED: &str = include_str!("version-1.txt");

/// Bytes, and whether they are read and come out the same.
struct Sample {
    name: String,
    bytes: Vec<u8>,
    reads: fn(&[u8]) -> bool,
}

fn recorded() -> BTreeMap<&'static str, Vec<u8>> {
    let lines = RECORDED.lines().filter(|line| !line.starts_with('#'));
    let read = |line: &'static str| {
        let (name, hex) = line.split_once(' ').unwrap();
        (name, HEXLOWER.decode(hex.as_bytes()).unwrap())
    };
    lines.map(read).collect()
}

#[test]
fn what_version_1_said_is_read_and_written_for_ever() {
    let (recorded, samples) = (recorded(), samples());
    let missing = samples.iter().filter(|it| !recorded.contains_key(it.name.as_str()));
    let missing: String = missing
        .map(|it| format!("{} {}\n", it.name, HEXLOWER.encode(&it.bytes)))
        .collect();
    assert!(missing.is_empty(), "not recorded:\n{missing}");
    for Sample { name, bytes, reads } in &samples {
        let kept = &recorded[name.as_str()];
        assert!(reads(kept), "{name} is not read as it was");
        assert_eq!(kept, bytes, "{name} is not written as it was");
    }
    assert_eq!(recorded.len(), samples.len(), "nothing of it is forgotten");
}

fn frame(bytes: &[u8]) -> bool {
    let old = Versions::up_to(1).unwrap();
    let again = |spoken| decode_as(bytes, spoken).and_then(|message| encode_as(&message, 1));
    again(old).as_deref() == Ok(bytes) && again(Versions::OWN).as_deref() == Ok(bytes)
}

fn record<T: Content + Clone>(bytes: &[u8]) -> bool {
    let key = ed25519_dalek::VerifyingKey::from_bytes(&Host::new(1).public()).unwrap();
    let raw = Raw::new(Bytes::copy_from_slice(bytes)).unwrap();
    Signed::<T>::verify(raw, &key).is_ok_and(|signed| {
        let again = Signed::<T>::sign(signed.value().clone(), &Host::new(1));
        again.is_ok_and(|again| again.raw().as_bytes() == bytes)
    })
}

fn value<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    let read = postcard::from_bytes::<T>(bytes);
    read.is_ok_and(|value| postcard::to_stdvec(&value).as_deref() == Ok(bytes))
}

fn samples() -> Vec<Sample> {
    let mut all = records();
    all.extend(frames());
    all.extend(calls());
    all.extend(decrees());
    all
}

fn packed(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap()
}

fn sample(name: &str, bytes: Vec<u8>, reads: fn(&[u8]) -> bool) -> Sample {
    let name = name.to_owned();
    Sample { name, bytes, reads }
}

/// Two facts and two versions of objects of one node, the second of which deletes.
fn batches() -> (RawFacts, Vec<Raw>, Scope) {
    let (host, red, replica) = (Host::new(1), domain("red"), &mut Replica::default());
    replica.learn(&host.public());
    let writes = || vec![write("a", Some("one")), write("b", None)];
    let facts = host.says(replica, &red, 1_000, writes()).batch;
    let wants = author::intents(replica, &host, &red, "alice@h1", writes(), stamp(2_000)).unwrap();
    match (facts, wants.batch) {
        (Batch::Facts(facts), Batch::Intents(wants)) => (facts.to_raw(), wants.to_raw(), red),
        other => panic!("{other:?}"),
    }
}

fn records() -> Vec<Sample> {
    let (facts, wants, _) = batches();
    let bytes = |raw: &Raw| raw.as_bytes().to_vec();
    let node = Host::new(1).record().body.unwrap().bytes.to_vec();
    vec![
        sample("record-head", bytes(&facts.head), record::<Head>),
        sample("record-fact", bytes(&facts.facts[0]), record::<Fact>),
        sample("record-withdrawn", bytes(&facts.facts[1]), record::<Fact>),
        sample("record-object", bytes(&wants[0]), record::<Intent>),
        sample("record-tombstone", bytes(&wants[1]), record::<Intent>),
        sample("body-node", node, value::<NodeRecord>),
    ]
}

fn frames() -> Vec<Sample> {
    let (facts, versions, scope) = batches();
    let (origin, digest) = (Host::new(1).id(), Digest::of(&[b"digest"]));
    let seen = VersionVector([(origin, 7)].into());
    let pull = Pull {
        id: 9,
        scope: scope.clone(),
        vector: vec![Have {
            origin,
            epoch: 1,
            seq: 2,
            head: digest,
        }],
        sums: vec![(3, short(&digest))],
        listed: vec![Listed {
            bucket: 3,
            objects: vec![(short(&digest), short(&digest))],
        }],
        partial: true,
        back: false,
    };
    let part = Part {
        id: 9,
        index: 1,
        last: true,
        more: false,
        items: vec![
            Item::Head(facts.head.clone()),
            Item::Fact(facts.facts[0].clone()),
            Item::Intent(versions[0].clone()),
        ],
    };
    let intents = RawBatch::Intents {
        scope: scope.clone(),
        after: seen,
        versions,
    };
    let messages = [
        ("frame-hello", Message::Hello { root: digest }),
        (
            "frame-roots",
            Message::Roots(vec![(Scope::System, digest), (scope, digest)]),
        ),
        ("frame-pull", Message::Pull(pull)),
        (
            "frame-detail",
            Message::Detail {
                id: 9,
                buckets: vec![0, 255],
            },
        ),
        ("frame-part", Message::Part(part)),
        ("frame-push-facts", Message::Push(RawBatch::Facts(facts))),
        ("frame-push-objects", Message::Push(intents)),
    ];
    let mut all: Vec<Sample> = messages
        .iter()
        .map(|(name, message)| sample(name, encode_as(message, 1).unwrap().to_vec(), frame))
        .collect();
    all.push(sample("mesh-hello", packed(&Hello { wire: (1, 1) }), value::<Hello>));
    all
}

fn calls() -> Vec<Sample> {
    let (scope, node, root) = (domain("red"), Host::new(1).id(), Digest::of(&[b"root"]));
    let (key, name) = ("10.0.0.1".to_owned(), "h1".parse().unwrap());
    let requests = [
        (
            "call-claim",
            Request::Claim {
                scope: scope.clone(),
                key: key.clone(),
            },
        ),
        ("call-release", Request::Release { scope, key }),
        (
            "call-decree",
            Request::Decree(decree::Request::Prepare {
                version: 2,
                ballot: ballot(),
            }),
        ),
        ("call-admit", Request::Admit { node, name }),
        ("call-authority", Request::Authority { root }),
        (
            "call-claims",
            Request::Claims {
                list: 1,
                after: Some(("red".to_owned(), "k".to_owned())),
            },
        ),
        ("call-seen", Request::Seen { node }),
        ("call-leave", Request::Leave),
    ];
    let mut all: Vec<Sample> = requests
        .iter()
        .map(|(name, request)| sample(name, packed(request), value::<Request>))
        .collect();
    all.push(sample("answer-claimed", packed(&Claimed::Held(node)), value::<Claimed>));
    all
}

fn ballot() -> Ballot {
    Ballot::above(None, Host::new(1).id())
}

fn founded() -> Standing {
    let host = Host::new(1);
    let cluster = Cluster {
        id: ClusterId::from_random([1; 16]),
        name: "lab".parse().unwrap(),
        roots: vec![Bytes::from_static(b"root")],
        anchors: Anchors::of(1, vec![host.id()]),
    };
    Standing::founding(&cluster, &[(host.id(), host.public())].into()).unwrap()
}

fn sealed(standing: &Standing, act: Act) -> Sealed {
    let (decree, ballot) = (standing.next(act), ballot());
    let seals = vec![Seal::sign(&Host::new(1), ballot, &decree)];
    Sealed { decree, ballot, seals }
}

/// The chain as it was kept before it had a wire version.
fn kept(bytes: &[u8]) -> bool {
    let Ok(kept) = postcard::from_bytes::<Kept>(bytes) else {
        return false;
    };
    let chain = decree::Chain::restore(kept);
    let again = packed(&chain.keep());
    let same = again.strip_prefix(bytes) == Some(&[1]);
    same && chain.now().version() == 2 && chain.now().wire() == 1
}

fn decrees() -> Vec<Sample> {
    let (standing, other) = (founded(), Host::new(2));
    let removal = Removal {
        node: other.id(),
        key: other.public(),
        name: "h2".parse().unwrap(),
        cut: 7,
    };
    let acts = [
        ("decree-add-anchor", Act::AddAnchor(other.public())),
        ("decree-drop-anchor", Act::DropAnchor(other.id())),
        ("decree-remove", Act::Remove(removal)),
        ("decree-add-root", Act::AddRoot(Bytes::from_static(b"other"))),
        ("decree-drop-root", Act::DropRoot(Digest::of(&[b"root"]))),
    ];
    let of = |(name, act): &(&str, Act)| sample(name, packed(&sealed(&standing, act.clone())), value::<Sealed>);
    let mut all: Vec<Sample> = acts.iter().map(of).collect();
    let step = sealed(&standing, Act::AddAnchor(other.public()));
    all.push(sample("kept-decrees", packed(&(&standing, vec![step])), kept));
    all
}
