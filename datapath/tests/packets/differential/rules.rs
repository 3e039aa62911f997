//! Random policies.

use std::collections::BTreeMap;

use ipnet::IpNet;
use overlay::name::PolicyName;
use overlay::object::SecurityPolicySpec;
use overlay::object::domain::Description;
use overlay::object::endpoint::Labels;
use overlay::object::policy::{Action, Peer, PortRange, Ports, Rule, Rules, Selector, Traffic};
use overlay::prefix::Prefix;
use overlay::view::PolicyVersion;

use super::dice::Dice;
use super::plan::LABELS;

/// Ports that packets and rules like.
pub(crate) const PORTS: [u16; 5] = [53, 80, 443, 8080, 40_000];

type Policies = BTreeMap<PolicyName, Vec<PolicyVersion>>;

/// Up to three policies, of one or two versions.
pub(crate) fn random(dice: &mut Dice) -> Policies {
    let policies = 0..*dice.pick(&[0, 1, 2, 3]);
    let policy = |number| {
        let versions = 0..if dice.percent(25) { 2 } else { 1 };
        let versions = versions.map(|_| version(dice)).collect();
        (format!("policy-{number}").parse().unwrap(), versions)
    };
    policies.map(policy).collect()
}

fn version(dice: &mut Dice) -> PolicyVersion {
    let all = Selector::default();
    let applies_to = if dice.percent(50) { all } else { label(dice) };
    let mut rules = [Vec::new(), Vec::new()];
    for _ in 0..dice.between(1, 4) {
        let rule = rule(action(dice), peer(dice), traffic(dice));
        rules[dice.below(2)].push(rule);
    }
    let [ingress, egress] = rules;
    match dice.below(60) {
        0 => PolicyVersion::Deleted,
        1 => PolicyVersion::Unreadable,
        _ => PolicyVersion::Says(SecurityPolicySpec {
            priority: *dice.pick(&[1000, 1000, 1000, 7, 2000]),
            applies_to,
            rules: Rules::new(ingress, egress).unwrap(),
        }),
    }
}

/// Label 0 may open connections to label 1, and nobody else any: all else passes as an answer or not at all.
pub(crate) fn one_way() -> Policies {
    let [zero, one] = [0, 1].map(selector);
    let allow = |peer: &Selector| vec![rule(Action::Allow, Some(Peer::Selector(peer.clone())), Traffic::Any)];
    let policy = |applies_to: &Selector, ingress, egress| {
        vec![PolicyVersion::Says(SecurityPolicySpec {
            priority: 1000,
            applies_to: applies_to.clone(),
            rules: Rules::new(ingress, egress).unwrap(),
        })]
    };
    [
        ("out".parse().unwrap(), policy(&zero, vec![], allow(&one))),
        ("in".parse().unwrap(), policy(&one, allow(&zero), vec![])),
    ]
    .into()
}

/// One policy for all of the domain, of one rule in each direction.
pub(crate) fn only(action: Action, traffic: Traffic) -> Policies {
    [("only".parse().unwrap(), vec![everywhere(1000, action, traffic)])].into()
}

/// Those with a label may open nothing.
pub(crate) fn silent(label: usize) -> Policies {
    denied(label, |deny| Rules::new(vec![], deny).unwrap())
}

/// To those with a label nobody may open anything.
pub(crate) fn closed(label: usize) -> Policies {
    denied(label, |deny| Rules::new(deny, vec![]).unwrap())
}

fn denied(label: usize, rules: impl Fn(Vec<Rule>) -> Rules) -> Policies {
    let version = PolicyVersion::Says(SecurityPolicySpec {
        priority: 1000,
        applies_to: selector(label),
        rules: rules(vec![rule(Action::Deny, None, Traffic::Any)]),
    });
    [("denied".parse().unwrap(), vec![version])].into()
}

/// One policy of several versions, which speak of everything.
pub(crate) fn versions(said: &[(u16, Action)]) -> Policies {
    let versions = said
        .iter()
        .map(|(priority, action)| everywhere(*priority, *action, Traffic::Any));
    [("versions".parse().unwrap(), versions.collect())].into()
}

fn everywhere(priority: u16, action: Action, traffic: Traffic) -> PolicyVersion {
    let rules = vec![rule(action, None, traffic)];
    PolicyVersion::Says(SecurityPolicySpec {
        priority,
        applies_to: Selector::default(),
        rules: Rules::new(rules.clone(), rules).unwrap(),
    })
}

fn rule(action: Action, peer: Option<Peer>, traffic: Traffic) -> Rule {
    Rule {
        action,
        peer,
        traffic,
        description: Description::default(),
    }
}

fn action(dice: &mut Dice) -> Action {
    match dice.below(10) {
        0..7 => Action::Allow,
        7 => Action::Deny,
        _ => Action::Audit,
    }
}

fn label(dice: &mut Dice) -> Selector {
    // Nobody has the last one.
    selector(dice.below(LABELS + 1))
}

fn selector(label: usize) -> Selector {
    Selector {
        match_labels: Labels::try_from(BTreeMap::from([(format!("label-{label}"), "yes".to_owned())])).unwrap(),
        ..Selector::default()
    }
}

fn peer(dice: &mut Dice) -> Option<Peer> {
    let prefixes = [
        "10.0.0.0/24",
        "10.1.0.8/29",
        "10.0.0.0/8",
        "fd00::/32",
        "fd00:1::/64",
        "::/0",
        "10.0.0.11/32",
    ];
    let prefix = Prefix::try_from(dice.pick(&prefixes).parse::<IpNet>().unwrap()).unwrap();
    match dice.below(3) {
        0 => None,
        1 => Some(Peer::Selector(label(dice))),
        _ => Some(Peer::Cidrs(vec![prefix].try_into().unwrap())),
    }
}

fn traffic(dice: &mut Dice) -> Traffic {
    let port = *dice.pick(&PORTS);
    let low = if dice.percent(50) { port } else { 1 };
    let ports = Ports::of(vec![PortRange::new(low, port).unwrap()]).unwrap();
    match dice.below(8) {
        0..3 => Traffic::Any,
        3 => Traffic::Tcp(ports),
        4 => Traffic::Udp(ports),
        5 => Traffic::Sctp(ports),
        6 => Traffic::Icmp(dice.percent(60).then(|| (*dice.pick(&[8, 128, 13]), None))),
        _ => Traffic::Number(*dice.pick(&[6, 17, 47])),
    }
}
