//! All objects of all domains as a node has them: what the rules between objects are checked against.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use membership::claim::Claim;
use membership::hlc::Stamp;
use membership::id::{Label, Scope};
use membership::record::{Fact, Intent, Key};
use membership::replica::Replica;
use rpds::RedBlackTreeMapSync;

use crate::claims;
use crate::fact::ADDRESS_CLAIM_KIND;
use crate::name::{DomainName, EndpointName, NetworkName, PolicyName, RouterName};
use crate::object::{DomainSpec, EndpointSpec, Kind, NetworkSpec, Object, RouterSpec, SecurityPolicySpec, Spec};
use crate::vni::{Owner, Owners};

/// The objects of all domains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    domains: BTreeMap<DomainName, Contents>,
}

/// The objects of one domain. Networks and endpoints can be there without the domain's own object, if it was deleted on
/// one node while they were written on another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The Domain.
    pub spec: Option<DomainSpec>,
    /// Its networks, with the stamps of their shown versions.
    pub networks: BTreeMap<NetworkName, (NetworkSpec, Stamp)>,
    /// Its endpoints: a map of which a copy shares what stays the same.
    pub endpoints: RedBlackTreeMapSync<EndpointName, EndpointSpec>,
    /// Its routers.
    pub routers: BTreeMap<RouterName, RouterSpec>,
    /// Its policies.
    pub policies: BTreeMap<PolicyName, SecurityPolicySpec>,
    /// Claimed addresses, alike.
    pub claimed: RedBlackTreeMapSync<(NetworkName, IpAddr), EndpointName>,
}

impl Catalogue {
    /// Adds what the shown version of an object says.
    pub fn see(&mut self, intent: &Intent) {
        let Scope::Domain(domain) = &intent.scope else { return };
        let (Some((kind, name)), Some(body)) = (Kind::of_key(&intent.key), &intent.body) else {
            return;
        };
        if let Ok(spec) = Spec::decode(kind, body) {
            self.insert(
                Object {
                    domain: domain.clone(),
                    name,
                    spec,
                },
                intent.stamp,
            );
        }
    }

    /// Adds an object.
    pub fn insert(&mut self, object: Object, stamp: Stamp) {
        let contents = self.domains.entry(object.domain).or_default();
        match object.spec {
            Spec::Domain(spec) => contents.spec = Some(spec),
            Spec::Network(spec) => {
                contents.networks.insert(object.name, (spec, stamp));
            }
            Spec::Endpoint(spec) => {
                contents.endpoints.insert_mut(object.name, spec);
            }
            Spec::Router(spec) => {
                contents.routers.insert(object.name, spec);
            }
            Spec::SecurityPolicy(spec) => {
                contents.policies.insert(object.name, spec);
            }
        }
    }

    /// Takes an object out; claimed addresses stay.
    pub fn remove(&mut self, domain: &DomainName, kind: Kind, name: &Label) {
        if let Some(contents) = self.domains.get_mut(domain) {
            contents.forget(kind, name);
        }
    }

    /// Adds the addresses that hosts claimed in a domain. `verify` says whether a claim has its witnesses.
    pub fn claim(&mut self, domain: &DomainName, facts: &[&Fact], verify: &dyn Fn(&Claim) -> bool) {
        // Endpoints come and go without their claims being read again.
        let held = claims::held(domain, facts, &|_, _| true, verify);
        self.hold(domain, held.into_iter().map(|(place, held)| (place, held.endpoint)));
    }

    /// Adds addresses that are known to be claimed.
    pub fn hold(
        &mut self,
        domain: &DomainName,
        claimed: impl IntoIterator<Item = ((NetworkName, IpAddr), EndpointName)>,
    ) {
        let held = &mut self.domains.entry(domain.clone()).or_default().claimed;
        for (place, endpoint) in claimed {
            held.insert_mut(place, endpoint);
        }
    }

