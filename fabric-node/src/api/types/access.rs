//! Who may join and who may call: tokens and users' certificates.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /v1/tokens`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenRequest {
    /// How many nodes can join with it.
    pub uses: u32,
    /// Its life in seconds.
    pub ttl_s: u64,
}

impl Default for TokenRequest {
    fn default() -> Self {
        Self { uses: 1, ttl_s: 3600 }
    }
}

/// `POST /v1/users`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UserRequest {
    /// Who shall be recorded as the author of what is done with the certificate.
    pub name: String,
    /// A certificate request for an Ed25519 key (PKCS #10 as PEM). Of what it says only the key counts.
    pub request: String,
    /// The certificate's life in seconds; at most 90 days.
    pub ttl_s: u64,
}

impl Default for UserRequest {
    fn default() -> Self {
        Self {
            name: String::new(),
            request: String::new(),
            ttl_s: 86_400,
        }
    }
}

/// A certificate with which its holder may use the API of every node over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserCertificate {
    /// Whose it is.
    pub name: String,
    /// Until when it is good (RFC 3339).
    pub not_after: String,
    /// The certificate as PEM.
    pub certificate: String,
    /// The roots of the cluster as PEM: nodes show certificates that chain to them.
    pub roots: String,
}

/// A join token. It is a secret: who has it can join.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// The text for `fabric-node join`.
    pub token: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}
