//! The key of a node and the machine it belongs to. Key and store live and die together: a host that lost them is
//! another node, and a copy of them on another machine must not run.

use std::fmt;
use std::path::Path;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::id::NodeId;
use crate::signed::Signer;

/// Where Linux keeps the id of the machine (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// Why a text is not a node's key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PKCS#8 PEM (RFC 5958, RFC 7468) of an Ed25519 key.
    #[error("not an Ed25519 private key in PKCS#8 PEM")]
    Format,
}

/// An Ed25519 private key: of a node or of a cluster's certificate authority. Wiped from memory when dropped, never
/// shown.
#[derive(Clone)]
pub struct NodeKey {
    signing: SigningKey,
    public: [u8; 32],
}

impl NodeKey {
    /// A key from the operating system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rand::fill(&mut seed[..]);
        Self::from_seed(&seed)
    }

    /// The key that belongs to 32 secret bytes.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self::from(SigningKey::from_bytes(seed))
    }

    /// Reads what `to_pem` wrote.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        SigningKey::from_pkcs8_pem(text)
            .map(Self::from)
            .map_err(|_| KeyError::Format)
    }

    /// PKCS#8 version 1 (without the public key), which every library reads.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        self.pair().to_pkcs8_pem(LineEnding::LF).map_err(|_| KeyError::Format)
    }

    /// The same as DER.
    pub(crate) fn to_der(&self) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let document = self.pair().to_pkcs8_der().map_err(|_| KeyError::Format)?;
        Ok(Zeroizing::new(document.as_bytes().to_vec()))
    }

    fn pair(&self) -> KeypairBytes {
        KeypairBytes {
            secret_key: self.signing.to_bytes(),
            public_key: None,
        }
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    pub(crate) fn public_ref(&self) -> &[u8; 32] {
        &self.public
    }

    /// The node whose key this is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId::of_key(&self.public())
    }

    /// Signs a message (RFC 8032). The caller puts a word in front that no other use of the key has.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).to_bytes()
    }

    /// 32 secret bytes for another use than signing, the same at each start.
    #[must_use]
    pub(crate) fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut hash = Sha256::new_with_prefix(b"fabric derived key\0");
        hash.update(purpose.as_bytes());
        hash.update(b"\0");
        hash.update(Zeroizing::new(self.signing.to_bytes()).as_slice());
        Zeroizing::new(hash.finalize().into())
    }
}

impl Signer for NodeKey {
    fn id(&self) -> NodeId {
        Self::id(self)
    }

    fn sign(&self, message: &[u8]) -> [u8; 64] {
        Self::sign(self, message)
    }
}

impl From<SigningKey> for NodeKey {
    fn from(signing: SigningKey) -> Self {
        Self {
            public: signing.verifying_key().to_bytes(),
            signing,
        }
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.id())
    }
}

/// Whether the holder of `public` signed `message`; strict, so that one message has one signature.
#[must_use]
pub fn verify(public: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(public)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

/// The hash that binds a store to this machine, or `None` where there is no machine id.
#[must_use]
pub fn machine() -> Option<String> {
    machine_at(Path::new(MACHINE_ID))
}

/// The id itself is confidential (machine-id(5)): only a keyed hash of it leaves the file.
fn machine_at(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let id = text.trim();
    let hash = Sha256::new_with_prefix(b"fabric machine binding\0")
        .chain_update(id.as_bytes())
        .finalize();
    (!id.is_empty()).then(|| data_encoding::HEXLOWER.encode(&hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_text() {
        let key = NodeKey::generate();
        let back = NodeKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(back.public(), key.public());
        assert_eq!(key.id(), NodeId::of_key(&key.public()));
        assert!(matches!(
            NodeKey::from_pem("-----BEGIN PRIVATE KEY-----"),
            Err(KeyError::Format)
        ));
    }

    #[test]
    fn only_the_holder_signs() {
        let (key, other) = (NodeKey::generate(), NodeKey::generate());
        let signature = key.sign(b"word");
        assert!(verify(&key.public(), b"word", &signature));
        assert!(!verify(&key.public(), b"another", &signature));
        assert!(!verify(&other.public(), b"word", &signature));
    }

    #[test]
    fn debug_does_not_show_the_key() {
        let key = NodeKey::from_seed(&[0x5a; 32]);
        assert_eq!(format!("{key:?}"), format!("NodeKey({})", key.id()));
    }

    #[test]
    fn derived_keys_differ_by_purpose_and_stay() {
        let key = NodeKey::from_seed(&[1; 32]);
        assert_eq!(*key.derive("a"), *key.derive("a"));
        assert_ne!(*key.derive("a"), *key.derive("b"));
    }

    #[test]
    fn machines_are_told_apart_without_showing_their_id() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&one, "0123456789abcdef0123456789abcdef\n").unwrap();
        std::fs::write(&two, "1123456789abcdef0123456789abcdef\n").unwrap();
        let bound = machine_at(&one).unwrap();
        assert!(!bound.contains("0123456789abcdef"));
        assert_ne!(Some(&bound), machine_at(&two).as_ref());
        assert_eq!(machine_at(&dir.path().join("none")), None);
    }
}
