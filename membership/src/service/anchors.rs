//! The list of anchors as an operator sees and changes it.

use std::sync::Arc;

use super::decrees::{self, DecreeError};
use super::state::State;
use super::{Liveness, Membership, warden};
use crate::decree::Act;
use crate::id::{Label, NodeId};
use crate::mesh::Mesh;

/// The anchors, and what they need to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorList {
    /// Version of the cluster record: it rises with each decree.
    pub version: u64,
    /// How many of them must agree.
    pub majority: usize,
    /// Ascending by id.
    pub anchors: Vec<Anchor>,
}

/// An anchor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Who.
    pub id: NodeId,
    /// Its name, where it is known.
    pub name: Option<Label>,
    /// The version that made it one.
    pub since: u64,
    /// How it looks from here.
    pub liveness: Liveness,
}

impl Membership {
    /// The anchors, and what they need to decide.
    #[must_use]
    pub fn anchors(&self) -> AnchorList {
        list(&self.0.state)
    }

    /// Makes a member an anchor as well, by its id or name. Only an anchor can.
    pub async fn add_anchor(&self, who: &str) -> Result<NodeId, DecreeError> {
        add(&self.0.state, &self.0.mesh, who).await
    }

    /// Makes an anchor an ordinary member, by its id or name. Only an anchor can.
    pub async fn drop_anchor(&self, who: &str) -> Result<NodeId, DecreeError> {
        drop_it(&self.0.state, &self.0.mesh, who).await
    }
}

/// The list as this node has it.
pub(super) fn list(state: &State) -> AnchorList {
    let roster = state.roster();
    let standing = roster.standing();
    let anchors = standing.seats().iter().map(|seat| Anchor {
        id: seat.node,
        name: roster.record(seat.node).map(|record| record.name.clone()),
        since: seat.since,
        liveness: roster.liveness(seat.node),
    });
    AnchorList {
        version: standing.version(),
        majority: standing.majority(),
        anchors: anchors.collect(),
    }
}

/// The member with this id or name.
pub(super) fn find(state: &State, who: &str) -> Result<NodeId, DecreeError> {
    let roster = state.roster();
    if let Ok(node) = who.parse::<NodeId>()
        && roster.has(node)
    {
        return Ok(node);
    }
    let members = roster.members(&Default::default());
    let mut called = members.into_iter().filter(|member| member.record.name.as_str() == who);
    match (called.next(), called.next()) {
        (Some(member), None) => Ok(member.id),
        (None, _) => Err(DecreeError::Unknown(who.to_owned())),
        (Some(_), Some(_)) => Err(DecreeError::Ambiguous(who.to_owned())),
    }
}

/// Makes a member an anchor.
pub(super) async fn add(state: &Arc<State>, mesh: &Mesh, who: &str) -> Result<NodeId, DecreeError> {
    only_on_anchors(state)?;
    let node = find(state, who)?;
    let key = warden::key_of(state, node).ok_or_else(|| DecreeError::Unknown(who.to_owned()))?;
    let there = node == state.own() || decrees::comes_to_know_decrees(state, mesh, node).await;
    if !there {
        return Err(DecreeError::NotReady(node));
    }
    decrees::decide(state, mesh, Act::AddAnchor(key)).await?;
    Ok(node)
}

/// Makes an anchor an ordinary member.
pub(super) async fn drop_it(state: &Arc<State>, mesh: &Mesh, who: &str) -> Result<NodeId, DecreeError> {
    only_on_anchors(state)?;
    let node = find(state, who)?;
    decrees::decide(state, mesh, Act::DropAnchor(node)).await?;
    Ok(node)
}

/// Whoever may ask here is known by the sockets of the anchors' hosts, and by nothing else.
pub(super) fn only_on_anchors(state: &State) -> Result<(), DecreeError> {
    let roster = state.roster();
    if roster.standing().seat(state.own()).is_some() {
        return Ok(());
    }
    Err(DecreeError::NotAnchor(roster.cluster().anchors.nodes.clone()))
}
