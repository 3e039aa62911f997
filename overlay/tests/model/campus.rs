//! A routed domain for these tests, as [`Forwarding`]s: two networks that a router joins, on two hosts.
//!
//! | endpoint | network | host | addresses | groups |
//! |---|---|---|---|---|
//! | web | lan (7) | alpha | 10.0.0.5, fd00::5 | 0 |
//! | db | lan (7) | beta | 10.0.0.6, fd00::6 | 1 |
//! | app | dmz (8) | alpha | 10.0.1.5, fd01::5 | 1 |
//! | store | dmz (8) | beta | 10.0.1.6, fd01::6 | 1 |
//! | gate | dmz (8) | beta | 10.0.1.7, fd01::7; behind it 10.9.0.0/16, fd09::/32 | 2 |
//!
//! The router's routes: both networks, 10.9.0.0/16 and fd09::/32 via gate, 10.8.0.0/16 nowhere, 10.7.0.0/16 via nobody,
//! 10.6.0.0/16 via web, 10.3.0.0/16 via no hop at all.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use overlay::fact::{Binding, Vtep};
use overlay::forwarding::{Forwarding, Group, Place, Port, Route, Router, Rule, Segment, Station};
use overlay::model::{Host, Ingress, Model, Verdict};
use overlay::name::{Mac, Vni};
use overlay::object::domain::{DefaultPolicy, Encapsulation};

use crate::fabric::{label, mac};
use crate::lab::node;

pub(crate) const ROUTER: &str = "02:00:00:00:00:01";
pub(crate) const LAN: u64 = 7;
pub(crate) const DMZ: u64 = 8;

/// An endpoint: name, number of its network, last part of its addresses, host, groups, prefixes behind it.
type Who = (
    &'static str,
    u64,
    u8,
    &'static str,
    &'static [Group],
    &'static [&'static str],
);

const ALL: [Who; 5] = [
    ("web", LAN, 5, "alpha", &[0], &[]),
    ("db", LAN, 6, "beta", &[1], &[]),
    ("app", DMZ, 5, "alpha", &[1], &[]),
    ("store", DMZ, 6, "beta", &[1], &[]),
    ("gate", DMZ, 7, "beta", &[2], &["10.9.0.0/16", "fd09::/32"]),
];

/// A change of the domain, on every host.
pub(crate) type Change<'a> = &'a dyn Fn(&mut Forwarding);

/// The hosts, after a change.
pub(crate) fn campus(change: Change<'_>) -> Model {
    let mut model = Model::of(["alpha", "beta"].map(|host| {
        let domains = [(label("red"), forwarding(host))].into();
        let vtep = Some(vtep(host));
        let host_of = Host {
            vtep,
            domains,
            ..Host::default()
        };
        (node(host), host_of)
    }));
    alter(&mut model, change);
    model
}

/// Changes the domain everywhere.
pub(crate) fn alter(model: &mut Model, change: Change<'_>) {
    for host in ["alpha", "beta"] {
        let host = model.host_mut(node(host)).unwrap();
        change(host.domains.get_mut(&label("red")).unwrap());
    }
}

/// Everything is denied but what these rules allow.
pub(crate) fn only(rules: &[Rule]) -> impl Fn(&mut Forwarding) + use<> {
    let rules = rules.to_vec();
    move |domain| {
        domain.default_policy = DefaultPolicy::Deny;
        domain.rules = rules.clone();
    }
}

pub(crate) fn vtep(host: &str) -> Vtep {
    let last = if host == "alpha" { 1 } else { 2 };
    Vtep {
        ipv4: Some([192, 0, 2, last].into()),
        ipv6: None,
        port: 4789,
        underlay_mtu: 1500,
    }
}

pub(crate) fn vni(number: u64) -> Vni {
    number.try_into().unwrap()
}

/// The MAC address of an endpoint.
pub(crate) fn mac_of(name: &str) -> Mac {
    let (_, network, last, ..) = ALL.into_iter().find(|(of, ..)| *of == name).unwrap();
    mac(&format!("02:00:00:00:{network:02}:{last:02}"))
}

/// The port of an endpoint.
pub(crate) fn port(name: &str) -> Ingress {
    let (.., host, _, _) = ALL.into_iter().find(|(of, ..)| *of == name).unwrap();
    Ingress {
        host: node(host),
        domain: label("red"),
        endpoint: label(name),
        host_mac: None,
    }
}

