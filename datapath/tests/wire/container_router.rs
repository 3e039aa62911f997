//! A workload that forwards between two networks: what comes out of a tunnel goes into the next.

use crate::device::{counted, device};
use crate::identity::Identity;
use crate::namespace::{Namespace, privileged};
use crate::topology::{FAR, ONE, Wire};
use crate::traffic::{STREAM, echo_sizes, streams};
use crate::underlay::{A, B, UNDERLAY, Way};
use crate::workload::{INTERFACE, MTU, host_side};

/// The workload at host B in the other network. `ONE`, at host A, forwards between it and `FAR`.
const OTHER: Identity = Identity::routed(8);
/// `ONE` in the other network.
const ONE_THERE: Identity = Identity::routed(1);

/// Whether interfaces leave segmentation and checksums to whoever comes next, as they do unless told otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Offloads {
    On,
    Off,
}

const ON: [&str; 8] = ["tx", "on", "tso", "on", "gso", "on", "gro", "on"];
const OFF: [&str; 8] = ["tx", "off", "tso", "off", "gso", "off", "gro", "off"];

/// Packets of the MTU of the two streams over IPv4 that the router forwards; with offloads each carries many of them.
const WHOLE: u64 = 2 * (STREAM / MTU as usize) as u64;

/// Sends packets for another network by one of its own.
fn by(workload: &Namespace, network: &[&str; 2], forwarder: Identity) {
    for (to, via) in network.iter().zip(forwarder.addresses()) {
        let family = if via.is_ipv4() { "-4" } else { "-6" };
        workload.ip(&[family, "route", "add", to, "via", &via.to_string(), "dev", INTERFACE]);
    }
}

/// How many IPv4 packets a namespace forwarded.
fn forwarded(namespace: &Namespace) -> u64 {
    let text = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").expect("statistics"));
    let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut pairs = names.split(' ').zip(values.split(' '));
    let (_, count) = pairs.find(|(name, _)| *name == "ForwDatagrams").expect("it is counted");
    count.parse().expect("a number")
}

fn forwards(way: Way, offloads: Offloads) {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(way);
    for host in [&mut wire.a, &mut wire.b] {
        if offloads == Offloads::On {
            // Super-packets from one tunnel into the next are the device's.
            host.device();
        }
        host.segment(1, MTU);
        host.forwards_for(ONE, 1);
        host.forwards_for(ONE_THERE, 0);
    }
    let (far, other) = (wire.b.workload(FAR), wire.b.workload(OTHER));
    let router = wire.a.workload(ONE);
    wire.a.interface(&router, ONE_THERE, "eth1");
    wire.a.remote(OTHER, B);
    wire.b.remote(ONE_THERE, A);
    router.set("net/ipv4/ip_forward", "1");
    router.set("net/ipv6/conf/all/forwarding", "1");
    by(&far, &["10.1.0.0/16", "fd00:0:0:2::/64"], ONE);
    by(&other, &["10.0.0.0/16", "fd00:0:0:1::/64"], ONE_THERE);
    for (namespace, interface) in [
        (&far, INTERFACE),
        (&other, INTERFACE),
        (&router, INTERFACE),
        (&router, "eth1"),
        (&wire.b.namespace, UNDERLAY),
        (&wire.a.namespace, UNDERLAY),
        (&wire.a.namespace, &host_side(ONE)),
        (&wire.a.namespace, &host_side(ONE_THERE)),
    ] {
        let switches = match offloads {
            Offloads::On => &ON,
            Offloads::Off => &OFF,
        };
        namespace.offload(interface, switches);
    }
    for (client, server, to) in [(&far, &other, OTHER), (&other, &far, FAR)] {
        for address in to.addresses() {
            let most = MTU as usize - if address.is_ipv4() { 28 } else { 48 };
            echo_sizes(client, server, address, [1, 100, most, most + 1, 5000]);
            streams(client, server, address);
        }
    }
    let count = forwarded(&router);
    println!("{way:?}, {offloads:?}: {count} of {WHOLE} went by the router");
    match offloads {
        Offloads::On => {
            assert!(
                (1..WHOLE).contains(&count),
                "{count} went by the router: none was large"
            );
            let sent = counted(&wire.a.namespace, device(false), "tx");
            assert!(sent > 0, "none of what it sent was large");
        }
        Offloads::Off => assert!(count >= WHOLE, "only {count} went by the router"),
    }
    wire.dropped_nothing("by the router");
}

#[test]
fn by_vxlan() {
    forwards(Way::over(false), Offloads::Off);
}

#[test]
fn by_vxlan_with_segmentation_offload() {
    forwards(Way::over(false), Offloads::On);
}

#[test]
fn by_vxlan_over_ipv6_with_segmentation_offload() {
    forwards(Way::over(true), Offloads::On);
}

#[test]
fn by_geneve_over_ipv6() {
    forwards(Way::over(true).geneve(), Offloads::Off);
}
