//! Hosts with two uplinks: their tunnel addresses are on the loopback interface, and the routes to each other have two
//! next hops.

use datapath::PathVerdict;

use crate::lab::Host;
use crate::namespace::{Namespace, eventually, must, privileged};
use crate::probes::Probing;
use crate::wanted::{Workload, domain};

/// Two hosts with the links up0 and up1 between them, open.
fn two_hosts(v6: bool) -> (Host, Host) {
    let (mut a, mut b) = (Host::new(1, !v6, v6), Host::new(2, !v6, v6));
    let (first, second) = (&a.namespace.name, &b.namespace.name);
    for up in ["up0", "up1"] {
        must(&format!(
            "ip link add {up} mtu 1500 netns {first} type veth peer name {up} mtu 1500 netns {second}"
        ));
    }
    for (host, other) in [(&a, 2), (&b, 1)] {
        let namespace = &host.namespace;
        let number = 3 - other;
        namespace.must("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0");
        for (up, net) in [("up0", 0), ("up1", 1)] {
            namespace.must(&format!("sysctl -qw net.ipv4.conf.{up}.rp_filter=0"));
            namespace.must(&format!("ip link set {up} up"));
            if v6 {
                namespace.must(&format!("ip addr add 2001:db8:1{net}::{number}/64 dev {up} nodad"));
            } else {
                namespace.must(&format!("ip addr add 198.51.{net}.{number}/24 dev {up}"));
            }
        }
        if v6 {
            namespace.must(&format!("ip addr add 2001:db8::{number}/128 dev lo nodad"));
        } else {
            namespace.must(&format!("ip addr add 192.0.2.{number}/32 dev lo"));
        }
        route(host, other, &["up0", "up1"]);
    }
    a.open();
    b.open();
    (a, b)
}

/// Sets the route of a host to the other one over these interfaces.
fn route(host: &Host, other: u8, over: &[&str]) {
    let v6 = host.ipv6.is_some();
    let number = 3 - other;
    let hops = over.iter().map(|up| {
        let net = up.trim_start_matches("up");
        if v6 {
            format!("nexthop via 2001:db8:1{net}::{other} dev {up}")
        } else {
            format!("nexthop via 198.51.{net}.{other} dev {up}")
        }
    });
    let hops = hops.collect::<Vec<_>>().join(" ");
    if v6 {
        // The kernel lets an address be used a moment after it was added, even without asking for another owner.
        eventually("the addresses can be used", || {
            !host.namespace.must("ip -6 addr show tentative").contains("2001:db8:")
        });
    }
    let line = if v6 {
        format!("ip -6 route replace 2001:db8::{other}/128 src 2001:db8::{number} {hops}")
    } else {
        format!("ip route replace 192.0.2.{other}/32 src 192.0.2.{number} {hops}")
    };
    host.namespace.must(&line);
}

fn survive(v6: bool) {
    let (a, b) = two_hosts(v6);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    a.program(&domain("red", 100, &workloads, &a, &[&b]));
    b.program(&domain("red", 100, &workloads, &b, &[&a]));
    eventually("both uplinks are the underlay", || {
        [&a, &b].iter().all(|host| {
            let names: Vec<_> = host.status().underlay.into_iter().map(|(name, _)| name).collect();
            names == ["up0", "up1"]
        })
    });
    for up in ["up0", "up1"] {
        assert_eq!(a.programs(up), ["stub_from_under"]);
    }
    eventually("web reaches far", || web.pings("10.0.0.3", 56));

    for up in ["up0", "up1"] {
        // `a` loses the carrier, `b` the interface.
        b.namespace.must(&format!("ip link set {up} down"));
        eventually("packets flow without one uplink", || web.pings("10.0.0.3", 1200));
        b.namespace.must(&format!("ip link set {up} up"));
        if v6 {
            // The kernel forgets the addresses of an interface that goes down.
            b.namespace
                .must(&format!("ip addr replace 2001:db8:1{}::2/64 dev {up} nodad", &up[2..]));
        }
        route(&b, 1, &["up0", "up1"]);
        eventually("the uplink is back", || {
            web.pings("10.0.0.3", 1200) && b.status().underlay.len() == 2
        });
    }
}

#[test]
fn two_uplinks_over_ipv4_survive_the_loss_of_either() {
    if privileged("two_uplinks_over_ipv4_survive_the_loss_of_either") {
        survive(false);
    }
}

#[test]
fn two_uplinks_over_ipv6_survive_the_loss_of_either() {
    if privileged("two_uplinks_over_ipv6_survive_the_loss_of_either") {
        survive(true);
    }
}

/// Tunnels that arrive by an interface by which nothing leaves come out of the tunnel device.
#[test]
fn tunnels_may_arrive_by_an_interface_that_nobody_expects() {
    if !privileged("tunnels_may_arrive_by_an_interface_that_nobody_expects") {
        return;
    }
    let (a, b) = two_hosts(false);
    route(&a, 2, &["up1"]);
    route(&b, 1, &["up0"]);
    let (web, far) = (Namespace::new("web"), Namespace::new("far"));
    let workloads = [
        &Workload::in_namespace("web", 1, &a, &web),
        &Workload::in_namespace("far", 3, &b, &far),
    ];
    a.program(&domain("red", 100, &workloads, &a, &[&b]));
    b.program(&domain("red", 100, &workloads, &b, &[&a]));
    eventually("each leaves by its own", || {
        a.programs("up0").is_empty() && b.programs("up1").is_empty()
    });
    eventually("web reaches far", || web.pings("10.0.0.3", 56));
    let mut probing = Probing::of(&a, &[&b]);
    probing.until_verdict(&b, PathVerdict::Up);
    let name = &b.status().devices[0].name;
    let shown = b.namespace.must(&format!("ip -s -o link show {name}"));
    let received = shown.split("RX:").nth(1).and_then(|text| text.split('\\').nth(1));
    let packets = received.and_then(|text| text.split_whitespace().nth(1));
    assert!(packets.is_some_and(|packets| packets != "0"), "{shown}");
}
