//! Who the members are and how they look, as `members` answers it: node records out of the replica, the ones known
//! since the set-up where the replica has none yet, and the cluster record.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Liveness, Member};
use crate::home::Bootstrap;
use crate::id::{Label, NodeId, Scope};
use crate::keyring;
use crate::node::{CLUSTER_KIND, Cluster, NodeRecord};
use crate::record::{Fact, Key};
use crate::replica::Replica;

/// Key name of the cluster record.
pub(super) const CLUSTER_NAME: &str = "cluster";

/// The members of a cluster.
#[derive(Debug)]
pub(super) struct Roster {
    own: NodeId,
    bootstrap: Bootstrap,
    cluster: Cluster,
    nodes: BTreeMap<NodeId, NodeRecord>,
    liveness: BTreeMap<NodeId, Liveness>,
    /// Whether anything may be decided by it.
    certain: bool,
}

impl Roster {
    /// What is known before the replica was looked at.
    pub(super) fn new(own: NodeId, bootstrap: Bootstrap) -> Self {
        let (cluster, nodes) = (bootstrap.cluster.clone(), bootstrap.nodes.iter().cloned().collect());
        Self {
            own,
            bootstrap,
            cluster,
            nodes,
            liveness: BTreeMap::new(),
            certain: true,
        }
    }

    /// Looks at the system scope again. Says whether `members` would answer differently.
    pub(super) fn refresh(&mut self, replica: &Replica) -> bool {
        let mut nodes: BTreeMap<_, _> = self.bootstrap.nodes.iter().cloned().collect();
        nodes.extend(
            replica
                .facts(&Scope::System)
                .filter_map(|fact| Some((fact.origin, keyring::node_record(fact)?))),
        );
        self.cluster = self.cluster_of(replica);
        let changed = nodes != self.nodes;
        self.nodes = nodes;
        changed
    }

    /// Only those who are anchors by what is known already can say who is.
    fn cluster_of(&self, replica: &Replica) -> Cluster {
        let mut cluster = self.bootstrap.cluster.clone();
        let key = Key::new(CLUSTER_KIND, CLUSTER_NAME);
        for fact in replica.facts(&Scope::System).filter(|fact| fact.key == key) {
            let by_anchor = cluster.anchors.nodes.contains(&fact.origin);
            match read_cluster(fact) {
                Some(said) if by_anchor && said.id == cluster.id && said.anchors.version >= cluster.anchors.version => {
                    cluster = said;
                }
                _ => {}
            }
        }
        cluster
    }

    /// Takes how the others look, and whether that is certain. Says whether `members` would answer differently.
    pub(super) fn looks(&mut self, liveness: BTreeMap<NodeId, Liveness>, certain: bool) -> bool {
        let changed = liveness != self.liveness || certain != self.certain;
        (self.liveness, self.certain) = (liveness, certain);
        changed
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The ids of all members, this node left out.
    pub(super) fn others(&self) -> BTreeSet<NodeId> {
        self.nodes.keys().copied().filter(|id| *id != self.own).collect()
    }

    pub(super) fn addresses(&self) -> BTreeMap<NodeId, Vec<SocketAddr>> {
        self.nodes
            .iter()
            .map(|(id, record)| (*id, record.addresses.clone()))
            .collect()
    }

    /// All members by id; `round_trips` are of those that are connected.
    pub(super) fn members(&self, round_trips: &BTreeMap<NodeId, Duration>) -> Vec<Member> {
        let member = |(id, record): (&NodeId, &NodeRecord)| Member {
            id: *id,
            record: record.clone(),
            liveness: self.liveness(*id),
            certain: *id == self.own || self.certain,
            rtt: round_trips.get(id).copied(),
        };
        self.nodes.iter().map(member).collect()
    }

    fn liveness(&self, id: NodeId) -> Liveness {
        if id == self.own {
            Liveness::Live
        } else {
            self.liveness.get(&id).copied().unwrap_or(Liveness::Suspect)
        }
    }

    /// Another node of that name that is not dead for certain.
    pub(super) fn namesake(&self, name: &Label, node: NodeId) -> Option<NodeId> {
        let dead = |id| self.certain && self.liveness(id) == Liveness::Dead;
        let clash = |id: NodeId, record: &NodeRecord| id != node && record.name == *name && !dead(id);
        self.nodes
            .iter()
            .find(|(id, record)| clash(**id, record))
            .map(|(id, _)| *id)
    }

    pub(super) fn has(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// What a joiner is told.
    pub(super) fn bootstrap(&self) -> Bootstrap {
        let nodes = self.nodes.iter().map(|(id, record)| (*id, record.clone())).collect();
        Bootstrap {
            cluster: self.cluster.clone(),
            nodes,
        }
    }
}

fn read_cluster(fact: &Fact) -> Option<Cluster> {
    postcard::from_bytes(&fact.body.as_ref()?.bytes).ok()
}
