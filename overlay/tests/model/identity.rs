//! Whose groups count, and table D: what is sent to one workload's MAC address and another one's IP address.

use std::collections::BTreeSet;

use overlay::forwarding::{Action, Forwarding, Peer, Route, Rule};
use overlay::model::Model;

use crate::campus::{DMZ, alter, at, campus, mac_of, net, outcome, port};
use crate::fabric::{label, received, sent};
use crate::frames::{BROADCAST, tunnelled};
use crate::lab::node;
use crate::policy::{into, out};
use crate::talk::{ACK, HIGH, SYN, Talk, WEB};

/// Denies what these rules match.
fn but(rules: &[Rule]) -> impl Fn(&mut Forwarding) + use<> {
    let rules = rules.to_vec();
    move |domain| domain.rules = rules.clone()
}

fn to_group(group: u16) -> Rule {
    Rule {
        peer: Peer::Group(group),
        ..out(Action::Deny)
    }
}

/// What becomes of a frame that beta's host sends in a tunnel to app's.
fn arrives(model: &Model, frame: &[u8]) -> String {
    let packet = tunnelled("192.0.2.2", "192.0.2.1", 8, DMZ as u32, frame);
    outcome(&received(model, node("alpha"), &packet))
}

#[test]
fn nobody_gets_what_is_for_another_one() {
    let model = campus(&|_| ());
    let anothers = "destination_address";
    let table = [
        ("its own", "10.0.1.6", "by beta in 8"),
        ("gate's", "10.0.1.7", anothers),
        ("gate's, IPv6", "fd01::7", anothers),
        ("gate's link-local", "fe80::ff:fe00:807", anothers),
        ("the router's", "10.0.1.1", anothers),
        ("nobody's", "10.0.1.99", "by beta in 8"),
        ("nobody's link-local", "fe80::99", "by beta in 8"),
        ("what is behind gate", "10.9.1.1", "by beta in 8"),
        ("what is in another segment", "10.0.0.5", "by beta in 8"),
        ("what is nowhere", "198.51.100.1", "by beta in 8"),
    ];
    for (row, to, expected) in table {
        let from = if to.contains(':') { "fd01::5" } else { "10.0.1.5" };
        let frame = Talk::direct("app", from, "store", to).udp(HIGH, WEB, 8);
        assert_eq!(outcome(&sent(&model, &port("app"), &frame)), expected, "{row}");
        let frame = [&BROADCAST[..], &frame[6..]].concat();
        let all = if expected == anothers || row == "its own" {
            anothers
        } else {
            "multicast"
        };
        assert_eq!(outcome(&sent(&model, &port("app"), &frame)), all, "{row} for everybody");
    }
}

#[test]
fn a_host_that_lies_gets_nothing_through() {
    let model = campus(&|_| ());
    let from = |to: &str| if to.contains(':') { "fd01::6" } else { "10.0.1.6" };
    for (to, expected) in [
        ("10.0.1.5", "to app"),
        ("10.0.1.7", "destination_address"),
        ("fd01::7", "destination_address"),
        ("10.0.1.1", "destination_address"),
        ("10.0.1.99", "to app"),
        ("10.9.1.1", "to app"),
        ("fe80::99", "to app"),
    ] {
        let frame = Talk::direct("store", from(to), "app", to).udp(HIGH, WEB, 8);
        assert_eq!(arrives(&model, &frame), expected, "{to}");
    }
    let everybody = Talk::direct("store", "10.0.1.6", "app", "10.0.1.5").udp(HIGH, WEB, 8);
    let everybody = [&BROADCAST[..], &everybody[6..]].concat();
    assert_eq!(arrives(&model, &everybody), "destination_address");
    let routed = |to| Talk::from_router("app", "10.0.0.6", to).udp(HIGH, WEB, 8);
    assert_eq!(arrives(&model, &routed("10.0.1.5")), "to app");
    assert_eq!(arrives(&model, &routed("10.0.1.7")), "destination_address");
}

