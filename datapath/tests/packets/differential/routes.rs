//! Random static routes.

use std::net::IpAddr;

use ipnet::IpNet;
use overlay::object::router::{StaticRoute, Target};
use overlay::prefix::Prefix;

use super::dice::Dice;
use super::plan::{Plan, addresses, behind};

/// Destinations outside of all subnets, for static routes and for packets.
pub(crate) const OUTSIDE: [&str; 6] = [
    "10.200.0.0/16",
    "10.201.0.0/16",
    "10.202.3.0/24",
    "fd90::/32",
    "fd91::/32",
    "2001:db8:5::/48",
];

pub(crate) fn random(dice: &mut Dice, plan: &Plan) -> Vec<StaticRoute> {
    let mut routes = Vec::new();
    for endpoint in plan.endpoints.iter().filter(|endpoint| endpoint.leads) {
        for prefix in behind(endpoint.network, endpoint.number) {
            let outside = prefix.prefix_len() > 0 && prefix.prefix_len() < prefix.max_prefix_len();
            if outside && dice.percent(80) {
                let hop = addresses(endpoint.network, endpoint.last)[usize::from(!prefix.addr().is_ipv4())];
                routes.push(route(prefix, via(vec![hop])));
            }
        }
    }
    for destination in OUTSIDE {
        let destination: IpNet = destination.parse().unwrap();
        if dice.percent(70) {
            routes.push(route(destination, one(dice, plan, destination.addr().is_ipv4())));
        }
    }
    if dice.percent(30) {
        routes.push(route("0.0.0.0/0".parse().unwrap(), one(dice, plan, true)));
    }
    // What is before one endpoint, by the router.
    if dice.percent(25) {
        let (endpoint, v4) = (dice.pick(&plan.endpoints), dice.percent(50));
        let before = addresses(endpoint.network, endpoint.last)[usize::from(!v4)];
        routes.push(route(IpNet::from(before), one(dice, plan, v4)));
    }
    routes
}

fn route(prefix: IpNet, target: Target) -> StaticRoute {
    StaticRoute::new(Prefix::try_from(prefix).unwrap(), target).unwrap()
}

fn via(hops: Vec<IpAddr>) -> Target {
    Target::Via(hops.try_into().unwrap())
}

fn one(dice: &mut Dice, plan: &Plan, v4: bool) -> Target {
    let of_family = |network, last| addresses(network, last)[usize::from(!v4)];
    match dice.below(10) {
        0..4 => Target::Blackhole,
        // Nobody has it.
        4 => via(vec![of_family(0, 99)]),
        _ => {
            let joined = plan
                .endpoints
                .iter()
                .filter(|endpoint| plan.networks[endpoint.network].joined);
            let attached: Vec<_> = joined.filter(|endpoint| endpoint.host.is_some()).collect();
            if attached.is_empty() {
                return Target::Blackhole;
            }
            let mut hops: Vec<IpAddr> = (0..3)
                .map(|_| dice.pick(&attached))
                .map(|endpoint| of_family(endpoint.network, endpoint.last))
                .collect();
            hops.sort_unstable();
            hops.dedup();
            via(hops)
        }
    }
}
