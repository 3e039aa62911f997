//! Routers, rules and what follows from them: default routes in namespaces, connections, audits, voided decisions.

use std::net::{IpAddr, Ipv6Addr};

use overlay::fact::Binding;
use overlay::forwarding::{Action, Direction, Forwarding, Protocol, Route, Router};
use overlay::name::{Mac, NetworkName};
use overlay::object::domain::DefaultPolicy;

use crate::lab::{Host, dropped, two_hosts};
use crate::namespace::{Namespace, eventually, privileged};
use crate::wanted::{Workload, domain, label, rule};

const NEAR: u32 = 100;
const FAR: u32 = 101;

/// Where the addresses of the second network lie.
fn moved(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let [_, _, _, last] = v4.octets();
            [10, 1, 0, last].into()
        }
        IpAddr::V6(v6) if v6.is_unicast_link_local() => ip,
        IpAddr::V6(v6) => Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, v6.segments()[7]).into(),
    }
}

/// A domain of two networks, 10.0.0.0/24 with fd00::/64 and 10.1.0.0/24 with fd01::/64, and a router between them with
/// the last but one address of each.
fn routed(near: &[&Workload], far: &[&Workload], host: &Host, others: &[&Host]) -> Forwarding {
    let mut wanted = domain("red", NEAR, near, host, others);
    let second = domain("red", FAR, far, host, others);
    let name: NetworkName = label("far");
    for mut segment in second.networks.into_values() {
        segment.mtu = 1400;
        wanted.networks.insert(name.clone(), segment);
    }
    for (endpoint, mut port) in second.ports {
        port.network = name.clone();
        port.addresses = port
            .addresses
            .into_iter()
            .map(|(ip, length)| (moved(ip), length))
            .collect();
        wanted.ports.insert(endpoint, port);
    }
    for (key, mut station) in second.stations {
        station.addresses = station.addresses.into_iter().map(moved).collect();
        wanted.stations.insert(key, station);
    }
    add_router(&mut wanted);
    wanted
}

fn add_router(wanted: &mut Forwarding) {
    let gateways = |far| -> [IpAddr; 2] {
        let third = if far { 1 } else { 0 };
        let v6 = Ipv6Addr::new(0xfd00 + u16::from(third), 0, 0, 0, 0, 0, 0, 0xfe);
        [[10, third, 0, 254].into(), v6.into()]
    };
    let own = |far| gateways(far).map(|ip| (ip, if ip.is_ipv4() { 24 } else { 64 })).into();
    let prefix = |text: &str| text.parse().expect("a prefix");
    let (near, far) = (label("net"), label("far"));
    let router = Router {
        mac: Mac::try_from([2, 0, 0, 0xff, 0, 0xfe]).expect("a unicast address"),
        addresses: [(near.clone(), own(false)), (far.clone(), own(true))].into(),
        routes: [
            (prefix("10.0.0.0/24"), Route::Connected(near.clone())),
            (prefix("fd00::/64"), Route::Connected(near.clone())),
            (prefix("10.1.0.0/24"), Route::Connected(far.clone())),
            (prefix("fd01::/64"), Route::Connected(far.clone())),
        ]
        .into(),
    };
    for segment in wanted.networks.values_mut() {
        segment.router = Some(label("gw"));
    }
    for port in wanted.ports.values_mut() {
        port.gateways = gateways(port.network == far).into();
    }
    wanted.routers.insert(label("gw"), router);
}

#[test]
fn workloads_of_two_networks_reach_each_other_by_the_router() {
    if !privileged("workloads_of_two_networks_reach_each_other_by_the_router") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, db, app) = (Namespace::new("web"), Namespace::new("db"), Namespace::new("app"));
    let near = [&Workload::in_namespace("web", 1, &a, &web)];
    let far = [
        &Workload::in_namespace("db", 2, &a, &db),
        &Workload::in_namespace("app", 3, &b, &app),
    ];
    let wanted = routed(&near, &far, &a, &[&b]);
    a.program(&wanted);
    b.program(&routed(&near, &far, &b, &[&a]));
    for to in ["10.0.0.254", "10.1.0.254", "10.1.0.2", "10.1.0.3", "fd01::2", "fd01::3"] {
        eventually(to, || web.pings(to, 56));
    }
    assert!(app.pings("10.0.0.1", 56) && app.pings("fd00::1", 56));

    a.kill();
    assert!(web.pings("10.1.0.3", 56), "without a daemon");
    a.open();
    assert!(web.pings("10.1.0.3", 56), "all decisions are made again");
    assert_eq!(a.program(&wanted).operations, 0, "all was still installed");
}

