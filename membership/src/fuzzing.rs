//! What takes bytes from outside, as functions of bytes alone: for fuzzers (`tests/fuzz`) and for the test that replays
//! their corpus. Nothing else uses it. A target must neither panic nor take memory that its input does not pay for; what
//! it reads it writes again and reads the same.

use std::time::Duration;

use bytes::Bytes;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::claim::Claim;
use crate::collect::Seen;
use crate::decree;
use crate::gossip;
use crate::home::{Bootstrap, Manifest};
use crate::id::NodeId;
use crate::join::{self, Denied, Grant};
use crate::keyring::{Certify, Keyring};
use crate::mesh;
use crate::node::{Cluster, NodeRecord};
use crate::pki::{Leaf, request};
use crate::record::{Fact, Head, Intent};
use crate::replica::Replica;
use crate::service::internal;
use crate::signed::{Content, Raw, Signed};
use crate::store::Store;
use crate::sync::{Event, Sync};
use crate::token::{Token, Tokens};
use crate::wire::versions::Hello;
use crate::wire::{self, Message, RawBatch, Versions};

/// A function of any bytes.
pub type Target = fn(&[u8]);

/// All of them with the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("membership-frame", frame),
    ("membership-sync", sync),
    ("membership-record", record),
    ("membership-store", store),
    ("membership-bodies", bodies),
    ("membership-token", token),
    ("membership-join", join),
    ("membership-mesh", mesh),
    ("membership-gossip", gossip),
    ("membership-certificate", certificate),
    ("membership-files", files),
];

/// A node whose certificate is just its key.
struct Trusting;

impl Certify for Trusting {
    fn public_key(&self, record: &NodeRecord) -> Option<[u8; 32]> {
        record.certificate.as_ref().try_into().ok()
    }
}

/// Frames between replicas, and the batches in them.
pub fn frame(bytes: &[u8]) {
    let Ok(message) = wire::decode(bytes) else { return };
    if let Ok(again) = wire::encode(&message) {
        assert_eq!(wire::decode(&again).as_ref(), Ok(&message));
    }
    if let Message::Push(RawBatch::Facts(facts)) = message {
        // Whatever is wrong with it is an error.
        let _checked = facts.verify(&Keyring::default(), &Trusting);
    }
}

/// Frames to a replica that knows nobody: up to a kilobyte each, as many as the bytes hold.
pub fn sync(bytes: &[u8]) {
    let (own, peer) = ([1; 32], NodeId::of_key(&[2; 32]));
    let (mut sync, mut rng) = (
        Sync::new(&own, Replica::default(), Box::new(Trusting)),
        StdRng::seed_from_u64(1),
    );
    drop(sync.handle(Event::PeerUp(peer), Duration::ZERO, &mut rng));
    for (n, frame) in (0..).zip(bytes.chunks(1_024)) {
        let event = Event::Frame(peer, Bytes::copy_from_slice(frame));
        drop(sync.handle(event, Duration::from_secs(n), &mut rng));
        drop(sync.handle(Event::Tick, Duration::from_secs(n), &mut rng));
    }
}

/// Signed records, as they travel and as they lie on disk.
pub fn record(bytes: &[u8]) {
    fn of<T: Content>(bytes: &[u8]) {
        if let Ok(raw) = Raw::new(Bytes::copy_from_slice(bytes)) {
            let _read = Signed::<T>::trust(raw);
        }
    }
    of::<Fact>(bytes);
    of::<Head>(bytes);
    of::<Intent>(bytes);
}

/// Rows of a store: number of the table, length (u16, little-endian), and what stands there; and so on.
pub fn store(mut bytes: &[u8]) {
    let rows = std::iter::from_fn(|| {
        let ([table, low, high], rest) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (row, rest) = rest.split_at(length);
        bytes = rest;
        Some((*table, row))
    });
    if let Ok(store) = Store::planted(rows) {
        // What does not fit together is forgotten; a second start finds no more of that.
        let first = store.load(NodeId::of_key(&[1; 32]));
        let second = store.load(NodeId::of_key(&[1; 32]));
        if let (Ok(first), Ok(second)) = (first, second) {
            assert_eq!(first.replica.root_of_roots(), second.replica.root_of_roots());
        }
    }
}

/// Bodies of the records that membership itself reads, and calls of other nodes.
pub fn bodies(bytes: &[u8]) {
    same::<NodeRecord>(bytes);
    same::<Cluster>(bytes);
    same::<internal::Request>(bytes);
    same::<internal::Claimed>(bytes);
    same::<decree::Answer>(bytes);
    same::<decree::Sealed>(bytes);
    same::<decree::Kept>(bytes);
    same::<Claim>(bytes);
    same::<Seen>(bytes);
}

/// What is read is written and read again.
fn same<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    let Ok(value) = postcard::from_bytes::<T>(bytes) else {
        return;
    };
    let written = postcard::to_stdvec(&value).ok();
    let again = written.and_then(|bytes| postcard::from_bytes(&bytes).ok());
    assert_eq!(again, Some(value));
}

/// Join tokens as people paste them.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_string().parse(), Ok(token));
    }
}

/// What a joiner asks and what an anchor answers.
pub fn join(bytes: &[u8]) {
    let _request = join::read_request(bytes);
    let _answer = postcard::from_bytes::<Result<Grant, Denied>>(bytes);
}

/// The first frame of a connection, and the head of a call.
pub fn mesh(bytes: &[u8]) {
    let _common = Hello::read(bytes).map(|theirs| Versions::OWN.common(theirs, 1));
    let _call = mesh::read_call(&Bytes::copy_from_slice(bytes));
}

/// Gossip before chitchat gets it.
pub fn gossip(bytes: &[u8]) {
    gossip::check_sieve(bytes);
}

/// Certificates of peers, and requests for those of users.
pub fn certificate(bytes: &[u8]) {
    let _leaf = Leaf::parse(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _key = request::public_key(text);
    }
}

/// Files of a data directory, and rows of the store that are no records.
pub fn files(bytes: &[u8]) {
    let _bootstrap = postcard::from_bytes::<Bootstrap>(bytes);
    let _tokens = postcard::from_bytes::<Tokens>(bytes);
    let _manifest = serde_json::from_slice::<Manifest>(bytes);
}

#[cfg(test)]
#[path = "../../tests/fuzz/replay.rs"]
mod replay;
#[cfg(test)]
mod tests;
