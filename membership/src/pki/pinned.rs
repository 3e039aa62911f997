//! Knowing an anchor by its key alone, whoever signed its certificate and whenever that ends: for a member that was away
//! for so long that it cannot judge certificates. The key is in the cluster record that the member holds.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use super::Leaf;
use crate::id::ClusterId;

/// Takes the certificate of one node, by its key.
#[derive(Debug)]
pub(crate) struct Pinned {
    cluster: ClusterId,
    key: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    /// The node of this cluster with this key.
    pub(crate) fn new(cluster: ClusterId, key: [u8; 32], provider: Arc<CryptoProvider>) -> Self {
        Self { cluster, key, provider }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let leaf = Leaf::parse(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        if (leaf.cluster, leaf.key) != (self.cluster, self.key) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::NodeKey;
    use crate::pki::{Authority, LEAF_LIFE};

    #[test]
    fn only_the_pinned_key_is_taken_whoever_signed_and_whenever() {
        let now = Duration::from_secs(1_800_000_000);
        let (cluster, other) = (ClusterId::from_random([1; 16]), ClusterId::from_random([2; 16]));
        let key = NodeKey::from_seed(&[3; 32]);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let pinned = Pinned::new(cluster, key.public(), provider);
        let takes = |cluster, key: &NodeKey| {
            let authority = Authority::create(cluster, NodeKey::generate(), now).unwrap();
            let der = authority.issue(&key.public(), LEAF_LIFE, now).unwrap();
            let late = UnixTime::since_unix_epoch(now + 10 * LEAF_LIFE);
            let name = ServerName::try_from("any").unwrap();
            pinned.verify_server_cert(&CertificateDer::from(&der[..]), &[], &name, &[], late)
        };
        assert!(takes(cluster, &key).is_ok());
        assert!(takes(cluster, &NodeKey::from_seed(&[4; 32])).is_err());
        assert!(takes(other, &key).is_err());
    }
}
