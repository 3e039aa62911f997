//! Raising the wire version that the cluster agreed on, once all members speak the next one. Until then every node may go
//! back to the release before.

use std::sync::Arc;

use super::anchors::only_on_anchors;
use super::decrees::{self, DecreeError};
use super::state::State;
use super::{Liveness, Membership};
use crate::decree::{Act, Request as Asked};
use crate::id::{Label, NodeId};
use crate::mesh::Mesh;
use crate::node::NodeRecord;
use crate::wire::Versions;

/// Who speaks which wire versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// What the cluster agreed on.
    pub agreed: u16,
    /// The next version, if this node speaks it.
    pub next: Option<u16>,
    /// By id, this node included.
    pub nodes: Vec<UpgradeNode>,
}

/// What a member speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeNode {
    /// Who.
    pub id: NodeId,
    /// For people.
    pub name: Label,
    /// Its software, for people.
    pub software: String,
    /// Oldest and newest wire version, as it says itself.
    pub wire: (u16, u16),
    /// How it looks from here.
    pub liveness: Liveness,
    /// What keeps the cluster from agreeing on the next version.
    pub obstacle: Option<String>,
}

impl Membership {
    /// Who speaks which wire versions, and who keeps the cluster from the next one.
    #[must_use]
    pub fn upgrade(&self) -> Upgrade {
        look(&self.0.state)
    }

    /// Has the cluster agree on the next wire version, which every member must speak and be there for. Only an anchor can.
    pub async fn finish_upgrade(&self) -> Result<u16, DecreeError> {
        finish(&self.0.state, &self.0.mesh).await
    }
}

fn look(state: &State) -> Upgrade {
    let roster = state.roster();
    let agreed = roster.standing().wire();
    let wanted = agreed.saturating_add(1);
    let next = Some(wanted).filter(|next| state.wire.speaks(*next));
    let node = |member: super::Member| UpgradeNode {
        obstacle: obstacle(&member.record, member.liveness, wanted),
        id: member.id,
        name: member.record.name,
        software: member.record.software,
        wire: member.record.wire,
        liveness: member.liveness,
    };
    let nodes = roster.members(&Default::default()).into_iter().map(node).collect();
    Upgrade { agreed, next, nodes }
}

async fn finish(state: &Arc<State>, mesh: &Mesh) -> Result<u16, DecreeError> {
    only_on_anchors(state)?;
    let Upgrade { agreed, next, nodes } = look(state);
    let version = next.ok_or(DecreeError::Newest(agreed))?;
    let blocked = nodes.iter().filter_map(|node| {
        let obstacle = node.obstacle.as_ref()?;
        Some(format!("{} ({}) {obstacle}", node.name, node.id))
    });
    let who = blocked.collect::<Vec<_>>().join(", ");
    if !who.is_empty() {
        return Err(DecreeError::Unspoken { version, who });
    }
    decrees::decide(state, mesh, Act::RaiseWire(version)).await?;
    Ok(version)
}

/// What of a member stands against a version.
fn obstacle(record: &NodeRecord, liveness: Liveness, version: u16) -> Option<String> {
    unspoken(record, version).or_else(|| match liveness {
        Liveness::Live => None,
        Liveness::Suspect | Liveness::Dead => Some("is not there".to_owned()),
    })
}

fn unspoken(record: &NodeRecord, version: u16) -> Option<String> {
    match Versions::try_from(record.wire) {
        Ok(spoken) if spoken.speaks(version) => None,
        Ok(spoken) => Some(format!("speaks {spoken}")),
        Err(()) => Some("says what it speaks in a way that is not known here".to_owned()),
    }
}

/// Why this anchor does not seal such a request: it, or a member that it knows, would not understand the others then. The
/// proposer may not know yet who joined.
pub(super) fn objection(state: &State, request: &Asked) -> Option<String> {
    let Asked::Accept { decree, .. } = request else {
        return None;
    };
    let Act::RaiseWire(version) = decree.act else {
        return None;
    };
    if !state.wire.speaks(version) {
        return Some(format!("anchor {} speaks wire version {}", state.own(), state.wire));
    }
    let roster = state.roster();
    let members = roster.members(&Default::default());
    members.iter().find_map(|member| {
        let what = unspoken(&member.record, version)?;
        Some(format!("{} ({}) {what}", member.record.name, member.id))
    })
}
