//! Golden cases: `golden/compile/NN-name/input.yaml` says what is in the replica, `output.yaml` what each host has to do.
//! `UPDATE_GOLDEN=1` writes the outputs; read them before committing them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use membership::id::NodeId;
use overlay::cluster::Cluster;
use overlay::fact::Binding;
use overlay::forwarding::{Direction, Forwarding, Peer, Place, Route, Router, Rule, Segment};
use overlay::object::domain::Encapsulation;
use overlay::view::View;
use serde_norway::{Mapping, Value};

#[test]
fn golden() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/compile");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(cases.len() >= 10, "{} cases in {}", cases.len(), folder.display());
    let wrong: Vec<String> = cases.iter().filter_map(|case| run(case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn run(case: &Path) -> Option<String> {
    let input = std::fs::read_to_string(case.join("input.yaml")).unwrap();
    let output = output(&lab::Input::read(&input));
    let file = case.join("output.yaml");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&file, &output).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    (output != expected).then(|| format!("{} is not as expected:\n{output}", case.display()))
}

fn view(input: &lab::Input) -> Option<View> {
    let (intents, facts) = (input.intents(), input.facts());
    let cluster = Cluster::of(input.names(), &facts, &intents);
    View::of(&input.domain, &intents, &facts, &cluster, &|claim| {
        !claim.witnesses.is_empty()
    })
}

/// The name that a node id was made of.
fn host_name(node: NodeId) -> String {
    node.as_str().trim_end_matches('2').to_owned()
}

fn output(input: &lab::Input) -> String {
    let Some(view) = view(input) else {
        return "no such domain\n".to_owned();
    };
    let hosts = input.hosts.keys().map(|host| {
        let forwarding = overlay::compile(&view, lab::node(host));
        for (name, segment) in &forwarding.networks {
            let told = overlay::compile::networks(&view);
            let empty = Segment {
                members: BTreeSet::new(),
                ..segment.clone()
            };
            assert_eq!(told.get(name), Some(&empty), "what any host tells of it");
        }
        (Value::from(host.as_str()), Value::from(show(&forwarding)))
    });
    serde_norway::to_string(&Mapping::from_iter(hosts)).unwrap()
}

fn map(entries: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Mapping(
        entries
            .into_iter()
            .map(|(key, value)| (Value::from(key), value))
            .collect(),
    )
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> Value {
    Value::Sequence(items.into_iter().map(|item| Value::from(item.to_string())).collect())
}

fn text(text: impl ToString) -> Value {
    Value::from(text.to_string())
}

fn show(forwarding: &Forwarding) -> Mapping {
    let Forwarding {
        domain,
        default_policy,
        encapsulation,
        networks,
        routers,
        rules,
        ports,
        stations,
        hosts,
        conditions,
    } = forwarding;
    let networks = networks.iter().map(|(name, s)| {
        let router = s.router.as_ref().map(|router| format!(", router {router}"));
        let flood = if s.flood { ", floods" } else { "" };
        let segment = format!("vni {}, mtu {}{}{flood}", s.vni, s.mtu, router.unwrap_or_default());
        let members = list(s.members.iter().map(|host| host_name(*host)));
        let parts = [("segment", text(segment)), ("members", members)];
        (name.to_string(), full(parts))
    });
    let ports = ports.iter().map(|(name, port)| {
        let binding = match &port.binding {
            Binding::Interface { name } => format!("interface {name}"),
            Binding::Namespace { path, interface } => format!("namespace {}, {interface}", path.display()),
        };
        let addresses = list(
            port.addresses
                .iter()
                .map(|(address, length)| format!("{address}/{length}")),
        );
        let gateways = ("gateways", list(&port.gateways));
        let port = format!("{}, vni {}, {}", port.network, port.vni, port.mac);
        let parts = [
            ("port", text(port)),
            ("addresses", addresses),
            gateways,
            ("at", text(binding)),
        ];
        (name.to_string(), full(parts))
    });
    let stations = stations.iter().map(|((vni, mac), station)| {
        let place = match station.place {
            Place::Here => "here".to_owned(),
            Place::Host(node) => host_name(node),
        };
        let of = format!("{}, {place}", station.endpoint);
        let parts = [
            ("of", text(of)),
            ("addresses", list(&station.addresses)),
            ("prefixes", list(&station.prefixes)),
            ("groups", list(&station.groups)),
        ];
        (format!("vni {vni}, {mac}"), full(parts))
    });
    let hosts = hosts
        .iter()
        .map(|(node, vtep)| (host_name(*node), list(vtep.addresses())));
    let conditions = conditions.iter().map(|((kind, name), conditions)| {
        (
            format!("{kind} {name}"),
            list(conditions.iter().map(|c| format!("{}: {}", c.reason, c.message))),
        )
    });
    let geneve = if *encapsulation == Encapsulation::Geneve {
        ", Geneve"
    } else {
        ""
    };
    let parts = [
        ("domain", text(format!("{domain}, {default_policy:?}{geneve}"))),
        ("networks", map(networks)),
        (
            "routers",
            map(routers
                .iter()
                .map(|(name, router)| (name.to_string(), show_router(router)))),
        ),
        ("rules", list(rules.iter().map(show_rule))),
        ("ports", map(ports)),
        ("stations", map(stations)),
        ("hosts", map(hosts)),
        ("conditions", map(conditions)),
    ];
    let optional = |key: &str| matches!(key, "routers" | "rules");
    let said = parts
        .into_iter()
        .filter(|(key, value)| !optional(key) || !is_empty(value));
    said.map(|(key, value)| (Value::from(key), value)).collect()
}

/// What is there of these.
fn full<const N: usize>(parts: [(&str, Value); N]) -> Value {
    let optional = |key: &str| matches!(key, "gateways" | "prefixes" | "groups" | "members");
    let said = parts
        .into_iter()
        .filter(|(key, value)| !optional(key) || !is_empty(value));
    map(said.map(|(key, value)| (key.to_owned(), value)))
}

fn is_empty(value: &Value) -> bool {
    value.as_sequence().is_some_and(Vec::is_empty) || value.as_mapping().is_some_and(Mapping::is_empty)
}

fn show_router(router: &Router) -> Value {
    let of = |addresses: &BTreeMap<IpAddr, u8>| {
        list(addresses.iter().map(|(address, length)| format!("{address}/{length}")))
    };
    let addresses = router
        .addresses
        .iter()
        .map(|(network, of_it)| (network.to_string(), of(of_it)));
    let routes = router.routes.iter().map(|(prefix, route)| {
        let to = match route {
            Route::Connected(network) => format!("network {network}"),
            Route::Blackhole => "blackhole".to_owned(),
            Route::Via(hops) if hops.is_empty() => "nobody".to_owned(),
            Route::Via(hops) => {
                let hops = hops.iter().map(|(network, hop)| format!("{hop} in {network}"));
                format!("via {}", hops.collect::<Vec<_>>().join(", "))
            }
        };
        (prefix.to_string(), text(to))
    });
    map([
        ("mac".to_owned(), text(router.mac)),
        ("addresses".to_owned(), map(addresses)),
        ("routes".to_owned(), map(routes)),
    ])
}

fn show_rule(rule: &Rule) -> String {
    let version = match rule.versions {
        1 => String::new(),
        versions => format!(" (version {} of {versions})", rule.version),
    };
    let subject = rule.subject.map_or("all".to_owned(), |group| format!("group {group}"));
    let peer = match &rule.peer {
        Peer::Any => "anybody".to_owned(),
        Peer::Group(group) => format!("group {group}"),
        Peer::Prefix(prefix) => prefix.to_string(),
    };
    let (subject, peer) = match rule.direction {
        Direction::Ingress => (format!("to {subject}"), format!("from {peer}")),
        Direction::Egress => (format!("from {subject}"), format!("to {peer}")),
    };
    let Rule {
        policy,
        number,
        action,
        protocol,
        ..
    } = rule;
    format!("{policy} {number}{version}: {action:?} {subject} {peer}, {protocol:?}")
}
