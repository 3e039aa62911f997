//! Who reaches whom.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use overlay::forwarding::Forwarding;
use overlay::object::domain::DefaultPolicy;

use crate::lab::{dropped, two_hosts};
use crate::namespace::{Namespace, eventually, privileged};
use crate::wanted::{Workload, domain};

/// Two workloads on the first host, one on the second.
fn workloads_reach_each_other(ipv4: bool, ipv6: bool) {
    let (a, b) = two_hosts(ipv4, ipv6);
    let (web, db, far) = (Namespace::new("web"), Namespace::new("db"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    a.program(&domain("red", 100, &workloads, &a, &[&b]));
    b.program(&domain("red", 100, &workloads, &b, &[&a]));

    for (to, size) in [("10.0.0.2", 56), ("fd00::2", 56), ("10.0.0.3", 56), ("fd00::3", 56)] {
        assert!(
            web.pings(to, size),
            "web does not reach {to}: {:?} {:?}",
            a.drops(),
            b.drops()
        );
    }
    // The largest packets of the network: 1430 bytes less the headers of IP and ICMP.
    for (to, size) in [
        ("10.0.0.2", 1402),
        ("10.0.0.3", 1402),
        ("fd00::2", 1382),
        ("fd00::3", 1382),
    ] {
        assert!(
            web.pings(to, size),
            "{size} bytes do not reach {to}: {:?} {:?}",
            a.drops(),
            b.drops()
        );
    }
    assert!(far.pings("10.0.0.1", 56) && far.pings("fd00::1", 56));
    assert!(!web.pings("10.0.0.9", 56), "nobody has this address");
    eventually("the question for 10.0.0.9 is counted", || {
        dropped(&a, "unknown_neighbour") > 0
    });
}

#[test]
fn workloads_reach_each_other_over_ipv4() {
    if privileged("workloads_reach_each_other_over_ipv4") {
        workloads_reach_each_other(true, false);
    }
}

#[test]
fn workloads_reach_each_other_over_ipv6() {
    if privileged("workloads_reach_each_other_over_ipv6") {
        workloads_reach_each_other(false, true);
    }
}

#[test]
fn domains_with_the_same_addresses_do_not_meet() {
    if !privileged("domains_with_the_same_addresses_do_not_meet") {
        return;
    }
    let (a, b) = two_hosts(true, true);
    let (red_a, red_b) = (Namespace::new("reda"), Namespace::new("redb"));
    let (blue_a, blue_b) = (Namespace::new("bluea"), Namespace::new("blueb"));
    let red = [
        &Workload::in_namespace("one", 1, &a, &red_a),
        &Workload::in_namespace("two", 2, &b, &red_b),
    ];
    let blue = [
        &Workload::in_namespace("one", 1, &a, &blue_a),
        &Workload::in_namespace("five", 5, &b, &blue_b),
    ];
    for (host, other) in [(&a, &b), (&b, &a)] {
        host.program(&domain("red", 100, &red, host, &[other]));
        host.program(&domain("blue", 200, &blue, host, &[other]));
        assert_eq!(host.domains(), ["blue", "red"]);
    }
    assert!(red_a.pings("10.0.0.2", 56) && blue_a.pings("10.0.0.5", 56));
    assert!(!red_a.pings("10.0.0.5", 56), "only blue has 10.0.0.5");
    assert!(!blue_a.pings("10.0.0.2", 56), "only red has 10.0.0.2");
    let line = |reason: &str| a.drops().into_iter().find(|line| line.reason == reason);
    let counted = line("unknown_neighbour").expect("a counter");
    assert_eq!(counted.endpoint.map(|e| e.to_string()).as_deref(), Some("one"));
}

#[test]
fn tunnels_are_resolved_and_follow_the_underlay() {
    if !privileged("tunnels_are_resolved_and_follow_the_underlay") {
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
    assert!(web.pings("10.0.0.3", 56));
    eventually("the next hop is a managed neighbour", || {
        a.namespace
            .must("ip -d neigh show dev up0")
            .lines()
            .any(|line| line.contains("192.0.2.2") && line.contains("managed"))
    });

    b.namespace.must("ip link set up0 down");
    b.namespace.must("ip link set up0 address 02:ff:00:00:00:02");
    b.namespace.must("ip link set up0 up");
    eventually("packets flow to the other MAC address", || web.pings("10.0.0.3", 56));
}

#[test]
fn tcp_flows_across_hosts_from_its_first_syn_on() {
    if !privileged("tcp_flows_across_hosts_from_its_first_syn_on") {
        return;
    }
    const BYTES: usize = 32 << 20;
    let (a, b) = two_hosts(true, false);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    b.program(&domain("red", 100, &workloads, &b, &[&a]));
    let listener = far
        .thread(async || TcpListener::bind("10.0.0.3:80").expect("bind"))
        .join()
        .expect("the thread");
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accept");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).expect("receive");
        received.len()
    });
    a.program(&domain("red", 100, &workloads, &a, &[&b]));
    let stream = web
        .thread(async || TcpStream::connect("10.0.0.3:80").expect("connect"))
        .join();
    let mut stream = stream.expect("the thread");
    stream.write_all(&vec![7; BYTES]).expect("send");
    drop(stream);
    assert_eq!(server.join().expect("the server"), BYTES);
    assert_eq!(web.syns_sent_again(), 0);
}

#[test]
fn a_domain_that_denies_is_silent_and_counts() {
    if !privileged("a_domain_that_denies_is_silent_and_counts") {
        return;
    }
    let (a, b) = two_hosts(true, false);
    let (web, db) = (Namespace::new("web"), Namespace::new("db"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("db", 2, &a, &db),
    ];
    let allow = domain("red", 100, &workloads, &a, &[&b]);
    let deny = Forwarding {
        default_policy: DefaultPolicy::Deny,
        ..allow.clone()
    };
    a.program(&deny);
    assert!(!web.pings("10.0.0.2", 56));
    assert!(dropped(&a, "policy") > 0, "{:?}", a.drops());
    assert_eq!(a.program(&allow).operations, 2, "only the domain and its generation");
    eventually("web reaches db", || web.pings("10.0.0.2", 56));
}

#[test]
fn tunnels_follow_the_addresses_mtu_and_state_of_the_underlay() {
    if !privileged("tunnels_follow_the_addresses_mtu_and_state_of_the_underlay") {
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
    assert!(web.pings("10.0.0.3", 1402));

    a.namespace.must("ip link set up0 mtu 1400");
    eventually("the smaller MTU is told", || {
        a.status().underlay == [("up0".to_owned(), 1400)]
    });
    eventually("what fits flows, what does not is dropped", || {
        let before = dropped(&a, "mtu");
        web.pings("10.0.0.3", 1200) && !web.pings("10.0.0.3", 1402) && dropped(&a, "mtu") > before
    });
    a.namespace.must("ip link set up0 mtu 1500");
    eventually("all flows again", || web.pings("10.0.0.3", 1402));

    a.namespace.must("ip addr del 192.0.2.1/24 dev up0");
    eventually("without its address it is no underlay", || {
        a.status().underlay.is_empty()
    });
    eventually("there is no way", || {
        let before = dropped(&a, "no_route");
        !web.pings("10.0.0.3", 56) && dropped(&a, "no_route") > before
    });
    assert_eq!(a.programs("up0"), Vec::<String>::new());
    a.namespace.must("ip link add dev up1 type bridge");
    a.namespace.must("ip link set up0 master up1");
    a.namespace.must("ip addr add 192.0.2.1/24 dev up1");
    a.namespace.must("ip link set up1 up");
    eventually("packets flow where the address went", || web.pings("10.0.0.3", 56));
    assert_eq!(a.programs("up1"), ["stub_from_under"]);
}
