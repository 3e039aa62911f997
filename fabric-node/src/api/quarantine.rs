//! `/v1/quarantine`: domains whose records crash what handles them on the host that answers.

use axum::Json;
use axum::extract::{ConnectInfo, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::backend::Author;
use super::error::ApiError;
use super::routes::{Answer, Daemon, Parts, label};

/// A domain that is left alone on this host: its forwarding stays as it was before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quarantined {
    /// The domain.
    pub domain: String,
    /// How often handling it ended in a crash, in a row.
    pub crashes: u32,
    /// When the last time was (RFC 3339).
    pub since: String,
    /// What is known of it.
    pub why: String,
    /// State of the domain then; another one is tried once.
    pub digest: String,
    /// What was written last in the domain, the latest first, at most five: it is likely to be among these.
    pub written_last: Vec<Suspect>,
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Suspect {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// When it was written (RFC 3339).
    pub stamp: String,
    /// Who asked for it, as `user@node`.
    pub author: String,
    /// Name of the node that took it.
    pub node_name: String,
}

/// What a release did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Released {
    /// The domain, which is handled again at once.
    pub domain: String,
}

/// Domains that are left alone on the host that answers, by name.
#[utoipa::path(get, path = "/v1/quarantine", responses((status = 200, body = Vec<Quarantined>)))]
pub(super) async fn list(State(daemon): Daemon) -> Answer<Vec<Quarantined>> {
    daemon.quarantine().await.map(Json)
}

/// Has a domain handled again on the host that answers.
#[utoipa::path(delete, path = "/v1/quarantine/{domain}", params(("domain" = String, Path)),
    responses((status = 200, body = Released), (status = 404, body = ApiError, description = "it is not in quarantine")))]
pub(super) async fn release(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    Parts(domain): Parts<String>,
) -> Answer<Released> {
    daemon.release(&author, &label(&domain)?).await.map(Json)
}
