//! The names membership deals in: clusters, nodes and replication scopes. Each can only exist valid.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Characters of a node id: 12 base32 characters carry 60 bits of the key's hash.
const NODE_ID_LEN: usize = 12;

/// Longest name of a node or of a scope: a DNS label (RFC 1035 section 2.3.4).
const LABEL_MAX: usize = 63;

/// Why a text is not the identifier it was read as.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 12 characters of `a-z2-7`.
    #[error("a node id is {NODE_ID_LEN} characters of a-z and 2-7, not {0:?}")]
    Node(String),
    /// Not 32 hexadecimal digits.
    #[error("a cluster id is 32 hexadecimal digits, not {0:?}")]
    Cluster(String),
    /// Not a lower-case DNS label.
    #[error(
        "a name is 1 to {LABEL_MAX} characters of a-z, 0-9 and '-', with a letter or digit at both ends, not {0:?}"
    )]
    Label(String),
}

/// The identity of a node: the first 12 base32 characters (lower case, RFC 4648 alphabet) of the SHA-256 of its
/// Ed25519 public key. A host that lost its key is another node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId([u8; NODE_ID_LEN]);

impl NodeId {
    /// The id that belongs to an Ed25519 public key.
    #[must_use]
    pub fn of_key(public: &[u8; 32]) -> Self {
        let text = lower_base32(&Sha256::digest(public));
        let mut id = [0; NODE_ID_LEN];
        id.copy_from_slice(&text.as_bytes()[..NODE_ID_LEN]);
        Self(id)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII gets in: `of_key` and `from_str` are the only ways to make one.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn lower_base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_ascii_lowercase()
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes: [u8; NODE_ID_LEN] = text.as_bytes().try_into().map_err(|_| IdError::Node(text.to_owned()))?;
        if bytes.iter().all(|c| matches!(c, b'a'..=b'z' | b'2'..=b'7')) {
            Ok(Self(bytes))
        } else {
            Err(IdError::Node(text.to_owned()))
        }
    }
}

impl TryFrom<String> for NodeId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The identity of a cluster: 128 random bits, made once by `init`. The cluster's name may change, this never does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId([u8; 16]);

impl ClusterId {
    /// The id made of these random bits.
    #[must_use]
    pub fn from_random(bits: [u8; 16]) -> Self {
        Self(bits)
    }
}

impl FromStr for ClusterId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Cluster(text.to_owned());
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| wrong())?;
        Ok(Self(bytes.try_into().map_err(|_| wrong())?))
    }
}

impl TryFrom<String> for ClusterId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A lower-case DNS label (RFC 1123 section 2.1): what nodes and scopes are called.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Box<str>);

impl Label {
    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = text.as_bytes();
        let alphanumeric = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
        let ends = bytes.first().is_some_and(alphanumeric) && bytes.last().is_some_and(alphanumeric);
        if ends && bytes.len() <= LABEL_MAX && bytes.iter().all(|c| alphanumeric(c) || *c == b'-') {
            Ok(Self(text.into()))
        } else {
            Err(IdError::Label(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Label {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0.into()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The part of the state that is replicated as one: a tenant's domain, or the cluster's own affairs. Roots, vectors
/// and batches are per scope, so that a node may one day hold only some.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Cluster, nodes and removals. It syncs before any other.
    System,
    /// What belongs to one virtual domain.
    Domain(Label),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.pad("(system)"),
            Self::Domain(name) => f.pad(name.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_is_the_hash_of_its_key() {
        let id = NodeId::of_key(&[7; 32]);
        assert_eq!(id.as_str().parse(), Ok(id));
        assert_ne!(id, NodeId::of_key(&[8; 32]));
    }

    #[test]
    fn ill_formed_identifiers_do_not_exist() {
        for text in ["", "abc", "ABCDEFGHIJKL", "abcdefghijk1", "abcdefghijklm"] {
            assert_eq!(text.parse::<NodeId>(), Err(IdError::Node(text.to_owned())));
        }
        for text in ["", "-a", "a-", "A", "a.b", "ä", &"a".repeat(64)] {
            assert_eq!(text.parse::<Label>(), Err(IdError::Label(text.to_owned())));
        }
        assert!("0123".parse::<ClusterId>().is_err());
    }
}
