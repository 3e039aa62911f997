//! `/v1/cluster/upgrade`: who speaks which wire versions, and agreeing on the next one. The same rule as for anchors: over
//! the socket of a host only.

use axum::Json;
use axum::extract::{ConnectInfo, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::anchors::only_here;
use super::backend::Author;
use super::error::ApiError;
use super::routes::{Answer, Daemon};
use super::types::PeerState;

/// `GET /v1/cluster/upgrade`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Upgrade {
    /// The wire version that the cluster agreed on: who speaks only older ones is refused.
    pub agreed: u16,
    /// The next one, if the node that answers speaks it.
    pub next: Option<u16>,
    /// All nodes, by name and id.
    pub nodes: Vec<UpgradeNode>,
}

/// What a node speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpgradeNode {
    /// Its id.
    pub id: String,
    /// For people.
    pub name: String,
    /// Version of its software.
    pub software: String,
    /// Oldest wire version that it speaks.
    pub oldest: u16,
    /// Newest wire version that it speaks.
    pub newest: u16,
    /// How it looks from the node that answers.
    pub state: PeerState,
    /// Why the next version cannot be agreed on because of it; null if it can.
    pub obstacle: Option<String>,
}

/// Who speaks which wire versions.
#[utoipa::path(get, path = "/v1/cluster/upgrade", responses((status = 200, body = Upgrade)))]
pub(super) async fn show(State(daemon): Daemon) -> Answer<Upgrade> {
    daemon.upgrade().await.map(Json)
}

/// Has the cluster agree on the next wire version. Every node must speak it and be there, and a majority of the anchors must
/// agree. There is no way back.
#[utoipa::path(post, path = "/v1/cluster/upgrade/finish",
    responses((status = 200, body = Upgrade), (status = 403, body = ApiError),
        (status = 409, body = ApiError, description = "a node does not speak it or is not there, or there is nothing newer"),
        (status = 503, body = ApiError, description = "too few anchors agreed")))]
pub(super) async fn finish(State(daemon): Daemon, ConnectInfo(author): ConnectInfo<Author>) -> Answer<Upgrade> {
    only_here(&author)?;
    daemon.finish_upgrade(&author).await.map(Json)
}
