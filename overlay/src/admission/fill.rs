//! The objects as they would be after an apply: what is given takes the place of what is stored; a VNI or MAC that a
//! manifest leaves out stays what it was, or is chosen. Where nothing can be chosen a value stays out and
//! [`super::rules`] says so.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

use membership::hlc::Stamp;

use super::use_vni;
use crate::address;
use crate::catalogue::Contents;
use crate::name::{DomainName, EndpointName, Mac, NetworkName};
use crate::object::endpoint::Addresses;
use crate::object::{EndpointSpec, NetworkSpec, Object, Spec};
use crate::vni::Owners;

pub(super) fn fill(domain: &DomainName, before: &Contents, part: &[(usize, &Object)], vnis: &Owners) -> Contents {
    let mut after = before.clone();
    for (_, object) in part {
        match &object.spec {
            Spec::Domain(spec) => after.spec = Some(spec.clone()),
            Spec::Network(spec) => {
                let stamp = before
                    .networks
                    .get(&object.name)
                    .map_or(Stamp::default(), |(_, stamp)| *stamp);
                after.networks.insert(object.name.clone(), (spec.clone(), stamp));
            }
            Spec::Endpoint(spec) => {
                after.endpoints.insert_mut(object.name.clone(), spec.clone());
            }
            Spec::Router(spec) => {
                after.routers.insert(object.name.clone(), spec.clone());
            }
            Spec::SecurityPolicy(spec) => {
                after.policies.insert(object.name.clone(), spec.clone());
            }
        }
    }
    fill_vnis(domain, before, part, vnis, &mut after);
    for (_, object) in part {
        if let Spec::Endpoint(given) = &object.spec {
            let mac = given.mac.or_else(|| mac(domain, &object.name, given, before, &after));
            let addresses = addresses(domain, &object.name, given, before, &after);
            let filled = EndpointSpec {
                mac,
                addresses,
                ..given.clone()
            };
            after.endpoints.insert_mut(object.name.clone(), filled);
        }
    }
    after
}

/// Numbers that are written down come before numbers that are chosen.
fn fill_vnis(domain: &DomainName, before: &Contents, part: &[(usize, &Object)], vnis: &Owners, after: &mut Contents) {
    let mut used = vnis.clone();
    part.iter().for_each(|(_, object)| use_vni(&mut used, object));
    for (_, object) in part {
        let Spec::Network(NetworkSpec { vni: None, .. }) = &object.spec else {
            continue;
        };
        let Some((spec, _)) = after.networks.get_mut(&object.name) else {
            continue;
        };
        let kept = before.networks.get(&object.name).and_then(|(stored, _)| stored.vni);
        let kept = kept.filter(|vni| used.other(*vni, domain, &object.name).is_none());
        spec.vni = kept.or_else(|| used.choose(domain, &object.name));
        use_vni(
            &mut used,
            &Object {
                spec: Spec::Network(spec.clone()),
                ..(*object).clone()
            },
        );
    }
}

fn mac(
    domain: &DomainName,
    name: &EndpointName,
    given: &EndpointSpec,
    before: &Contents,
    after: &Contents,
) -> Option<Mac> {
    if let Some(kept) = before.endpoints.get(name).and_then(|stored| stored.mac) {
        return Some(kept);
    }
    let others = after.endpoints_of(&given.network).filter(|(other, _)| *other != name);
    let taken: BTreeSet<Mac> = others.filter_map(|(_, spec)| spec.mac).collect();
    address::macs(domain, name).find(|mac| !taken.contains(mac))
}

/// The fixed addresses, and a computed one in each IPv6 subnet where there is none: the stored one if it was computed,
/// so that it stays when others come and go.
fn addresses(
    domain: &DomainName,
    name: &EndpointName,
    given: &EndpointSpec,
    before: &Contents,
    after: &Contents,
) -> Addresses {
    let Some((network, _)) = after.networks.get(&given.network) else {
        return given.addresses.clone();
    };
    // Of a large network it is much.
    let taken = LazyCell::new(|| taken(name, &given.network, after));
    let stored: Vec<IpAddr> = before
        .endpoints
        .get(name)
        .map(|stored| stored.addresses.clone().into())
        .unwrap_or_default();
    let mut all: Vec<IpAddr> = given.addresses.iter().copied().collect();
    for subnet in network.subnets.iter() {
        let Some(net) = subnet
            .ipv6()
            .filter(|_| !given.addresses.iter().any(|a| subnet.contains(*a)))
        else {
            continue;
        };
        let free = || {
            address::ipv6(domain, name, net)
                .map(IpAddr::V6)
                .filter(|a| !taken.contains(a))
        };
        let kept = stored
            .iter()
            .find(|a| subnet.contains(**a))
            .and_then(|stored| free().find(|a| a == stored));
        all.extend(kept.or_else(|| free().next()));
    }
    // Too many, or one twice: the rules find both from what is missing.
    Addresses::try_from(all).unwrap_or_else(|_| given.addresses.clone())
}

/// Addresses of a network that others have.
fn taken(name: &EndpointName, network: &NetworkName, after: &Contents) -> BTreeSet<IpAddr> {
    let others = after.endpoints_of(network).filter(|(other, _)| *other != name);
    let fixed = others.flat_map(|(_, spec)| spec.addresses.iter().copied());
    let claimed = after
        .claimed
        .iter()
        .filter(|((of, _), holder)| of == network && *holder != name);
    fixed.chain(claimed.map(|((_, address), _)| *address)).collect()
}
