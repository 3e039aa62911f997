//! TLS for the API: version 1.3 only, both sides with certificates of the cluster, no resumption (which would skip the
//! check of the certificate). The mesh has settings of its own, over QUIC.
//!
//! A node's certificate names the node and not the host: a client asks for the name that every node of its cluster
//! answers to, whatever address it dialled.

use std::sync::Arc;

use bytes::Bytes;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use super::{PkiError, Roots, any_peer_name};
use crate::identity::NodeKey;

/// What is spoken inside (RFC 7301).
const PROTOCOL: &[u8] = b"http/1.1";

/// Serves as the node that holds `certificate` (DER) to whoever shows a certificate of the cluster. Whose that is, the
/// caller looks at: a node's passes here as well.
pub fn server(key: &NodeKey, certificate: &Bytes, roots: &Roots) -> Result<ServerConfig, PkiError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.store(), provider.clone())
        .clear_root_hint_subjects()
        .build()
        .map_err(unset)?;
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(unset)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(certificate), private(key)?)
        .map_err(unset)?;
    tls.alpn_protocols = vec![PROTOCOL.to_vec()];
    tls.send_tls13_tickets = 0;
    Ok(tls)
}

/// Dials as the holder of `certificate` (DER).
pub fn client(key: &NodeKey, certificate: &Bytes, roots: &Roots) -> Result<ClientConfig, PkiError> {
    let mut tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(unset)?
        .with_root_certificates(roots.store())
        .with_client_auth_cert(chain(certificate), private(key)?)
        .map_err(unset)?;
    tls.alpn_protocols = vec![PROTOCOL.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    tls.enable_sni = false;
    Ok(tls)
}

/// The name to ask for: any node of the cluster.
pub fn any_node(roots: &Roots) -> Result<ServerName<'static>, PkiError> {
    ServerName::try_from(any_peer_name(roots.cluster())).map_err(unset)
}

fn chain(certificate: &Bytes) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from(certificate.to_vec())]
}

fn private(key: &NodeKey) -> Result<PrivateKeyDer<'static>, PkiError> {
    let der = key.to_der().map_err(unset)?;
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.to_vec())))
}

fn unset(error: impl std::fmt::Display) -> PkiError {
    PkiError::Untrusted(format!("TLS cannot be set up: {error}"))
}
