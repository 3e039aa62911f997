//! One domain as this node sees it: objects, where endpoints are, which hosts there are. Made from the replica only.
//! What hosts say is believed only as far as they may say it: an attachment of an endpoint that exists, on a host it
//! allows; an address whose claim the anchors witnessed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use membership::claim::Claim;
use membership::hlc::Stamp;
use membership::id::{Label, NodeId, Scope};
use membership::record::{Fact, Intent, Key};
use membership::replica::Replica;

use crate::address;
use crate::claims;
use crate::cluster::Cluster;
use crate::fact::{ATTACHMENT_KIND, Attachment, Content, Vtep};
use crate::name::{DomainName, EndpointName, NetworkName, PolicyName, RouterName, Vni};
use crate::object::domain::DefaultPolicy;
use crate::object::{DomainSpec, EndpointSpec, Kind, NetworkSpec, RouterSpec, SecurityPolicySpec, Spec};

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
    /// Its routers.
    pub routers: BTreeMap<RouterName, SeenRouter>,
    /// Its policies: of each all concurrent versions, the shown one first.
    pub policies: BTreeMap<PolicyName, Vec<PolicyVersion>>,
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

/// A router as seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRouter {
    /// Its object.
    pub spec: RouterSpec,
    /// When its shown version was written.
    pub stamp: Stamp,
    /// How many concurrent versions it has.
    pub versions: usize,
}

/// One of the concurrent versions of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyVersion {
    /// What it says.
    Says(SecurityPolicySpec),
    /// It was deleted while others changed it.
    Deleted,
    /// It was written by a later release, or is damaged.
    Unreadable,
}

impl View {
    /// The view of a domain, from all concurrent versions of its objects and from its facts; none if it has no Domain
    /// object. Of most kinds the shown version counts; a Domain denies if a version of it does, a SecurityPolicy is
    /// decided by all its versions. `verify` says whether a claim has its witnesses.
    pub fn of<'a>(
        domain: &DomainName,
        intents: impl IntoIterator<Item = &'a Intent>,
        facts: impl IntoIterator<Item = &'a Fact>,
        cluster: &Cluster,
        verify: &dyn Fn(&Claim) -> bool,
    ) -> Option<Self> {
        let scope = Scope::Domain(domain.clone());
        let mut objects: BTreeMap<&Key, Vec<&Intent>> = BTreeMap::new();
        for intent in intents.into_iter().filter(|intent| intent.scope == scope) {
            objects.entry(&intent.key).or_default().push(intent);
        }
        let mut view = Self::empty(domain, cluster);
        let mut spec = None;
        for (key, mut versions) in objects {
            versions.sort_by(|a, b| rank(b).cmp(&rank(a)));
            match Kind::of_key(key) {
                Some((Kind::SecurityPolicy, name)) => view.policy(name, &versions),
                Some((Kind::Domain, name)) if name == *domain => spec = view.domain(&versions),
                Some((Kind::Domain, _)) | None => {}
                Some((kind, name)) => view.see(kind, name, &versions, cluster),
            }
        }
        view.spec = spec?;
        let facts: Vec<&Fact> = facts.into_iter().filter(|fact| fact.scope == scope).collect();
        for fact in &facts {
            view.place(fact, cluster);
        }
        let may_have = |endpoint: &_, network: &_| claims::may_have(&view, endpoint, network);
        let held = claims::held(domain, &facts, &may_have, verify);
        claims::assign(&mut view, held);
        Some(view)
    }

    /// The same, from the replica.
    pub fn from_replica(
        replica: &Replica,
        domain: &DomainName,
        cluster: &Cluster,
        verify: &dyn Fn(&Claim) -> bool,
    ) -> Option<Self> {
        let scope = Scope::Domain(domain.clone());
        let versions = replica.intents(&scope).flat_map(|(_, siblings)| siblings.all());
        Self::of(domain, versions, replica.facts(&scope), cluster, verify)
    }

    fn empty(domain: &DomainName, cluster: &Cluster) -> Self {
        Self {
            domain: domain.clone(),
            spec: DomainSpec::default(),
            stamp: Stamp::default(),
            networks: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            routers: BTreeMap::new(),
            policies: BTreeMap::new(),
            hosts: cluster.hosts.clone(),
            unreadable: BTreeMap::new(),
        }
    }

    /// The Domain, by its shown version; it denies if another version does.
    fn domain(&mut self, versions: &[&Intent]) -> Option<DomainSpec> {
        let shown = versions.first()?;
        match self.read(Kind::Domain, &self.domain.clone(), shown)? {
            Spec::Domain(mut spec) => {
                self.stamp = shown.stamp;
                if versions.iter().any(|version| denies(version)) {
                    spec.default_policy = DefaultPolicy::Deny;
                }
                Some(spec)
            }
            Spec::Network(_) | Spec::Endpoint(_) | Spec::Router(_) | Spec::SecurityPolicy(_) => None,
        }
    }

    /// An object of which the shown version counts.
    fn see(&mut self, kind: Kind, name: Label, versions: &[&Intent], cluster: &Cluster) {
        let Some(shown) = versions.first() else { return };
        let stamp = shown.stamp;
        match self.read(kind, &name, shown) {
            Some(Spec::Network(spec)) => {
                let vni_taken_by = spec.vni.and_then(|vni| {
                    let owner = cluster.vnis.other(vni, &self.domain, &name)?;
                    Some((owner.domain.clone(), owner.network.clone(), vni))
                });
                let seen = SeenNetwork {
                    spec,
                    stamp,
                    vni_taken_by,
                };
                self.networks.insert(name, seen);
            }
            Some(Spec::Endpoint(spec)) => {
                let seen = SeenEndpoint {
                    spec,
                    stamp,
                    claimed: Vec::new(),
                    attachment: None,
                    refused: BTreeSet::new(),
                };
                self.endpoints.insert(name, seen);
            }
            Some(Spec::Router(spec)) => {
                let versions = versions.len();
                self.routers.insert(name, SeenRouter { spec, stamp, versions });
            }
            Some(Spec::Domain(_) | Spec::SecurityPolicy(_)) | None => {}
        }
    }

    /// A policy with all its versions; none if all are deletions.
    fn policy(&mut self, name: PolicyName, versions: &[&Intent]) {
        let version = |intent: &&Intent| match (&intent.body, self.read(Kind::SecurityPolicy, &name, intent)) {
            (None, _) => PolicyVersion::Deleted,
            (Some(_), Some(Spec::SecurityPolicy(spec))) => PolicyVersion::Says(spec),
            (Some(_), _) => PolicyVersion::Unreadable,
        };
        let versions: Vec<PolicyVersion> = versions.iter().map(version).collect();
        if versions.iter().any(|version| *version != PolicyVersion::Deleted) {
            self.policies.insert(name, versions);
        }
    }

    /// What a version says; notes if it cannot be read. None for a deletion as well.
    fn read(&mut self, kind: Kind, name: &Label, version: &Intent) -> Option<Spec> {
        match Spec::decode(kind, version.body.as_ref()?) {
            Ok(spec) => Some(spec),
            Err(error) => {
                self.unreadable.insert((kind, name.to_string()), error.to_string());
                None
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

/// Orders the versions of one object; the highest is shown.
fn rank(version: &Intent) -> impl Ord {
    let body = version.body.as_ref().map(|body| (body.version, body.bytes.clone()));
    (version.stamp, version.dot, body)
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
