//! One domain as this node sees it: objects, where endpoints are, which hosts there are. Made from the replica only.
//! What hosts say is believed only as far as they may say it: an attachment of an endpoint that exists, on a host it
//! allows; an address whose claim the anchors witnessed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use membership::claim::Claim;
use membership::hlc::Stamp;
use membership::id::{NodeId, Scope};
use membership::record::{Fact, Intent};
use membership::replica::Replica;

use crate::address;
use crate::claims;
use crate::cluster::Cluster;
use crate::fact::{ATTACHMENT_KIND, Attachment, Content, Vtep};
use crate::name::{DomainName, EndpointName, NetworkName, Vni};
use crate::object::domain::DefaultPolicy;
use crate::object::{DomainSpec, EndpointSpec, Kind, NetworkSpec, Spec};

/// One domain, seen from anywhere: two nodes with the same replica have the same view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Which domain.
    pub domain: DomainName,
    /// Its Domain object.
    pub spec: DomainSpec,
    /// When the shown version of that was written.
    pub stamp: Stamp,
    /// Its networks.
    pub networks: BTreeMap<NetworkName, SeenNetwork>,
    /// Its endpoints.
    pub endpoints: BTreeMap<EndpointName, SeenEndpoint>,
    /// Every host's tunnel end.
    pub hosts: BTreeMap<NodeId, Vtep>,
    /// Objects whose record this release cannot read, and why.
    pub unreadable: BTreeMap<(Kind, String), String>,
}

/// A network as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenNetwork {
    /// Its object.
    pub spec: NetworkSpec,
    /// When its shown version was written.
    pub stamp: Stamp,
    /// The older network that has its VNI, if any: this one is denied.
    pub vni_taken_by: Option<(DomainName, NetworkName, Vni)>,
}

/// An endpoint as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenEndpoint {
    /// Its object.
    pub spec: EndpointSpec,
    /// When its shown version was written.
    pub stamp: Stamp,
    /// Addresses claimed for it and confirmed by the anchors: at most one in each subnet where it has no fixed one.
    pub claimed: Vec<IpAddr>,
    /// Who says it is there; the highest counter, then the lower node id, wins.
    pub attachment: Option<(NodeId, Attachment)>,
    /// Hosts that say it is there and that it does not allow.
    pub refused: BTreeSet<NodeId>,
}

