//! TCP over a wire that loses, reorders and doubles what it carries.

use std::sync::atomic::Ordering;

use crate::namespace::{Namespace, ip, privileged};
use crate::relay::{Done, Faults, while_relayed};
use crate::topology::{FAR, ONE, Wire};
use crate::traffic::streams_bytes;
use crate::underlay::{UNDERLAY, Way};

const BYTES: usize = 1 << 20;

fn streams_arrive(way: Way) {
    if !privileged() {
        return;
    }
    let (a, b, between) = (Namespace::new("a"), Namespace::new("b"), Namespace::new("relay"));
    for (host, end) in [(&a, "left"), (&b, "right")] {
        ip(&[
            "link",
            "add",
            UNDERLAY,
            "netns",
            &host.name,
            "type",
            "veth",
            "peer",
            "name",
            end,
            "netns",
            &between.name,
        ]);
        between.set(&format!("net/ipv6/conf/{end}/disable_ipv6"), "1");
        between.ip(&["link", "set", end, "up"]);
    }
    let mut wire = Wire::of(way, a, b);
    for host in [&wire.a, &wire.b] {
        // Each packet of the wire is to have its own fate.
        host.namespace
            .offload(UNDERLAY, &["tx", "off", "tso", "off", "gso", "off"]);
    }
    let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
    let faults = Faults {
        lost: 10,
        late: 30,
        doubled: 10,
    };
    let done = Done::default();
    while_relayed(&between, ["left", "right"], faults, &done, || {
        for (client, server, to) in [(&one, &far, FAR), (&far, &one, ONE)] {
            for address in to.addresses() {
                streams_bytes(client, server, address, BYTES);
            }
        }
    });
    println!("{done:?}");
    assert!(done.carried.load(Ordering::Relaxed) > 4 * BYTES as u64 / 1500);
    assert!(
        done.lost.load(Ordering::Relaxed) > 10 && done.late.load(Ordering::Relaxed) > 30,
        "{done:?}"
    );
}

#[test]
fn vxlan_with_loss_and_reordering() {
    streams_arrive(Way::over(false));
}

#[test]
fn geneve_over_ipv6_with_loss_and_reordering() {
    streams_arrive(Way::over(true).geneve());
}
