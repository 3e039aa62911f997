//! Which interfaces are taken, which are refused, and when a port stops waiting.

use datapath::PortState;
use overlay::fact::Binding;

use crate::lab::{dropped, two_hosts};
use crate::namespace::{Namespace, eventually, privileged};
use crate::wanted::{Workload, domain, label};

/// The words with which a port waits.
fn waits(state: &PortState) -> &str {
    match state {
        PortState::Waiting(words) => words,
        PortState::Programmed { .. } => panic!("{state:?}"),
    }
}

#[test]
fn interfaces_of_others_are_refused_and_the_rest_is_programmed() {
    if !privileged("interfaces_of_others_are_refused_and_the_rest_is_programmed") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let web = Namespace::new("web");
    let here = &a.namespace;
    here.must("ip link add br0 type bridge");
    here.must("ip tuntap add dev port0 mode tap");
    here.must("ip link set port0 master br0");
    here.must("ip tuntap add dev tap0 mode tap");
    here.must("ip tuntap add dev addr0 mode tap");
    here.must("ip addr add 203.0.113.1/24 dev addr0");
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::on_interface("bridged", 2, &a, "port0"),
        &Workload::on_interface("bridge", 12, &a, "br0"),
        &Workload::on_interface("underlay", 3, &a, "up0"),
        &Workload::on_interface("lo", 4, &a, "lo"),
        &Workload::on_interface("addressed", 5, &a, "addr0"),
        &Workload::on_interface("tap-1", 6, &a, "tap0"),
        &Workload::on_interface("tap-2", 7, &a, "tap0"),
        &Workload {
            binding: Binding::Namespace {
                path: "/run/netns/absent".into(),
                interface: "eth0".into(),
            },
            ..Workload::on_interface("absent", 8, &a, "")
        },
        &Workload {
            binding: Binding::Namespace {
                path: a.namespace.path(),
                interface: "eth0".into(),
            },
            ..Workload::on_interface("own", 9, &a, "")
        },
        &Workload {
            binding: Binding::Namespace {
                path: "/etc/hostname".into(),
                interface: "eth0".into(),
            },
            ..Workload::on_interface("file", 10, &a, "")
        },
        &Workload {
            binding: Binding::Namespace {
                path: web.path(),
                interface: "lo".into(),
            },
            ..Workload::on_interface("conflict", 11, &a, "")
        },
    ];
    let applied = a.apply(&domain("red", 100, &workloads, &a, &[&b]));
    let state = |name: &str| &applied.ports[&label(name)];
    for (name, words) in [
        ("bridged", "nomaster"),
        ("bridge", "is a bridge"),
        ("underlay", "carries the tunnels"),
        ("lo", "loopback"),
        ("addressed", "203.0.113.1"),
        ("tap-2", "already attached as red/tap-1"),
        ("absent", "there is no network namespace /run/netns/absent"),
        ("own", "host's own network namespace"),
        ("file", "not a network namespace"),
        ("conflict", "already has an interface lo"),
    ] {
        assert!(waits(state(name)).contains(words), "{name}: {:?}", state(name));
    }
    for name in ["web", "tap-1"] {
        assert!(
            matches!(state(name), PortState::Programmed { .. }),
            "{name}: {:?}",
            state(name)
        );
    }
    assert!(
        here.must("ip link show port0").contains("master br0"),
        "what is refused is left alone"
    );
}

#[test]
fn the_host_side_is_quiet() {
    if !privileged("the_host_side_is_quiet") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let web = Namespace::new("web");
    let workloads = [&Workload::in_namespace("web", 1, &a, &web)];
    let applied = a.program(&domain("red", 100, &workloads, &a, &[&b]));
    let PortState::Programmed { name, .. } = &applied.ports[&label("web")] else {
        panic!("{applied:?}")
    };
    let link = a.namespace.must(&format!("ip -d link show {name}"));
    assert!(
        link.contains("NOARP") && link.contains("UP") && link.contains("mtu 1430"),
        "{link}"
    );
    assert!(link.contains("addrgenmode none") && link.contains("red/web"), "{link}");
    assert_eq!(a.namespace.must(&format!("ip -o addr show dev {name}")), "");
    assert_eq!(
        a.namespace
            .must(&format!("cat /proc/sys/net/ipv6/conf/{name}/disable_ipv6"))
            .trim(),
        "1"
    );
    let inside = web.must("ip -o addr show dev eth0");
    for address in ["10.0.0.1/24", "fd00::1/64", "fe80::ff:fe00:6401/64"] {
        assert!(
            inside.contains(address) && !inside.contains("tentative"),
            "{address}: {inside}"
        );
    }
}

#[test]
fn a_waiting_port_attaches_when_its_interface_comes() {
    if !privileged("a_waiting_port_attaches_when_its_interface_comes") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let workloads = [&Workload::on_interface("vm", 1, &a, "tap0")];
    let wanted = domain("red", 100, &workloads, &a, &[&b]);
    assert!(waits(&a.apply(&wanted).ports[&label("vm")]).contains("there is no interface tap0"));
    let before = a.changes();
    a.namespace.must("ip tuntap add dev tap0 mode tap");
    eventually("the interface is told", || a.changes() > before);
    let first = a.program(&wanted);

    // As a virtual machine's monitor does that starts again.
    let before = a.changes();
    a.namespace.must("ip link del tap0");
    eventually("its loss is told", || a.changes() > before);
    assert!(waits(&a.apply(&wanted).ports[&label("vm")]).contains("there is no interface tap0"));
    let before = a.changes();
    a.namespace.must("ip tuntap add dev tap0 mode tap");
    eventually("its return is told", || a.changes() > before);
    let second = a.program(&wanted);
    assert_ne!(first.ports, second.ports, "it has another index");
    assert_eq!(a.programs("tap0"), ["stub_from_endpo", "stub_to_endpoin"]);
}

