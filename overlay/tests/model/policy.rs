//! Rules: table C6 and what stands behind it.

use overlay::forwarding::{Action, Direction, Peer, Protocol, Rule};
use overlay::model::Model;

use crate::campus::{alter, at, campus, net, only, outcome, port};
use crate::fabric::{label, sent};
use crate::talk::{ACK, HIGH, SYN, Talk, WEB};

pub(crate) fn rule(direction: Direction, action: Action) -> Rule {
    Rule {
        policy: label("p"),
        number: 0,
        version: 0,
        versions: 1,
        direction,
        subject: None,
        peer: Peer::Any,
        protocol: Protocol::Any,
        action,
    }
}

pub(crate) fn out(action: Action) -> Rule {
    rule(Direction::Egress, action)
}

pub(crate) fn into(action: Action) -> Rule {
    rule(Direction::Ingress, action)
}

/// Web (group 0) sends UDP to app (group 1), which is on its host: both are asked.
fn web_to_app(model: &Model) -> String {
    let frame = Talk::routed("web", "10.0.0.5", "10.0.1.5").udp(HIGH, WEB, 8);
    outcome(&sent(model, &port("web"), &frame))
}

#[test]
fn rules_of_both_ends_are_asked() {
    use Action::{Allow, Audit, Deny};
    let subject = |group, rule: Rule| Rule {
        subject: Some(group),
        ..rule
    };
    let peer = |peer, rule: Rule| Rule { peer, ..rule };
    let speaks = |protocol, rule: Rule| Rule { protocol, ..rule };
    let (any_out, any_in) = (out(Allow), into(Allow));
    let prefix = |text: &str| Peer::Prefix(net(text));
    let table: Vec<(&str, Vec<Rule>, bool)> = vec![
        ("none", vec![], false),
        ("only the sender's", vec![any_out.clone()], false),
        ("only the receiver's", vec![any_in.clone()], false),
        ("both", vec![any_out.clone(), any_in.clone()], true),
        (
            "the sender's group",
            vec![subject(0, any_out.clone()), any_in.clone()],
            true,
        ),
        (
            "another group",
            vec![subject(1, any_out.clone()), any_in.clone()],
            false,
        ),
        (
            "a group of nobody",
            vec![subject(200, any_out.clone()), any_in.clone()],
            false,
        ),
        (
            "the receiver's group",
            vec![any_out.clone(), subject(1, any_in.clone())],
            true,
        ),
        (
            "the peer's group",
            vec![
                peer(Peer::Group(1), any_out.clone()),
                peer(Peer::Group(0), any_in.clone()),
            ],
            true,
        ),
        (
            "a peer's group of nobody",
            vec![peer(Peer::Group(200), any_out.clone()), any_in.clone()],
            false,
        ),
        (
            "the peer's prefix",
            vec![
                peer(prefix("10.0.1.0/24"), any_out.clone()),
                peer(prefix("10.0.0.5/32"), any_in.clone()),
            ],
            true,
        ),
        (
            "another prefix",
            vec![peer(prefix("10.0.0.0/24"), any_out.clone()), any_in.clone()],
            false,
        ),
        (
            "a prefix of the other family",
            vec![peer(prefix("::/0"), any_out.clone()), any_in.clone()],
            false,
        ),
        (
            "the port",
            vec![
                speaks(Protocol::Udp(80..=80), any_out.clone()),
                speaks(Protocol::Udp(0..=80), any_in.clone()),
            ],
            true,
        ),
        (
            "the source port",
            vec![speaks(Protocol::Udp(HIGH..=HIGH), any_out.clone()), any_in.clone()],
            false,
        ),
        (
            "another protocol",
            vec![speaks(Protocol::Tcp(80..=80), any_out.clone()), any_in.clone()],
            false,
        ),
        (
            "the protocol's number",
            vec![speaks(Protocol::Number(17), any_out.clone()), any_in.clone()],
            true,
        ),
        (
            "ICMP",
            vec![speaks(Protocol::Icmp(None, None), any_out.clone()), any_in.clone()],
            false,
        ),
        (
            "an earlier deny",
            vec![out(Deny), any_out.clone(), any_in.clone()],
            false,
        ),
        ("a later deny", vec![any_out.clone(), any_in.clone(), out(Deny)], true),
        (
            "an earlier deny of another",
            vec![subject(1, out(Deny)), any_out.clone(), any_in.clone()],
            true,
        ),
        (
            "audit decides nothing",
            vec![out(Audit), any_out.clone(), into(Audit), any_in.clone()],
            true,
        ),
        ("audit alone", vec![out(Audit), into(Audit)], false),
    ];
    for (row, rules, allowed) in table {
        let expected = if allowed { "to app" } else { "policy" };
        assert_eq!(web_to_app(&campus(&only(&rules))), expected, "{row}");
    }
    let denied = campus(&|domain| domain.rules = vec![out(Deny)]);
    assert_eq!(web_to_app(&denied), "policy", "the default allows, a rule denies");
}

