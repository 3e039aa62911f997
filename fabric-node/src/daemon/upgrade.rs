//! `/v1/cluster/upgrade`: from membership's words to the API's.

use membership::service;

use super::anchors::refusal;
use super::node::Node;
use super::report::state;
use crate::api::error::ApiError;
use crate::api::upgrade::{Upgrade, UpgradeNode};

/// Who speaks what, as this node has it.
pub(super) fn show(node: &Node) -> Upgrade {
    let service::Upgrade { agreed, next, nodes } = node.membership.upgrade();
    let told = |node: service::UpgradeNode| UpgradeNode {
        id: node.id.to_string(),
        name: node.name.to_string(),
        software: node.software,
        oldest: node.wire.0,
        newest: node.wire.1,
        state: state(node.liveness),
        // Without a next version nothing stands against it.
        obstacle: node.obstacle.filter(|_| next.is_some()),
    };
    let mut nodes: Vec<UpgradeNode> = nodes.into_iter().map(told).collect();
    nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    Upgrade { agreed, next, nodes }
}

/// Has the cluster agree on the next version.
pub(super) async fn finish(node: &Node) -> Result<Upgrade, ApiError> {
    let finished = node.membership.finish_upgrade().await;
    finished.map_err(|error| refusal(node, &error))?;
    Ok(show(node))
}
