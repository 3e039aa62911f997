//! The rules, checked on the objects given against all as they would be. What is wrong between two stored objects does
//! not stand in the way of a third, nor of applying them again as they are.

use std::net::IpAddr;

use super::BODY_MAX;
use super::refusal::{Refusal, Rule};
use crate::address::router_mac;
use crate::catalogue::Contents;
use crate::name::{DomainName, EndpointName, NetworkName};
use crate::object::endpoint::Addresses;
use crate::object::{EndpointSpec, NetworkSpec, Object, Spec};
use crate::vni::Owners;

/// What the rules look at.
pub(super) struct Check<'a> {
    pub(super) domain: &'a DomainName,
    pub(super) before: &'a Contents,
    pub(super) after: &'a Contents,
    pub(super) part: &'a [(usize, &'a Object)],
    vnis: &'a Owners,
    refusals: Vec<Refusal>,
}

pub(super) fn check(
    domain: &DomainName,
    before: &Contents,
    after: &Contents,
    part: &[(usize, &Object)],
    vnis: &Owners,
) -> Vec<Refusal> {
    let mut check = Check {
        domain,
        before,
        after,
        part,
        vnis,
        refusals: Vec::new(),
    };
    for &(index, object) in part {
        if after.spec.is_none() {
            check.refuse(index, "domain", Rule::NoDomain(domain.clone()));
        }
        let after = check.after.get(object.kind(), &object.name);
        if after == check.before.get(object.kind(), &object.name) {
            continue;
        }
        let size = after.map_or(0, |spec| spec.encode().bytes.len());
        if size > BODY_MAX {
            check.refuse(index, "spec", Rule::TooLarge(size));
        }
        match &object.spec {
            Spec::Domain(_) if object.name == *domain => {}
            Spec::Domain(_) => check.refuse(index, "domain", Rule::DomainOfDomain(object.name.clone())),
            Spec::Network(given) => check.network(index, &object.name, given),
            Spec::Endpoint(given) => check.endpoint(index, &object.name, given),
            Spec::Router(given) => check.router(index, &object.name, given),
            Spec::SecurityPolicy(_) => {}
        }
    }
    check.policies();
    check.refusals
}