fn network(number: u64) -> &'static str {
    if number == LAN { "lan" } else { "dmz" }
}

fn addresses(network: u64, last: u8) -> [IpAddr; 2] {
    let third = u8::from(network == DMZ);
    let v6 = format!("fd0{third}::{last}").parse().unwrap();
    [[10, 0, third, last].into(), v6]
}

fn forwarding(here: &str) -> Forwarding {
    let segment = |number, mtu| Segment {
        vni: vni(number),
        mtu,
        router: Some(label("core")),
        flood: false,
        members: BTreeSet::new(),
    };
    let mut forwarding = Forwarding {
        domain: label("red"),
        default_policy: DefaultPolicy::Allow,
        encapsulation: Encapsulation::Vxlan,
        networks: [(label("lan"), segment(LAN, 1430)), (label("dmz"), segment(DMZ, 1400))].into(),
        routers: [(label("core"), router())].into(),
        rules: vec![],
        ports: BTreeMap::new(),
        stations: BTreeMap::new(),
        hosts: BTreeMap::new(),
        conditions: BTreeMap::new(),
    };
    for who in ALL {
        place(&mut forwarding, here, who);
    }
    forwarding
}

fn place(forwarding: &mut Forwarding, here: &str, (name, number, last, host, groups, prefixes): Who) {
    let (mac, vni, addresses) = (mac_of(name), vni(number), addresses(number, last));
    let station = Station {
        endpoint: label(name),
        place: if host == here {
            Place::Here
        } else {
            Place::Host(node(host))
        },
        addresses: addresses.into_iter().chain([mac.link_local().into()]).collect(),
        prefixes: prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect(),
        groups: groups.iter().copied().collect(),
    };
    forwarding.stations.insert((vni, mac), station);
    if host != here {
        forwarding.hosts.insert(node(host), vtep(host));
        return;
    }
    let port = Port {
        network: label(network(number)),
        vni,
        mac,
        addresses: [(addresses[0], 24), (addresses[1], 64)].into(),
        gateways: BTreeSet::new(),
        binding: Binding::Interface { name: name.to_owned() },
    };
    forwarding.ports.insert(label(name), port);
}

fn router() -> Router {
    let mac = mac(ROUTER);
    let own = |number| {
        let [v4, v6] = addresses(number, 1);
        (
            label(network(number)),
            BTreeMap::from([(v4, 24), (v6, 64), (mac.link_local().into(), 128)]),
        )
    };
    let connected = |prefix: &str, number| (net(prefix), Route::Connected(label(network(number))));
    let via = |prefix: &str, number, hop: &str| {
        (
            net(prefix),
            Route::Via(BTreeSet::from([(label(network(number)), hop.parse().unwrap())])),
        )
    };
    Router {
        mac,
        addresses: [own(LAN), own(DMZ)].into(),
        routes: [
            connected("10.0.0.0/24", LAN),
            connected("10.0.1.0/24", DMZ),
            connected("fd00::/64", LAN),
            connected("fd01::/64", DMZ),
            via("10.9.0.0/16", DMZ, "10.0.1.7"),
            via("fd09::/32", DMZ, "fd01::7"),
            via("10.7.0.0/16", DMZ, "10.0.1.99"),
            (net("10.3.0.0/16"), Route::Via(BTreeSet::new())),
            via("10.6.0.0/16", LAN, "10.0.0.5"),
            (net("10.8.0.0/16"), Route::Blackhole),
        ]
        .into(),
    }
}

pub(crate) fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A verdict in a word or two.
pub(crate) fn outcome(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Pass => "pass".to_owned(),
        Verdict::Deliver { endpoint, .. } => format!("to {endpoint}"),
        Verdict::Encapsulate { to, vni, .. } => format!("by {} in {vni}", to.to_string().trim_end_matches('2')),
        Verdict::Flood { endpoints, hosts, .. } => {
            let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
            format!("to {:?} and {} hosts", endpoints, hosts.len())
        }
        Verdict::Reply(_) => "reply".to_owned(),
        Verdict::Drop { reason, error } => {
            let told = if error.is_some() { " and told" } else { "" };
            format!("{}{told}", reason.name())
        }
    }
}

/// Seconds since the start.
pub(crate) fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
