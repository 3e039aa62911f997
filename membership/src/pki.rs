//! The cluster's certificates: one Ed25519 authority made by `init`, whose key lies on anchors only, and one leaf per
//! node that says which node of which cluster holds a key. It refuses to read a clock or a file.
//!
//! A leaf carries the DNS names `<node>.<cluster>.fabric.internal` and `peer.<cluster>.fabric.internal`, because TLS
//! libraries check nothing else, and exactly one URI, `spiffe://<cluster>/node/<node>` (X509-SVID), which is what
//! counts.

mod authority;
mod leaf;
mod roots;

pub use authority::Authority;
pub use leaf::Leaf;
pub use roots::Roots;

use crate::id::{ClusterId, NodeId};

/// Why a certificate is not accepted, or could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// Not a certificate, or one with parts we do not use.
    #[error("not a certificate of a node: {0}")]
    Malformed(&'static str),
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