#[test]
fn versions_of_a_policy_agree_or_decide_nothing() {
    use Action::{Allow, Audit, Deny};
    let of = |version, action| Rule {
        version,
        versions: 2,
        ..out(action)
    };
    let next = |action| Rule {
        policy: label("q"),
        ..out(action)
    };
    let tcp = |rule: Rule| Rule {
        protocol: Protocol::Tcp(1..=1),
        ..rule
    };
    let table = [
        ("both allow", vec![of(0, Allow), of(1, Allow)], true),
        ("one allows", vec![of(0, Allow)], false),
        (
            "one allows, the other speaks of something else",
            vec![of(0, Allow), tcp(of(1, Allow))],
            false,
        ),
        (
            "one allows, the next policy denies",
            vec![of(0, Allow), next(Deny)],
            false,
        ),
        (
            "one allows, the next policy allows",
            vec![of(0, Allow), next(Allow)],
            true,
        ),
        (
            "one denies behind the other's allow",
            vec![of(0, Allow), of(1, Deny)],
            false,
        ),
        (
            "one denies, the next policy allows",
            vec![of(1, Deny), next(Allow)],
            false,
        ),
        (
            "the first match of each counts",
            vec![of(0, Allow), of(0, Deny), of(1, Allow), of(1, Deny)],
            true,
        ),
        (
            "audit is no match",
            vec![of(0, Audit), of(0, Allow), of(1, Allow)],
            true,
        ),
        (
            "a version that stands before another run",
            vec![of(1, Allow), of(0, Allow), of(1, Deny)],
            false,
        ),
        (
            "the next policy is not asked",
            vec![of(0, Allow), of(1, Allow), next(Deny)],
            true,
        ),
    ];
    for (row, rules, allowed) in table {
        let rules = [rules, vec![into(Allow)]].concat();
        let expected = if allowed { "to app" } else { "policy" };
        assert_eq!(web_to_app(&campus(&only(&rules))), expected, "{row}");
    }
}

#[test]
fn types_of_icmp() {
    let only_icmp = |kind, code| {
        let protocol = Protocol::Icmp(kind, code);
        campus(&only(&[
            Rule {
                protocol: protocol.clone(),
                ..out(Action::Allow)
            },
            into(Action::Allow),
        ]))
    };
    let [v4, v6] = [("10.0.0.5", "10.0.1.5"), ("fd00::5", "fd01::5")].map(|(from, to)| Talk::routed("web", from, to));
    let table = [
        ("all", None, None, v4.echo(1, false), "to app"),
        ("all, IPv6", None, None, v6.echo(1, false), "to app"),
        ("this type", Some(8), None, v4.echo(1, false), "to app"),
        ("this type and code", Some(8), Some(0), v4.echo(1, false), "to app"),
        ("another code", Some(8), Some(1), v4.echo(1, false), "policy"),
        ("another type", Some(8), None, v6.echo(1, false), "policy"),
        (
            "a timestamp",
            Some(13),
            Some(0),
            v4.icmp(13, 0, [0; 4], &[0; 12]),
            "to app",
        ),
        (
            "a timestamp by another rule",
            Some(8),
            None,
            v4.icmp(13, 0, [0; 4], &[0; 12]),
            "policy",
        ),
        ("ICMPv6 in IPv4", None, None, v4.protocol(58), "policy"),
    ];
    for (row, kind, code, frame, expected) in table {
        assert_eq!(
            outcome(&sent(&only_icmp(kind, code), &port("web"), &frame)),
            expected,
            "{row}"
        );
    }
}

#[test]
fn groups_of_what_is_behind_a_station_are_its_own() {
    let to_gate = |group| Rule {
        peer: Peer::Group(group),
        ..out(Action::Allow)
    };
    let of_gate = |group| Rule {
        subject: Some(group),
        ..out(Action::Allow)
    };
    let to = Talk::routed("web", "10.0.0.5", "10.9.1.1").udp(HIGH, WEB, 8);
    let from = Talk::routed("gate", "10.9.1.1", "10.0.0.5").udp(HIGH, WEB, 8);
    for (group, ours) in [(2, true), (1, false)] {
        let outcome_of = |rule, name, frame| outcome(&sent(&campus(&only(&[rule])), &port(name), frame));
        assert_eq!(outcome_of(to_gate(group), "web", &to) == "by beta in 8", ours);
        assert_eq!(outcome_of(of_gate(group), "gate", &from) == "by alpha in 7", ours);
    }
}

#[test]
fn a_change_of_policy_hits_connections() {
    let mut model = campus(&|_| ());
    let forth = Talk::routed("web", "10.0.0.5", "10.0.1.5");
    let back = Talk::routed("app", "10.0.1.5", "10.0.0.5");
    let step =
        |model: &mut Model, name: &str, frame: Vec<u8>| outcome(&model.from_endpoint(&port(name), &frame, at(1)));
    let allow = only(&[out(Action::Allow), into(Action::Allow)]);
    let deny = only(&[
        Rule {
            subject: Some(0),
            ..out(Action::Deny)
        },
        out(Action::Allow),
        into(Action::Allow),
    ]);
    alter(&mut model, &allow);
    assert_eq!(step(&mut model, "web", forth.tcp(HIGH, WEB, SYN)), "to app");
    assert_eq!(step(&mut model, "app", back.tcp(WEB, HIGH, SYN | ACK)), "to web");
    alter(&mut model, &deny);
    for _ in 0..2 {
        assert_eq!(step(&mut model, "web", forth.tcp(HIGH, WEB, ACK)), "policy");
        assert_eq!(
            step(&mut model, "app", back.tcp(WEB, HIGH, ACK)),
            "policy",
            "it is no connection of its own"
        );
    }
    alter(&mut model, &allow);
    assert_eq!(step(&mut model, "web", forth.tcp(HIGH, WEB, ACK)), "to app");
}
