//! Decrees: how the cluster record changes. A decree says one thing (one anchor more or less, one node out, one root
//! more or less) about the version before it, which it names by its digest; it counts once a majority of the anchors of
//! that version sealed it under one ballot. So all decrees form one chain, and whoever holds a link can check the next
//! one, whoever hands it on. No I/O, no clock, no randomness here.
//!
//! ```text
//!  Standing n ──Decree n+1, sealed by a majority of the anchors of n──► Standing n+1
//!
//!  proposer (an anchor)                    each anchor of version n
//!    Prepare(n+1, ballot)            ──►     promise: nothing below this ballot
//!    Promised(accepted before?)      ◄──     on disk first
//!    Accept(ballot, decree)          ──►     the accepted one of the highest ballot, else its own
//!    Sealed(signature)               ◄──     on disk first
//!    a majority: decided
//! ```
//!
//! Two that propose at once do not block each other: a higher ballot takes up what a majority may have sealed under a
//! lower one (single-decree Paxos, L. Lamport, "Paxos Made Simple", 2001). Start with [`Standing`], then [`Chain`];
//! [`Ledger`] is an anchor's side, [`Proposal`] the proposer's.

mod chain;
mod ledger;
mod proposal;
mod standing;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{ClusterId, Label, NodeId};
use crate::record::Digest;
use crate::signed::{self, Signer};

pub use chain::{Chain, Kept, Taken};
pub use ledger::{Answer, Ledger, Request};
pub use proposal::{Proposal, Step};
pub(crate) use standing::DEFAULT_ANCHORS;
pub use standing::{Illegal, List, Seat, Standing, root_digest};

/// Most anchors of a cluster.
pub const ANCHORS_MAX: usize = 7;
/// Most roots that are trusted at once.
pub const ROOTS_MAX: usize = 2;
/// Largest root certificate, in bytes.
pub const ROOT_BYTES_MAX: usize = 2 * 1024;

/// What seals sign; no other signature begins with it.
const CONTEXT: &str = "fabric decree";

/// What a decree says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// The node with this public key is an anchor as well.
    AddAnchor([u8; 32]),
    /// This node is no anchor any more.
    DropAnchor(NodeId),
    /// This node is out, for good.
    Remove(Removal),
    /// This root certificate (DER) is trusted as well.
    AddRoot(Bytes),
    /// The root certificate with this digest is not trusted any more.
    DropRoot(Digest),
    /// This wire version is spoken from here on, one above the one before.
    RaiseWire(u16),
}

/// The end of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// Which node.
    pub node: NodeId,
    /// Its public key: what it wrote before stays, and must be checked by those who come later.
    pub key: [u8; 32],
    /// What it was called.
    pub name: Label,
    /// The highest counter of its writes that still counts, in all scopes.
    pub cut: u64,
}

/// One step of the cluster record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decree {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// One more than the version before.
    pub version: u64,
    /// The digest of the version before.
    pub previous: Digest,
    /// What changes.
    pub act: Act,
}

impl Decree {
    /// Names the version that the decree makes.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&[b"fabric decree\0", &encoded(self)])
    }
}

/// Orders the proposals for one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    /// Rises with each try.
    pub round: u64,
    /// Who proposes.
    pub by: NodeId,
}

impl Ballot {
    /// The first ballot of a proposer above all that it heard of.
    #[must_use]
    pub fn above(heard: Option<Self>, by: NodeId) -> Self {
        let round = heard.map_or(1, |heard| heard.round.saturating_add(1));
        Self { round, by }
    }
}

/// An anchor's word that it accepted a decree under a ballot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Who says so.
    pub anchor: NodeId,
    /// Ed25519 over (ballot, decree), 64 bytes.
    pub signature: Vec<u8>,
}

impl Seal {
    /// Seals a decree. The ledger must be on disk before this leaves the node.
    #[must_use]
    pub fn sign(signer: &dyn Signer, ballot: Ballot, decree: &Decree) -> Self {
        Self {
            anchor: signer.id(),
            signature: signed::sign_bytes(signer, CONTEXT, &payload(ballot, decree)).to_vec(),
        }
    }
}

/// A decree with the seals that make it count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// What was decided.
    pub decree: Decree,
    /// Under which ballot.
    pub ballot: Ballot,
    /// By whom.
    pub seals: Vec<Seal>,
}

fn payload(ballot: Ballot, decree: &Decree) -> Vec<u8> {
    encoded(&(ballot, decree))
}

/// Nothing here can fail to encode: no maps with odd keys, no sequences of unknown length.
fn encoded(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap_or_default()
}

#[cfg(test)]
mod raising;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