#[test]
fn default_routes_come_stay_and_go_with_the_router() {
    if !privileged("default_routes_come_stay_and_go_with_the_router") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, own) = (Namespace::new("web"), Namespace::new("own"));
    let near = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("own", 2, &a, &own),
    ];
    let wanted = routed(&near, &[], &a, &[&b]);
    let without = domain("red", NEAR, &near, &a, &[&b]);
    a.program(&without);
    let defaults = |of: &Namespace| {
        let list = |family| of.must(&format!("ip {family} route show default"));
        (list("-4").trim().to_owned(), list("-6").trim().to_owned())
    };
    assert_eq!(defaults(&web), (String::new(), String::new()));
    own.must("ip route add default via 10.0.0.77 dev eth0");

    a.program(&wanted);
    let (v4, v6) = defaults(&web);
    assert!(
        v4.contains("via 10.0.0.254 dev eth0") && v6.contains("via fd00::fe dev eth0"),
        "{v4} {v6}"
    );
    let (v4, v6) = defaults(&own);
    assert!(
        v4.contains("via 10.0.0.77") && !v4.contains("254"),
        "the workload's own stays: {v4}"
    );
    assert!(v6.contains("via fd00::fe"), "{v6}");

    web.must("ip route del default");
    eventually("it is there again", || {
        a.program(&wanted);
        defaults(&web).0.contains("via 10.0.0.254")
    });
    a.program(&without);
    assert_eq!(defaults(&web), (String::new(), String::new()));
    assert!(defaults(&own).0.contains("via 10.0.0.77"));
}

#[test]
fn rules_are_in_force_at_once_and_count_what_they_audit() {
    if !privileged("rules_are_in_force_at_once_and_count_what_they_audit") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let open = domain("red", NEAR, &workloads, &a, &[&b]);
    let closed = Forwarding {
        rules: vec![
            rule(
                "watch",
                Direction::Ingress,
                Protocol::Icmp(Some(8), None),
                Action::Audit,
            ),
            rule(
                "no-ping",
                Direction::Ingress,
                Protocol::Icmp(Some(8), None),
                Action::Deny,
            ),
        ],
        ..open.clone()
    };
    a.program(&open);
    for _ in 0..2 {
        eventually("web reaches db", || web.pings("10.0.0.2", 56));
        a.program(&closed);
        assert_eq!(
            a.program(&closed).operations,
            0,
            "rules that are in force are not written again"
        );
        let before = dropped(&a, "policy");
        assert!(!web.pings("10.0.0.2", 56), "a decision made before is still in force");
        assert!(dropped(&a, "policy") > before, "{:?}", a.drops());
        let audits = a.audits();
        assert_eq!(audits.len(), 1, "{audits:?}");
        let line = &audits[0];
        assert_eq!(
            (line.domain.as_str(), line.policy.as_str(), line.number),
            ("red", "watch", 0)
        );
        assert_eq!((line.direction, line.packets), (Direction::Ingress, 1), "{audits:?}");
        assert!(line.bytes >= 84, "{audits:?}");
        a.program(&open);
        assert_eq!(a.audits(), []);
    }
    let denied = Forwarding {
        default_policy: DefaultPolicy::Deny,
        ..closed
    };
    a.program(&denied);
    assert!(!db.pings("10.0.0.1", 56));
}

#[test]
fn what_leaves_is_unreachable_at_once() {
    if !privileged("what_leaves_is_unreachable_at_once") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, db, far) = (Namespace::new("web"), Namespace::new("db"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    let wanted = domain("red", NEAR, &workloads, &a, &[&b]);
    a.program(&wanted);
    b.program(&domain("red", NEAR, &workloads, &b, &[&a]));
    for to in ["10.0.0.2", "10.0.0.3"] {
        eventually(to, || web.pings(to, 56));
    }
    let flows = a.status().counts.flows;
    assert!(flows > 0, "nothing was remembered");
    let alone = domain("red", NEAR, &workloads[..1], &a, &[&b]);
    a.program(&alone);
    for to in ["10.0.0.2", "10.0.0.3"] {
        assert!(!web.pings(to, 56), "{to}");
    }
    a.program(&wanted);
    for to in ["10.0.0.2", "10.0.0.3"] {
        eventually(to, || web.pings(to, 56));
    }
}

#[test]
fn a_check_tells_without_touching() {
    if !privileged("a_check_tells_without_touching") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    a.namespace.must("ip tuntap add dev tap0 mode tap");
    a.namespace.must("ip tuntap add dev tap1 mode tap");
    let attached = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::on_interface("vm", 2, &a, "tap0"),
    ];
    a.program(&domain("red", NEAR, &attached, &a, &[&b]));
    db.must("ip link add eth9 type veth peer name eth8");
    let links = a.namespace.must("ip -o link show");
    let interface = |name: &str| Binding::Interface { name: name.into() };
    let inside = |namespace: &Namespace, interface: &str| Binding::Namespace {
        path: namespace.path(),
        interface: interface.into(),
    };
    let table = [
        ("vm", interface("tap0"), None),
        ("other", interface("tap0"), Some("already attached as red/vm")),
        ("other", interface("tap1"), None),
        ("other", interface("up0"), Some("carries the tunnels")),
        ("other", interface("tap2"), Some("there is no interface tap2")),
        ("web", inside(&web, "eth0"), None),
        ("other", inside(&web, "eth0"), Some("already has an interface eth0")),
        ("other", inside(&db, "eth9"), Some("already has an interface eth9")),
        ("other", inside(&db, "eth0"), None),
    ];
    for (endpoint, binding, expected) in table {
        let told = a.check("red", endpoint, binding.clone());
        match expected {
            None => assert_eq!(told, None, "{endpoint} {binding:?}"),
            Some(words) => assert!(
                told.as_ref().is_some_and(|told| told.contains(words)),
                "{binding:?}: {told:?}"
            ),
        }
    }
    assert_eq!(a.namespace.must("ip -o link show"), links);
}