    /// Reads the replica.
    pub fn from_replica(replica: &Replica, verify: &dyn Fn(&Claim) -> bool) -> Self {
        let mut catalogue = Self::default();
        for scope in replica.scopes() {
            if let Scope::Domain(domain) = scope {
                catalogue.read(replica, domain, verify);
            }
        }
        catalogue
    }

    /// Reads one domain of the replica (again).
    pub fn read(&mut self, replica: &Replica, domain: &DomainName, verify: &dyn Fn(&Claim) -> bool) {
        let scope = Scope::Domain(domain.clone());
        self.domains.remove(domain);
        replica
            .intents(&scope)
            .for_each(|(_, siblings)| self.see(siblings.shown()));
        self.claim(domain, &replica.facts(&scope).collect::<Vec<_>>(), verify);
    }

    /// Reads what changed of a domain of the replica, given the keys of all that did: then it is as if the domain were
    /// read. False, and nothing is read, if they are not enough: what hosts claim is read as a whole.
    #[must_use]
    pub fn follow(&mut self, replica: &Replica, domain: &DomainName, touched: &BTreeSet<Key>) -> bool {
        if touched.iter().any(|key| &*key.kind == ADDRESS_CLAIM_KIND) {
            return false;
        }
        let scope = Scope::Domain(domain.clone());
        let contents = self.domains.entry(domain.clone()).or_default();
        for (kind, name) in touched.iter().filter_map(Kind::of_key) {
            contents.forget(kind, &name);
        }
        for siblings in touched.iter().filter_map(|key| replica.intent(&scope, key)) {
            self.see(siblings.shown());
        }
        true
    }

    /// The objects of a domain.
    #[must_use]
    pub fn domain(&self, domain: &DomainName) -> Option<&Contents> {
        self.domains.get(domain)
    }

    /// Who has which VNI.
    #[must_use]
    pub fn vnis(&self) -> Owners {
        let networks = self.domains.iter().flat_map(|(domain, contents)| {
            contents.networks.iter().filter_map(move |(network, (spec, stamp))| {
                Some((
                    spec.vni?,
                    Owner {
                        stamp: *stamp,
                        domain: domain.clone(),
                        network: network.clone(),
                    },
                ))
            })
        });
        Owners::of(networks)
    }
}

impl Contents {
    fn forget(&mut self, kind: Kind, name: &Label) {
        match kind {
            Kind::Domain => self.spec = None,
            Kind::Network => drop(self.networks.remove(name)),
            Kind::Endpoint => {
                self.endpoints.remove_mut(name);
            }
            Kind::Router => drop(self.routers.remove(name)),
            Kind::SecurityPolicy => drop(self.policies.remove(name)),
        }
    }

    /// One object's content.
    #[must_use]
    pub fn get(&self, kind: Kind, name: &Label) -> Option<Spec> {
        match kind {
            Kind::Domain => self.spec.clone().map(Spec::Domain),
            Kind::Network => self.networks.get(name).map(|(spec, _)| Spec::Network(spec.clone())),
            Kind::Endpoint => self.endpoints.get(name).cloned().map(Spec::Endpoint),
            Kind::Router => self.routers.get(name).cloned().map(Spec::Router),
            Kind::SecurityPolicy => self.policies.get(name).cloned().map(Spec::SecurityPolicy),
        }
    }

    /// The endpoints of a network.
    pub fn endpoints_of<'a>(
        &'a self,
        network: &'a NetworkName,
    ) -> impl Iterator<Item = (&'a EndpointName, &'a EndpointSpec)> + 'a {
        self.endpoints.iter().filter(move |(_, spec)| spec.network == *network)
    }

    /// The routers that join a network; one, unless others were written at the same time.
    pub fn routers_of<'a>(
        &'a self,
        network: &'a NetworkName,
    ) -> impl Iterator<Item = (&'a RouterName, &'a RouterSpec)> + 'a {
        self.routers
            .iter()
            .filter(move |(_, spec)| spec.networks.contains(network))
    }
}
