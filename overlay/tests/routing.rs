//! What holds of routers in every replica: the order of what is known does not matter, every station of a routed network is
//! there, a network has one gateway, next hops are stations, and nothing falls through to a wider route.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use membership::id::{Label, NodeId};
use membership::record::{Fact, Intent};
use overlay::address::router_mac;
use overlay::cluster::Cluster;
use overlay::forwarding::{Forwarding, Place, Route};
use overlay::view::View;
use proptest::prelude::*;

const HOSTS: [&str; 3] = ["alpha", "beta", "gamma"];
const NETWORKS: usize = 4;

#[derive(Debug, Clone)]
struct World {
    names: BTreeMap<NodeId, Label>,
    intents: Vec<Intent>,
    facts: Vec<Fact>,
}

/// Age and third octet of the subnet: networks often overlap.
fn network() -> impl Strategy<Value = (u64, u8)> {
    (0..3u64, 0..6u8)
}

/// Age, networks, and routes as text.
fn router() -> impl Strategy<Value = (u64, BTreeSet<usize>, Vec<String>)> {
    let hop = (0..6u8, 2..5u8).prop_map(|(net, host)| format!("10.0.{net}.{host}"));
    let via =
        prop::collection::btree_set(hop, 1..4).prop_map(|hops| format!("via: [{}]", Vec::from_iter(hops).join(", ")));
    let target = prop_oneof![3 => via, 1 => Just("blackhole: true".to_owned())];
    let prefixes = vec![
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.0.1.0/24",
        "10.0.2.128/25",
        "192.168.0.0/16",
    ];
    let routes = prop::collection::btree_map(prop::sample::select(prefixes), target, 0..4);
    let routes = routes.prop_map(|routes| {
        let route = |(prefix, target): (&str, String)| format!("{{prefix: {prefix}, {target}}}");
        routes.into_iter().map(route).collect()
    });
    (0..3u64, prop::collection::btree_set(0..NETWORKS + 1, 1..4), routes)
}

/// Network, last octet of the address, an allowed one, and the host it is on.
fn endpoint() -> impl Strategy<Value = (usize, u8, Option<u8>, Option<usize>)> {
    (
        0..NETWORKS,
        2..5u8,
        prop::option::of(2..5u8),
        prop::option::of(0..HOSTS.len()),
    )
}

fn world() -> impl Strategy<Value = World> {
    let networks = prop::collection::vec(network(), NETWORKS);
    let routers = prop::collection::vec(router(), 0..4);
    let endpoints = prop::collection::vec(endpoint(), 0..8);
    (networks, routers, endpoints).prop_map(|(networks, routers, endpoints)| {
        let mut text = "domain: red\nhosts:\n".to_owned();
        for (n, host) in HOSTS.iter().enumerate() {
            text += &format!("  {host}: {{ipv4: 192.0.2.{}}}\n", n + 1);
        }
        text += "objects:\n- {stamp: 0, kind: Domain, name: red}\n";
        for (n, (stamp, subnet)) in networks.iter().enumerate() {
            // The last network has no number and is denied.
            let vni = if n + 1 < NETWORKS { format!(", vni: {}", n + 1) } else { String::new() };
            text += &format!("- {{stamp: {stamp}, kind: Network, domain: red, name: n{n}, spec: {{subnets: [10.0.{subnet}.0/24]{vni}}}}}\n");
        }
        for (n, (stamp, networks, routes)) in routers.iter().enumerate() {
            let networks: Vec<String> = networks.iter().map(|n| format!("n{n}")).collect();
            let (networks, routes) = (networks.join(", "), routes.join(", "));
            text += &format!("- {{stamp: {stamp}, kind: Router, domain: red, name: r{n}, spec: {{networks: [{networks}], routes: [{routes}]}}}}\n");
        }
        let mut attached = String::new();
        for (n, (network, last, allowed, host)) in endpoints.iter().enumerate() {
            let subnet = networks[*network].1;
            let allowed = allowed.map(|last| format!("10.0.{subnet}.{last}")).unwrap_or_default();
            text += &format!("- {{stamp: 0, kind: Endpoint, domain: red, name: e{n}, spec: {{network: n{network}, mac: '02:00:00:00:00:0{n}', addresses: [10.0.{subnet}.{last}], allowedAddresses: [{allowed}]}}}}\n");
            if let Some(host) = host {
                attached += &format!("- {{endpoint: e{n}, host: {}, interface: tap{n}}}\n", HOSTS[*host]);
            }
        }
        if !attached.is_empty() {
            text += &format!("attachments:\n{attached}");
        }
        let input = lab::Input::read(&text);
        World { names: input.names(), intents: input.intents(), facts: input.facts() }
    })
}

