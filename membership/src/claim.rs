//! Exclusive keys: at most one node holds the claim on a key, witnessed by a majority of the anchors. A claimant asks
//! each anchor; an anchor acknowledges a key to the first that asks, persists that before it answers, and from then on
//! refuses all others. What a key means (an address, a block of them) is the caller's affair.

use serde::{Deserialize, Serialize};

use crate::id::{NodeId, Scope};
use crate::node::Anchors;

/// An anchor's signed word that it gave the key to this holder and to nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// Who says so.
    pub anchor: NodeId,
    /// The version of the list of anchors that it counts for.
    pub list: u64,
    /// Ed25519 over (cluster id, scope, key, holder, list).
    pub signature: Vec<u8>,
}

/// A key together with the proof that `holder` holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Within which scope the key is exclusive.
    pub scope: Scope,
    /// The exclusive key, 1 to 200 bytes.
    pub key: Box<str>,
    /// Who holds it.
    pub holder: NodeId,
    /// A majority of the anchors of one list.
    pub witnesses: Vec<Acknowledgement>,
}

/// Why a claim was not granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else holds the key; choose another one.
    #[error("{key} is held by node {holder}")]
    Held {
        /// The key.
        key: Box<str>,
        /// Its holder.
        holder: NodeId,
    },
    /// Too few anchors answered in time.
    #[error("{answered} of {} anchors answered, {} are needed: {}; check that they run and can be reached", anchors.nodes.len(), anchors.majority(), list(anchors))]
    NoMajority {
        /// How many did.
        answered: usize,
        /// The list that was asked.
        anchors: Anchors,
    },
}

fn list(anchors: &Anchors) -> String {
    anchors
        .nodes
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
