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
use crate::object::Kind;
use crate::view::View;

/// Who holds an address of a network, for which endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Held {
    stamp: Stamp,
    origin: NodeId,
    pub(crate) endpoint: EndpointName,
}

/// The valid claims of a domain, one for each address: should two hosts hold one, the older, then the lower id, counts.
/// `may_have` says whether an endpoint can have an address of a network: what is claimed for another one counts for
/// nothing, least of all against who has the address.
pub(crate) fn held(
    domain: &DomainName,
    facts: &[&Fact],
    may_have: &dyn Fn(&EndpointName, &NetworkName) -> bool,
    verify: &dyn Fn(&Claim) -> bool,
) -> BTreeMap<(NetworkName, IpAddr), Held> {
    let mut held: BTreeMap<(NetworkName, IpAddr), Held> = BTreeMap::new();
    for (place, claim) in facts.iter().filter_map(|fact| read(domain, fact, verify)) {
        if !may_have(&claim.endpoint, &place.0) {
            continue;
        }
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

/// Whether an endpoint can have an address of a network as far as a view tells: what cannot be read may be on any.
pub(crate) fn may_have(view: &View, endpoint: &EndpointName, network: &NetworkName) -> bool {
    let seen = view.endpoints.get(endpoint);
    let is_unreadable = || view.unreadable.contains_key(&(Kind::Endpoint, endpoint.to_string()));
    seen.map_or_else(is_unreadable, |seen| seen.spec.network == *network)
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

#[cfg(test)]
mod tests {
    use membership::record::{Digest, Dot, Intent, VersionVector};

    use super::*;
    use crate::cluster::Cluster;
    use crate::manifest;

    fn red() -> Scope {
        Scope::Domain("red".parse().unwrap())
    }

    fn host(number: u8) -> NodeId {
        NodeId::of_key(&[number; 32])
    }

    fn stamp(millis: u64) -> Stamp {
        Stamp { millis, logical: 0 }
    }

    fn object(text: &str) -> Intent {
        let object = manifest::parse("test", text).unwrap().remove(0).object;
        Intent {
            scope: red(),
            key: object.spec.kind().key(&object.name),
            dot: Dot {
                writer: host(9),
                counter: 1,
            },
            context: VersionVector::default(),
            stamp: stamp(1),
            author: "alice".into(),
            body: Some(object.spec.encode()),
        }
    }

    fn claim(origin: u8, endpoint: &str, millis: u64) -> Fact {
        let address = "10.0.0.7".parse().unwrap();
        let said = AddressClaim {
            network: "lan".to_owned(),
            endpoint: endpoint.to_owned(),
            address,
            claim: Claim {
                scope: red(),
                key: claim_key(&"lan".parse().unwrap(), address).into(),
                holder: host(origin),
                witnesses: Vec::new(),
            },
        };
        Fact {
            origin: host(origin),
            scope: red(),
            epoch: 1,
            seq: 1,
            previous: Digest::default(),
            key: said.key(),
            stamp: stamp(millis),
            body: Some(said.encode().unwrap()),
        }
    }

    #[test]
    fn a_former_claim_of_an_endpoint_that_cannot_have_the_address_beats_nobody() {
        let mut objects = vec![
            object("{kind: Domain, name: red, spec: {}}"),
            object("{kind: Network, domain: red, name: lan, spec: {subnets: [10.0.0.0/24], vni: 7}}"),
            object("{kind: Network, domain: red, name: other, spec: {subnets: [10.0.1.0/24], vni: 8}}"),
            object("{kind: Endpoint, domain: red, name: web, spec: {network: lan}}"),
        ];
        let facts = [claim(1, "former", 5), claim(2, "web", 8)];
        let of_web = |objects: &[Intent]| {
            let (domain, cluster) = ("red".parse().unwrap(), Cluster::default());
            let view = View::of(&domain, objects, &facts, &cluster, &|_| true).unwrap();
            view.endpoints[&"web".parse::<EndpointName>().unwrap()].claimed.len()
        };
        assert_eq!(of_web(&objects), 1, "it is deleted");
        objects.push(object(
            "{kind: Endpoint, domain: red, name: former, spec: {network: other}}",
        ));
        assert_eq!(of_web(&objects), 1, "it is on another network");
        objects.pop();
        objects.push(object(
            "{kind: Endpoint, domain: red, name: former, spec: {network: lan}}",
        ));
        assert_eq!(of_web(&objects), 0, "the older one counts");
        let unreadable = objects.last_mut().unwrap().body.as_mut().unwrap();
        unreadable.version = u16::MAX;
        assert_eq!(of_web(&objects), 0, "what cannot be read has what it had");
    }
}
