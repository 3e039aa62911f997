//! Kill, start, detach, purge.

use std::process::{Command, Stdio};

use aya::maps::{HashMap, Map, MapData};
use datapath::PortState;
use datapath_common::connection::State;
use datapath_common::{Connection, ConnectionKey};

use crate::lab::{Host, two_hosts};
use crate::namespace::{Namespace, eventually, privileged};
use crate::wanted::{Workload, domain, label};

#[test]
fn a_kill_and_a_start_lose_no_packet() {
    if !privileged("a_kill_and_a_start_lose_no_packet") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    let wanted = domain("red", 100, &workloads, &a, &[&b]);
    a.program(&wanted);
    b.program(&domain("red", 100, &workloads, &b, &[&a]));
    assert!(web.pings("10.0.0.3", 56));
    eventually("the tunnel's next hop is resolved and nothing is left to do", || {
        a.program(&wanted).operations == 0
    });
    let hooks = a.status().hooks;

    let line = web.inside("ping -n -i 0.01 -c 300 -q 10.0.0.3");
    let mut words = line.split_whitespace();
    let ping = Command::new(words.next().expect("a program"))
        .args(words)
        .stdout(Stdio::piped())
        .spawn()
        .expect("ping starts");
    a.kill();
    assert!(web.pings("10.0.0.3", 56), "forwarding goes on without a daemon");
    a.open();
    assert_eq!(a.domains(), ["red"], "read back before anything was applied");
    assert_eq!(a.program(&wanted).operations, 0, "all was still installed");
    assert_eq!(a.status().hooks, hooks);
    let output = ping.wait_with_output().expect("ping ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(" 0% packet loss"), "{text}");
}

#[test]
fn a_detached_workload_is_denied_and_its_veth_is_gone() {
    if !privileged("a_detached_workload_is_denied_and_its_veth_is_gone") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, db, far) = (Namespace::new("web"), Namespace::new("db"), Namespace::new("far"));
    let all = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    let applied = a.program(&domain("red", 100, &all, &a, &[&b]));
    b.program(&domain("red", 100, &all, &b, &[&a]));
    assert!(web.pings("10.0.0.3", 56) && far.pings("10.0.0.1", 56));
    let PortState::Programmed { name, .. } = &applied.ports[&label("web")] else {
        panic!("{applied:?}")
    };
    assert!(a.namespace.has_link(name));

    a.program(&domain("red", 100, &all[1..], &a, &[&b]));
    assert!(!far.pings("10.0.0.1", 56), "far still reaches what is detached");
    assert!(!a.namespace.has_link(name) && !web.has_link("eth0"));
    assert!(db.pings("10.0.0.3", 56), "the rest goes on");

    a.remove("red");
    assert_eq!(a.domains(), Vec::<String>::new());
    assert!(!db.has_link("eth0"));
}

#[test]
fn purge_leaves_nothing_also_when_half_is_gone() {
    if !privileged("purge_leaves_nothing_also_when_half_is_gone") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    a.namespace.must("ip link add other0 type veth peer name other1");
    let all = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let mut wanted = domain("red", 100, &all, &a, &[&b]);
    wanted.hosts.insert(b.node, b.vtep());
    a.program(&wanted);
    assert!(web.pings("10.0.0.2", 56));
    assert_eq!(a.programs("up0"), ["stub_from_under"]);
    a.kill();
    drop(db); // Its veth goes along, and the pins of its hooks stay.

    let lines = a.purge();
    assert!(lines.iter().any(|line| line.contains("red/web")), "{lines:?}");
    assert!(!a.pins().exists());
    let links = a.namespace.must("ip -o link show");
    let mut names: Vec<_> = links.lines().filter_map(|line| line.split([' ', '@']).nth(1)).collect();
    names.sort_unstable();
    assert_eq!(names, ["lo:", "other0", "other1", "up0"], "{links}");
    assert_eq!(a.programs("up0"), Vec::<String>::new());
    assert!(!a.namespace.must("ip -d neigh show").contains("managed"));
    assert_eq!(a.purge(), Vec::<String>::new(), "a second purge has nothing to do");

    a.open();
    a.program(&domain("red", 100, &all[..1], &a, &[]));
}

