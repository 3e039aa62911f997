//! A workload: a namespace with one interface, whose other end is some host's.

use std::net::IpAddr;

use crate::identity::Identity;
use crate::namespace::Namespace;

/// Of the interfaces of workloads.
pub(crate) const MTU: u32 = 1400;
/// The interface of every workload.
pub(crate) const INTERFACE: &str = "eth0";

/// Name of the host's end of a workload's link.
pub(crate) fn host_side(identity: Identity) -> String {
    format!("host{}-{}", identity.network, identity.number)
}

/// Makes a workload and its link to a host, whose end stays down.
pub(crate) fn plugged(host: &Namespace, identity: Identity) -> Namespace {
    let workload = Namespace::new("workload");
    link(host, &workload, identity, INTERFACE);
    workload
}

/// Links a workload to a host, whose end stays down.
pub(crate) fn link(host: &Namespace, workload: &Namespace, identity: Identity, interface: &str) {
    let (host_side, mac, mtu) = (host_side(identity), identity.mac_text(), MTU.to_string());
    host.ip(&[
        "link",
        "add",
        &host_side,
        "type",
        "veth",
        "peer",
        "name",
        interface,
        "address",
        &mac,
        "mtu",
        &mtu,
        "netns",
        &workload.name,
    ]);
    workload.ip(&["link", "set", interface, "up"]);
    for address in identity.addresses() {
        add_address(workload, interface, address);
    }
}

/// Gives an interface an address of a /16 or a /64.
pub(crate) fn add_address(namespace: &Namespace, interface: &str, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => namespace.ip(&["addr", "add", &format!("{v4}/16"), "dev", interface]),
        IpAddr::V6(v6) => namespace.ip(&["addr", "add", &format!("{v6}/64"), "dev", interface, "nodad"]),
    }
}