fn view(world: &World) -> View {
    let cluster = Cluster::of(world.names.clone(), &world.facts, &world.intents);
    View::of(&"red".parse().unwrap(), &world.intents, &world.facts, &cluster, &|_| {
        true
    })
    .unwrap()
}

fn compile(world: &World) -> BTreeMap<NodeId, Forwarding> {
    let view = view(world);
    world
        .names
        .keys()
        .map(|host| (*host, overlay::compile(&view, *host)))
        .collect()
}

fn shuffled() -> impl Strategy<Value = (World, World)> {
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

proptest! {
    #[test]
    fn the_order_of_what_is_known_does_not_matter((one, other) in shuffled()) {
        prop_assert_eq!(compile(&one), compile(&other));
    }

    #[test]
    fn every_station_of_a_routed_network_is_there(world in world()) {
        let hosts = compile(&world);
        for (host, forwarding) in &hosts {
            // Whoever has a port knows best where it is.
            for (other, theirs) in &hosts {
                for (endpoint, port) in &theirs.ports {
                    let place = if host == other { Place::Here } else { Place::Host(*other) };
                    let local = forwarding.ports.values().any(|mine| mine.network == port.network);
                    let router = theirs.networks[&port.network].router.as_ref();
                    let routed = router.is_some_and(|router| {
                        forwarding.ports.values().any(|mine| forwarding.networks[&mine.network].router.as_ref() == Some(router))
                    });
                    let station = forwarding.stations.get(&(port.vni, port.mac));
                    let expected = (local || routed).then_some((endpoint, place));
                    prop_assert_eq!(station.map(|station| (&station.endpoint, station.place)), expected);
                    prop_assert_eq!(forwarding.networks.contains_key(&port.network), local || routed);
                }
            }
            if forwarding.ports.is_empty() {
                prop_assert!(forwarding.routers.is_empty() && forwarding.networks.is_empty());
            }
        }
    }

    #[test]
    fn a_network_has_one_gateway_and_hosts_agree_on_it(world in world()) {
        let mut routers = BTreeMap::new();
        let mut macs = BTreeMap::new();
        for forwarding in compile(&world).into_values() {
            for (name, router) in &forwarding.routers {
                prop_assert_eq!(router.mac, router_mac(&forwarding.domain, name));
                prop_assert_eq!(routers.entry(name.clone()).or_insert_with(|| router.clone()), router);
                for (network, addresses) in &router.addresses {
                    prop_assert_eq!(macs.entry(network.clone()).or_insert(router.mac), &router.mac);
                    prop_assert_eq!(forwarding.networks[network].router.as_ref(), Some(name));
                    let stations = forwarding.stations.iter().filter(|((vni, _), _)| *vni == forwarding.networks[network].vni);
                    for ((_, mac), station) in stations {
                        prop_assert!(*mac != router.mac && !addresses.keys().any(|address| station.addresses.contains(address)));
                    }
                }
            }
            for port in forwarding.ports.values() {
                let router = forwarding.networks[&port.network].router.as_ref();
                let of_router = router.map(|router| &forwarding.routers[router].addresses[&port.network]);
                let known = |gateway: &IpAddr| of_router.is_some_and(|addresses| addresses.contains_key(gateway));
                prop_assert!(port.gateways.iter().all(known), "{:?}", port);
            }
        }
    }

    #[test]
    fn next_hops_are_stations_and_nothing_falls_through(world in world()) {
        let view = view(&world);
        for forwarding in compile(&world).into_values() {
            for (name, router) in &forwarding.routers {
                for (network, hop) in router.routes.values().flat_map(hops) {
                    let vni = forwarding.networks[network].vni;
                    let mut stations = forwarding.stations.iter().filter(|((of, _), _)| *of == vni);
                    prop_assert!(stations.any(|(_, station)| station.addresses.contains(hop)), "{hop} in {network}");
                    prop_assert_eq!(forwarding.networks[network].router.as_ref(), Some(name));
                }
                let spec = &view.routers[name].spec;
                for prefix in spec.routes.keys() {
                    prop_assert!(router.routes.contains_key(&prefix.net()), "{prefix}");
                }
                for subnet in spec.networks.iter().filter_map(|network| view.networks.get(network)).flat_map(|it| it.spec.subnets.iter()) {
                    let longest = router.routes.iter().filter(|(net, _)| net.contains(&subnet.gateway())).max_by_key(|(net, _)| net.prefix_len());
                    let (net, route) = longest.unwrap();
                    prop_assert!(net.prefix_len() >= subnet.net().prefix_len(), "{subnet} by {net}");
                    prop_assert!(matches!(route, Route::Connected(_)) || *route == Route::Via(BTreeSet::new()), "{:?}", route);
                }
            }
        }
    }

    #[test]
    fn one_prefix_is_one_station_and_none_holds_a_gateway(world in world()) {
        for forwarding in compile(&world).into_values() {
            let mut owners = BTreeMap::new();
            for ((vni, mac), station) in &forwarding.stations {
                for prefix in &station.prefixes {
                    prop_assert_eq!(*owners.entry((*vni, *prefix)).or_insert(*mac), *mac);
                    let others = forwarding.stations.iter().filter(|((of, other), _)| of == vni && other != mac);
                    let own = others.flat_map(|(_, other)| &other.addresses);
                    prop_assert!(!own.into_iter().any(|address| *prefix == (*address).into()), "{prefix}");
                }
            }
        }
    }
}

fn hops(route: &Route) -> Vec<&(Label, IpAddr)> {
    match route {
        Route::Via(hops) => hops.iter().collect(),
        Route::Connected(_) | Route::Blackhole => Vec::new(),
    }
}

/// How long it takes, for people to look at: `cargo test -p overlay --test routing -- --ignored --nocapture`.
#[test]
#[ignore = "prints times"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn the_time_of_large_domains() {
    for endpoints in [1_250, 2_500, 5_000, 10_000] {
        let world = large(endpoints);
        let start = std::time::Instant::now();
        let view = view(&world);
        let seen = start.elapsed();
        let forwarding = overlay::compile(&view, lab::node("alpha"));
        let compiled = start.elapsed() - seen;
        assert_eq!((forwarding.stations.len(), forwarding.rules.len()), (endpoints, 100));
        println!("{endpoints} endpoints, 100 rules: view {seen:?}, compile {compiled:?}");
    }
}