#[test]
fn a_datapath_without_its_address_opens_and_follows() {
    if !privileged("a_datapath_without_its_address_opens_and_follows") {
        return;
    }
    let mut host = Host::new(1, true, false);
    host.open();
    assert_eq!(host.status().underlay, []);
    host.namespace.must("ip link add up0 mtu 1400 type veth peer name up1");
    host.namespace.must("ip addr add 192.0.2.1/24 dev up0");
    eventually("the underlay interface is found", || {
        host.status().underlay == [("up0".to_owned(), 1400)]
    });
    assert!(
        host.status()
            .hooks
            .iter()
            .any(|hook| hook.interface == "up0" && hook.program == "from_underlay")
    );
    host.namespace.must("ip link del up0");
    let programs = || -> Vec<_> { host.status().hooks.iter().map(|hook| hook.program).collect() };
    eventually("its hook goes with it", || programs() == ["from_device"]);
    let pins = host.pins().join("hooks");
    eventually("and its pin", || {
        std::fs::read_dir(&pins).expect("a folder").count() == 1
    });
}

#[test]
fn pins_that_somebody_removed_are_made_again() {
    if !privileged("pins_that_somebody_removed_are_made_again") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    let wanted = domain("red", 100, &workloads, &a, &[&b]);
    let first = a.program(&wanted);
    b.program(&domain("red", 100, &workloads, &b, &[&a]));
    assert!(web.pings("10.0.0.3", 56));
    a.kill();
    std::fs::remove_dir_all(a.pins()).expect("pins can be removed");
    a.open();
    assert_eq!(a.program(&wanted).ports, first.ports, "the veth is taken over");
    eventually("web reaches far again", || web.pings("10.0.0.3", 56));
}

#[test]
fn killed_and_stripped_of_everything_in_the_kernel_all_is_as_before() {
    if !privileged("killed_and_stripped_of_everything_in_the_kernel_all_is_as_before") {
        return;
    }
    let (mut a, mut b) = two_hosts(true, true);
    let (web, db, far) = (Namespace::new("web"), Namespace::new("db"), Namespace::new("far"));
    let all = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    let wanted = [domain("red", 100, &all, &a, &[&b]), domain("red", 100, &all, &b, &[&a])];
    let reach = || {
        let ways = [
            (&web, "2"),
            (&web, "3"),
            (&db, "1"),
            (&db, "3"),
            (&far, "1"),
            (&far, "2"),
        ];
        ways.map(|(from, to)| {
            [
                from.pings(&format!("10.0.0.{to}"), 56),
                from.pings(&format!("fd00::{to}"), 56),
            ]
        })
    };
    let before = [a.program(&wanted[0]), b.program(&wanted[1])];
    assert_eq!(reach(), [[true; 2]; 6]);
    for (host, before) in [&mut a, &mut b].into_iter().zip(&before) {
        host.kill();
        std::fs::remove_dir_all(host.pins()).expect("pins can be removed");
        for state in before.ports.values() {
            let PortState::Programmed { name, .. } = state else {
                panic!("{before:?}")
            };
            host.namespace.must(&format!("ip link del {name}"));
        }
        // Without tcx the filter outlives its pin.
        host.namespace.run("tc qdisc del dev up0 clsact");
        eventually("nothing is attached", || host.programs("up0").is_empty());
    }
    assert_eq!(reach(), [[false; 2]; 6]);
    a.open();
    b.open();
    a.program(&wanted[0]);
    b.program(&wanted[1]);
    eventually("traffic is as before", || reach() == [[true; 2]; 6]);
}

#[test]
fn maps_of_another_shape_under_our_version_are_replaced() {
    if !privileged("maps_of_another_shape_under_our_version_are_replaced") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    let all = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let wanted = domain("red", 100, &all, &a, &[&b]);
    a.program(&wanted);
    a.kill();
    let tables = a.tables();
    let ports = a.pins().join(&tables).join("PORTS");
    std::fs::remove_file(&ports).expect("pins can be removed");
    HashMap::<_, u32, u32>::create(1, 0)
        .expect("a map")
        .pin(&ports)
        .expect("it can be pinned");

    a.open();
    assert!(web.pings("10.0.0.2", 56), "what was in force goes on");
    let applied = a.program(&wanted);
    a.take_over();
    assert!(web.pings("10.0.0.2", 56));
    for state in applied.ports.values() {
        let PortState::Programmed { name, .. } = state else {
            panic!("{applied:?}")
        };
        assert_eq!(a.programs(name), ["stub_from_endpo", "stub_to_endpoin"], "each once");
    }
    assert_eq!(a.programs("up0"), ["stub_from_under"]);
    assert_eq!(a.folders(), ["hooks", "qdiscs", "state", &tables]);
}

