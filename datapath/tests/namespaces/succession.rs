//! While another build's tables are in force, all that its programs use stays; what is cut off at the turn is gone through
//! again; functions outlive it.

use aya::maps::{HashMap, Map, MapData};
use datapath::FunctionHook;
use datapath_common::{Connection, ConnectionKey};
use overlay::forwarding::{Action, Direction, Forwarding, Protocol};
use overlay::object::domain::{DefaultPolicy, Encapsulation};

use crate::functions::{Object, functions, load, red, remove};
use crate::lab::{Host, dropped, two_hosts};
use crate::namespace::{Namespace, eventually, must, privileged};
use crate::wanted::{Workload, domain, rule};

/// Its tunnel devices as the kernel shows them, those of Geneve where this kernel has them.
fn devices(host: &Host) -> String {
    ["vxlan", "geneve"]
        .map(|kind| {
            String::from_utf8_lossy(&host.namespace.run(&format!("ip -o -d link show type {kind}")).stdout).into_owned()
        })
        .concat()
}

/// A domain whose tunnels are Geneve.
fn geneve(host: &Host, other: &Host) -> Forwarding {
    Forwarding {
        encapsulation: Encapsulation::Geneve,
        ..domain("green", 300, &[], host, &[other])
    }
}

/// Next hops that the kernel keeps resolved.
fn managed(host: &Host) -> usize {
    host.namespace.must("ip neigh show").matches(" managed").count()
}

#[test]
fn what_the_other_build_uses_stays_until_the_turn() {
    if !privileged("what_the_other_build_uses_stays_until_the_turn") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    // Tunnels leave and arrive by a link that has not the tunnel address.
    let (first, second) = (&a.namespace.name, &b.namespace.name);
    must(&format!(
        "ip link add up1 mtu 1500 netns {first} type veth peer name up1 mtu 1500 netns {second}"
    ));
    for (host, here, there) in [(&a, 1, 2), (&b, 2, 1)] {
        host.namespace
            .must("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.up1.rp_filter=0");
        host.namespace
            .must(&format!("ip addr add 198.51.100.{here}/24 dev up1"));
        host.namespace.must("ip link set up1 up");
        host.namespace.must(&format!(
            "ip route replace 192.0.2.{there}/32 via 198.51.100.{there} src 192.0.2.{here}"
        ));
    }
    let wanted = domain("red", 100, &workloads, &a, &[&b]);
    a.program(&wanted);
    a.program(&geneve(&a, &b));
    b.program(&domain("red", 100, &workloads, &b, &[&a]));
    eventually("web reaches far", || web.pings("10.0.0.3", 56));
    eventually("its tunnels use up1", || {
        !a.programs("up1").is_empty() && managed(&a) > 0
    });
    let (before, next_hops) = (devices(&a), managed(&a));
    assert!(before.contains("dstport 4789"), "{before}");

    a.kill();
    a.to_another_build();
    // It has another port as well, for which there is room once nobody uses the device.
    a.port = 4790;
    a.open();
    for round in ["opened", "applied", "told"] {
        assert_eq!((devices(&a), managed(&a)), (before.clone(), next_hops), "{round}");
        assert_eq!(a.programs("up1"), ["stub_from_under"], "{round}");
        assert!(web.pings("10.0.0.3", 56), "{round}: {:?}", a.drops());
        // Another domain, and a change of links to follow.
        a.program(&domain("blue", 200, &[], &a, &[]));
        a.namespace.must(&format!("ip link add {round} type veth"));
        eventually("it is followed", || {
            a.with(|datapath| datapath.status().waits.is_some())
        });
    }

    // What only the other build needed goes with it.
    a.remove("red");
    a.remove("green");
    assert_eq!(devices(&a), before);
    a.take_over();
    assert!(a.status().waits.is_none());
    eventually("what nobody needs is gone", || {
        a.programs("up1").is_empty() && managed(&a) == 0
    });
    eventually("the device has the other port", || devices(&a).contains("dstport 4790"));
    assert!(!devices(&a).contains("dstport 4789"));
}

/// The connections at a pin.
fn connections(path: &std::path::Path) -> HashMap<MapData, ConnectionKey, Connection> {
    let map = MapData::from_pin(path).and_then(Map::from_map_data);
    HashMap::try_from(map.expect("it is pinned")).expect("connections")
}

