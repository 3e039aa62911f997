//! What others do to our pins, stubs and interfaces, and what happens where a map has no room left.

use aya::maps::{HashMap, Map, MapData};
use datapath::{Error, PortState};
use overlay::fact::Binding;
use overlay::forwarding::{Action, Direction, Port, Protocol, Segment};

use crate::lab::{Host, dropped, two_hosts};
use crate::namespace::{Namespace, eventually, privileged};
use crate::wanted::{Workload, domain, label, rule, vni};

fn name(state: &PortState) -> &str {
    match state {
        PortState::Programmed { name, .. } => name,
        PortState::Waiting(words) => panic!("{words}"),
    }
}

#[test]
fn stubs_that_somebody_took_off_are_attached_again() {
    if !privileged("stubs_that_somebody_took_off_are_attached_again") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    let applied = a.program(&domain("red", 100, &workloads, &a, &[&b]));
    b.program(&domain("red", 100, &workloads, &b, &[&a]));
    let interface = name(&applied.ports[&label("web")]);
    for stripped in [interface, "up0"] {
        let before = a.programs(stripped);
        assert!(!before.is_empty());
        a.strip(stripped);
        eventually("the stubs are back", || {
            a.status().hooks.iter().any(|hook| hook.interface == stripped) && a.programs(stripped) == before
        });
    }
    eventually("packets flow", || web.pings("10.0.0.3", 56));
}

#[test]
fn what_somebody_wrote_into_tables_is_found_and_mended() {
    if !privileged("what_somebody_wrote_into_tables_is_found_and_mended") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let wanted = domain("red", 100, &workloads, &a, &[&b]);
    a.program(&wanted);
    assert!(web.pings("10.0.0.2", 56));
    assert_eq!(a.verify(), Vec::<&str>::new());
    let map = MapData::from_pin(a.pins().join(a.tables()).join("SEGMENTS")).and_then(Map::from_map_data);
    let map = map.expect("it is pinned");
    let mut segments = HashMap::<MapData, u32, datapath_common::Segment>::try_from(map).expect("segments");
    segments.remove(&100).expect("it is there");
    assert!(!web.pings("10.0.0.2", 56));
    let before = a.changes();
    assert_eq!(a.verify(), ["SEGMENTS"]);
    eventually("it is told", || a.changes() > before);
    a.program(&wanted);
    eventually("web reaches db again", || web.pings("10.0.0.2", 56));
    assert_eq!(a.verify(), Vec::<&str>::new());
}

#[test]
fn stubs_over_maps_that_somebody_removed_do_not_stay_in_force() {
    if !privileged("stubs_over_maps_that_somebody_removed_do_not_stay_in_force") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let wanted = domain("red", 100, &workloads, &a, &[&b]);
    a.program(&wanted);
    assert!(web.pings("10.0.0.2", 56));
    a.kill();
    std::fs::remove_dir_all(a.pins().join(a.tables())).expect("pins can be removed");

    a.open();
    let mut without = wanted.clone();
    without.stations.retain(|_, station| station.endpoint == label("web"));
    let applied = a.apply(&without);
    assert!(!web.pings("10.0.0.2", 56), "what the former maps said is in force");
    let applied = [applied, a.program(&wanted)];
    eventually("web reaches db again", || web.pings("10.0.0.2", 56));
    assert_eq!(applied[0].ports, applied[1].ports);
    for state in applied[1].ports.values() {
        assert_eq!(
            a.programs(name(state)),
            ["stub_from_endpo", "stub_to_endpoin"],
            "each once"
        );
    }
    assert_eq!(a.programs("up0"), ["stub_from_under"]);
}

#[test]
fn what_has_no_name_is_removed() {
    if !privileged("what_has_no_name_is_removed") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    let red = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let wanted = domain("red", 100, &red, &a, &[&b]);
    a.program(&wanted);
    a.kill();
    std::fs::remove_file(a.pins().join("state/NUMBERS")).expect("pins can be removed");
    a.open();
    assert!(!web.pings("10.0.0.2", 56), "in force for a domain that nobody knows");
    a.program(&domain("blue", 200, &[], &a, &[&b]));
    a.program(&wanted);
    eventually("web reaches db again", || web.pings("10.0.0.2", 56));
    assert_eq!(a.domains(), ["blue", "red"]);
}

