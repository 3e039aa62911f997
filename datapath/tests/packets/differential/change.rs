//! What operators, hosts and workloads do to domains while packets flow.

use overlay::object::domain::DefaultPolicy;

use super::dice::Dice;
use super::hosts::{B, C, HERE, node, vtep};
use super::plan::{LABELS, MTUS, Plan};
use super::world::World;
use super::{routes, rules};

/// What changed.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) what: String,
    /// Numbers of the domains that may be other ones.
    pub(crate) domains: Vec<usize>,
    /// Numbers of what is gone are given to others.
    pub(crate) release: bool,
}

/// A random change; sometimes one that changes nothing.
pub(crate) fn one(dice: &mut Dice, world: &mut World) -> Changed {
    let number = dice.below(world.plans.len());
    let all: Vec<usize> = (0..world.plans.len()).collect();
    let gone = world.plans.iter().position(|plan| plan.gone);
    if let Some(number) = gone.filter(|_| dice.percent(50)) {
        world.plans[number].gone = false;
        return Changed {
            what: format!("domain {number} comes back"),
            domains: vec![number],
            release: false,
        };
    }
    let (what, domains, release) = match dice.below(40) {
        0..2 => (peer(dice, world), all, false),
        2 if world.plans.len() > 1 => (exchange(dice, world, number), all, false),
        3 | 4 => {
            world.plans[number].gone = true;
            ("it goes", vec![number], true)
        }
        _ => (within(dice, &mut world.plans[number]), vec![number], false),
    };
    Changed {
        what: format!("domain {number}: {what}"),
        domains,
        release,
    }
}

/// Another host's tunnel end.
fn peer(dice: &mut Dice, world: &mut World) -> &'static str {
    let host = *dice.pick(&[B, C]);
    match dice.below(4) {
        0 => {
            if !world.unrouted.remove(&node(host)) {
                world.unrouted.insert(node(host));
            }
            "a route to a host goes or comes"
        }
        1 => {
            world.hosts.insert(node(host), vtep(host, true, true));
            "a host has both families"
        }
        2 => {
            world.hosts.insert(node(host), vtep(host + 10, host == B, host == C));
            "a host has another address"
        }
        _ => {
            world.hosts.insert(node(host), vtep(host, host == B, host == C));
            "a host has its address"
        }
    }
}

/// Two domains exchange the number of a network.
fn exchange(dice: &mut Dice, world: &mut World, number: usize) -> &'static str {
    let other = (number + 1) % world.plans.len();
    let [mine, theirs] = [number, other].map(|of| dice.below(world.plans[of].networks.len()));
    let vni = world.plans[number].networks[mine].vni;
    world.plans[number].networks[mine].vni = std::mem::replace(&mut world.plans[other].networks[theirs].vni, vni);
    "a network exchanges its VNI with one of another domain"
}

/// Something of one domain.
fn within(dice: &mut Dice, plan: &mut Plan) -> &'static str {
    let one = dice.below(plan.endpoints.len());
    let network = plan.endpoints[one].network;
    let near: Vec<usize> = (0..plan.endpoints.len())
        .filter(|other| plan.endpoints[*other].network == network)
        .collect();
    let other = *dice.pick(&near);
    match dice.below(13) {
        12 => {
            plan.networks[network].flood ^= true;
            "another treatment of unknown unicast"
        }
        0 => {
            plan.policies = if dice.percent(30) {
                rules::one_way()
            } else {
                rules::random(dice)
            };
            "other policies"
        }
        1 => {
            plan.policies.clear();
            plan.default_policy = DefaultPolicy::Allow;
            "no policies"
        }
        2 => {
            let label = dice.below(LABELS);
            if !plan.endpoints[one].labels.remove(&label) {
                plan.endpoints[one].labels.insert(label);
            }
            "another label"
        }
        3 if dice.percent(50) => {
            plan.endpoints[one].host = None;
            "an endpoint is detached"
        }
        3 | 4 => {
            plan.endpoints[one].host = Some(*dice.pick(&[HERE, B, C]));
            "an endpoint moves"
        }
        5 => {
            plan.routes = routes::random(dice, plan);
            "other routes"
        }
        6 => {
            plan.endpoints[one].leads ^= true;
            "other prefixes"
        }
        7 => {
            plan.networks[network].mtu = *dice.pick(&MTUS);
            "another MTU"
        }
        8 => {
            let mac = plan.endpoints[other].mac;
            plan.endpoints[other].mac = std::mem::replace(&mut plan.endpoints[one].mac, mac);
            "two endpoints exchange their MAC addresses"
        }
        9 => {
            let last = plan.endpoints[other].last;
            plan.endpoints[other].last = std::mem::replace(&mut plan.endpoints[one].last, last);
            "two endpoints exchange their addresses"
        }
        10 => {
            plan.networks[network].joined ^= dice.percent(50);
            "a network joins or leaves the router"
        }
        _ => "nothing",
    }
}