#[test]
fn a_turn_that_was_cut_off_is_gone_through_again_and_forgets_nothing() {
    if !privileged("a_turn_that_was_cut_off_is_gone_through_again_and_forgets_nothing") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    let echoes = |direction| rule("allow", direction, Protocol::Icmp(None, None), Action::Allow);
    let stateful = |host: &Host, other: &Host| Forwarding {
        default_policy: DefaultPolicy::Deny,
        rules: vec![echoes(Direction::Egress), echoes(Direction::Ingress)],
        ..domain("red", 100, &workloads, host, &[other])
    };
    let wanted = stateful(&a, &b);
    a.program(&wanted);
    b.program(&stateful(&b, &a));
    assert!(web.pings("10.0.0.3", 56));
    let (pin, former) = (a.pins().join("state/HALF_OPEN"), a.pins().join("former"));
    a.kill();
    std::fs::create_dir(&former).expect("a folder");
    std::fs::rename(&pin, former.join("HALF_OPEN")).expect("pins can be renamed");
    a.to_another_build();
    let left = connections(&former.join("HALF_OPEN"));
    a.open();
    a.program(&wanted);
    a.take_over();
    a.kill();
    let carried: Vec<_> = connections(&pin).iter().map(|entry| entry.expect("an entry")).collect();
    assert!(!carried.is_empty());

    // As a daemon leaves it that dies behind the turn: what was in force before is still there, and is older.
    std::fs::create_dir(&former).expect("a folder");
    let mut left = left;
    for (key, connection) in &carried {
        let older = Connection {
            seen: connection.seen - 1,
            state: 99,
            ..*connection
        };
        left.insert(key, older, 0).expect("there is room");
    }
    left.pin(former.join("HALF_OPEN")).expect("it can be pinned");
    a.open();
    let found: Vec<_> = connections(&pin).iter().map(|entry| entry.expect("an entry")).collect();
    assert!(found.iter().all(|(_, connection)| connection.state != 99));
    assert_eq!(found.len(), carried.len());
    a.program(&wanted);
    a.take_over();
    assert_eq!(a.folders(), ["hooks", "qdiscs", "state", &a.tables()]);
    assert!(web.pings("10.0.0.3", 56));
}

#[test]
fn functions_outlive_a_build_with_other_tables() {
    if !privileged("functions_outlive_a_build_with_other_tables") {
        return;
    }
    let (mut a, b, web, db) = red();
    let object = Object::new("drop");
    load(&a, "deny", FunctionHook::Packet, &object).expect("it is one");
    let before = functions(&a);
    let workloads = [
        Workload::in_namespace("web", 1, &a, &web),
        Workload::in_namespace("db", 2, &b, &db),
    ];
    let wanted = domain("red", 100, &workloads.each_ref(), &a, &[&b]);
    let is_refused = |host: &Host, when: &str| {
        let count = dropped(host, "function");
        assert!(!web.pings("10.0.0.2", 56), "{when}");
        assert!(dropped(host, "function") > count, "{when}: {:?}", host.drops());
    };
    for had_them_among_its_tables in [false, true] {
        a.kill();
        a.to_another_build();
        if had_them_among_its_tables {
            for map in ["CHAIN", "FUNCTIONS"] {
                let pins = a.pins();
                std::fs::rename(pins.join("state").join(map), pins.join("v0").join(map)).expect("pins can be renamed");
            }
        }
        a.open();
        assert_eq!(functions(&a), before);
        is_refused(&a, "opened");
        for map in ["CHAIN", "FUNCTIONS"] {
            let left = a.pins().join("v0").join(map);
            assert_eq!(
                left.exists(),
                had_them_among_its_tables,
                "the other build may come back"
            );
        }
        let refused = load(&a, "more", FunctionHook::Packet, &object).expect_err("not yet");
        assert!(refused.contains("try again"), "{refused}");
        assert!(remove(&a, "deny").expect_err("not yet").contains("try again"));
        a.program(&wanted);
        is_refused(&a, "applied");
        a.take_over();
        is_refused(&a, "taken over");
        assert_eq!(functions(&a), before);
        assert!(!a.pins().join("v0").exists());
    }
    remove(&a, "deny").expect("it is there");
    eventually("it is gone", || web.pings("10.0.0.2", 56));
}
