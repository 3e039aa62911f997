//! Tables B and L, and what of A, N and T leads there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use overlay::forwarding::{Action, Forwarding, Peer, Place, Rule};
use overlay::model::{Model, Reason};
use overlay::object::domain::DefaultPolicy;

use crate::campus::{LAN, ROUTER, alter, campus, mac_of, outcome, port, vni};
use crate::fabric::{label, mac, sent};
use crate::frames::{BROADCAST, with};
use crate::lab::node;
use crate::policy::{into, out};
use crate::talk::{HIGH, Talk, WEB};

const UNKNOWN: [u8; 6] = [2, 0, 0, 0, 0x77, 0x77];

/// Web, and app beside it, are here, db is elsewhere: all in one network.
fn lan(change: impl Fn(&mut Forwarding)) -> Model {
    let mut model = campus(&|_| ());
    alter(&mut model, &|domain| {
        let app = domain.stations.remove(&(vni(8), mac_of("app")));
        if let Some(app) = app.filter(|app| app.place == Place::Here) {
            let station = overlay::forwarding::Station {
                addresses: BTreeSet::from([IpAddr::from([10, 0, 0, 8])]),
                ..app
            };
            domain.stations.insert((vni(LAN), mac_of("app")), station);
            let port = domain.ports.get_mut(&label("app")).unwrap();
            (port.network, port.vni) = (label("lan"), vni(LAN));
        }
        let segment = domain.networks.get_mut(&label("lan")).unwrap();
        segment.members = BTreeSet::from([node("beta")]);
        change(domain);
    });
    model
}

fn flooding(domain: &mut Forwarding) {
    domain.networks.get_mut(&label("lan")).unwrap().flood = true;
}

/// A packet of web to this address, in a frame to this MAC address.
fn packet(to: [u8; 6], destination: &str) -> Vec<u8> {
    let frame = Talk::direct("web", "10.0.0.5", "db", destination).udp(HIGH, WEB, 8);
    [&to[..], &frame[6..]].concat()
}

/// The same, but not IP.
fn other(to: [u8; 6]) -> Vec<u8> {
    with(&packet(to, "10.0.0.6"), &[(12, 0x88), (13, 0xcc)])
}

const ALL: &str = "to [\"app\"] and 1 hosts";

#[test]
fn everybody_gets_what_rules_let_through() {
    let broadcast = packet(BROADCAST, "255.255.255.255");
    let deny = |domain: &mut Forwarding, rules: &[Rule]| {
        domain.default_policy = DefaultPolicy::Deny;
        domain.rules = rules.to_vec();
    };
    let to_group = Rule {
        peer: Peer::Prefix("255.255.255.255/32".parse().unwrap()),
        ..out(Action::Allow)
    };
    let of_web = Rule {
        peer: Peer::Group(0),
        ..into(Action::Allow)
    };
    let of_db = Rule {
        peer: Peer::Group(1),
        ..into(Action::Allow)
    };
    let table: [(&str, Vec<Rule>, &str); 4] = [
        ("both", vec![to_group.clone(), of_web.clone()], ALL),
        ("not here", vec![to_group.clone(), of_db], "to [] and 1 hosts"),
        ("no egress", vec![of_web], "policy"),
        (
            "a group's address is in no group",
            vec![Rule {
                peer: Peer::Group(1),
                ..out(Action::Allow)
            }],
            "policy",
        ),
    ];
    for (row, rules, expected) in table {
        let mut model = lan(|domain| deny(domain, &rules));
        assert_eq!(outcome(&sent(&model, &port("web"), &broadcast)), expected, "{row}");
        let _ = model.from_endpoint(&port("web"), &broadcast, std::time::Duration::ZERO);
        let copies = model.account(node("alpha")).copies;
        let denied = vec![(label("app"), Reason::Policy)];
        assert_eq!(copies, if row == "not here" { denied } else { vec![] }, "{row}");
    }
    let nobody = lan(|domain| {
        domain.networks.get_mut(&label("lan")).unwrap().members.clear();
        domain.ports.remove(&label("app"));
    });
    assert_eq!(outcome(&sent(&nobody, &port("web"), &broadcast)), "multicast");
}

#[test]
fn who_gets_a_frame() {
    let db = mac_of("db").octets();
    let table = [
        ("B a group", packet([1, 0, 0x5e, 0, 0, 0xfb], "224.0.0.251"), ALL, ALL),
        ("M1 in a frame for one", packet(db, "224.0.0.251"), "martian", "martian"),
        ("B3", packet(BROADCAST, "10.0.0.66"), ALL, ALL),
        (
            "B1a",
            packet(BROADCAST, "10.0.0.6"),
            "destination_address",
            "destination_address",
        ),
        (
            "B1a a router's",
            packet(BROADCAST, "10.0.0.1"),
            "destination_address",
            "destination_address",
        ),
        ("P15", packet(UNKNOWN, "10.0.0.66"), "unknown_destination", ALL),
        (
            "P15, B1a",
            packet(UNKNOWN, "10.0.0.6"),
            "unknown_destination",
            "destination_address",
        ),
        ("L7", other(BROADCAST), ALL, ALL),
        ("L4", other(UNKNOWN), "unknown_destination", ALL),
        ("L6", other(db), "by beta in 7", "by beta in 7"),
        ("L3", other(mac(ROUTER).octets()), "router_port", "router_port"),
        (
            "L2",
            other(mac_of("web").octets()),
            "unknown_destination",
            "unknown_destination",
        ),
    ];
    for (row, frame, quiet, flood) in table {
        for (model, expected) in [(lan(|_| ()), quiet), (lan(flooding), flood)] {
            assert_eq!(outcome(&sent(&model, &port("web"), &frame)), expected, "{row}");
        }
    }
    let denying = lan(|domain| domain.default_policy = DefaultPolicy::Deny);
    assert_eq!(outcome(&sent(&denying, &port("web"), &other(db))), "ether_type");
}
