//! `/v1/nodes`: taking nodes out of the cluster. The same rule as for anchors: over the socket of a host only.

use axum::Json;
use axum::extract::{ConnectInfo, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::anchors::only_here;
use super::backend::Author;
use super::error::ApiError;
use super::routes::{Answer, Daemon, Parts};

/// A node that is out of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeRemoved {
    /// Its id, which does not return.
    pub id: String,
    /// What it was called; the name is free.
    pub name: String,
}

/// Removes a node for good: it is cut off, what it said of itself is forgotten, and what it wrote that no majority of the
/// anchors had seen is void. A majority of the anchors must agree.
#[utoipa::path(delete, path = "/v1/nodes/{node}", params(("node" = String, Path, description = "name or id")),
    responses((status = 200, body = NodeRemoved), (status = 403, body = ApiError), (status = 404, body = ApiError),
        (status = 409, body = ApiError), (status = 503, body = ApiError, description = "too few anchors agreed")))]
pub(super) async fn remove(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    Parts(node): Parts<String>,
) -> Answer<NodeRemoved> {
    only_here(&author)?;
    daemon.remove_node(&author, &node).await.map(Json)
}

/// Removes the node that answers, by itself. Its daemon goes on until it is stopped.
#[utoipa::path(post, path = "/v1/leave",
    responses((status = 200, body = NodeRemoved), (status = 403, body = ApiError), (status = 409, body = ApiError),
        (status = 503, body = ApiError, description = "too few anchors agreed, or none could be reached")))]
pub(super) async fn leave(State(daemon): Daemon, ConnectInfo(author): ConnectInfo<Author>) -> Answer<NodeRemoved> {
    only_here(&author)?;
    daemon.leave(&author).await.map(Json)
}
