//! What holds of every replica, however it came about: `compile` does not depend on the order of what it is given, and
//! what hosts get from it never mixes stations, networks or domains up.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use membership::id::{Label, NodeId};
use membership::record::{Fact, Intent};
use overlay::cluster::Cluster;
use overlay::forwarding::{Forwarding, Place};
use overlay::model::{Host, Ingress, Model, Verdict};
use overlay::name::{Mac, Vni};
use overlay::view::View;
use proptest::prelude::*;

const HOSTS: [&str; 3] = ["alpha", "beta", "gamma"];
const DOMAINS: [&str; 2] = ["blue", "red"];

/// A replica of two domains in which everything that can clash does so often.
#[derive(Debug, Clone)]
struct World {
    names: BTreeMap<NodeId, Label>,
    intents: Vec<Intent>,
    facts: Vec<Fact>,
}

type NetworkInput = (u64, u64, bool);
type EndpointInput = (u64, usize, u8, Vec<u8>, Vec<(usize, u64)>, Option<(usize, u8)>);

fn network() -> impl Strategy<Value = NetworkInput> {
    (0..3u64, 1..4u64, any::<bool>())
}

fn endpoint() -> impl Strategy<Value = EndpointInput> {
    let attachments = prop::collection::vec((0..3usize, 0..3u64), 0..3);
    let claim = prop::option::of((0..3usize, 2..6u8));
    (
        0..3u64,
        0..3usize,
        0..4u8,
        prop::collection::vec(2..6u8, 0..3),
        attachments,
        claim,
    )
}

fn domain_yaml(name: &str, networks: &[NetworkInput], endpoints: &[EndpointInput]) -> String {
    let mut text = format!("domain: {name}\nhosts:\n");
    for (n, host) in HOSTS.iter().enumerate() {
        text += &format!("  {host}: {{ipv4: 192.0.2.{}}}\n", n + 1);
    }
    text += &format!("objects:\n- {{stamp: 0, kind: Domain, name: {name}, spec: {{defaultPolicy: allow}}}}\n");
    for (n, (stamp, vni, both)) in networks.iter().enumerate() {
        let second = if *both { ", 'fd00::/64'" } else { "" };
        text += &format!(
            "- {{stamp: {stamp}, kind: Network, domain: {name}, name: n{n}, spec: {{subnets: [10.0.0.0/28{second}], vni: {vni}}}}}\n"
        );
    }
    let (mut attached, mut claimed) = (String::new(), String::new());
    for (n, (stamp, network, mac, addresses, attachments, claim)) in endpoints.iter().enumerate() {
        let addresses: BTreeSet<String> = addresses.iter().map(|a| format!("10.0.0.{a}")).collect();
        let addresses = Vec::from_iter(addresses).join(", ");
        text += &format!(
            "- {{stamp: {stamp}, kind: Endpoint, domain: {name}, name: e{n}, spec: {{network: n{network}, mac: '02:00:00:00:00:0{mac}', addresses: [{addresses}]}}}}\n"
        );
        let mut hosts = BTreeSet::new();
        for (host, counter) in attachments.iter().filter(|(host, _)| hosts.insert(*host)) {
            let host = HOSTS[*host];
            attached += &format!("- {{endpoint: e{n}, host: {host}, counter: {counter}, interface: tap{n}}}\n");
        }
        if let Some((host, address)) = claim {
            let host = HOSTS[*host];
            claimed += &format!("- {{host: {host}, network: n{network}, endpoint: e{n}, address: 10.0.0.{address}}}\n");
        }
    }
    let section = |name: &str, items: &str| {
        if items.is_empty() {
            String::new()
        } else {
            format!("{name}:\n{items}")
        }
    };
    text + &section("attachments", &attached) + &section("claims", &claimed)
}

fn world() -> impl Strategy<Value = World> {
    let domain = || {
        (
            prop::collection::vec(network(), 1..4),
            prop::collection::vec(endpoint(), 0..6),
        )
    };
    (domain(), domain()).prop_map(|(blue, red)| {
        let inputs = DOMAINS.iter().zip([blue, red]);
        let inputs: Vec<lab::Input> = inputs
            .map(|(n, (a, b))| lab::Input::read(&domain_yaml(n, &a, &b)))
            .collect();
        World {
            names: inputs[0].names(),
            intents: inputs.iter().flat_map(lab::Input::intents).collect(),
            facts: inputs.iter().flat_map(lab::Input::facts).collect(),
        }
    })
}

fn shuffled_world() -> impl Strategy<Value = (World, World)> {
    world().prop_flat_map(|world| {
        let (intents, facts) = (
            Just(world.intents.clone()).prop_shuffle(),
            Just(world.facts.clone()).prop_shuffle(),
        );
        let names = world.names.clone();
        let other = (intents, facts).prop_map(move |(intents, facts)| World {
            names: names.clone(),
            intents,
            facts,
        });
        (Just(world), other)
    })
}

/// What each host gets, by domain.
fn compile(world: &World) -> BTreeMap<NodeId, BTreeMap<Label, Forwarding>> {
    let cluster = Cluster::of(world.names.clone(), &world.facts, &world.intents);
    let mut hosts: BTreeMap<NodeId, BTreeMap<Label, Forwarding>> = BTreeMap::new();
    for domain in DOMAINS.map(|name| name.parse::<Label>().unwrap()) {
        let verify = |claim: &membership::claim::Claim| !claim.witnesses.is_empty();
        let view = View::of(&domain, &world.intents, &world.facts, &cluster, &verify).unwrap();
        for host in world.names.keys() {
            hosts
                .entry(*host)
                .or_default()
                .insert(domain.clone(), overlay::compile(&view, *host));
        }
    }
    hosts
}

