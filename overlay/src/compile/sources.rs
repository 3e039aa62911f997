//! What endpoints may send from besides their own addresses: after all addresses, and again by age.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::endpoints::{Admitted, Taken};
use crate::condition::{Cause, Report};
use crate::name::{EndpointName, NetworkName};
use crate::object::endpoint::Source;
use crate::prefix::Prefix;
use crate::view::{SeenEndpoint, View};

pub(super) fn allow<'a>(
    view: &'a View,
    by_age: &[(&'a EndpointName, &'a SeenEndpoint)],
    taken: &Taken<'a>,
    admitted: &mut BTreeMap<EndpointName, Admitted<'a>>,
    report: &mut Report,
) {
    let mut owners: BTreeMap<(&NetworkName, Prefix), &EndpointName> = BTreeMap::new();
    for (name, seen) in by_age {
        let Some(endpoint) = admitted.get_mut(*name) else {
            continue;
        };
        for &prefix in seen.spec.allowed_addresses.iter() {
            match refusal(view, name, endpoint, prefix, taken, &owners) {
                Some(cause) => report.endpoint(name, &cause),
                None => {
                    owners.insert((endpoint.network, prefix), name);
                    endpoint.prefixes.insert(prefix.net());
                }
            }
        }
    }
}

fn refusal(
    view: &View,
    name: &EndpointName,
    endpoint: &Admitted<'_>,
    prefix: Prefix,
    taken: &Taken<'_>,
    owners: &BTreeMap<(&NetworkName, Prefix), &EndpointName>,
) -> Option<Cause> {
    let source = Source(prefix);
    let network = view.networks.get(endpoint.network)?;
    if let Some((gateway, subnet)) = network.spec.gateway_in(prefix) {
        return Some(Cause::PrefixOfGateway {
            prefix: source,
            gateway,
            subnet,
        });
    }
    let holder = |address: IpAddr| taken.addresses.get(&(endpoint.network, address)).copied();
    if let Some(other) = prefix.single().and_then(holder).filter(|other| *other != name) {
        let other = other.clone();
        return Some(Cause::PrefixOfOther { prefix: source, other });
    }
    let other = (*owners.get(&(endpoint.network, prefix))?).clone();
    Some(Cause::DuplicatePrefix { prefix: source, other })
}
