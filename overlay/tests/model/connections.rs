//! Tables C and K as sequences: who sends what, when, and what becomes of it.

use overlay::forwarding::{Action, Rule};

use crate::campus::{at, campus, only, outcome, port};
use crate::policy::{into, out};
use crate::talk::{ACK, FIN, HIGH, RST, SYN, Talk, WEB};

/// Web (and nobody else) may open connections to app.
fn one_way() -> Vec<Rule> {
    let subject = |group, rule: Rule| Rule {
        subject: Some(group),
        ..rule
    };
    vec![subject(0, out(Action::Allow)), subject(1, into(Action::Allow))]
}

fn forth() -> Talk {
    Talk::routed("web", "10.0.0.5", "10.0.1.5")
}

fn back() -> Talk {
    Talk::routed("app", "10.0.1.5", "10.0.0.5")
}

type Step = (u64, &'static str, Vec<u8>, &'static str);

#[track_caller]
fn play(name: &str, rules: &[Rule], steps: Vec<Step>) {
    let mut model = campus(&only(rules));
    for (number, (when, who, frame, expected)) in steps.into_iter().enumerate() {
        let verdict = model.from_endpoint(&port(who), &frame, at(when));
        assert_eq!(
            outcome(&verdict),
            expected,
            "{name}: step {number} of {who} at {when} s"
        );
    }
}

#[test]
fn tcp() {
    let there = |flags| forth().tcp(HIGH, WEB, flags);
    let here = |flags| back().tcp(WEB, HIGH, flags);
    play(
        "a connection",
        &one_way(),
        vec![
            (0, "app", here(SYN), "policy"),
            (0, "web", there(SYN), "to app"),
            (1, "app", here(SYN | ACK), "to web"),
            (2, "web", there(ACK), "to app"),
            (7_000, "app", here(ACK), "to web"),
            (14_439, "web", there(ACK), "to app"),
            (14_440, "app", here(FIN | ACK), "to web"),
            (14_679, "app", here(ACK), "to web"),
            (14_680, "web", there(FIN | ACK), "to app"),
            (14_689, "app", here(ACK), "to web"),
            (14_699, "app", here(ACK), "policy"),
        ],
    );
    play(
        "nobody answers",
        &one_way(),
        vec![(0, "web", there(SYN), "to app"), (60, "app", here(SYN | ACK), "policy")],
    );
    play(
        "picked up in the middle",
        &one_way(),
        vec![
            (0, "app", here(ACK), "policy"),
            (0, "web", there(ACK), "to app"),
            (0, "app", here(ACK), "to web"),
            (7_439, "app", here(ACK), "to web"),
        ],
    );
    play(
        "alone, the initiator establishes nothing",
        &one_way(),
        vec![
            (0, "web", there(FIN | ACK), "to app"),
            (1, "web", there(SYN | ACK), "to app"),
            (2, "web", there(FIN | ACK), "to app"),
            (62, "app", here(ACK), "policy"),
        ],
    );
    play(
        "a reset",
        &one_way(),
        vec![
            (0, "web", there(RST), "unrelated"),
            (0, "web", there(RST | ACK), "unrelated"),
            (0, "web", there(SYN), "to app"),
            (0, "app", here(RST | ACK), "to web"),
            (9, "app", here(ACK), "to web"),
            (19, "app", here(RST), "unrelated"),
        ],
    );
    play(
        "the same ports again",
        &one_way(),
        vec![
            (0, "web", there(SYN), "to app"),
            (0, "app", here(SYN | ACK), "to web"),
            (0, "web", there(RST), "to app"),
            (0, "web", there(SYN), "to app"),
            (30, "app", here(SYN | ACK), "to web"),
            (30, "web", there(RST), "to app"),
            (30, "app", here(SYN), "policy"),
            (30, "app", here(ACK), "policy"),
        ],
    );
}

#[test]
fn datagrams() {
    let (there, here) = (forth().udp(HIGH, WEB, 8), back().udp(WEB, HIGH, 8));
    play(
        "a question and answers",
        &one_way(),
        vec![
            (0, "app", here.clone(), "policy"),
            (0, "web", there.clone(), "to app"),
            (119, "app", here.clone(), "to web"),
            (418, "app", here.clone(), "to web"),
            (718, "app", here.clone(), "policy"),
            (718, "web", there.clone(), "to app"),
            (838, "app", here, "policy"),
        ],
    );
    play(
        "another port",
        &one_way(),
        vec![
            (0, "web", there, "to app"),
            (0, "app", back().udp(WEB + 1, HIGH, 8), "policy"),
            (0, "web", forth().protocol(47), "to app"),
            (0, "app", back().protocol(47), "to web"),
            (0, "app", back().protocol(48), "policy"),
        ],
    );
}

#[test]
fn echoes() {
    play(
        "ping",
        &one_way(),
        vec![
            (0, "web", forth().echo(1, false), "to app"),
            (0, "app", back().echo(2, true), "unrelated"),
            (0, "app", back().echo(1, true), "to web"),
            (0, "app", back().echo(1, false), "policy"),
            (59, "app", back().echo(1, true), "to web"),
            (118, "app", back().echo(1, true), "to web"),
            (178, "app", back().echo(1, true), "unrelated"),
        ],
    );
    let other = |talk: Talk| talk.icmp(13, 0, [0; 4], &[0; 12]);
    play(
        "no echo has no connection",
        &one_way(),
        vec![
            (0, "web", other(forth()), "to app"),
            (0, "app", other(back()), "policy"),
        ],
    );
}

#[test]
fn both_hosts_keep_their_own() {
    let mut model = campus(&only(&one_way()));
    let frame = Talk::routed("web", "10.0.0.5", "10.0.1.6").tcp(HIGH, WEB, SYN);
    let (_, verdict) = model.journey(&port("web"), &frame, at(0));
    assert_eq!(outcome(&verdict), "to store");
    let answer = Talk::routed("store", "10.0.1.6", "10.0.0.5");
    let (_, verdict) = model.journey(&port("store"), &answer.tcp(WEB, HIGH, SYN | ACK), at(1));
    assert_eq!(outcome(&verdict), "to web");
    let (_, verdict) = model.journey(&port("store"), &answer.tcp(WEB, HIGH + 1, SYN), at(1));
    assert_eq!(outcome(&verdict), "policy");
}
