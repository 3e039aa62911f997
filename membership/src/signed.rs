//! What is signed, and how: a value, the exact bytes its author signed, and the Ed25519 signature over them (RFC 8032).
//! A [`Signed`] value exists only if it was signed here, or if its signature was checked, or if it was read back from
//! this node's own disk. It refuses to know whose keys are good: that is the [`Keyring`]'s.
//!
//! ```text
//!  Raw:  signature (64) | format (1) | postcard of the value          at most RECORD_MAX bytes
//!  signed, and hashed to the record's digest:  context | 0x00 | format | postcard of the value
//! ```
//!
//! [`Keyring`]: crate::keyring::Keyring

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize};

use crate::id::NodeId;
use crate::record::{Body, Digest, Fact, Head, Intent, RECORD_MAX};

/// Bytes of an Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;

/// The one format of signed values.
const FORMAT: u8 = 1;

/// Who can sign as a node. The owner of the key file implements it.
pub trait Signer {
    /// The node it signs as.
    fn id(&self) -> NodeId;

    /// The Ed25519 signature over exactly this message.
    fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN];
}

/// A type whose values are signed.
pub trait Content: Serialize + DeserializeOwned {
    /// Keeps a signature over one type from ever counting for another one.
    const CONTEXT: &'static str;

    /// The node whose signature it needs.
    fn signer(&self) -> NodeId;

    /// What it ends with, if that is a body.
    fn body(&mut self) -> Option<&mut Body>;
}

impl Content for Fact {
    const CONTEXT: &'static str = "fabric fact";

    fn signer(&self) -> NodeId {
        self.origin
    }

    fn body(&mut self) -> Option<&mut Body> {
        self.body.as_mut()
    }
}

impl Content for Head {
    const CONTEXT: &'static str = "fabric head";

    fn signer(&self) -> NodeId {
        self.origin
    }

    fn body(&mut self) -> Option<&mut Body> {
        None
    }
}

impl Content for Intent {
    const CONTEXT: &'static str = "fabric intent";

    fn signer(&self) -> NodeId {
        self.dot.writer
    }

    fn body(&mut self) -> Option<&mut Body> {
        self.body.as_mut()
    }
}

/// Why bytes are not a signed value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// Larger than [`RECORD_MAX`].
    #[error("a record of {0} bytes is larger than {RECORD_MAX}")]
    TooLarge(usize),
    /// Shorter than a signature, trailing bytes, or not the expected type.
    #[error("a record is malformed")]
    Malformed,
    /// Written by a later version of the software.
    #[error("a record has format {0}, known is {FORMAT}")]
    Format(u8),
    /// The signature is not its signer's.
    #[error("a record has a bad signature of node {0}")]
    BadSignature(NodeId),
}

/// The transport and disk form of a signed value, not looked into yet. At most [`RECORD_MAX`] bytes.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Raw(Bytes);

impl Raw {
    /// Takes bytes from disk or wire.
    pub fn new(bytes: Bytes) -> Result<Self, SignedError> {
        match bytes.len() {
            len if len > RECORD_MAX => Err(SignedError::TooLarge(len)),
            len if len <= SIGNATURE_LEN => Err(SignedError::Malformed),
            _ => Ok(Self(bytes)),
        }
    }

    /// All of them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many they are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The last bytes, not copied.
    fn tail(&self, len: usize) -> Option<Bytes> {
        Some(self.0.slice(self.len().checked_sub(len)?..))
    }

    fn split(&self) -> Option<(&[u8; SIGNATURE_LEN], &[u8])> {
        self.0.split_first_chunk()
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.0.len())
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(RawVisitor)
    }
}

/// Looks at the length before it copies.
struct RawVisitor;

impl de::Visitor<'_> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a signed record of at most {RECORD_MAX} bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Raw, E> {
        if bytes.len() > RECORD_MAX || bytes.len() <= SIGNATURE_LEN {
            return Err(E::invalid_length(bytes.len(), &self));
        }
        Ok(Raw(Bytes::copy_from_slice(bytes)))
    }
}

/// A value together with the exact bytes its author signed, which are what is stored and relayed. Clones are one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T>(Arc<Parts<T>>);

#[derive(Debug, PartialEq, Eq)]
struct Parts<T> {
    value: T,
    raw: Raw,
    digest: Digest,
}

impl<T> Signed<T> {
    /// The value.
    pub fn value(&self) -> &T {
        &self.0.value
    }

    /// What is stored and relayed.
    pub fn raw(&self) -> &Raw {
        &self.0.raw
    }

    /// The record's digest: over what was signed, not over the signature.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }
}

impl<T: Content> Signed<T> {
    /// Signs a value as its author.
    pub fn sign(value: T, signer: &dyn Signer) -> Result<Self, SignedError> {
        let payload = postcard::to_extend(&value, vec![FORMAT]).map_err(|_| SignedError::Malformed)?;
        let message = message(T::CONTEXT, &payload);
        let digest = Digest::of(&[&message]);
        let raw = Raw::new([signer.sign(&message).as_slice(), &payload].concat().into())?;
        Ok(Self::new(value, raw, digest))
    }

    /// Reads a value and checks that `key` signed it, and that the key is the one of the value's signer.
    pub fn verify(raw: Raw, key: &VerifyingKey) -> Result<Self, SignedError> {
        let signed = Self::trust(raw)?;
        let signer = signed.value().signer();
        let (signature, payload) = signed.raw().split().ok_or(SignedError::Malformed)?;
        let good = NodeId::of_key(key.as_bytes()) == signer && check(key, T::CONTEXT, payload, signature);
        if good {
            Ok(signed)
        } else {
            Err(SignedError::BadSignature(signer))
        }
    }

    /// Reads a value without checking its signature: only for what this node's own disk kept, and to see whose key is
    /// to be used.
    pub fn trust(raw: Raw) -> Result<Self, SignedError> {
        let (_, payload) = raw.split().ok_or(SignedError::Malformed)?;
        let value = match payload {
            [FORMAT, value @ ..] => match postcard::take_from_bytes(value) {
                Ok((value, [])) => value,
                _ => return Err(SignedError::Malformed),
            },
            [format, ..] => return Err(SignedError::Format(*format)),
            [] => return Err(SignedError::Malformed),
        };
        let digest = Digest::of(&[T::CONTEXT.as_bytes(), &[0], payload]);
        Ok(Self::new(value, raw, digest))
    }

    /// Its body is a part of the signed bytes, in which it comes last, and no copy: there are as many records as objects.
    fn new(mut value: T, raw: Raw, digest: Digest) -> Self {
        if let Some(body) = value.body()
            && let Some(signed) = raw.tail(body.bytes.len()).filter(|signed| *signed == body.bytes)
        {
            body.bytes = signed;
        }
        Self(Arc::new(Parts { value, raw, digest }))
    }
}

/// Signs bytes that are no record, under a context of their own.
#[must_use]
pub fn sign_bytes(signer: &dyn Signer, context: &str, payload: &[u8]) -> [u8; SIGNATURE_LEN] {
    signer.sign(&message(context, payload))
}

/// Whether `key` signed these bytes under this context.
#[must_use]
pub fn check(key: &VerifyingKey, context: &str, payload: &[u8], signature: &[u8; SIGNATURE_LEN]) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    key.verify_strict(&message(context, payload), &signature).is_ok()
}

fn message(context: &str, payload: &[u8]) -> Vec<u8> {
    [context.as_bytes(), &[0], payload].concat()
}
