//! What the cluster record says at one version, and which decree may follow it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Serialize};

use super::{ANCHORS_MAX, Act, CONTEXT, Decree, ROOT_BYTES_MAX, ROOTS_MAX, Removal, Seal, Sealed, encoded, payload};
use crate::id::{ClusterId, Label, NodeId};
use crate::node::{Anchors, Cluster, Earlier};
use crate::record::Digest;
use crate::signed;
use crate::wire::versions::FIRST;

/// Lists of anchors that are remembered, the current one included: claims that they witnessed count.
const LISTS_MAX: usize = 64;
/// How many anchors a cluster gets by itself.
pub(crate) const DEFAULT_ANCHORS: usize = 3;

/// An anchor's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Who has it.
    pub node: NodeId,
    /// Its public key.
    pub key: [u8; 32],
    /// The version that gave it.
    pub since: u64,
}

/// Who the anchors were from a version on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct List {
    /// The version that made the list.
    pub version: u64,
    /// Ascending.
    pub nodes: Vec<NodeId>,
}

/// The cluster record at one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    version: u64,
    digest: Digest,
    id: ClusterId,
    name: Label,
    roots: Vec<Bytes>,
    /// 1 to 7, ascending.
    seats: Vec<Seat>,
    /// The current one last.
    lists: Vec<List>,
    removed: BTreeMap<NodeId, Removal>,
    /// The list of anchors grew to its usual length once, or was shortened by somebody: it does not grow by itself.
    grown: bool,
    /// The wire version that all members speak. It is kept beside this: [`super::Kept`].
    #[serde(skip, default = "first_wire")]
    wire: u16,
}

fn first_wire() -> u16 {
    FIRST
}

/// Why a decree does not follow a version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// It is of another cluster, or of another version than the next, or names another one before it.
    #[error("the cluster record changed meanwhile, or the decree is of another cluster")]
    NotNext,
    /// Too few anchors sealed it.
    #[error("{0} valid seals, {1} are needed")]
    Seals(usize, usize),
    /// The list has it.
    #[error("node {0} is an anchor already")]
    AnchorAlready(NodeId),
    /// The list has it not.
    #[error("node {0} is no anchor")]
    NoAnchor(NodeId),
    /// Nobody would be left to decide anything.
    #[error("node {0} is the only anchor: make another one first, with `fabricctl anchor add`")]
    LastAnchor(NodeId),
    /// The list is full.
    #[error("there are {ANCHORS_MAX} anchors, and no more can be: remove one first, with `fabricctl anchor remove`")]
    TooManyAnchors,
    /// A node that is out stays out.
    #[error("node {0} was removed; the host can join again as another node, with another token")]
    Removed(NodeId),
    /// Its id is not the hash of its key, or the key is none.
    #[error("the key is not that of the node")]
    Key,
    /// None, too many, too large, twice the same, or not there.
    #[error("a cluster trusts 1 to {ROOTS_MAX} roots of at most {ROOT_BYTES_MAX} bytes, each once")]
    Roots,
    /// Versions are raised one at a time, and never lowered.
    #[error("the cluster speaks wire version {0}; {1} is not the next one")]
    Wire(u16, u16),
}

impl Standing {
    /// Version 1, as `init` made it. It needs no seal: each node has it from its own set-up. `keys` are the public keys of
    /// the anchors that the record names; `None` if one is missing.
    #[must_use]
    pub fn founding(cluster: &Cluster, keys: &BTreeMap<NodeId, [u8; 32]>) -> Option<Self> {
        let since = cluster.anchors.version;
        let seat = |node: &NodeId| {
            keys.get(node).map(|key| Seat {
                node: *node,
                key: *key,
                since,
            })
        };
        let seats: Vec<Seat> = cluster.anchors.nodes.iter().map(seat).collect::<Option<_>>()?;
        let said = (cluster.id, &cluster.name, &cluster.roots, since, &seats);
        Some(Self {
            version: since,
            digest: Digest::of(&[b"fabric founding\0", &encoded(&said)]),
            id: cluster.id,
            name: cluster.name.clone(),
            roots: cluster.roots.clone(),
            lists: vec![List {
                version: since,
                nodes: cluster.anchors.nodes.clone(),
            }],
            seats,
            removed: BTreeMap::new(),
            grown: false,
            wire: FIRST,
        })
    }