#[test]
fn connections_that_are_over_are_swept_and_those_of_nobody_are_forgotten() {
    if !privileged("connections_that_are_over_are_swept_and_those_of_nobody_are_forgotten") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let web = Namespace::new("web");
    let workloads = [&Workload::in_namespace("web", 1, &a, &web)];
    a.program(&domain("red", 100, &workloads, &a, &[&b]));
    a.kill();
    let pin = a.pins().join("state/CONNECTIONS");
    let map = MapData::from_pin(pin)
        .and_then(Map::from_map_data)
        .expect("it is pinned");
    let mut map = HashMap::<MapData, ConnectionKey, Connection>::try_from(map).expect("connections");
    let key = |domain, ports| ConnectionKey {
        domain,
        ports,
        protocol: 6,
        source: [1; 16],
        destination: [2; 16],
    };
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).expect("a clock");
    let now = u32::try_from(now.tv_sec()).expect("a machine that is not up for a century");
    let connection = |state: State, seen| Connection {
        seen,
        state: state as u32,
        endpoint: 0,
    };
    // The only domain has the first number.
    let over = connection(State::Closed, now.saturating_sub(State::Closed.timeout()));
    for ports in 0..1000 {
        map.insert(key(1, ports), over, 0).expect("there is room");
    }
    let live = connection(State::Established, now);
    map.insert(key(1, 2000), live, 0).expect("there is room");
    map.insert(key(77, 1), live, 0).expect("there is room");

    a.open();
    let left = || map.keys().map(|key| key.expect("a key")).collect::<Vec<_>>();
    eventually("what is over is gone", || left() == [key(1, 2000)]);
    assert_eq!(a.status().counts.connections, 1);
}

#[test]
fn what_was_being_made_when_a_daemon_died_is_removed() {
    if !privileged("what_was_being_made_when_a_daemon_died_is_removed") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let web = Namespace::new("web");
    let workloads = [&Workload::in_namespace("web", 1, &a, &web)];
    let wanted = domain("red", 100, &workloads, &a, &[&b]);
    let applied = a.program(&wanted);
    let PortState::Programmed { name, .. } = &applied.ports[&label("web")] else {
        panic!("{applied:?}")
    };
    let shown = a.namespace.must(&format!("ip link show {name}"));
    let group = shown.split_whitespace().skip_while(|word| *word != "group").nth(1);
    let group = group.expect("a group");
    assert_ne!(group, "default");
    // As the request that makes an interface leaves it, before it is named; and somebody's of another group.
    let half = format!("ip link add half0 group {group} type veth peer name half1");
    a.namespace.must(&half);
    a.namespace.must("ip link add other0 type veth peer name other1");
    a.kill();
    a.open();
    assert!(!a.namespace.has_link("half0") && a.namespace.has_link("other0"));
    assert_eq!(a.program(&wanted).ports, applied.ports, "what is whole stays");
    // Also without the name that it had when it came up.
    let whole = a.namespace.must(&format!("ip link show {name}"));
    assert!(whole.contains("alias "), "{whole}");
    a.namespace
        .feeds("ip -batch -", &format!("link set {name} alias \"\"\n"));
    let nameless = a.namespace.must(&format!("ip link show {name}"));
    assert!(!nameless.contains("alias "), "{nameless}");
    a.kill();
    a.open();
    assert_eq!(a.program(&wanted).ports, applied.ports);
    assert_eq!(
        a.namespace.must(&format!("ip link show {name}")),
        whole,
        "the same one, with its name"
    );
    a.namespace.must(&half);
    a.kill();
    let lines = a.purge();
    assert!(lines.iter().any(|line| line.starts_with("half0")), "{lines:?}");
    assert!(!a.namespace.has_link("half0") && a.namespace.has_link("other0"));
}
