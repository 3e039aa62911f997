//! The cluster's certificates: one Ed25519 authority made by `init`, whose key lies on anchors only, one leaf per node
//! that says which node of which cluster holds a key, and short-lived ones for users of the API. It refuses to read a
//! clock or a file.
//!
//! A leaf carries the DNS names `<node>.<cluster>.fabric.internal` and `peer.<cluster>.fabric.internal`, because TLS
//! libraries check nothing else, and exactly one URI, `spiffe://<cluster>/node/<node>` (X509-SVID), which is what
//! counts. A user's carries only the URI `spiffe://<cluster>/user/<name>` and cannot serve: it is no node's, and a node's
//! is no user's.

mod authority;
mod leaf;
mod pinned;
pub mod request;
mod roots;
pub mod tls;
mod user;

pub(crate) use authority::BACKDATE;
pub use authority::{Authority, LEAF_LIFE, USER_LIFE_MAX};
pub use leaf::{Leaf, root_key, root_validity};
pub(crate) use pinned::Pinned;
pub use roots::Roots;
pub use user::User;

use ed25519_dalek::pkcs8::spki::der::pem::{self, LineEnding};
use sha2::{Digest as _, Sha256};

use crate::id::{ClusterId, Label, NodeId};

/// Why a certificate is not accepted, or could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// Not a certificate, or one with parts we do not use.
    #[error("not a certificate of a node: {0}")]
    Malformed(&'static str),
    /// A certificate, but not of a user of the API.
    #[error("not a certificate of an API user: {0}")]
    NotUser(&'static str),
    /// It does not chain to a root of this cluster, or is outside of its time.
    #[error("the certificate is not valid here: {0}")]
    Untrusted(String),
    /// It is of another cluster.
    #[error("the certificate is of cluster {0}")]
    OtherCluster(ClusterId),
    /// Its name is not the hash of its key.
    #[error("the certificate names node {named}, but its key is of node {actual}")]
    NotItsKey {
        /// What the URI says.
        named: NodeId,
        /// What the key says.
        actual: NodeId,
    },
    /// A request for a certificate that is none, or that the holder of its key did not sign.
    #[error("not a signed request for a certificate of an Ed25519 key (PKCS #10): {0}")]
    Request(String),
    /// A user's certificate for no time, or for more than is given out.
    #[error("a user's certificate lives from 1 s to {} days: there is no way to take it back", USER_LIFE_MAX.as_secs() / 86_400)]
    Life,
    /// The library refused to make one.
    #[error("the certificate could not be made: {0}")]
    Issue(String),
}

/// The name by which a node is dialled.
#[must_use]
pub fn dns_name(node: NodeId, cluster: ClusterId) -> String {
    format!("{node}.{cluster}.fabric.internal")
}

/// The name that every node of a cluster answers to.
#[must_use]
pub fn any_peer_name(cluster: ClusterId) -> String {
    format!("peer.{cluster}.fabric.internal")
}

fn spiffe_uri(node: NodeId, cluster: ClusterId) -> String {
    format!("spiffe://{cluster}/node/{node}")
}

fn user_uri(name: &Label, cluster: ClusterId) -> String {
    format!("spiffe://{cluster}/user/{name}")
}

/// A certificate (DER) as PEM (RFC 7468 section 5).
pub fn to_pem(der: &[u8]) -> Result<String, PkiError> {
    armoured("CERTIFICATE", der)
}

/// SHA-256 of a certificate (DER) as people compare it.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    let pairs: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

fn armoured(label: &str, der: &[u8]) -> Result<String, PkiError> {
    pem::encode_string(label, LineEnding::LF, der).map_err(|error| PkiError::Issue(error.to_string()))
}
