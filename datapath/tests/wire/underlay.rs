//! The wire between two hosts and their addresses on it.

use std::net::Ipv6Addr;

use datapath_common::{PEER_RESOLVED, Peer, mapped};

use crate::namespace::{Namespace, ip};

/// The underlay interface of every host.
pub(crate) const UNDERLAY: &str = "underlay0";
pub(crate) const UNDERLAY_MTU: u32 = 1500;
/// The hosts.
pub(crate) const A: u32 = 1;
pub(crate) const B: u32 = 2;

/// How a host reaches the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) v6: bool,
    /// Whether the programs know the next hop's MAC, or the kernel resolves it.
    pub(crate) resolved: bool,
    pub(crate) geneve: bool,
}

impl Way {
    /// VXLAN over IPv4, or over IPv6.
    pub(crate) const fn over(v6: bool) -> Self {
        Self {
            v6,
            resolved: true,
            geneve: false,
        }
    }

    pub(crate) const fn geneve(self) -> Self {
        Self { geneve: true, ..self }
    }
}

pub(crate) fn v4(host: u32) -> [u8; 4] {
    [192, 0, 2, host as u8]
}

pub(crate) fn v6(host: u32) -> [u8; 16] {
    [0xfd, 0xee, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host as u8]
}

fn mac(host: u32) -> [u8; 6] {
    [0x02, 0xee, 0, 0, 0, host as u8]
}

/// A host's tunnel address, as iproute2 writes it.
pub(crate) fn address_text(host: u32, over_v6: bool) -> String {
    if over_v6 {
        Ipv6Addr::from(v6(host)).to_string()
    } else {
        format!("192.0.2.{host}")
    }
}

pub(crate) fn mac_text(host: u32) -> String {
    format!("02:ee:00:00:00:{host:02x}")
}

/// Two namespaces on one wire, with no addresses yet.
pub(crate) fn linked(a: &Namespace, b: &Namespace) {
    ip(&[
        "link", "add", UNDERLAY, "netns", &a.name, "type", "veth", "peer", "name", UNDERLAY, "netns", &b.name,
    ]);
}

/// Gives a host's underlay interface its addresses and waits until it carries packets.
pub(crate) fn addressed(namespace: &Namespace, host: u32, interface: &str) {
    let (mac, mtu) = (mac_text(host), UNDERLAY_MTU.to_string());
    namespace.ip(&["link", "set", interface, "address", &mac, "mtu", &mtu]);
    namespace.ip(&["addr", "add", &format!("192.0.2.{host}/24"), "dev", interface]);
    let v6 = format!("{}/64", Ipv6Addr::from(v6(host)));
    namespace.ip(&["addr", "add", &v6, "dev", interface, "nodad"]);
    namespace.ip(&["link", "set", interface, "up"]);
}

/// How host `from`, in its namespace, reaches host `to`.
pub(crate) fn peer(namespace: &Namespace, way: Way, from: u32, to: u32) -> Peer {
    let address = |host| if way.v6 { v6(host) } else { mapped(v4(host)) };
    Peer {
        local: address(from),
        remote: address(to),
        next_hop: address(to),
        ifindex: namespace.ifindex(UNDERLAY),
        mtu: UNDERLAY_MTU,
        flags: if way.resolved { PEER_RESOLVED } else { 0 },
        source_mac: mac(from),
        next_hop_mac: mac(to),
    }
}
