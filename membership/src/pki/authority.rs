//! The authority: makes its own certificate once, and leaves for public keys whose holders proved that they have the
//! private half. Checking that proof is the caller's task.

use std::time::Duration;

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use time::OffsetDateTime;

use super::{PkiError, any_peer_name, dns_name, spiffe_uri, user_uri};
use crate::id::{ClusterId, Label, NodeId};
use crate::identity::NodeKey;

/// A leaf's life, unless somebody says otherwise.
pub const LEAF_LIFE: Duration = Duration::from_secs(90 * DAY);
/// Longest life of a user's certificate.
pub const USER_LIFE_MAX: Duration = Duration::from_secs(90 * DAY);
/// How far a certificate reaches back, for hosts whose clock is behind.
pub(crate) const BACKDATE: Duration = Duration::from_secs(DAY);
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// The certificate authority of a cluster.
#[derive(Debug)]
pub struct Authority {
    cluster: ClusterId,
    key: NodeKey,
    certificate: Bytes,
}

impl Authority {
    /// Makes the authority of a cluster. `now` is the time since 1970-01-01 UTC.
    pub fn create(cluster: ClusterId, key: NodeKey, now: Duration) -> Result<Self, PkiError> {
        let mut params = params(now, ROOT_LIFE)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = named(format!("fabric {cluster}"));
        let certificate = params.self_signed(&Raw(&key)).map_err(issue)?;
        Ok(Self {
            cluster,
            certificate: certificate.der().to_vec().into(),
            key,
        })
    }

    /// The authority as it was stored: its key and its certificate (DER).
    #[must_use]
    pub fn restore(cluster: ClusterId, key: NodeKey, certificate: Bytes) -> Self {
        Self {
            cluster,
            key,
            certificate,
        }
    }

    /// Its own certificate (DER), the cluster's root.
    #[must_use]
    pub fn certificate(&self) -> &Bytes {
        &self.certificate
    }

    /// Its key.
    pub(crate) fn key(&self) -> &NodeKey {
        &self.key
    }

    /// Its key, to be stored.
    #[must_use]
    pub fn into_key(self) -> NodeKey {
        self.key
    }

    /// The certificate (DER) of the node with this public key, good from a day before `now` until `life` after it.
    pub fn issue(&self, public: &[u8; 32], life: Duration, now: Duration) -> Result<Bytes, PkiError> {
        let node = NodeId::of_key(public);
        let mut params = params(now, life)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name = named(node.to_string());
        params.subject_alt_names = vec![
            SanType::DnsName(dns_name(node, self.cluster).try_into().map_err(issue)?),
            SanType::DnsName(any_peer_name(self.cluster).try_into().map_err(issue)?),
            SanType::URI(spiffe_uri(node, self.cluster).try_into().map_err(issue)?),
        ];
        self.signed(params, public)
    }

    /// The certificate (DER) of an API user with this public key, good from a day before `now` until `life` after it.
    pub fn issue_user(
        &self,
        name: &Label,
        public: &[u8; 32],
        life: Duration,
        now: Duration,
    ) -> Result<Bytes, PkiError> {
        if life.as_secs() == 0 || life > USER_LIFE_MAX {
            return Err(PkiError::Life);
        }
        let mut params = params(now, life)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.distinguished_name = named(name.to_string());
        let uri = user_uri(name, self.cluster);
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(issue)?)];
        self.signed(params, public)
    }

    fn signed(&self, mut params: CertificateParams, public: &[u8; 32]) -> Result<Bytes, PkiError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&self.certificate[..].into(), Raw(&self.key)).map_err(issue)?;
        let certificate = params.signed_by(&Subject(*public), &issuer).map_err(issue)?;
        Ok(certificate.der().to_vec().into())
    }
}

fn params(now: Duration, life: Duration) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.not_before = instant(now.saturating_sub(BACKDATE))?;
    params.not_after = instant(now.saturating_add(life))?;
    let mut serial: [u8; 16] = rand::random();
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

pub(super) fn named(common_name: String) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

fn instant(since_epoch: Duration) -> Result<OffsetDateTime, PkiError> {
    i64::try_from(since_epoch.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or_else(|| PkiError::Issue("this host's clock is far off".to_owned()))
}

fn issue(error: rcgen::Error) -> PkiError {
    PkiError::Issue(error.to_string())
}

/// A public key of which only its raw form is known.
struct Subject([u8; 32]);

impl PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

/// Lets the library sign with a key that stays in memory that is wiped.
pub(super) struct Raw<'a>(pub(super) &'a NodeKey);

impl PublicKeyData for Raw<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.public_ref()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl SigningKey for Raw<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign(message).to_vec())
    }
}
