//! The endpoint's cryptography and limits: TLS 1.3 only, both sides with certificates of the cluster, no resumption
//! (which would skip the check of the certificate), small windows.
//!
//! One endpoint serves two protocols. A client certificate is optional at this level, because a joining node has none;
//! [`admission`] closes what speaks the mesh's protocol without one.
//!
//! [`admission`]: super::admission

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::id::ClusterId;
use crate::identity::NodeKey;
use crate::pki::{Pinned, Roots};

/// The application protocol of members. Its number is not the wire version, which the first frame is about.
pub(crate) const MESH_ALPN: &[u8] = b"fabric/1";
/// The application protocol of those who want to be one.
pub(crate) const JOIN_ALPN: &[u8] = b"fabric-join/1";

const KEEP_ALIVE: Duration = Duration::from_secs(2);
const IDLE_MILLIS: u32 = 8_000;
/// Streams that a peer may have open; each may make us hold a frame.
const STREAMS: u32 = 16;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const DATAGRAM_BUFFER: usize = 64 * 1024;
/// Handshakes that may wait to be looked at.
const INCOMING: usize = 256;
/// Bytes of a connection id.
const CONNECTION_ID_LEN: usize = 8;

/// Why the endpoint cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// Key and certificate do not fit, or the library lacks a cipher.
    #[error("TLS cannot be set up: {0}")]
    Config(String),
}

fn config(error: impl std::fmt::Display) -> TlsError {
    TlsError::Config(error.to_string())
}

/// What serves both protocols, as the holder of `certificate` (DER).
pub(crate) fn server(key: &NodeKey, certificate: &Bytes, roots: &Roots) -> Result<quinn::ServerConfig, TlsError> {
    let mut tls = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(config)?
        .with_client_cert_verifier(roots.verifier())
        .with_single_cert(chain(certificate), private(key)?)
        .map_err(config)?;
    tls.alpn_protocols = vec![MESH_ALPN.to_vec(), JOIN_ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).map_err(config)?));
    server.transport_config(Arc::new(transport()));
    server.max_incoming(INCOMING);
    Ok(server)
}

/// What dials members.
pub(crate) fn member(key: &NodeKey, certificate: &Bytes, roots: &Roots) -> Result<quinn::ClientConfig, TlsError> {
    let tls = client(roots.store())?
        .with_client_auth_cert(chain(certificate), private(key)?)
        .map_err(config)?;
    dialling(tls, MESH_ALPN)
}

/// What dials an anchor to join: it knows the cluster's roots, and has no certificate yet.
pub(crate) fn joiner(roots: &Roots) -> Result<quinn::ClientConfig, TlsError> {
    dialling(client(roots.store())?.with_no_client_auth(), JOIN_ALPN)
}

/// What dials an anchor to renew a certificate: it knows the anchor's key, and has no good certificate any more.
pub(crate) fn renewer(cluster: ClusterId, anchor: [u8; 32]) -> Result<quinn::ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(config)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned::new(cluster, anchor, provider)))
        .with_no_client_auth();
    dialling(tls, JOIN_ALPN)
}

type ClientBuilder = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn client(roots: Arc<RootCertStore>) -> Result<ClientBuilder, TlsError> {
    Ok(
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(config)?
            .with_root_certificates(roots),
    )
}

fn dialling(mut tls: ClientConfig, protocol: &[u8]) -> Result<quinn::ClientConfig, TlsError> {
    tls.alpn_protocols = vec![protocol.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(config)?));
    client.transport_config(Arc::new(transport()));
    Ok(client)
}

fn chain(certificate: &Bytes) -> Vec<CertificateDer<'static>> {
    vec![CertificateDer::from(certificate.to_vec())]
}

fn private(key: &NodeKey) -> Result<PrivateKeyDer<'static>, TlsError> {
    let der = key.to_der().map_err(config)?;
    Ok(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der.to_vec())))
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MILLIS))))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
        .send_window(u64::from(CONNECTION_WINDOW))
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        .datagram_send_buffer_size(DATAGRAM_BUFFER);
    transport
}

/// Settings of the endpoint itself. The key of stateless resets (RFC 9000 section 10.3) comes from the node's, so that
/// peers learn at once that this node was restarted.
pub(crate) fn endpoint(key: &NodeKey) -> EndpointConfig {
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.derive("stateless reset").as_slice());
    let mut endpoint = EndpointConfig::new(Arc::new(reset));
    endpoint.cid_generator(|| Box::new(RandomIds));
    endpoint
}

/// Random connection ids that any restart of this node takes for its own: the default ones are dropped unanswered.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; CONNECTION_ID_LEN]>())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_LEN
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
