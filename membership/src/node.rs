//! What the cluster knows of itself: the cluster record and one record per node, both facts in [`Scope::System`].
//!
//! [`Scope::System`]: crate::id::Scope::System

use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, Label, NodeId};

/// Key kind of the decrees that change [`Cluster`]; the key name is the decree's version, in decimal digits.
pub const CLUSTER_KIND: &str = "Cluster";
/// Key kind of [`NodeRecord`]; its only key name per origin is `node`.
pub const NODE_KIND: &str = "Node";

/// The nodes that witness exclusive things, and how often the list changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchors {
    /// Rises with each change of the list.
    pub version: u64,
    /// 1 to 7 nodes, ascending.
    pub nodes: Vec<NodeId>,
    /// The lists before this one, the latest first: what they witnessed still counts.
    #[serde(skip)]
    pub earlier: Vec<Earlier>,
}

/// A list of anchors that another one took the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// Its version.
    pub version: u64,
    /// Those of it who were not removed from the cluster since.
    pub nodes: Vec<NodeId>,
    /// How many acknowledgements were a majority of it.
    pub majority: usize,
}

impl Anchors {
    /// A list that nothing is known to be before.
    #[must_use]
    pub fn of(version: u64, nodes: Vec<NodeId>) -> Self {
        Self {
            version,
            nodes,
            earlier: Vec::new(),
        }
    }

    /// How many acknowledgements are a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.nodes.len() / 2 + 1
    }
}

/// The cluster record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Never changes.
    pub id: ClusterId,
    /// For people.
    pub name: Label,
    /// Trusted root certificates (DER), two at once while they are rotated.
    pub roots: Vec<Bytes>,
    /// Who witnesses exclusive things.
    pub anchors: Anchors,
}

/// What a node says of itself. Its certificate proves that the cluster let it in and that the key is its own, so this
/// is the one fact that is accepted from an origin not known before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// For people.
    pub name: Label,
    /// Leaf certificate (DER); carries the public key whose hash is the node's id.
    pub certificate: Bytes,
    /// Where its mesh endpoint is reached, best first.
    pub addresses: Vec<SocketAddr>,
    /// Oldest and newest wire version it speaks.
    pub wire: (u16, u16),
    /// Meant to say whether shared intent written on it is accepted. Every node says yes and nothing reads it: what any
    /// member writes counts.
    pub intent: bool,
    /// Version of the software, for people.
    pub software: String,
}
