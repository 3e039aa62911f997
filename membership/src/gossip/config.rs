//! The one set of parameters that chitchat runs with here; simulations take the same.

use std::net::SocketAddr;
use std::time::Duration;

use chitchat::{ChitchatConfig, ChitchatId, FailureDetectorConfig, ProtocolVersion};

use super::address;
use crate::id::{ClusterId, NodeId};

/// Time between two rounds of gossip, in cells of up to [`super::pace::FULL`] members.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);
/// A dead node is forgotten after that.
const DEAD_GRACE: Duration = Duration::from_secs(120);

/// The configuration of a node's start number `generation`.
pub(crate) fn of(node: NodeId, cluster: ClusterId, generation: u64) -> ChitchatConfig {
    let own: SocketAddr = address::of(node);
    ChitchatConfig {
        chitchat_id: ChitchatId::new(node.as_str(), generation, own),
        cluster_id: cluster.to_string(),
        gossip_interval: INTERVAL,
        listen_addr: own,
        seed_nodes: Vec::new(),
        failure_detector_config: FailureDetectorConfig {
            phi_threshold: 8.0,
            sampling_window_size: 1_000,
            max_interval: Duration::from_secs(10),
            initial_interval: Duration::from_secs(1),
            dead_node_grace_period: DEAD_GRACE,
        },
        marked_for_deletion_grace_period: DEAD_GRACE,
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    }
}
