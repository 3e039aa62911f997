//! Who the members are and how they look, as `members` answers it: node records out of the replica, the ones known
//! since the set-up where the replica has none yet, and the cluster record as its decrees say it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::{Liveness, Member};
use crate::decree::{Chain, Sealed, Standing, Taken};
use crate::home::Bootstrap;
use crate::id::{Label, NodeId, Scope};
use crate::keyring;
use crate::node::{CLUSTER_KIND, Cluster, NodeRecord};
use crate::pki::Leaf;
use crate::record::{Body, Fact, Key};
use crate::replica::Replica;

/// Format of the bodies of decrees.
const DECREE_VERSION: u16 = 2;

/// The members of a cluster.
#[derive(Debug)]
pub(super) struct Roster {
    own: NodeId,
    bootstrap: Bootstrap,
    chain: Chain,
    cluster: Cluster,
    nodes: BTreeMap<NodeId, NodeRecord>,
    liveness: BTreeMap<NodeId, Liveness>,
    /// Whether anything may be decided by it.
    certain: bool,
}

/// What looking again came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Refreshed {
    /// `members` answers differently.
    pub(super) members: bool,
    /// Of the cluster record.
    pub(super) decrees: Taken,
}

impl Roster {
    /// What is known before the replica was looked at.
    pub(super) fn new(own: NodeId, bootstrap: Bootstrap, chain: Chain) -> Self {
        Self {
            own,
            nodes: bootstrap.nodes.iter().cloned().collect(),
            bootstrap,
            cluster: chain.now().cluster(),
            chain,
            liveness: BTreeMap::new(),
            certain: true,
        }
    }

    /// Looks at the system scope again.
    pub(super) fn refresh(&mut self, replica: &Replica) -> Refreshed {
        let decrees = self.learn(&said_in(replica));
        let mut nodes: BTreeMap<_, _> = self.bootstrap.nodes.iter().cloned().collect();
        nodes.extend(
            replica
                .facts(&Scope::System)
                .filter_map(|fact| Some((fact.origin, keyring::node_record(fact)?))),
        );
        let removed = self.chain.now().removed();
        // Who is out has no peers.
        let out = removed.contains_key(&self.own);
        nodes.retain(|id, _| *id == self.own || !(out || removed.contains_key(id)));
        let members = nodes != self.nodes;
        self.nodes = nodes;
        Refreshed { members, decrees }
    }

    /// Looks at decrees, whoever hands them on.
    pub(super) fn learn(&mut self, decrees: &[Sealed]) -> Taken {
        let taken = self.chain.take(decrees);
        if taken.changed {
            self.cluster = self.chain.now().cluster();
        }
        taken
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

    /// The cluster record with all that leads to it.
    pub(super) fn decrees(&self) -> &Chain {
        &self.chain
    }

    /// The cluster record as it stands.
    pub(super) fn standing(&self) -> &Standing {
        self.chain.now()
    }

    /// Whether this node was removed.
    pub(super) fn is_out(&self) -> bool {
        self.standing().removed().contains_key(&self.own)
    }

    /// Whom this node does not talk to, whatever certificate they have.
    pub(super) fn banished(&self) -> BTreeSet<NodeId> {
        self.standing()
            .removed()
            .keys()
            .copied()
            .filter(|node| *node != self.own)
            .collect()
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

    /// What a member says of itself.
    pub(super) fn record(&self, node: NodeId) -> Option<&NodeRecord> {
        self.nodes.get(&node)
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

    pub(super) fn liveness(&self, id: NodeId) -> Liveness {
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

    /// Members that may become anchors, those who were let in first before the others.
    pub(super) fn candidates(&self) -> Vec<NodeId> {
        let let_in = |record: &NodeRecord| Leaf::parse(&record.certificate).ok().map(|leaf| leaf.not_before);
        let free = self.nodes.iter().filter(|(id, _)| self.standing().seat(**id).is_none());
        let mut free: Vec<_> = free.filter_map(|(id, record)| Some((let_in(record)?, *id))).collect();
        free.retain(|(_, id)| self.liveness(*id) == Liveness::Live);
        free.sort_unstable();
        free.into_iter().map(|(_, id)| id).collect()
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
            decrees: Some(self.chain.keep()),
        }
    }
}

/// The decrees that anybody says.
fn said_in(replica: &Replica) -> Vec<Sealed> {
    let said = replica
        .facts(&Scope::System)
        .filter(|fact| &*fact.key.kind == CLUSTER_KIND);
    said.filter_map(read_decree).collect()
}

fn read_decree(fact: &Fact) -> Option<Sealed> {
    let body = fact.body.as_ref().filter(|body| body.version == DECREE_VERSION)?;
    postcard::from_bytes(&body.bytes).ok()
}

/// A decree as a fact.
pub(super) fn decree_fact(sealed: &Sealed) -> Option<(Key, Body)> {
    let bytes = postcard::to_stdvec(sealed).ok()?.into();
    let body = Body {
        version: DECREE_VERSION,
        bytes,
    };
    Some((Key::new(CLUSTER_KIND, &sealed.decree.version.to_string()), body))
}