fn model(hosts: &BTreeMap<NodeId, BTreeMap<Label, Forwarding>>, world: &World) -> Model {
    let cluster = Cluster::of(world.names.clone(), &world.facts, &world.intents);
    Model::of(hosts.iter().map(|(node, domains)| {
        (
            *node,
            Host {
                vtep: cluster.hosts.get(node).cloned(),
                domains: domains.clone(),
                ..Host::default()
            },
        )
    }))
}

/// An Ethernet frame with an IPv4 header.
fn frame(destination: Mac, source: Mac, from: IpAddr, to: IpAddr) -> Option<Vec<u8>> {
    let (IpAddr::V4(from), IpAddr::V4(to)) = (from, to) else {
        return None;
    };
    let builder = etherparse::PacketBuilder::ethernet2(source.octets(), destination.octets())
        .ipv4(from.octets(), to.octets(), 64)
        .udp(1000, 2000);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[0; 8]).unwrap();
    Some(frame)
}

proptest! {
    #[test]
    fn the_order_of_what_is_known_does_not_matter((one, other) in shuffled_world()) {
        prop_assert_eq!(compile(&one), compile(&other));
    }

    #[test]
    fn a_number_is_one_network_and_an_address_one_station(world in world()) {
        let mut networks: BTreeMap<Vni, (Label, Label)> = BTreeMap::new();
        let mut places: BTreeMap<(Vni, Mac), (Label, NodeId)> = BTreeMap::new();
        let mut addresses: BTreeMap<(Vni, IpAddr), Mac> = BTreeMap::new();
        for (host, domains) in compile(&world) {
            for (domain, forwarding) in domains {
                for (name, segment) in &forwarding.networks {
                    let owner = networks.entry(segment.vni).or_insert((domain.clone(), name.clone()));
                    prop_assert_eq!(&*owner, &(domain.clone(), name.clone()));
                }
                for (key, station) in &forwarding.stations {
                    let at = match station.place { Place::Here => host, Place::Host(other) => other };
                    let place = places.entry(*key).or_insert((station.endpoint.clone(), at));
                    prop_assert_eq!(&*place, &(station.endpoint.clone(), at), "hosts agree where a station is");
                    for address in &station.addresses {
                        let mac = addresses.entry((key.0, *address)).or_insert(key.1);
                        prop_assert_eq!(*mac, key.1);
                    }
                    if let Place::Host(other) = station.place {
                        prop_assert!(other != host && forwarding.hosts.contains_key(&other));
                    }
                }
                for (name, port) in &forwarding.ports {
                    let station = &forwarding.stations[&(port.vni, port.mac)];
                    prop_assert_eq!((&station.endpoint, station.place), (name, Place::Here));
                    prop_assert_eq!(forwarding.networks[&port.network].vni, port.vni);
                }
                if forwarding.ports.is_empty() {
                    prop_assert!(forwarding.networks.is_empty() && forwarding.stations.is_empty() && forwarding.hosts.is_empty());
                }
            }
        }
    }

    #[test]
    fn what_is_not_in_force_has_a_condition(world in world()) {
        for (host, domains) in compile(&world) {
            for (domain, forwarding) in domains {
                let scope = membership::id::Scope::Domain(domain.clone());
                for intent in world.intents.iter().filter(|intent| intent.scope == scope) {
                    let (kind, name) = overlay::object::Kind::of_key(&intent.key).unwrap();
                    let placed = forwarding.stations.values().any(|s| s.endpoint == name) || forwarding.ports.contains_key(&name);
                    let elsewhere = !forwarding.ports.values().any(|port| port.network == network_of(intent).unwrap_or(name.clone()));
                    if kind == overlay::object::Kind::Endpoint && !placed && !elsewhere {
                        prop_assert!(forwarding.conditions.contains_key(&(kind, name.to_string())), "{host}: {name}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_frame_leaves_its_domain(world in world()) {
        let hosts = compile(&world);
        let mut model = model(&hosts, &world);
        let macs = (0..4u8).map(|n| format!("02:00:00:00:00:0{n}").parse::<Mac>());
        let macs: Vec<Mac> = macs.map(Result::unwrap).collect();
        for (host, domains) in &hosts {
            for (domain, forwarding) in domains {
                for (endpoint, port) in &forwarding.ports {
                    let ingress = Ingress { host: *host, domain: domain.clone(), endpoint: endpoint.clone(), host_mac: None };
                    for (&source, &destination) in port.addresses.keys().flat_map(|a| macs.iter().map(move |m| (a, m))) {
                        let Some(frame) = frame(destination, port.mac, source, "10.0.0.9".parse().unwrap()) else { continue };
                        let (at, verdict) = model.journey(&ingress, &frame, Duration::ZERO);
                        match verdict {
                            Verdict::Deliver { domain: to, endpoint: reached, .. } => {
                                prop_assert_eq!(&to, domain);
                                let there = &hosts[&at][&to].ports[&reached];
                                prop_assert_eq!((there.mac, there.vni), (destination, port.vni));
                            }
                            Verdict::Drop { reason, .. } => prop_assert_eq!(reason.name(), "unknown_destination"),
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                }
            }
        }
    }
}

fn network_of(intent: &Intent) -> Option<Label> {
    match overlay::object::Spec::decode(overlay::object::Kind::Endpoint, intent.body.as_ref()?).ok()? {
        overlay::object::Spec::Endpoint(spec) => Some(spec.network),
        _ => None,
    }
}
