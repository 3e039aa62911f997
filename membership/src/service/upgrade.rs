//! Raising the wire version that the cluster agreed on, once all members speak the next one. Until then every node may go
//! back to the release before.

use std::sync::Arc;

use futures::future::join_all;

use super::anchors::only_on_anchors;
use super::decrees::{self, DecreeError};
use super::internal::{self, Request};
use super::state::State;
use super::{Liveness, Membership};
use crate::decree::Act;
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
    raise(state, mesh, version).await?;
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

/// What an anchor knows against a version, as the node that asks may not know who joined: it, or a member that it knows,
/// would not understand the others then.
pub(super) fn objection(state: &State, version: u16) -> Option<String> {
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

/// Has the anchors agree on a version against which none of the others knows anything either. They are asked before anything is
/// proposed: what one of them accepted must be taken up by whoever proposes next, so nobody may object to it then, or the
/// cluster record would never change again.
async fn raise(state: &Arc<State>, mesh: &Mesh, version: u16) -> Result<(), DecreeError> {
    let anchors: Vec<NodeId> = state.roster().standing().seats().iter().map(|seat| seat.node).collect();
    let others = anchors.into_iter().filter(|anchor| *anchor != state.own());
    let asked = others.map(|anchor| async move {
        match internal::ask(mesh, anchor, &Request::Obstacle { version }).await {
            Ok(obstacle) => obstacle,
            Err(why) => Some(format!("anchor {anchor} could not be asked: {why}")),
        }
    });
    if let Some(why) = join_all(asked).await.into_iter().flatten().next() {
        return Err(DecreeError::Refused(why));
    }
    decrees::decide(state, mesh, Act::RaiseWire(version)).await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures::future::BoxFuture;

    use super::*;
    use crate::service::{Config, join, setup};

    async fn started(config: &Config) -> Membership {
        let silent = |_: NodeId, _: Bytes| -> BoxFuture<'static, Result<Bytes, String>> {
            Box::pin(std::future::ready(Ok(Bytes::new())))
        };
        Membership::start(config.clone(), Arc::new(silent)).await.unwrap()
    }

    async fn joined(config: &Config, name: &str, anchor: &Membership) -> Membership {
        let token = anchor.create_token(1, Duration::from_secs(60)).await.unwrap();
        join(config, name.parse().unwrap(), &token).await.unwrap();
        started(config).await
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let waits = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let met = tokio::time::timeout(Duration::from_secs(30), waits).await;
        assert!(met.is_ok(), "not in time: {what}");
    }

    /// The one that proposes does not know what the other one knows.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_anchor_that_objects_to_a_version_does_not_keep_the_record_from_changing() {
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let config = |at: usize, newest: u16| Config {
            data: dirs[at].path().join("data"),
            listen: "127.0.0.1:0".parse().unwrap(),
            advertise: Vec::new(),
            certificate_life: crate::pki::LEAF_LIFE,
            wire: Versions::up_to(newest).unwrap(),
        };
        setup::init(&config(0, 2), "one".parse().unwrap(), "lab".parse().unwrap(), None).unwrap();
        let a = started(&config(0, 2)).await;
        let b = joined(&config(1, 1), "two", &a).await;
        let met = || a.0.mesh.has(b.id()) && a.members().len() == 2 && b.members().len() == 2;
        until("they know each other", met).await;
        a.add_anchor("two").await.unwrap();

        let refused = raise(&a.0.state, &a.0.mesh, 2).await;
        let said = format!("anchor {} speaks wire version 1", b.id());
        assert!(
            matches!(&refused, Err(DecreeError::Refused(why)) if *why == said),
            "{refused:?}"
        );
        // A third one becomes an anchor by itself: the list grows by a decree of the two.
        let c = joined(&config(2, 2), "three", &a).await;
        until("it is an anchor", || a.anchors().anchors.len() == 3).await;
        let removed = a.remove_node("three").await;
        assert!(matches!(removed, Ok(node) if node == c.id()), "{removed:?}");
        assert_eq!((a.upgrade().agreed, b.upgrade().agreed), (1, 1));
    }
}
