//! Whose signatures count: the public keys of the nodes that the cluster let in. A node's own record proves its key,
//! so this is derived from the replica and never replicated itself.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;

use crate::id::NodeId;
use crate::node::{NODE_KIND, NodeRecord};
use crate::record::{Fact, Key};
use crate::signed::{self, SIGNATURE_LEN};

/// Key name of a node's record about itself.
pub const NODE_NAME: &str = "node";

/// Who can tell whether the cluster let a node in.
pub trait Certify {
    /// The Ed25519 public key that the record's certificate proves to be a member's of this cluster, `None` if it
    /// proves none. It must not look at the certificate's time: a record outlives the certificate it came with.
    fn public_key(&self, record: &NodeRecord) -> Option<[u8; 32]>;
}

/// Public keys of known nodes.
#[derive(Debug, Clone, Default)]
pub struct Keyring(BTreeMap<NodeId, VerifyingKey>);

impl Keyring {
    /// Adds a node by its public key and tells its id, unless the bytes are no Ed25519 key.
    pub fn insert(&mut self, public: &[u8; 32]) -> Option<NodeId> {
        let key = VerifyingKey::from_bytes(public).ok()?;
        let id = NodeId::of_key(public);
        self.0.insert(id, key);
        Some(id)
    }

    /// The key of a node.
    #[must_use]
    pub fn key(&self, node: NodeId) -> Option<&VerifyingKey> {
        self.0.get(&node)
    }

    /// Whether that node signed these bytes under this context. False for a node that is not known.
    #[must_use]
    pub fn check(&self, node: NodeId, context: &str, payload: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
        self.key(node)
            .is_some_and(|key| signed::check(key, context, payload, signature))
    }

    /// The nodes it knows, ascending.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.0.keys().copied()
    }
}

/// The record that a fact of the system scope carries, if it is the origin's own node record.
#[must_use]
pub fn node_record(fact: &Fact) -> Option<NodeRecord> {
    if fact.key != Key::new(NODE_KIND, NODE_NAME) {
        return None;
    }
    postcard::from_bytes(&fact.body.as_ref()?.bytes).ok()
}

/// The public key with which a fact certifies its own origin.
#[must_use]
pub fn certified_key(fact: &Fact, certify: &dyn Certify) -> Option<[u8; 32]> {
    let key = certify.public_key(&node_record(fact)?)?;
    (NodeId::of_key(&key) == fact.origin).then_some(key)
}
