//! Random rules.

use ipnet::IpNet;
use overlay::forwarding::{Action, Direction, Group, Peer, Protocol, Rule};

use super::dice::Dice;
use super::plan::GROUPS;

/// Ports that packets and rules like.
pub(crate) const PORTS: [u16; 5] = [53, 80, 443, 8080, 40_000];

/// Up to four policies, of one or two versions.
pub(crate) fn random(dice: &mut Dice) -> Vec<Rule> {
    let mut rules = Vec::new();
    for policy in 0..*dice.pick(&[0, 1, 2, 3]) {
        let versions = if dice.percent(25) { 2 } else { 1 };
        for version in 0..versions {
            for number in 0..dice.between(1, 3) {
                rules.push(Rule {
                    policy: format!("policy-{policy}").parse().unwrap(),
                    number: number as u16,
                    version,
                    versions,
                    direction: *dice.pick(&[Direction::Ingress, Direction::Egress]),
                    subject: dice.percent(50).then(|| group(dice)),
                    peer: peer(dice),
                    protocol: protocol(dice),
                    action: action(dice),
                });
            }
        }
    }
    rules
}

/// Group 0 may open connections to group 1, and nobody else any: all else passes as an answer or not at all.
pub(crate) fn one_way() -> Vec<Rule> {
    let rule = |direction, subject, peer| Rule {
        policy: "one-way".parse().unwrap(),
        number: 0,
        version: 0,
        versions: 1,
        direction,
        subject: Some(subject),
        peer: Peer::Group(peer),
        protocol: Protocol::Any,
        action: Action::Allow,
    };
    vec![rule(Direction::Egress, 0, 1), rule(Direction::Ingress, 1, 0)]
}

fn action(dice: &mut Dice) -> Action {
    match dice.below(10) {
        0..7 => Action::Allow,
        7 => Action::Deny,
        _ => Action::Audit,
    }
}

fn group(dice: &mut Dice) -> Group {
    // The last one is empty.
    dice.below(GROUPS + 1) as Group
}

fn peer(dice: &mut Dice) -> Peer {
    let prefixes = [
        "10.0.0.0/24",
        "10.1.0.8/29",
        "10.0.0.0/8",
        "fd00::/32",
        "fd00:1::/64",
        "::/0",
        "10.0.0.11/32",
    ];
    match dice.below(3) {
        0 => Peer::Any,
        1 => Peer::Group(group(dice)),
        _ => Peer::Prefix(dice.pick(&prefixes).parse::<IpNet>().unwrap()),
    }
}

fn protocol(dice: &mut Dice) -> Protocol {
    let port = *dice.pick(&PORTS);
    let ports = if dice.percent(50) { port..=port } else { 0..=port };
    match dice.below(8) {
        0..3 => Protocol::Any,
        3 => Protocol::Tcp(ports),
        4 => Protocol::Udp(ports),
        5 => Protocol::Sctp(ports),
        6 => Protocol::Icmp(dice.percent(60).then(|| *dice.pick(&[8, 128, 13])), None),
        _ => Protocol::Number(*dice.pick(&[6, 17, 47])),
    }
}
