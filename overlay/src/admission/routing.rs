//! The rules of routers and policies.

use super::refusal::Rule;
use super::rules::{Check, is_endpoint};
use crate::address::router_mac;
use crate::catalogue::Contents;
use crate::name::{EndpointName, NetworkName, RouterName};
use crate::object::endpoint::Source;
use crate::object::router::Target;
use crate::object::{EndpointSpec, NetworkSpec, Object, RouterSpec, Spec};
use crate::ruleset::Size;
use crate::subnet::Subnet;

impl Check<'_> {
    pub(super) fn router(&mut self, index: usize, name: &RouterName, given: &RouterSpec) {
        let after = self.after;
        for network in given.networks.iter() {
            if !after.networks.contains_key(network) {
                self.refuse(index, "spec.networks", Rule::NoNetwork(network.clone()));
            }
            let mut others = after.routers_of(network).filter(|(other, _)| *other != name);
            if let Some((router, _)) = others.find(|(other, _)| self.answers_for(index, is_router(other))) {
                let (network, router) = (network.clone(), router.clone());
                self.refuse(index, "spec.networks", Rule::NetworkJoined { network, router });
            }
        }
        let mac = router_mac(self.domain, name);
        let mut endpoints = after.endpoints.iter();
        let same = endpoints.find(|(_, spec)| spec.mac == Some(mac) && given.networks.contains(&spec.network));
        if let Some((endpoint, _)) = same {
            let endpoint = endpoint.clone();
            self.refuse(index, "name", Rule::RouterMacTaken { mac, endpoint });
        }
        for rule in faults(given, after) {
            self.refuse(index, "spec.routes", rule);
        }
    }

    /// Routers that a network's change would break. Those of the same apply are checked by themselves.
    pub(super) fn routers_of(&mut self, index: usize, network: &NetworkName) {
        let (before, after) = (self.before, self.after);
        for (router, spec) in after.routers_of(network) {
            let given = self.part.iter().any(|(_, object)| is_router(router)(object));
            if given || !faults(spec, before).is_empty() {
                continue;
            }
            for why in faults(spec, after) {
                let (router, why) = (router.clone(), why.to_string());
                self.refuse(index, "spec.subnets", Rule::BreaksRouter { router, why });
            }
        }
    }

    /// What an endpoint may send from.
    pub(super) fn sources(&mut self, index: usize, name: &EndpointName, given: &EndpointSpec, network: &NetworkSpec) {
        for &prefix in given.allowed_addresses.iter() {
            let source = Source(prefix);
            if let Some((gateway, subnet)) = network.gateway_in(prefix) {
                let rule = Rule::SourceOfGateway {
                    prefix: source,
                    gateway,
                    subnet,
                };
                self.refuse(index, "spec.allowedAddresses", rule);
                continue;
            }
            let others = self
                .after
                .endpoints_of(&given.network)
                .filter(|(other, _)| *other != name);
            let mut same = others.filter(|(_, spec)| spec.allowed_addresses.contains(&prefix));
            let same = same.find(|(other, _)| self.answers_for(index, is_endpoint(other)));
            let allowed = same.map(|(endpoint, _)| Rule::SourceTaken {
                prefix: source,
                endpoint: endpoint.clone(),
            });
            let own = || {
                let address = prefix.single()?;
                let endpoint = self.holder(index, name, &given.network, address)?;
                Some(Rule::AddressTaken { address, endpoint })
            };
            if let Some(rule) = allowed.or_else(own) {
                self.refuse(index, "spec.allowedAddresses", rule);
            }
        }
    }

    /// Whether hosts can hold the policies; the last one that changes answers for it, unless there were too many before
    /// and there are less.
    pub(super) fn policies(&mut self) {
        let [before, after] = [self.before, self.after].map(|contents| Size::of(contents.policies.values()));
        if after.fits() || (after.rules <= before.rules && after.groups <= before.groups) {
            return;
        }
        let changed = self.part.iter().rev().find(|(_, object)| match &object.spec {
            Spec::SecurityPolicy(spec) => self.before.policies.get(&object.name) != Some(spec),
            Spec::Domain(_) | Spec::Network(_) | Spec::Endpoint(_) | Spec::Router(_) => false,
        });
        if let Some(&(index, _)) = changed {
            let Size { groups, rules } = after;
            self.refuse(index, "spec", Rule::TooManyRules { groups, rules });
        }
    }
}

/// What is wrong with a router's routes among the subnets of its networks.
fn faults(router: &RouterSpec, contents: &Contents) -> Vec<Rule> {
    let networks = router.networks.iter();
    let subnets: Vec<(&NetworkName, Subnet)> = networks
        .filter_map(|name| Some((name, contents.networks.get(name)?)))
        .flat_map(|(name, (spec, _))| spec.subnets.iter().map(move |subnet| (name, *subnet)))
        .collect();
    let mut faults = Vec::new();
    for (&prefix, target) in router.routes.iter() {
        if let Some((network, _)) = subnets.iter().find(|(_, subnet)| subnet.net() == prefix.net()) {
            let network = (*network).clone();
            faults.push(Rule::RouteConnected { prefix, network });
        }
        let Target::Via(hops) = target else { continue };
        for &address in hops.iter() {
            match subnets.iter().find(|(_, subnet)| subnet.contains(address)) {
                None => faults.push(Rule::HopOutside { hop: address, prefix }),
                Some(&(_, subnet)) => {
                    let unusable = subnet.admits(address).err();
                    faults.extend(unusable.map(|why| Rule::AddressUnusable { address, subnet, why }));
                }
            }
        }
    }
    faults
}

fn is_router(name: &RouterName) -> impl Fn(&Object) -> bool {
    move |object| object.name == *name && matches!(object.spec, Spec::Router(_))
}
