//! `/v1/anchors` and `/v1/nodes`: from membership's words to the API's.

use membership::service::DecreeError;

use super::node::{Node, called};
use super::report::state;
use crate::api::anchors::{Anchor, Anchors};
use crate::api::error::ApiError;
use crate::api::nodes::NodeRemoved;

/// The list as this node has it.
pub(super) fn list(node: &Node) -> Anchors {
    let list = node.membership.anchors();
    let anchors = list.anchors.into_iter().map(|anchor| Anchor {
        name: anchor
            .name
            .map_or_else(|| anchor.id.to_string(), |name| name.to_string()),
        id: anchor.id.to_string(),
        state: state(anchor.liveness),
        since: anchor.since,
    });
    Anchors {
        version: list.version,
        majority: list.majority,
        anchors: anchors.collect(),
    }
}

/// Makes a node an anchor.
pub(super) async fn add(node: &Node, who: &str) -> Result<Anchors, ApiError> {
    let added = node.membership.add_anchor(who).await;
    added.map_err(|error| refusal(node, &error))?;
    Ok(list(node))
}

/// Makes an anchor an ordinary node.
pub(super) async fn remove(node: &Node, who: &str) -> Result<Anchors, ApiError> {
    let dropped = node.membership.drop_anchor(who).await;
    dropped.map_err(|error| refusal(node, &error))?;
    Ok(list(node))
}

/// Removes a node.
pub(super) async fn remove_node(node: &Node, who: &str) -> Result<NodeRemoved, ApiError> {
    let names = node.sight.names();
    let removed = node.membership.remove_node(who).await;
    let id = removed.map_err(|error| refusal(node, &error))?;
    Ok(NodeRemoved {
        id: id.to_string(),
        name: called(&[id], &names).concat(),
    })
}

/// Has this node removed.
pub(super) async fn leave(node: &Node) -> Result<NodeRemoved, ApiError> {
    let (id, name) = (node.membership.id().to_string(), node.name());
    let left = node.membership.leave().await;
    left.map_err(|error| refusal(node, &error))?;
    Ok(NodeRemoved { id, name })
}

/// Why the cluster record was not changed, for who asked.
pub(super) fn refusal(node: &Node, error: &DecreeError) -> ApiError {
    let message = error.to_string();
    match error {
        DecreeError::NotAnchor(anchors) => {
            let anchors = called(anchors, &node.sight.names()).join(", ");
            ApiError::refused(format!("{message}: run it on the host of {anchors}"))
        }
        DecreeError::Illegal(_)
        | DecreeError::Ambiguous(_)
        | DecreeError::Refused(_)
        | DecreeError::Unspoken { .. }
        | DecreeError::Newest(_) => ApiError::refused(message),
        DecreeError::Unknown(_) => ApiError::not_found(message),
        DecreeError::NotReady(_) | DecreeError::NoMajority { .. } | DecreeError::Busy => ApiError::try_again(message),
        DecreeError::Store(_) => ApiError::internal(message),
    }
}
