//! `/v1/anchors`: the nodes that witness who joins, who is removed and who gives out an address. Who changes the list is
//! to be a user of an anchor's host: an anchor holds the cluster's CA key.

use axum::Json;
use axum::extract::{ConnectInfo, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::backend::Author;
use super::error::{ApiError, Code};
use super::routes::{Answer, Content, Daemon, Parts};
use super::types::PeerState;

/// `GET /v1/anchors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Anchors {
    /// Version of the cluster record, which rises with each decree.
    pub version: u64,
    /// How many anchors must agree.
    pub majority: usize,
    /// By id.
    pub anchors: Vec<Anchor>,
}

/// An anchor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Anchor {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// How it looks from the node that answers.
    pub state: PeerState,
    /// The version of the cluster record that made it one.
    pub since: u64,
}

/// `POST /v1/anchors`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnchorRequest {
    /// Name or id of a node.
    pub node: String,
}

/// The anchors as the node that answers has them.
#[utoipa::path(get, path = "/v1/anchors", responses((status = 200, body = Anchors)))]
pub(super) async fn list(State(daemon): Daemon) -> Answer<Anchors> {
    daemon.anchors().await.map(Json)
}

/// Makes a node an anchor as well. A majority of the anchors must agree.
#[utoipa::path(post, path = "/v1/anchors", request_body = AnchorRequest,
    responses((status = 200, body = Anchors), (status = 403, body = ApiError), (status = 404, body = ApiError),
        (status = 409, body = ApiError), (status = 503, body = ApiError, description = "too few anchors agreed")))]
pub(super) async fn add(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    body: Content,
) -> Answer<Anchors> {
    only_here(&author)?;
    let AnchorRequest { node } = body.json()?;
    daemon.add_anchor(&author, &node).await.map(Json)
}

/// Makes an anchor an ordinary node; it deletes the cluster's CA key. A majority of the anchors must agree.
#[utoipa::path(delete, path = "/v1/anchors/{node}", params(("node" = String, Path, description = "name or id")),
    responses((status = 200, body = Anchors), (status = 403, body = ApiError), (status = 404, body = ApiError),
        (status = 409, body = ApiError), (status = 503, body = ApiError, description = "too few anchors agreed")))]
pub(super) async fn remove(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    Parts(node): Parts<String>,
) -> Answer<Anchors> {
    only_here(&author)?;
    daemon.drop_anchor(&author, &node).await.map(Json)
}

pub(super) fn only_here(author: &Author) -> Result<(), ApiError> {
    if matches!(author, Author::Certified(_)) {
        let message =
            "who belongs to the cluster is decided over the unix socket of an anchor only: run it on that host";
        return Err(ApiError::new(Code::Forbidden, message));
    }
    Ok(())
}
