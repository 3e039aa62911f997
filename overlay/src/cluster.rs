//! What the views of all domains share: the hosts' tunnel ends and names, and who has which VNI.

use std::collections::BTreeMap;
use std::net::IpAddr;

use membership::hlc::Stamp;
use membership::id::{Label, NodeId, Scope};
use membership::record::{Fact, Intent};
use membership::replica::Replica;

use crate::fact::{Content, Vtep};
use crate::name::Vni;
use crate::object::{Kind, Spec};
use crate::vni::{Owner, Owners};

/// The cluster as the views of its domains need it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cluster {
    /// Tunnel ends, each address at one host only.
    pub hosts: BTreeMap<NodeId, Vtep>,
    /// Hosts that say they have a tunnel address which is an older host's: they have no tunnel end.
    pub clashes: BTreeMap<NodeId, (IpAddr, NodeId)>,
    /// What the nodes are called.
    pub names: BTreeMap<NodeId, Label>,
    /// Who has which VNI.
    pub vnis: Owners,
}

impl Cluster {
    /// Reads the facts of the system scope and the shown networks of all domains. Several domains' views can be made
    /// from one value; a change of a Network, of a [`Vtep`] or of the members makes it stale for every domain.
    pub fn of<'a>(
        names: BTreeMap<NodeId, Label>,
        system: impl IntoIterator<Item = &'a Fact>,
        intents: impl IntoIterator<Item = &'a Intent>,
    ) -> Self {
        let (hosts, clashes) = tunnel_ends(system);
        let vnis = Owners::of(intents.into_iter().filter_map(owner));
        Self {
            hosts,
            clashes,
            names,
            vnis,
        }
    }

    /// The same, from the replica. `names` are the members' (what a node is called, membership knows).
    #[must_use]
    pub fn from_replica(replica: &Replica, names: BTreeMap<NodeId, Label>) -> Self {
        let scopes: Vec<&Scope> = replica.scopes().collect();
        let shown = scopes
            .iter()
            .flat_map(|scope| replica.intents(scope))
            .map(|(_, siblings)| siblings.shown());
        Self::of(names, replica.facts(&Scope::System), shown)
    }
}

/// One tunnel address at two hosts would let either speak for the other, so the host that said it first has it.
fn tunnel_ends<'a>(
    system: impl IntoIterator<Item = &'a Fact>,
) -> (BTreeMap<NodeId, Vtep>, BTreeMap<NodeId, (IpAddr, NodeId)>) {
    let mut said: Vec<(Stamp, NodeId, Vtep)> = system.into_iter().filter_map(vtep).collect();
    said.sort_by_key(|(stamp, node, _)| (*stamp, *node));
    let (mut hosts, mut clashes) = (BTreeMap::new(), BTreeMap::new());
    let mut holders: BTreeMap<IpAddr, NodeId> = BTreeMap::new();
    for (_, node, vtep) in said {
        match vtep
            .addresses()
            .find_map(|address| Some((address, *holders.get(&address)?)))
        {
            Some(clash) => {
                clashes.insert(node, clash);
            }
            None => {
                for address in vtep.addresses() {
                    holders.insert(address, node);
                }
                hosts.insert(node, vtep);
            }
        }
    }
    (hosts, clashes)
}

fn vtep(fact: &Fact) -> Option<(Stamp, NodeId, Vtep)> {
    if fact.scope != Scope::System || fact.key != Vtep::key() {
        return None;
    }
    Some((fact.stamp, fact.origin, Vtep::decode(fact.body.as_ref()?).ok()?))
}

fn owner(intent: &Intent) -> Option<(Vni, Owner)> {
    let Scope::Domain(domain) = &intent.scope else {
        return None;
    };
    let (Kind::Network, network) = Kind::of_key(&intent.key)? else {
        return None;
    };
    let Ok(Spec::Network(spec)) = Spec::decode(Kind::Network, intent.body.as_ref()?) else {
        return None;
    };
    Some((
        spec.vni?,
        Owner {
            stamp: intent.stamp,
            domain: domain.clone(),
            network,
        },
    ))
}