impl Check<'_> {
    pub(super) fn refuse(&mut self, index: usize, path: impl Into<String>, rule: Rule) {
        self.refusals.push(Refusal::new(index, path, rule));
    }

    /// Whether a conflict with `other` is this object's to answer for: of two objects of one apply, the later one.
    pub(super) fn answers_for(&self, index: usize, same: impl Fn(&Object) -> bool) -> bool {
        self.part
            .iter()
            .find(|(_, object)| same(object))
            .is_none_or(|(other, _)| *other < index)
    }

    fn network(&mut self, index: usize, name: &NetworkName, given: &NetworkSpec) {
        self.overlaps(index, name, given);
        self.vni(index, name, given);
        self.in_use(index, name, given);
        self.routers_of(index, name);
    }

    fn overlaps(&mut self, index: usize, name: &NetworkName, given: &NetworkSpec) {
        let after = self.after;
        for (other, (spec, _)) in after.networks.iter().filter(|(other, _)| *other != name) {
            let is_other = |object: &Object| object.name == *other && matches!(object.spec, Spec::Network(_));
            if !self.answers_for(index, is_other) {
                continue;
            }
            for (position, &mine) in given.subnets.iter().enumerate() {
                if let Some(&theirs) = spec.subnets.iter().find(|theirs| theirs.overlaps(mine)) {
                    let rule = Rule::SubnetOverlap {
                        mine,
                        theirs,
                        network: other.clone(),
                    };
                    self.refuse(index, format!("spec.subnets[{position}]"), rule);
                }
            }
        }
    }

    fn vni(&mut self, index: usize, name: &NetworkName, given: &NetworkSpec) {
        let Some(vni) = given.vni else {
            if self
                .after
                .networks
                .get(name)
                .is_some_and(|(spec, _)| spec.vni.is_none())
            {
                self.refuse(index, "spec.vni", Rule::NoVniLeft);
            }
            return;
        };
        if self
            .before
            .networks
            .get(name)
            .is_some_and(|(stored, _)| stored.vni == Some(vni))
        {
            return;
        }
        let elsewhere = self.vnis.other(vni, self.domain, name);
        let stored = elsewhere
            .filter(|owner| !self.moves_off(owner, vni))
            .map(|o| (o.domain.clone(), o.network.clone()));
        let beside = self
            .part
            .iter()
            .take_while(|(other, _)| *other < index)
            .find_map(|(_, object)| match &object.spec {
                Spec::Network(spec) if spec.vni == Some(vni) => Some((object.domain.clone(), object.name.clone())),
                _ => None,
            });
        if let Some((domain, network)) = stored.or(beside) {
            self.refuse(index, "spec.vni", Rule::VniTaken { vni, domain, network });
        }
    }

    /// Whether the owner of a VNI gets another one by this very apply.
    fn moves_off(&self, owner: &crate::vni::Owner, vni: crate::name::Vni) -> bool {
        let network = self.after.networks.get(&owner.network);
        owner.domain == *self.domain && network.is_some_and(|(spec, _)| spec.vni != Some(vni))
    }

    /// Addresses that lose their subnet. Endpoints of the same apply are checked by themselves.
    fn in_use(&mut self, index: usize, name: &NetworkName, given: &NetworkSpec) {
        let Some((old, _)) = self.before.networks.get(name) else {
            return;
        };
        let lost = |address: &IpAddr| old.subnet_of(*address).is_some() && given.subnet_of(*address).is_none();
        let is_given = |endpoint: &EndpointName| {
            self.part
                .iter()
                .any(|(_, object)| object.name == *endpoint && matches!(object.spec, Spec::Endpoint(_)))
        };
        let fixed = self
            .after
            .endpoints_of(name)
            .filter(|(endpoint, _)| !is_given(endpoint));
        let fixed = fixed.flat_map(|(endpoint, spec)| spec.addresses.iter().map(move |a| (endpoint.clone(), *a)));
        let claimed = self.after.claimed.iter().filter(|((network, _), holder)| {
            network == name
                && self
                    .after
                    .endpoints
                    .get(*holder)
                    .is_some_and(|spec| spec.network == *name)
        });
        let claimed = claimed.map(|((_, address), holder)| (holder.clone(), *address));
        let used: Vec<_> = fixed.chain(claimed).filter(|(_, address)| lost(address)).collect();
        if !used.is_empty() {
            self.refuse(index, "spec.subnets", Rule::AddressesInUse(used));
        }
    }

    fn endpoint(&mut self, index: usize, name: &EndpointName, given: &EndpointSpec) {
        let after = self.after;
        if let Some(stored) = self
            .before
            .endpoints
            .get(name)
            .filter(|stored| stored.network != given.network)
        {
            let rule = Rule::NetworkFixed(stored.network.clone());
            return self.refuse(index, "spec.network", rule);
        }
        let Some((network, _)) = after.networks.get(&given.network) else {
            return self.refuse(index, "spec.network", Rule::NoNetwork(given.network.clone()));
        };
        self.mac(index, name, given);
        for &address in given.addresses.iter() {
            if let Some(rule) = self.address(index, name, &given.network, network, address) {
                self.refuse(index, "spec.addresses", rule);
            }
        }
        self.complete(index, name, given, network);
        self.sources(index, name, given, network);
    }

    fn mac(&mut self, index: usize, name: &EndpointName, given: &EndpointSpec) {
        let after = self.after;
        let Some(mac) = after.endpoints.get(name).and_then(|spec| spec.mac) else {
            return self.refuse(index, "spec.mac", Rule::NoMacLeft);
        };
        let mut routers = after.routers_of(&given.network).map(|(router, _)| router);
        if let Some(router) = routers.find(|router| router_mac(self.domain, router) == mac) {
            let router = router.clone();
            self.refuse(index, "spec.mac", Rule::MacOfRouter { mac, router });
        }
        let mut others = after
            .endpoints_of(&given.network)
            .filter(|(other, spec)| *other != name && spec.mac == Some(mac));
        if let Some((other, _)) = others.find(|(other, _)| self.answers_for(index, is_endpoint(other))) {
            self.refuse(
                index,
                "spec.mac",
                Rule::MacTaken {
                    mac,
                    endpoint: other.clone(),
                },
            );
        }
    }

    fn address(
        &self,
        index: usize,
        name: &EndpointName,
        network: &NetworkName,
        spec: &NetworkSpec,
        address: IpAddr,
    ) -> Option<Rule> {
        let Some(subnet) = spec.subnet_of(address) else {
            return Some(Rule::AddressOutside {
                address,
                network: network.clone(),
                subnets: spec.subnets.to_vec(),
            });
        };
        if let Err(why) = subnet.admits(address) {
            return Some(Rule::AddressUnusable { address, subnet, why });
        }
        let endpoint = self.holder(index, name, network, address)?;
        Some(Rule::AddressTaken { address, endpoint })
    }

    /// Which other endpoint of the network has an address.
    pub(super) fn holder(
        &self,
        index: usize,
        name: &EndpointName,
        network: &NetworkName,
        address: IpAddr,
    ) -> Option<EndpointName> {
        let mut others = self.after.endpoints_of(network).filter(|(other, _)| *other != name);
        let fixed = others
            .find(|(other, spec)| spec.addresses.contains(&address) && self.answers_for(index, is_endpoint(other)));
        let claimed = self
            .after
            .claimed
            .get(&(network.clone(), address))
            .filter(|holder| *holder != name);
        let claimed = claimed.filter(|holder| self.after.endpoints.contains_key(*holder));
        Some(fixed.map(|(other, _)| other).or(claimed)?.clone())
    }

    /// Whether every IPv6 subnet got its address.
    fn complete(&mut self, index: usize, name: &EndpointName, given: &EndpointSpec, network: &NetworkSpec) {
        let Some(filled) = self.after.endpoints.get(name) else {
            return;
        };
        let bare = |addresses: &Addresses| {
            let ipv6 = network.subnets.iter().filter(|subnet| subnet.ipv6().is_some());
            ipv6.copied()
                .filter(|subnet| !addresses.iter().any(|a| subnet.contains(*a)))
                .collect::<Vec<_>>()
        };
        let (missing, wanted) = (bare(&filled.addresses), bare(&given.addresses));
        if !missing.is_empty() && given.addresses.len() + wanted.len() > Addresses::MAX {
            self.refuse(index, "spec.addresses", Rule::TooManyAddresses(Addresses::MAX));
        } else if let Some(subnet) = missing.first() {
            self.refuse(index, "spec.addresses", Rule::NoAddressLeft(*subnet));
        }
    }
}

pub(super) fn is_endpoint(name: &EndpointName) -> impl Fn(&Object) -> bool {
    move |object| object.name == *name && matches!(object.spec, Spec::Endpoint(_))
}
