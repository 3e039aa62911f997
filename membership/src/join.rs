//! Joining: how a host with a token becomes a node, and how a member gets back whose certificate has ended. The only
//! exchange with somebody who has no good certificate, on a protocol of its own. The joiner shows the token's secret and proves that it holds the key it wants certified, by a
//! signature over keying material of this very TLS session (RFC 8446 section 7.5), so that nobody can pass the proof
//! on. The anchor answers with a certificate and with what it knows of the cluster.
//!
//! ```text
//!  joiner                                          anchor
//!    bidi stream: Request, wire versions      ──►    token? proof? name free? do we understand each other?
//!                                                    issue, write to disk
//!    Grant | Denied                           ◄──
//!
//!  member                                          any anchor, known by its key
//!    bidi stream: Renewal                     ──►    proof? a member, and not removed?
//!    Renewed | Denied                         ◄──
//! ```

mod client;
mod renewal;
mod server;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub(crate) use client::{JoinError, join};
pub(crate) use renewal::{Renewal, Renewed, renew, renewing};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use server::read as read_request;
pub(crate) use server::{Applicant, Registrar, Served, serve};

use crate::home::{Bootstrap, Unchained};
use crate::id::{Label, NodeId};
use crate::token::{Refusal, Secret, TokenId};

/// Version of the exchange.
const VERSION: u16 = 1;
/// The number by which a renewal is told from a join.
const RENEWAL_VERSION: u16 = 2;
/// Largest request.
const REQUEST_MAX: usize = 4 * 1024;
/// Largest answer: a cell of 800 nodes knows less than that.
const ANSWER_MAX: usize = 2 * 1024 * 1024;

/// RFC 5705 label of the keying material that the proof signs.
const EXPORTER: &[u8] = b"EXPORTER-fabric-join";
/// In front of what the proof signs; no other signature begins with it.
const PROOF: &[u8] = b"fabric join proof\0";
/// The same for a renewal.
const RENEWAL_PROOF: &[u8] = b"fabric renewal proof\0";

/// What a joiner asks with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) version: u16,
    pub(crate) token: TokenId,
    pub(crate) secret: Secret,
    pub(crate) name: Label,
    pub(crate) key: [u8; 32],
    /// Ed25519 by `key` over [`PROOF`] and the session's keying material.
    pub(crate) proof: Bytes,
}

/// What a joiner gets.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Its certificate (DER).
    pub(crate) certificate: Bytes,
    /// The cluster and its nodes.
    pub(crate) bootstrap: Bootstrap,
}

/// The same from an anchor that knows no decrees.
#[derive(Debug, Serialize, Deserialize)]
struct UnchainedGrant {
    certificate: Bytes,
    bootstrap: Unchained,
}

/// Reads an answer.
fn read_answer(bytes: &[u8]) -> Option<Result<Grant, Denied>> {
    if let Ok(answer) = postcard::from_bytes(bytes) {
        return Some(answer);
    }
    let older: Result<UnchainedGrant, Denied> = postcard::from_bytes(bytes).ok()?;
    Some(older.map(|UnchainedGrant { certificate, bootstrap }| Grant {
        certificate,
        bootstrap: bootstrap.into(),
    }))
}

/// Why a joiner gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Denied {
    /// The token does not let it in.
    #[error("{0}")]
    Token(#[from] Refusal),
    /// It does not hold the key.
    #[error("the proof of the node's key is wrong")]
    Proof,
    /// Two nodes must not answer to one name.
    #[error("node {1} has the name {0:?}: give this one another --name, or wait 10 minutes if that one never started")]
    NameTaken(Label, NodeId),
    /// The digest of more nodes would not fit gossip.
    #[error("the cluster has {0} nodes, and a cell holds no more")]
    CellFull(usize),
    /// The anchor runs other software.
    #[error("the anchor speaks version {VERSION} of the join protocol, not {0}: use the same software on both")]
    Version(u16),
    /// The anchor's disk, or its authority.
    #[error("the anchor could not do it: {0}")]
    Failed(String),
    /// The others must know whom they let in.
    #[error(
        "{0} of {1} anchors agreed, {needed} are needed: try again when more of them run and can be reached; the token stays good",
        needed = .1 / 2 + 1
    )]
    NoMajority(usize, usize),
    /// Ids never return.
    #[error("node {0} was removed from the cluster: remove its data directory with `fabric-node reset` and join again")]
    Removed(NodeId),
    /// Only members renew.
    #[error("node {0} is not known here as a member: join with a token made by `fabricctl token create`")]
    NotMember(NodeId),
}

fn proof_message(material: &[u8; 32]) -> Vec<u8> {
    [PROOF, material].concat()
}

fn renewal_message(material: &[u8; 32]) -> Vec<u8> {
    [RENEWAL_PROOF, material].concat()
}

/// Both ends get the same bytes, and no other session does.
fn keying_material(connection: &quinn::Connection, key: &[u8; 32]) -> Option<[u8; 32]> {
    let mut material = [0; 32];
    connection.export_keying_material(&mut material, EXPORTER, key).ok()?;
    Some(material)
}