#[test]
fn a_waiting_port_attaches_when_its_namespace_comes() {
    if !privileged("a_waiting_port_attaches_when_its_namespace_comes") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    let name = web.name.clone();
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let wanted = domain("red", 100, &workloads, &a, &[&b]);
    drop(web);
    assert!(waits(&a.apply(&wanted).ports[&label("web")]).contains("there is no network namespace"));
    let before = a.changes();
    let web = Namespace::named(name);
    eventually("the namespace is told", || a.changes() > before);
    a.program(&wanted);
    assert!(web.pings("10.0.0.2", 56));

    let before = a.changes();
    let name = web.name.clone();
    drop(web);
    eventually("its loss is told", || a.changes() > before);
    let web = Namespace::named(name);
    a.program(&wanted);
    assert!(
        web.pings("10.0.0.2", 56),
        "{:?} {} {}",
        a.drops(),
        web.must("ip addr"),
        a.namespace.must("ip -d link")
    );
}

#[test]
fn a_detached_tap_is_left_down_and_free_for_another_domain() {
    if !privileged("a_detached_tap_is_left_down_and_free_for_another_domain") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    a.namespace.must("ip tuntap add dev tap0 mode tap");
    let vm = [&Workload::on_interface("vm", 1, &a, "tap0")];
    a.program(&domain("red", 100, &vm, &a, &[&b]));
    let blue = domain("blue", 200, &vm, &a, &[&b]);
    assert!(waits(&a.apply(&blue).ports[&label("vm")]).contains("already attached as red/vm"));

    let before = a.changes();
    a.remove("red");
    assert!(a.namespace.must("ip link show tap0").contains("state DOWN"));
    assert!(
        a.status().hooks.iter().any(|h| h.interface == "tap0"),
        "it denies for whoever sets it up"
    );
    eventually("blue is told that it may try again", || a.changes() > before);
    a.program(&blue);
}

#[test]
fn interfaces_change_hands_within_a_domain() {
    if !privileged("interfaces_change_hands_within_a_domain") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    a.namespace.must("ip tuntap add dev tap0 mode tap");
    a.namespace.must("ip tuntap add dev tap1 mode tap");
    let wanted = |one: &str, two: &str| {
        let workloads = [
            &Workload::on_interface("one", 1, &a, one),
            &Workload::on_interface("two", 2, &a, two),
        ];
        domain("red", 100, &workloads, &a, &[&b])
    };
    a.program(&wanted("tap0", "tap1"));
    let swapped = a.program(&wanted("tap1", "tap0"));
    let name = |endpoint: &str| match &swapped.ports[&label(endpoint)] {
        PortState::Programmed { name, .. } => name.clone(),
        PortState::Waiting(words) => panic!("{endpoint}: {words}"),
    };
    assert_eq!([name("one"), name("two")], ["tap1", "tap0"]);
    eventually("nothing is left to do", || {
        a.program(&wanted("tap1", "tap0")).operations == 0
    });
    for tap in ["tap0", "tap1"] {
        assert!(
            a.namespace.must(&format!("ip link show {tap}")).contains(",UP"),
            "{tap} stays up"
        );
    }
}

#[test]
fn the_stack_of_the_host_and_a_workload_never_meet() {
    if !privileged("the_stack_of_the_host_and_a_workload_never_meet") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let web = Namespace::new("web");
    let workloads = [&Workload::in_namespace("web", 1, &a, &web)];
    let applied = a.program(&domain("red", 100, &workloads, &a, &[&b]));
    let PortState::Programmed { name, .. } = &applied.ports[&label("web")] else {
        panic!("{applied:?}")
    };
    // As far as an administrator can undo what makes the host side quiet.
    let here = &a.namespace;
    here.must("sysctl -q -w net.ipv6.conf.all.disable_ipv6=0");
    here.must(&format!("ip link set {name} arp on addrgenmode eui64"));
    for address in ["10.0.0.99/24", "fd00::99/64 nodad", "fe80::99/64 nodad"] {
        here.must(&format!("ip addr add {address} dev {name}"));
    }
    let shown = here.must(&format!("ip link show {name}"));
    let mut words = shown.split_whitespace().skip_while(|word| *word != "link/ether");
    let mac = words.nth(1).expect("a MAC address");
    for address in ["10.0.0.99", "fd00::99", "fe80::99"] {
        web.must(&format!("ip neigh replace {address} lladdr {mac} dev eth0"));
    }
    let before = dropped(&a, "host_link");
    for from_workload in ["10.0.0.99", "fd00::99", "fe80::99%eth0"] {
        assert!(!web.pings(from_workload, 56), "{from_workload} is reached");
    }
    assert!(dropped(&a, "host_link") >= before + 3, "{:?}", a.drops());
    let link_local = format!("fe80::ff:fe00:6401%{name}");
    for from_host in ["10.0.0.1", "fd00::1", &link_local] {
        assert!(!here.pings(from_host, 56), "{from_host} is reached");
    }
    assert!(dropped(&a, "not_forwarded") >= 3, "{:?}", a.drops());
}
