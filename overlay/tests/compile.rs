//! Golden cases: `golden/compile/NN-name/input.yaml` says what is in the replica, `output.yaml` what each host has to do.
//! `UPDATE_GOLDEN=1` writes the outputs; read them before committing them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use std::path::{Path, PathBuf};

use membership::id::NodeId;
use overlay::cluster::Cluster;
use overlay::fact::Binding;
use overlay::forwarding::{Forwarding, Place};
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
            assert_eq!(told.get(name), Some(segment), "what any host tells of it");
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
        networks,
        ports,
        stations,
        hosts,
        conditions,
    } = forwarding;
    let networks = networks
        .iter()
        .map(|(name, s)| (name.to_string(), text(format!("vni {}, mtu {}", s.vni, s.mtu))));
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
        let port = format!("{}, vni {}, {}", port.network, port.vni, port.mac);
        (
            name.to_string(),
            map([
                ("port".into(), text(port)),
                ("addresses".into(), addresses),
                ("at".into(), text(binding)),
            ]),
        )
    });
    let stations = stations.iter().map(|((vni, mac), station)| {
        let place = match station.place {
            Place::Here => "here".to_owned(),
            Place::Host(node) => host_name(node),
        };
        let of = format!("{}, {place}", station.endpoint);
        (
            format!("vni {vni}, {mac}"),
            map([("of".into(), text(of)), ("addresses".into(), list(&station.addresses))]),
        )
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
    let parts = [
        ("domain", text(format!("{domain}, {default_policy:?}"))),
        ("networks", map(networks)),
        ("ports", map(ports)),
        ("stations", map(stations)),
        ("hosts", map(hosts)),
        ("conditions", map(conditions)),
    ];
    parts
        .into_iter()
        .map(|(key, value)| (Value::from(key), value))
        .collect()
}