#[test]
fn a_full_map_is_told_and_all_else_is_programmed() {
    if !privileged("a_full_map_is_told_and_all_else_is_programmed") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let fits = domain("red", 100, &workloads[..1], &a, &[&b]);
    a.program(&fits);
    let mut wanted = domain("red", 100, &workloads, &a, &[&b]);
    // One segment more than the map holds.
    for number in 1000..1000 + 65_536 {
        let segment = Segment {
            vni: vni(number),
            mtu: 1430,
            router: None,
            flood: false,
            members: [].into(),
        };
        wanted.networks.insert(label(&format!("net-{number}")), segment);
    }
    for _ in 0..2 {
        let refused = a.try_apply(&wanted);
        assert!(matches!(refused, Err(Error::Full { table: "SEGMENTS" })), "{refused:?}");
        assert!(web.pings("10.0.0.2", 56), "{:?}", a.drops());
    }
    a.program(&fits);
    assert!(!web.pings("10.0.0.2", 56) && !db.has_link("eth0"));
}

#[test]
fn rules_that_have_no_room_leave_those_in_force() {
    if !privileged("rules_that_have_no_room_leave_those_in_force") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, db, more) = (Namespace::new("web"), Namespace::new("db"), Namespace::new("more"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
        &Workload::in_namespace("more", 3, &a, &more),
    ];
    let of = |action| rule("policy", Direction::Ingress, Protocol::Icmp(None, None), action);
    let mut denies = domain("red", 100, &workloads[..2], &a, &[&b]);
    denies.rules = vec![of(Action::Deny)];
    a.program(&denies);
    let mut allows = domain("red", 100, &workloads, &a, &[&b]);
    // More than the map holds.
    allows.rules = vec![of(Action::Audit); 262_144];
    for _ in 0..2 {
        let refused = a.try_apply(&allows);
        assert!(matches!(refused, Err(Error::Full { table: "RULES" })), "{refused:?}");
        let before = dropped(&a, "policy");
        assert!(!web.pings("10.0.0.2", 56), "rules that are not all there are in force");
        assert!(dropped(&a, "policy") > before, "{:?}", a.drops());
        assert!(!more.pings("10.0.0.1", 56), "it came without its rules");
    }
    allows.rules.truncate(10);
    a.program(&allows);
    eventually("web reaches db", || web.pings("10.0.0.2", 56));
    eventually("so does the one that came", || more.pings("10.0.0.1", 56));
    assert_eq!(a.program(&allows).operations, 0);
}

#[test]
fn numbers_that_run_out_are_told_and_found_again() {
    if !privileged("numbers_that_run_out_are_told_and_found_again") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let red = domain("red", 100, &workloads, &a, &[&b]);
    a.program(&red);
    let mut crowd = domain("crowd", 200, &[], &a, &[&b]);
    let absent = Workload::on_interface("absent", 9, &a, "absent");
    let port = Port {
        network: label("net"),
        vni: vni(200),
        mac: overlay::name::Mac::try_from(absent.mac(200)).expect("a unicast address"),
        addresses: [].into(),
        gateways: [].into(),
        binding: Binding::Interface { name: "absent".into() },
    };
    crowd.ports = (0..65_536).map(|n| (label(&format!("vm-{n}")), port.clone())).collect();
    for _ in 0..2 {
        let refused = a.try_apply(&crowd);
        assert!(matches!(refused, Err(Error::Full { table: "NUMBERS" })), "{refused:?}");
    }
    assert!(web.pings("10.0.0.2", 56));
    a.program(&domain("blue", 300, &[], &a, &[&b]));
    a.kill();
    a.open();
    assert_eq!(a.domains(), ["blue", "red"]);
    assert_eq!(a.program(&red).operations, 0, "red keeps its numbers");
}

#[test]
fn an_interface_that_got_the_index_of_another_is_left_alone() {
    if !privileged("an_interface_that_got_the_index_of_another_is_left_alone") {
        return;
    }
    let (mut a, b) = two_hosts(true, false);
    a.namespace.must("ip link add vm0 index 4242 type veth peer name vm1");
    let vm = [&Workload::on_interface("vm", 1, &a, "vm0")];
    let wanted = domain("red", 100, &vm, &a, &[&b]);
    a.program(&wanted);
    assert_eq!(a.programs("vm0"), ["stub_from_endpo", "stub_to_endpoin"]);
    a.kill();
    a.namespace.must("ip link del vm0");
    a.namespace
        .must("ip link add other0 index 4242 up type veth peer name other1");

    a.open();
    let applied = a.apply(&wanted);
    assert!(
        matches!(&applied.ports[&label("vm")], PortState::Waiting(_)),
        "{applied:?}"
    );
    assert!(a.namespace.must("ip link show other0").contains(",UP"), "set down");
    assert_eq!(a.programs("other0"), Vec::<String>::new());
    a.namespace.must("ip link add vm0 type veth peer name vm1");
    a.program(&wanted);
    assert_eq!(a.programs("other0"), Vec::<String>::new());
}

