//! What operators and workloads do to a domain while packets flow.

use overlay::object::domain::DefaultPolicy;

use super::dice::Dice;
use super::hosts::{B, C, HERE};
use super::plan::{GROUPS, Plan, behind};
use super::{routes, rules};

/// A random change; sometimes one that changes nothing.
pub(crate) fn one(dice: &mut Dice, plan: &mut Plan) -> &'static str {
    let endpoint = dice.below(plan.endpoints.len());
    let (network, number) = (plan.endpoints[endpoint].network, plan.endpoints[endpoint].number);
    match dice.below(9) {
        0 => {
            plan.rules = if dice.percent(30) {
                rules::one_way()
            } else {
                rules::random(dice)
            };
            "other rules"
        }
        1 => {
            plan.rules.clear();
            plan.default_policy = DefaultPolicy::Allow;
            "no rules"
        }
        2 => {
            let group = dice.below(GROUPS) as u16;
            if !plan.endpoints[endpoint].groups.remove(&group) {
                plan.endpoints[endpoint].groups.insert(group);
            }
            "another label"
        }
        3 if dice.percent(50) => {
            plan.endpoints[endpoint].host = None;
            "an endpoint is detached"
        }
        3 | 4 => {
            plan.endpoints[endpoint].host = Some(*dice.pick(&[HERE, B, C]));
            "an endpoint moves"
        }
        5 => {
            plan.routes = routes::random(dice, plan);
            "other routes"
        }
        6 => {
            plan.endpoints[endpoint].prefixes = match plan.endpoints[endpoint].prefixes.is_empty() {
                true => behind(network, number),
                false => Default::default(),
            };
            "other prefixes"
        }
        7 => {
            plan.networks[network].mtu = *dice.pick(&[1280, 1400, 1430, 1500]);
            "another MTU"
        }
        _ => "nothing",
    }
}
