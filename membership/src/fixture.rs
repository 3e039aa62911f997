//! Nodes for tests: real keys, and certificates that are just the public key.

use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};

use crate::author::{self, Authored, Write};
use crate::hlc::Stamp;
use crate::id::{NodeId, Scope};
use crate::keyring::{Certify, NODE_NAME};
use crate::node::{NODE_KIND, NodeRecord};
use crate::record::{Body, Key};
use crate::replica::Replica;
use crate::signed::{SIGNATURE_LEN, Signer};

/// The key of one node.
#[derive(Debug, Clone)]
pub(crate) struct Host(SigningKey);

impl Host {
    pub(crate) fn new(number: u8) -> Self {
        Self(SigningKey::from_bytes(&[number; 32]))
    }

    /// One of many.
    pub(crate) fn numbered(number: usize) -> Self {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
        Self(SigningKey::from_bytes(&seed))
    }

    pub(crate) fn public(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// What the node says of itself at first start.
    pub(crate) fn record(&self) -> Write {
        let record = NodeRecord {
            name: "host".parse().unwrap(),
            certificate: Bytes::copy_from_slice(&self.public()),
            addresses: Vec::new(),
            wire: (1, 1),
            intent: true,
            software: String::new(),
        };
        let bytes = postcard::to_stdvec(&record).unwrap().into();
        Write {
            key: Key::new(NODE_KIND, NODE_NAME),
            body: Some(Body { version: 1, bytes }),
        }
    }

    /// Writes facts and merges them at once.
    pub(crate) fn says(&self, replica: &mut Replica, scope: &Scope, millis: u64, writes: Vec<Write>) -> Authored {
        let made = author::facts(replica, self, scope, writes, stamp(millis)).unwrap();
        assert_eq!(replica.merge(&made.batch).unwrap().change, Some(made.change.clone()));
        made
    }

    /// Writes objects and merges them at once.
    pub(crate) fn wants(&self, replica: &mut Replica, scope: &Scope, millis: u64, writes: Vec<Write>) -> Authored {
        let made = author::intents(replica, self, scope, "test", writes, stamp(millis)).unwrap();
        assert_eq!(replica.merge(&made.batch).unwrap().change, Some(made.change.clone()));
        made
    }
}

impl Signer for Host {
    fn id(&self) -> NodeId {
        NodeId::of_key(&self.public())
    }

    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(message).to_bytes()
    }
}

/// Takes the certificate for the key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trusting;

impl Certify for Trusting {
    fn public_key(&self, record: &NodeRecord) -> Option<[u8; 32]> {
        record.certificate.as_ref().try_into().ok()
    }
}

pub(crate) fn stamp(millis: u64) -> Stamp {
    Stamp { millis, logical: 0 }
}

pub(crate) fn domain(name: &str) -> Scope {
    Scope::Domain(name.parse().unwrap())
}

/// `K/name` becomes `text`, or goes.
pub(crate) fn write(name: &str, text: Option<&str>) -> Write {
    let body = text.map(|text| Body {
        version: 1,
        bytes: Bytes::copy_from_slice(text.as_bytes()),
    });
    Write {
        key: Key::new("K", name),
        body,
    }
}
