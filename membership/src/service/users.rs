//! Users of the API: their certificates, made on anchors, and how a node serves them.

use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConfig;

use super::registrar;
use super::state::State;
use crate::id::{Label, NodeId};
use crate::pki::{PkiError, Roots, User, request, tls};
use crate::wallclock;

/// The certificate of an API user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserCertificate {
    /// The certificate (DER).
    pub certificate: Bytes,
    /// The roots of the cluster (DER), by which nodes are known.
    pub roots: Vec<Bytes>,
    /// Until when it is good, since 1970-01-01 UTC.
    pub not_after: Duration,
}

/// Why there is no certificate for a user.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The cluster's key is elsewhere: on these nodes.
    #[error("this node does not hold the cluster's CA key")]
    NotAnchor(Vec<NodeId>),
    /// The request or the life asked for.
    #[error("{0}")]
    Invalid(#[source] PkiError),
    /// It could not be made.
    #[error("{0}")]
    Failed(#[source] PkiError),
}

/// Makes the certificate of who made `request`.
pub(super) fn issue(state: &State, name: &Label, request: &str, life: Duration) -> Result<UserCertificate, UserError> {
    let cluster = state.roster().cluster().clone();
    let Some(authority) = registrar::authority(state, &cluster) else {
        return Err(UserError::NotAnchor(cluster.anchors.nodes));
    };
    let public = request::public_key(request).map_err(UserError::Invalid)?;
    let issued = authority.issue_user(name, &public, life, wallclock::since_epoch());
    let certificate = issued.map_err(|error| match error {
        PkiError::Life => UserError::Invalid(error),
        error => UserError::Failed(error),
    })?;
    Ok(UserCertificate {
        not_after: User::parse(&certificate).map_err(UserError::Failed)?.not_after,
        certificate,
        roots: cluster.roots,
    })
}

/// This node's side of TLS.
pub(super) fn api_tls(state: &State) -> Result<(ServerConfig, Roots), PkiError> {
    let roots = state.trust.roots();
    Ok((tls::server(&state.key, &state.identity().certificate, &roots)?, roots))
}