impl View {
    /// The view of a domain, from the shown version of its objects and from its facts; none if it has no Domain
    /// object. `verify` says whether a claim has its witnesses.
    pub fn of<'a>(
        domain: &DomainName,
        intents: impl IntoIterator<Item = &'a Intent>,
        facts: impl IntoIterator<Item = &'a Fact>,
        cluster: &Cluster,
        verify: &dyn Fn(&Claim) -> bool,
    ) -> Option<Self> {
        let mut spec = None;
        let mut view = Self::empty(domain, cluster);
        let scope = Scope::Domain(domain.clone());
        for intent in intents.into_iter().filter(|intent| intent.scope == scope) {
            view.see(intent, cluster, &mut spec);
        }
        view.spec = spec?;
        let facts: Vec<&Fact> = facts.into_iter().filter(|fact| fact.scope == scope).collect();
        for fact in &facts {
            view.place(fact, cluster);
        }
        let held = claims::held(domain, &facts, verify);
        claims::assign(&mut view, held);
        Some(view)
    }

    /// The same, from the replica. A Domain of which concurrent versions exist denies if one of them does.
    pub fn from_replica(
        replica: &Replica,
        domain: &DomainName,
        cluster: &Cluster,
        verify: &dyn Fn(&Claim) -> bool,
    ) -> Option<Self> {
        let scope = Scope::Domain(domain.clone());
        let shown = replica.intents(&scope).map(|(_, siblings)| siblings.shown());
        let mut view = Self::of(domain, shown, replica.facts(&scope), cluster, verify)?;
        let siblings = replica.intent(&scope, &Kind::Domain.key(domain))?;
        if siblings.all().any(denies) {
            view.spec.default_policy = DefaultPolicy::Deny;
        }
        Some(view)
    }

    fn empty(domain: &DomainName, cluster: &Cluster) -> Self {
        Self {
            domain: domain.clone(),
            spec: DomainSpec::default(),
            stamp: Stamp::default(),
            networks: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            hosts: cluster.hosts.clone(),
            unreadable: BTreeMap::new(),
        }
    }

    fn see(&mut self, intent: &Intent, cluster: &Cluster, domain: &mut Option<DomainSpec>) {
        let (Some((kind, name)), Some(body)) = (Kind::of_key(&intent.key), &intent.body) else {
            return;
        };
        let stamp = intent.stamp;
        match Spec::decode(kind, body) {
            Ok(Spec::Domain(spec)) if name == self.domain => {
                self.stamp = stamp;
                *domain = Some(spec);
            }
            Ok(Spec::Domain(_)) => {}
            Ok(Spec::Network(spec)) => {
                let vni_taken_by = spec.vni.and_then(|vni| {
                    let owner = cluster.vnis.other(vni, &self.domain, &name)?;
                    Some((owner.domain.clone(), owner.network.clone(), vni))
                });
                self.networks.insert(
                    name,
                    SeenNetwork {
                        spec,
                        stamp,
                        vni_taken_by,
                    },
                );
            }
            Ok(Spec::Endpoint(spec)) => {
                let (claimed, refused) = (Vec::new(), BTreeSet::new());
                self.endpoints.insert(
                    name,
                    SeenEndpoint {
                        spec,
                        stamp,
                        claimed,
                        attachment: None,
                        refused,
                    },
                );
            }
            Ok(Spec::Router(_) | Spec::SecurityPolicy(_)) => {}
            Err(error) => {
                self.unreadable.insert((kind, name.to_string()), error.to_string());
            }
        }
    }

    fn place(&mut self, fact: &Fact, cluster: &Cluster) {
        if &*fact.key.kind != ATTACHMENT_KIND {
            return;
        }
        let name = fact.key.name.parse::<EndpointName>().ok();
        let Some(endpoint) = name.and_then(|name| self.endpoints.get_mut(&name)) else {
            return;
        };
        let Some(Ok(said)) = fact.body.as_ref().map(Attachment::decode) else {
            return;
        };
        if !endpoint.spec.allowed_hosts.allow(cluster.names.get(&fact.origin)) {
            endpoint.refused.insert(fact.origin);
            return;
        }
        let rank = |node: &NodeId, attachment: &Attachment| (attachment.counter, std::cmp::Reverse(*node));
        let stronger = endpoint
            .attachment
            .as_ref()
            .is_none_or(|(node, other)| rank(&fact.origin, &said) > rank(node, other));
        if stronger {
            endpoint.attachment = Some((fact.origin, said));
        }
    }

    /// IPv4 subnets in which an endpoint has neither a fixed nor a claimed address: what the host that attaches it has
    /// to claim.
    #[must_use]
    pub fn unaddressed(&self, endpoint: &EndpointName) -> Vec<Ipv4Net> {
        let Some(seen) = self.endpoints.get(endpoint) else {
            return Vec::new();
        };
        let Some(network) = self.networks.get(&seen.spec.network) else {
            return Vec::new();
        };
        let subnets = network.spec.subnets.iter().filter_map(|subnet| subnet.ipv4());
        subnets
            .filter(|net| !seen.addresses().any(|a| ipnet::IpNet::V4(*net).contains(&a)))
            .collect()
    }

    /// The addresses to claim for an endpoint in a subnet of its network, best first. What others of the network have
    /// fixed or claimed is left out; whether anybody else holds one, the anchors say.
    pub fn candidates<'a>(
        &'a self,
        endpoint: &'a EndpointName,
        subnet: Ipv4Net,
    ) -> impl Iterator<Item = Ipv4Addr> + 'a {
        let network = self.endpoints.get(endpoint).map(|seen| &seen.spec.network);
        let others = self
            .endpoints
            .values()
            .filter(move |other| Some(&other.spec.network) == network);
        let taken: BTreeSet<IpAddr> = others.flat_map(SeenEndpoint::addresses).collect();
        address::ipv4(&self.domain, endpoint, subnet, move |a| taken.contains(&IpAddr::V4(a)))
    }
}

impl SeenEndpoint {
    /// Its addresses, fixed and claimed.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.spec.addresses.iter().chain(&self.claimed).copied()
    }
}

fn denies(version: &Intent) -> bool {
    let spec = version.body.as_ref().map(|body| Spec::decode(Kind::Domain, body));
    !matches!(
        spec,
        Some(Ok(Spec::Domain(DomainSpec {
            default_policy: DefaultPolicy::Allow,
            ..
        })))
    )
}
