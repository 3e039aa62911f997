//! Random static routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use overlay::forwarding::Route;
use overlay::name::NetworkName;

use super::dice::Dice;
use super::plan::{Plan, addresses, behind, name};

/// Destinations outside of all subnets, for static routes and for packets.
pub(crate) const OUTSIDE: [&str; 6] = [
    "10.200.0.0/16",
    "10.201.0.0/16",
    "10.202.3.0/24",
    "fd90::/32",
    "fd91::/32",
    "2001:db8:5::/48",
];

pub(crate) fn random(dice: &mut Dice, plan: &Plan) -> BTreeMap<IpNet, Route> {
    let mut routes = BTreeMap::new();
    for endpoint in plan.endpoints.iter().filter(|endpoint| !endpoint.prefixes.is_empty()) {
        for prefix in behind(endpoint.network, endpoint.number) {
            let outside = prefix.prefix_len() > 0 && prefix.prefix_len() < prefix.max_prefix_len();
            if outside && dice.percent(80) {
                let hop = hop(endpoint.network, endpoint.last(), prefix.addr().is_ipv4());
                routes.insert(prefix, Route::Via([hop].into()));
            }
        }
    }
    for destination in OUTSIDE {
        let destination: IpNet = destination.parse().unwrap();
        if dice.percent(70) {
            routes.insert(destination, one(dice, plan, destination.addr().is_ipv4()));
        }
    }
    if dice.percent(30) {
        routes.insert("0.0.0.0/0".parse().unwrap(), one(dice, plan, true));
    }
    routes
}

fn one(dice: &mut Dice, plan: &Plan, v4: bool) -> Route {
    match dice.below(10) {
        0..3 => Route::Blackhole,
        3 => Route::Via(BTreeSet::new()),
        _ => {
            let attached: Vec<_> = plan
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.host.is_some() && plan.networks[endpoint.network].joined)
                .collect();
            if attached.is_empty() {
                return Route::Blackhole;
            }
            let mut hops = || {
                let endpoint = *dice.pick(&attached);
                hop(endpoint.network, endpoint.last(), v4)
            };
            Route::Via([hops(), hops(), hops()].into())
        }
    }
}

fn hop(network: usize, last: u8, v4: bool) -> (NetworkName, IpAddr) {
    (name(network), addresses(network, last)[usize::from(!v4)])
}