    /// Which version this is.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Names this version and all before it.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The anchors, ascending.
    #[must_use]
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// The place of an anchor.
    #[must_use]
    pub fn seat(&self, node: NodeId) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.node == node)
    }

    /// How many seals a decree needs.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.seats.len() / 2 + 1
    }

    /// Those who are out.
    #[must_use]
    pub fn removed(&self) -> &BTreeMap<NodeId, Removal> {
        &self.removed
    }

    /// The trusted roots (DER).
    #[must_use]
    pub fn roots(&self) -> &[Bytes] {
        &self.roots
    }

    /// The wire version that the cluster agreed on.
    #[must_use]
    pub fn wire(&self) -> u16 {
        self.wire
    }

    /// The same with the wire version that was kept beside it.
    pub(super) fn with_wire(self, wire: u16) -> Self {
        Self { wire, ..self }
    }

    /// Whether one more node becomes an anchor without being asked for.
    #[must_use]
    pub fn grows(&self) -> bool {
        !self.grown && self.seats.len() < DEFAULT_ANCHORS
    }

    /// The lists of anchors that are remembered, the current one last.
    #[must_use]
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// The record as the rest of the node reads it.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        let mut lists = self.lists.iter().rev();
        let current = lists.next();
        let trusted = |nodes: &[NodeId]| {
            nodes
                .iter()
                .copied()
                .filter(|id| !self.removed.contains_key(id))
                .collect()
        };
        let earlier = lists.map(|list| Earlier {
            version: list.version,
            majority: list.nodes.len() / 2 + 1,
            nodes: trusted(&list.nodes),
        });
        Cluster {
            id: self.id,
            name: self.name.clone(),
            roots: self.roots.clone(),
            anchors: Anchors {
                version: current.map_or(self.version, |list| list.version),
                nodes: self.seats.iter().map(|seat| seat.node).collect(),
                earlier: earlier.collect(),
            },
        }
    }

    /// The decree that would do this to this version.
    #[must_use]
    pub fn next(&self, act: Act) -> Decree {
        Decree {
            cluster: self.id,
            version: self.version.saturating_add(1),
            previous: self.digest,
            act,
        }
    }

    /// What holds after a decree, whoever sealed it.
    pub fn after(&self, decree: &Decree) -> Result<Self, Illegal> {
        let next = self.version.checked_add(1) == Some(decree.version);
        if decree.cluster != self.id || !next || decree.previous != self.digest {
            return Err(Illegal::NotNext);
        }
        let mut after = self.clone();
        (after.version, after.digest) = (decree.version, decree.digest());
        match &decree.act {
            Act::AddAnchor(key) => after.add_anchor(*key)?,
            Act::DropAnchor(node) => {
                after.drop_anchor(*node)?;
                after.grown = true;
            }
            Act::Remove(removal) => after.remove(removal)?,
            Act::AddRoot(root) => after.roots.push(root.clone()),
            Act::DropRoot(digest) => after.roots.retain(|root| root_digest(root) != *digest),
            Act::RaiseWire(version) => after.raise_wire(*version)?,
        }
        after.check_roots(self, &decree.act)?;
        Ok(after)
    }

    /// What holds after a decree that a majority of this version's anchors sealed.
    pub fn accept(&self, sealed: &Sealed) -> Result<Self, Illegal> {
        let after = self.after(&sealed.decree)?;
        let message = payload(sealed.ballot, &sealed.decree);
        // Each anchor has one seal; more than there are anchors need not be looked at.
        let seals = sealed.seals.iter().take(ANCHORS_MAX);
        let valid: BTreeSet<_> = seals
            .filter(|seal| self.signed(seal, &message))
            .map(|seal| seal.anchor)
            .collect();
        if valid.len() < self.majority() {
            return Err(Illegal::Seals(valid.len(), self.majority()));
        }
        Ok(after)
    }

    /// Whether the seal of one anchor is good.
    #[must_use]
    pub fn is_sealed(&self, seal: &Seal, ballot: super::Ballot, decree: &Decree) -> bool {
        self.signed(seal, &payload(ballot, decree))
    }

    fn signed(&self, seal: &Seal, message: &[u8]) -> bool {
        let signature = seal.signature.as_slice().try_into();
        let key = self
            .seat(seal.anchor)
            .and_then(|seat| VerifyingKey::from_bytes(&seat.key).ok());
        match (key, signature) {
            (Some(key), Ok(signature)) => signed::check(&key, CONTEXT, message, signature),
            _ => false,
        }
    }

    fn add_anchor(&mut self, key: [u8; 32]) -> Result<(), Illegal> {
        let node = NodeId::of_key(&key);
        VerifyingKey::from_bytes(&key).map_err(|_| Illegal::Key)?;
        if self.removed.contains_key(&node) {
            return Err(Illegal::Removed(node));
        }
        let Err(place) = self.seats.binary_search_by_key(&node, |seat| seat.node) else {
            return Err(Illegal::AnchorAlready(node));
        };
        if self.seats.len() >= ANCHORS_MAX {
            return Err(Illegal::TooManyAnchors);
        }
        let since = self.version;
        self.seats.insert(place, Seat { node, key, since });
        self.grown |= self.seats.len() >= DEFAULT_ANCHORS;
        self.relist();
        Ok(())
    }

    fn drop_anchor(&mut self, node: NodeId) -> Result<(), Illegal> {
        if self.seat(node).is_none() {
            return Err(Illegal::NoAnchor(node));
        }
        if self.seats.len() == 1 {
            return Err(Illegal::LastAnchor(node));
        }
        self.seats.retain(|seat| seat.node != node);
        self.relist();
        Ok(())
    }

    fn remove(&mut self, removal: &Removal) -> Result<(), Illegal> {
        if self.removed.contains_key(&removal.node) {
            return Err(Illegal::Removed(removal.node));
        }
        if NodeId::of_key(&removal.key) != removal.node || VerifyingKey::from_bytes(&removal.key).is_err() {
            return Err(Illegal::Key);
        }
        if self.seat(removal.node).is_some() {
            self.drop_anchor(removal.node)?;
        }
        self.removed.insert(removal.node, removal.clone());
        Ok(())
    }

    fn raise_wire(&mut self, version: u16) -> Result<(), Illegal> {
        if self.wire.checked_add(1) != Some(version) {
            return Err(Illegal::Wire(self.wire, version));
        }
        self.wire = version;
        Ok(())
    }

    fn relist(&mut self) {
        self.lists.push(List {
            version: self.version,
            nodes: self.seats.iter().map(|seat| seat.node).collect(),
        });
        if self.lists.len() > LISTS_MAX {
            self.lists.remove(0);
        }
    }

    fn check_roots(&self, before: &Self, act: &Act) -> Result<(), Illegal> {
        let about_roots = matches!(act, Act::AddRoot(_) | Act::DropRoot(_));
        let distinct: BTreeSet<_> = self.roots.iter().collect();
        let sizes = self.roots.iter().all(|root| (1..=ROOT_BYTES_MAX).contains(&root.len()));
        let good = (1..=ROOTS_MAX).contains(&self.roots.len()) && distinct.len() == self.roots.len() && sizes;
        if about_roots && (!good || self.roots == before.roots) {
            return Err(Illegal::Roots);
        }
        Ok(())
    }
}

/// By which a root is named.
#[must_use]
pub fn root_digest(root: &[u8]) -> Digest {
    Digest::of(&[root])
}
