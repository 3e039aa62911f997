//! What a leaf certificate says, read strictly: one URI, an Ed25519 key, not an authority, and a name that is the hash
//! of its key. Who signed it is not looked at here.

use std::time::Duration;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer as _;

use super::PkiError;
use super::authority::BACKDATE;
use crate::id::{ClusterId, NodeId};

/// The content of a node's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub node: NodeId,
    /// The node's Ed25519 public key.
    pub key: [u8; 32],
    /// The cluster that let it in.
    pub cluster: ClusterId,
    /// From when it is good, since 1970-01-01 UTC.
    pub not_before: Duration,
    /// Until when it is good, since 1970-01-01 UTC.
    pub not_after: Duration,
}

impl Leaf {
    /// Reads a certificate in DER form.
    pub fn parse(der: &[u8]) -> Result<Self, PkiError> {
        let certificate = read(der)?;
        let (cluster, node) = spiffe_id(uri(&certificate)?)?;
        let key = public_key(&certificate)?;
        let actual = NodeId::of_key(&key);
        if actual != node {
            return Err(PkiError::NotItsKey { named: node, actual });
        }
        let validity = certificate.validity();
        Ok(Self {
            node,
            key,
            cluster,
            not_before: since_epoch(validity.not_before.timestamp()),
            not_after: since_epoch(validity.not_after.timestamp()),
        })
    }

    /// How long it was to live when it was issued.
    #[must_use]
    pub fn life(&self) -> Duration {
        self.not_after.saturating_sub(self.not_before.saturating_add(BACKDATE))
    }
}

/// The Ed25519 public key of a root certificate (DER).
pub fn root_key(der: &[u8]) -> Result<[u8; 32], PkiError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) if certificate.is_ca() => public_key(&certificate),
        _ => Err(PkiError::Malformed("it is no authority's")),
    }
}

/// From when and until when a root certificate (DER) is good, since 1970-01-01 UTC.
pub fn root_validity(der: &[u8]) -> Result<(Duration, Duration), PkiError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) if certificate.is_ca() => {
            let validity = certificate.validity();
            let [from, until] = [validity.not_before, validity.not_after].map(|time| since_epoch(time.timestamp()));
            Ok((from, until))
        }
        _ => Err(PkiError::Malformed("it is no authority's")),
    }
}

/// A certificate that is nothing but that, and no authority's.
pub(super) fn read(der: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| PkiError::Malformed("not DER"))?;
    if !rest.is_empty() {
        return Err(PkiError::Malformed("bytes after its end"));
    }
    if certificate.is_ca() {
        return Err(PkiError::Malformed("it is an authority's"));
    }
    Ok(certificate)
}

fn public_key(certificate: &X509Certificate<'_>) -> Result<[u8; 32], PkiError> {
    let info = certificate.public_key();
    if info.algorithm.algorithm != OID_SIG_ED25519 {
        return Err(PkiError::Malformed("its key is not Ed25519"));
    }
    info.subject_public_key
        .data
        .as_ref()
        .try_into()
        .map_err(|_| PkiError::Malformed("its key has a wrong length"))
}

/// X509-SVID section 2: exactly one URI among the alternative names.
pub(super) fn uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, PkiError> {
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| PkiError::Malformed("its alternative names cannot be read"))?
        .ok_or(PkiError::Malformed("it has no alternative names"))?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Ok(uri),
        (None, _) => Err(PkiError::Malformed("it has no URI")),
        (Some(_), Some(_)) => Err(PkiError::Malformed("it has more than one URI")),
    }
}

fn spiffe_id(uri: &str) -> Result<(ClusterId, NodeId), PkiError> {
    let wrong = || PkiError::Malformed("its URI is not spiffe://CLUSTER/node/NODE");
    let rest = uri.strip_prefix("spiffe://").ok_or_else(wrong)?;
    let (cluster, node) = rest.split_once("/node/").ok_or_else(wrong)?;
    Ok((
        cluster.parse().map_err(|_| wrong())?,
        node.parse().map_err(|_| wrong())?,
    ))
}

pub(super) fn since_epoch(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