#[test]
fn an_interface_that_is_renamed_moved_or_enslaved_is_closed() {
    if !privileged("an_interface_that_is_renamed_moved_or_enslaved_is_closed") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let elsewhere = Namespace::new("elsewhere");
    let here = &a.namespace;
    here.must("ip link add br0 type bridge");
    here.must("ip link add vm0 type veth peer name vm1");
    let vm = [&Workload::on_interface("vm", 1, &a, "vm0")];
    let wanted = domain("red", 100, &vm, &a, &[&b]);
    let there = &elsewhere.name;
    for (done, undone) in [
        (
            "ip link set vm0 master br0".to_owned(),
            "ip link set vm0 nomaster".to_owned(),
        ),
        (
            "ip link set vm0 name vm9".to_owned(),
            "ip link set vm9 name vm0".to_owned(),
        ),
        (
            format!("ip link set vm0 netns {there}"),
            format!("ip -n {there} link set vm0 netns {}", here.name),
        ),
    ] {
        a.program(&wanted);
        let before = a.changes();
        here.must(&done);
        eventually("it is told", || a.changes() > before);
        let applied = a.apply(&wanted);
        assert!(
            matches!(&applied.ports[&label("vm")], PortState::Waiting(_)),
            "{done}: {applied:?}"
        );
        for left in ["vm0", "vm9"] {
            if here.has_link(left) {
                assert!(!here.must(&format!("ip link show {left}")).contains(",UP"), "{done}");
                assert_eq!(a.programs(left), ["stub_from_endpo", "stub_to_endpoin"], "it denies");
            }
        }
        if elsewhere.has_link("vm0") {
            assert!(!elsewhere.must("ip link show vm0").contains(",UP"));
        }
        here.must(&undone);
    }
    a.program(&wanted);
    assert_eq!(a.programs("vm0"), ["stub_from_endpo", "stub_to_endpoin"], "each once");
}

#[test]
fn our_own_veth_is_no_interface_to_attach() {
    if !privileged("our_own_veth_is_no_interface_to_attach") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let web = Namespace::new("web");
    let web = Workload::in_namespace("web", 1, &a, &web);
    let applied = a.program(&domain("red", 100, &[&web], &a, &[&b]));
    let other = Workload::on_interface("other", 2, &a, name(&applied.ports[&label("web")]));
    // The first one waits: its namespace is gone by name, its veth is not.
    let gone = Workload {
        binding: Binding::Namespace {
            path: "/run/netns/absent".into(),
            interface: "eth0".into(),
        },
        ..web.clone()
    };
    let applied = a.apply(&domain("red", 100, &[&gone, &other], &a, &[&b]));
    let PortState::Waiting(words) = &applied.ports[&label("other")] else {
        panic!("{applied:?}")
    };
    assert!(words.contains("the fabric made"), "{words}");
}

#[test]
fn a_workload_that_switches_ipv6_off_keeps_ipv4() {
    if !privileged("a_workload_that_switches_ipv6_off_keeps_ipv4") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let wanted = domain("red", 100, &workloads, &a, &[&b]);
    a.program(&wanted);
    let script = std::env::temp_dir().join(format!("{}.sh", web.name));
    std::fs::write(&script, "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6\n").expect("a script");
    web.must(&format!("sh {}", script.display()));
    std::fs::remove_file(&script).expect("it is there");
    a.program(&wanted);
    assert!(web.pings("10.0.0.2", 56));
}

#[test]
fn two_nodes_in_one_namespace_do_not_hurt_each_other() {
    if !privileged("two_nodes_in_one_namespace_do_not_hurt_each_other") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    a.program(&domain("red", 100, &workloads, &a, &[&b]));
    b.program(&domain("red", 100, &workloads, &b, &[&a]));
    a.namespace.must("ip addr add 192.0.2.9/24 dev up0");
    let mut second = Host::beside(&a.namespace.name, membership::id::NodeId::of_key(&[9; 32]), 9);
    second.open();
    second.program(&domain("blue", 200, &[], &second, &[&b]));
    assert_eq!(a.programs("up0").len(), 2);
    assert!(web.pings("10.0.0.3", 56), "with the other node");
    second.kill();
    second.purge();
    eventually("the kernel lets the other node's link go", || {
        a.programs("up0") == ["stub_from_under"]
    });
    assert!(web.pings("10.0.0.3", 56), "without the other node");
}
