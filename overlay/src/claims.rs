//! Which claimed addresses count: those whose claim says what the fact says, that its origin holds, that the anchors
//! witnessed, and that the endpoint can have where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use membership::claim::Claim;
use membership::hlc::Stamp;
use membership::id::{NodeId, Scope};
use membership::record::Fact;

use crate::address::claim_key;
use crate::fact::{ADDRESS_CLAIM_KIND, AddressClaim, Content};
use crate::name::{DomainName, EndpointName, NetworkName};
use crate::view::View;

/// Who holds an address of a network, for which endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    stamp: Stamp,
    origin: NodeId,
    pub(crate) endpoint: EndpointName,
}

/// The valid claims of a domain, one for each address: should two hosts hold one, the older, then the lower id, counts.
pub(crate) fn held(
    domain: &DomainName,
    facts: &[&Fact],
    verify: &dyn Fn(&Claim) -> bool,
) -> BTreeMap<(NetworkName, IpAddr), Held> {
    let mut held: BTreeMap<(NetworkName, IpAddr), Held> = BTreeMap::new();
    for (place, claim) in facts.iter().filter_map(|fact| read(domain, fact, verify)) {
        let best = held.entry(place).or_insert_with(|| claim.clone());
        if claim < *best {
            *best = claim;
        }
    }
    held
}

fn read(domain: &DomainName, fact: &Fact, verify: &dyn Fn(&Claim) -> bool) -> Option<((NetworkName, IpAddr), Held)> {
    if &*fact.key.kind != ADDRESS_CLAIM_KIND {
        return None;
    }
    let said = AddressClaim::decode(fact.body.as_ref()?).ok()?;
    let network: NetworkName = said.network.parse().ok()?;
    let endpoint: EndpointName = said.endpoint.parse().ok()?;
    let claim = &said.claim;
    let consistent = fact.key == said.key()
        && claim.holder == fact.origin
        && claim.scope == Scope::Domain(domain.clone())
        && *claim.key == *claim_key(&network, said.address);
    let held = Held {
        stamp: fact.stamp,
        origin: fact.origin,
        endpoint,
    };
    (consistent && verify(claim)).then_some(((network, said.address), held))
}

/// Gives each endpoint at most one claimed address for each subnet in which it has no fixed one: that of the host where
/// it is attached before any other, then the older. What an object fixes cannot be had by claim: operators are believed
/// before hosts.
pub(crate) fn assign(view: &mut View, held: BTreeMap<(NetworkName, IpAddr), Held>) {
    let fixed = fixed(view);
    let mut claims: Vec<((NetworkName, IpAddr), Held)> =
        held.into_iter().filter(|(at, _)| !fixed.contains(at)).collect();
    claims.sort_by(|(a_place, a), (b_place, b)| (a, a_place).cmp(&(b, b_place)));
    for at_home in [true, false] {
        for ((network, address), claim) in &claims {
            let Some(endpoint) = view.endpoints.get_mut(&claim.endpoint) else {
                continue;
            };
            let home = endpoint.attachment.as_ref().map(|(node, _)| *node);
            if (home == Some(claim.origin)) != at_home || endpoint.spec.network != *network {
                continue;
            }
            let subnet = view
                .networks
                .get(network)
                .and_then(|seen| seen.spec.subnet_of(*address));
            let Some(subnet) = subnet.filter(|subnet| subnet.admits(*address).is_ok()) else {
                continue;
            };
            if !endpoint.addresses().any(|other| subnet.contains(other)) {
                endpoint.claimed.push(*address);
            }
        }
    }
    for endpoint in view.endpoints.values_mut() {
        endpoint.claimed.sort_unstable();
    }
}

/// The endpoint that a fact claims an address for, true or not.
pub(crate) fn claimant(fact: &Fact) -> Option<EndpointName> {
    if &*fact.key.kind != ADDRESS_CLAIM_KIND {
        return None;
    }
    let said = AddressClaim::decode(fact.body.as_ref()?).ok()?;
    said.endpoint.parse().ok()
}

fn fixed(view: &View) -> BTreeSet<(NetworkName, IpAddr)> {
    let endpoints = view.endpoints.values().map(|seen| &seen.spec);
    endpoints
        .flat_map(|spec| spec.addresses.iter().map(|address| (spec.network.clone(), *address)))
        .collect()
}
