//! UDP and TCP of real stacks between workloads, on one host and across.

use crate::identity::Identity;
use crate::namespace::{Namespace, privileged};
use crate::topology::{FAR, ONE, TWO, Wire};
use crate::traffic::{exchange, streams};
use crate::underlay::Way;

fn through(wire: &Wire, what: &str, client: &Namespace, server: &Namespace, identity: Identity) {
    exchange(what, client, server, identity);
    wire.dropped_nothing(what);
}

fn across(way: Way) {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(way);
    let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
    through(&wire, "there", &one, &far, FAR);
    through(&wire, "back", &far, &one, ONE);
}

#[test]
fn across_hosts_over_ipv4() {
    across(Way::over(false));
}

#[test]
fn across_hosts_over_ipv6() {
    across(Way::over(true));
}

#[test]
fn across_hosts_by_geneve_over_ipv4() {
    across(Way::over(false).geneve());
}

#[test]
fn across_hosts_by_geneve_over_ipv6() {
    across(Way::over(true).geneve());
}

#[test]
fn across_hosts_over_ipv4_where_the_kernel_resolves() {
    across(Way {
        resolved: false,
        ..Way::over(false)
    });
}

#[test]
fn across_hosts_over_ipv6_where_the_kernel_resolves() {
    across(Way {
        resolved: false,
        ..Way::over(true)
    });
}

#[test]
fn on_one_host() {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(Way::over(false));
    let (one, two) = (wire.a.workload(ONE), wire.a.workload(TWO));
    through(&wire, "next door", &one, &two, TWO);
}

/// Stacks learn of a smaller path from ICMP errors that the programs make of super-packets.
#[test]
fn a_stream_through_less_than_its_interface_promises() {
    if !privileged() {
        return;
    }
    let mut wire = Wire::new(Way::over(false));
    wire.a.segment(0, 1300);
    let (one, far) = (wire.a.workload(ONE), wire.b.workload(FAR));
    for address in FAR.addresses() {
        let before = wire.a.dropped(ONE, "mtu");
        streams(&one, &far, address);
        let after = wire.a.dropped(ONE, "mtu");
        assert!(after > before, "{address}: it did not fit at first");
    }
}
