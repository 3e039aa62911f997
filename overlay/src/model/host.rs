//! A host: its end of the tunnels, what it has to do, and the far ends that it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use membership::id::NodeId;

use crate::fact::Vtep;
use crate::forwarding::Forwarding;
use crate::name::{DomainName, Vni};

/// One host.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Its end of the tunnels.
    pub vtep: Option<Vtep>,
    /// What it has to do, by domain.
    pub domains: BTreeMap<DomainName, Forwarding>,
    /// Hosts to whose tunnel ends it has no route at the moment.
    pub unrouted: BTreeSet<NodeId>,
    /// Whether VXLAN headers with reserved bits set are dropped (T4).
    pub strict: bool,
}

impl Host {
    /// The ends of the tunnel to another host, ours first: in the family that both have, IPv4 first, if that host listens
    /// on our port.
    pub(super) fn tunnel_to(&self, theirs: &Vtep) -> Option<(IpAddr, IpAddr)> {
        let ours = self.vtep.as_ref().filter(|ours| ours.port == theirs.port)?;
        ours.path_to(theirs)
            .filter(|(source, destination)| source != destination)
    }

    /// The domain of a VNI.
    pub(super) fn segment(&self, vni: Vni) -> Option<&Forwarding> {
        let mut domains = self.domains.values();
        domains.find(|domain| domain.networks.values().any(|segment| segment.vni == vni))
    }

    /// The hosts (one, unless their tunnel ends clash) that a tunnel from this address is of.
    pub(super) fn hosts_at(&self, source: IpAddr) -> impl Iterator<Item = NodeId> {
        let known = self.domains.values().flat_map(|domain| &domain.hosts);
        known
            .filter(move |(_, vtep)| self.tunnel_to(vtep).is_some_and(|(_, far)| far == source))
            .map(|(node, _)| *node)
    }
}