/// Where nobody may open a connection to app, store's host could hand it packets as answers to another one's.
#[test]
fn an_answer_to_one_is_not_for_another() {
    let only_out = Rule {
        peer: Peer::Group(1),
        ..into(Action::Deny)
    };
    let mut model = campus(&but(&[only_out]));
    let from_beta = |frame: &[u8]| tunnelled("192.0.2.2", "192.0.2.1", 8, DMZ as u32, frame);
    let opens = Talk::direct("app", "10.0.1.5", "store", "10.0.1.6").tcp(HIGH, WEB, SYN);
    assert_eq!(
        outcome(&model.from_endpoint(&port("app"), &opens, at(0))),
        "by beta in 8"
    );
    let answer = Talk::direct("store", "10.0.1.6", "app", "10.0.1.5").tcp(WEB, HIGH, SYN | ACK);
    assert_eq!(
        outcome(&model.from_underlay(node("alpha"), &from_beta(&answer), at(0))),
        "to app"
    );
    let to_another = Talk::direct("store", "10.0.1.6", "app", "10.0.1.7").tcp(WEB, HIGH, ACK);
    assert_eq!(
        outcome(&model.from_underlay(node("alpha"), &from_beta(&to_another), at(0))),
        "destination_address"
    );
}

#[test]
fn rules_ask_for_who_sends_and_who_gets_it() {
    let of = |group| Rule {
        subject: Some(group),
        ..out(Action::Deny)
    };
    let of_receiver = |group| Rule {
        subject: Some(group),
        ..into(Action::Deny)
    };
    let app = |to: &str, address: &str| {
        let from = if address.contains(':') { "fe80::77" } else { "10.0.1.5" };
        Talk::direct("app", from, to, address).udp(HIGH, WEB, 8)
    };
    let on = "by beta in 8";
    let table = [
        (
            "nobody's address, his MAC",
            to_group(2),
            app("gate", "10.0.1.99"),
            "policy",
        ),
        ("his address and MAC", to_group(2), app("gate", "10.0.1.7"), "policy"),
        ("what is behind him", to_group(2), app("gate", "10.9.1.1"), "policy"),
        ("what is behind another", to_group(2), app("store", "10.9.1.1"), on),
        ("the one who gets it", to_group(1), app("store", "10.9.1.1"), "policy"),
        (
            "an address of one's own choice",
            of(1),
            app("gate", "fe80::88"),
            "policy",
        ),
        ("another's rule", of(2), app("gate", "fe80::88"), on),
    ];
    for (row, rule, frame, expected) in table {
        assert_eq!(
            outcome(&sent(&campus(&but(&[rule])), &port("app"), &frame)),
            expected,
            "{row}"
        );
    }
    let from = Talk::direct("store", "fe80::66", "app", "fe80::55").udp(HIGH, WEB, 8);
    let behind = Talk::direct("gate", "10.9.1.1", "app", "10.0.1.99").udp(HIGH, WEB, 8);
    let from_group = |group| Rule {
        peer: Peer::Group(group),
        ..into(Action::Deny)
    };
    let table = [
        ("who gets it", of_receiver(1), &from, "policy"),
        ("who does not", of_receiver(2), &from, "to app"),
        ("who sends it", from_group(1), &from, "policy"),
        ("who sends from behind", from_group(2), &behind, "policy"),
        ("who does not send", from_group(1), &behind, "to app"),
    ];
    for (row, rule, frame, expected) in table {
        assert_eq!(arrives(&campus(&but(&[rule])), frame), expected, "{row}");
    }
}

/// 10.0.1.6 is store's, but a route says that app comes before it.
#[test]
fn the_router_may_send_it_to_another_one() {
    let before_store = |domain: &mut Forwarding| {
        let hops = BTreeSet::from([(label("dmz"), "10.0.1.5".parse().unwrap())]);
        let router = domain.routers.get_mut(&label("core")).unwrap();
        router.routes.insert(net("10.0.1.6/32"), Route::Via(hops));
    };
    let mut model = campus(&before_store);
    let routed = Talk::routed("web", "10.0.0.5", "10.0.1.6").udp(HIGH, WEB, 8);
    assert_eq!(outcome(&sent(&model, &port("web"), &routed)), "to app");
    let from_beta = Talk::from_router("app", "10.0.0.6", "10.0.1.6").udp(HIGH, WEB, 8);
    assert_eq!(arrives(&model, &from_beta), "to app");
    let lies = [&mac_of("app").octets()[..], &mac_of("store").octets(), &from_beta[12..]].concat();
    assert_eq!(arrives(&model, &lies), "wrong_vtep", "only the router's are routed");
    alter(&mut model, &but(&[to_group(1)]));
    assert_eq!(outcome(&sent(&model, &port("web"), &routed)), "policy", "app gets it");
}
