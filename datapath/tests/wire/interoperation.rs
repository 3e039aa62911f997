//! Our programs on one host, somebody else's tunnels on the other: real stacks must not see a difference.

use crate::host::Host;
use crate::identity::Identity;
use crate::linux_vtep;
use crate::namespace::{Namespace, privileged};
use crate::open_vswitch::OpenVSwitch;
use crate::topology::{FAR, ONE};
use crate::traffic::{echo_sizes, streams};
use crate::underlay::{A, B, UNDERLAY, Way, addressed, linked, peer};
use crate::workload::{INTERFACE, MTU, host_side, plugged};

/// All that a device can do for its stack.
const OFF: [&str; 10] = ["tx", "off", "rx", "off", "tso", "off", "gso", "off", "gro", "off"];
/// What a reader of raw packets cannot cope with.
const WHOLE: [&str; 6] = ["tx", "off", "tso", "off", "gso", "off"];

/// Host A and its workload `ONE`, a foreign host B and its workload `FAR`.
struct Mixed {
    a: Host,
    one: Namespace,
    far: Namespace,
    // Ends before its namespace goes.
    _switch: Option<OpenVSwitch>,
    b: Namespace,
}

impl Mixed {
    fn new(way: Way, switch: impl FnOnce(&Namespace, &str) -> Option<OpenVSwitch>) -> Self {
        let (a, b) = (Namespace::new("a"), Namespace::new("b"));
        linked(&a, &b);
        addressed(&a, A, UNDERLAY);
        let far = plugged(&b, FAR);
        let port = host_side(FAR);
        let switch = switch(&b, &port);
        a.ready(UNDERLAY);
        b.ready(&port);
        let mut a = Host::new(a, A, way.geneve);
        a.peer(B, peer(&a.namespace, way, A, B));
        a.remote(FAR, B);
        let one = a.workload(ONE);
        Self {
            a,
            one,
            far,
            _switch: switch,
            b,
        }
    }

    /// Switches offloads off, wherever there are any.
    fn without_offloads(&self) {
        self.one.offload(INTERFACE, &OFF);
        self.far.offload(INTERFACE, &OFF);
        self.a.namespace.offload(&host_side(ONE), &OFF);
        self.a.namespace.offload(UNDERLAY, &OFF);
        self.b.offload(&host_side(FAR), &OFF);
        self.b.offload(UNDERLAY, &OFF);
    }

    fn converse(&self, what: &str) {
        let before = self.a.drops();
        one_way(&format!("{what}: there"), &self.one, &self.far, FAR);
        one_way(&format!("{what}: back"), &self.far, &self.one, ONE);
        self.a.dropped_nothing_since(what, &before);
    }
}

fn one_way(what: &str, client: &Namespace, server: &Namespace, identity: Identity) {
    for address in identity.addresses() {
        println!("{what}: {address}");
        let headers = if address.is_ipv4() { 28 } else { 48 };
        let most = MTU as usize - headers;
        echo_sizes(client, server, address, [1, 100, most - 1, most, most + 1, 5000]);
        streams(client, server, address);
    }
}

fn linux(over_v6: bool) {
    if !privileged() {
        return;
    }
    let mixed = Mixed::new(Way::over(over_v6), |b, port| {
        linux_vtep::joined(b, over_v6, port);
        None
    });
    mixed.converse("offloads on");
    mixed.without_offloads();
    mixed.converse("offloads off");
}

#[test]
fn linux_over_ipv4() {
    linux(false);
}

#[test]
fn linux_over_ipv6() {
    linux(true);
}

fn open_vswitch(way: Way) {
    if !privileged() {
        return;
    }
    let mixed = Mixed::new(way, |b, port| Some(OpenVSwitch::joined(b, way, port)));
    // It reads packets as they are on its interfaces: checksums unfinished, if whoever sends leaves them to the device.
    mixed.far.offload(INTERFACE, &WHOLE);
    mixed.a.namespace.offload(UNDERLAY, &WHOLE);
    mixed.converse("our offloads on");
    mixed.without_offloads();
    mixed.converse("offloads off");
}

#[test]
fn open_vswitch_by_vxlan_over_ipv4() {
    open_vswitch(Way::over(false));
}

#[test]
fn open_vswitch_by_vxlan_over_ipv6() {
    open_vswitch(Way::over(true));
}

#[test]
fn open_vswitch_by_geneve_over_ipv4() {
    open_vswitch(Way::over(false).geneve());
}

#[test]
fn open_vswitch_by_geneve_over_ipv6() {
    open_vswitch(Way::over(true).geneve());
}
