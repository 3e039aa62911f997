//! `/v1/ca`: the roots by which nodes and users are known, and their replacement. Who replaces them is to be a user of an
//! anchor's host, as with all that decides who belongs to the cluster.

use axum::Json;
use axum::extract::{ConnectInfo, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::anchors::only_here;
use super::backend::Author;
use super::error::ApiError;
use super::routes::{Answer, Content, Daemon};

/// `GET /v1/ca`. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ca {
    /// The roots that are trusted, the former one first: one, or two while one takes the place of the other.
    pub roots: Vec<CaRoot>,
    /// How many nodes the cluster has.
    pub nodes: usize,
    /// Names of the nodes that have no certificate of the root that issues.
    pub pending: Vec<String>,
}

/// A trusted root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CaRoot {
    /// SHA-256 of the certificate, as `openssl x509 -fingerprint -sha256` shows it.
    pub fingerprint: String,
    /// From when it is good (RFC 3339).
    pub not_before: String,
    /// Until when it is good (RFC 3339).
    pub not_after: String,
    /// How many nodes have a certificate of it.
    pub certificates: usize,
    /// Whether certificates are made with it.
    pub issues: bool,
    /// Whether its key lies on the node that answers.
    pub key_here: bool,
    /// The certificate.
    pub pem: String,
}

/// What is done about the roots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CaStep {
    /// Trust another one as well, and give all nodes certificates of it.
    Begin,
    /// Trust the former one no more.
    Finish,
    /// Trust the latter one no more.
    Cancel,
}

/// `POST /v1/ca/rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaRotate {
    /// Which step.
    pub step: CaStep,
    /// Finish even if nodes have no certificate of the latter root.
    #[serde(default)]
    pub force: bool,
}

/// The roots as the node that answers has them, and who has a certificate of which.
#[utoipa::path(get, path = "/v1/ca", responses((status = 200, body = Ca)))]
pub(super) async fn show(State(daemon): Daemon) -> Answer<Ca> {
    daemon.ca().await.map(Json)
}

/// Begins, finishes or gives up a replacement of the root. A majority of the anchors must agree.
#[utoipa::path(post, path = "/v1/ca/rotate", request_body = CaRotate,
    responses((status = 200, body = Ca), (status = 403, body = ApiError),
        (status = 409, body = ApiError, description = "nodes would be left behind; `message` names them"),
        (status = 503, body = ApiError, description = "too few anchors agreed")))]
pub(super) async fn rotate(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    body: Content,
) -> Answer<Ca> {
    only_here(&author)?;
    daemon.rotate_ca(&author, body.json()?).await.map(Json)
}