/// Forty networks of one router, endpoints on every host, all with different labels.
fn large(endpoints: usize) -> World {
    let mut text = "domain: red\nhosts:\n  alpha: {ipv4: 192.0.2.1}\n  beta: {ipv4: 192.0.2.2}\nobjects:\n- {stamp: 0, kind: Domain, name: red}\n".to_owned();
    let networks: Vec<String> = (0..40).map(|n| format!("n{n}")).collect();
    for (n, name) in networks.iter().enumerate() {
        text += &format!(
            "- {{stamp: 0, kind: Network, domain: red, name: {name}, spec: {{subnets: [10.{n}.0.0/16], vni: {}}}}}\n",
            n + 1
        );
    }
    text += &format!(
        "- {{stamp: 0, kind: Router, domain: red, name: r, spec: {{networks: [{}], routes: [{{prefix: 0.0.0.0/0, via: [10.0.0.2]}}]}}}}\n",
        networks.join(", ")
    );
    for n in 0..100 {
        text += &format!(
            "- {{stamp: 0, kind: SecurityPolicy, domain: red, name: p{n}, spec: {{appliesTo: {{matchLabels: {{app: a{n}}}}}, ingress: [{{action: allow, from: {{selector: {{matchLabels: {{app: b{n}}}}}}}}}]}}}}\n"
        );
    }
    let mut attached = "attachments:\n".to_owned();
    for n in 0..endpoints {
        let address = format!("10.{}.{}.{}", n % 40, n / 40 / 200, n / 40 % 200 + 2);
        let mac = format!("02:00:00:00:{:02x}:{:02x}", n / 256, n % 256);
        text += &format!(
            "- {{stamp: 0, kind: Endpoint, domain: red, name: e{n}, spec: {{network: n{}, mac: '{mac}', addresses: [{address}], labels: {{app: a{}, n: '{n}'}}}}}}\n",
            n % 40,
            n % 100
        );
        attached += &format!("- {{endpoint: e{n}, host: {}, interface: tap0}}\n", HOSTS[n % 2]);
    }
    let input = lab::Input::read(&(text + &attached));
    World {
        names: input.names(),
        intents: input.intents(),
        facts: input.facts(),
    }
}
