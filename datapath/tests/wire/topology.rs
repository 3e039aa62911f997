//! Two hosts on one wire.

use std::net::Ipv6Addr;

use datapath_common::{PEER_RESOLVED, Peer, mapped};

use crate::host::{Host, Identity, UNDERLAY};
use crate::namespace::{Namespace, ip};

/// The workloads: two at host A, one at host B.
pub(crate) const ONE: Identity = Identity(1);
pub(crate) const TWO: Identity = Identity(2);
pub(crate) const FAR: Identity = Identity(9);

const A: u32 = 1;
const B: u32 = 2;

/// How host A reaches host B, and back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    pub(crate) v6: bool,
    /// Whether the programs know the next hop's MAC, or the kernel resolves it.
    pub(crate) resolved: bool,
}

/// Host A, host B.
pub(crate) struct Wire {
    pub(crate) a: Host,
    pub(crate) b: Host,
}

fn v4(host: u32) -> [u8; 4] {
    [192, 0, 2, host as u8]
}

fn v6(host: u32) -> [u8; 16] {
    [0xfd, 0xee, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host as u8]
}

fn mac(host: u32) -> [u8; 6] {
    [0x02, 0xee, 0, 0, 0, host as u8]
}

impl Wire {
    pub(crate) fn new(way: Way) -> Self {
        let (a, b) = (Namespace::new("a"), Namespace::new("b"));
        ip(&[
            "link", "add", UNDERLAY, "netns", &a.name, "type", "veth", "peer", "name", UNDERLAY, "netns", &b.name,
        ]);
        for (namespace, host) in [(&a, A), (&b, B)] {
            namespace.ip(&[
                "link",
                "set",
                UNDERLAY,
                "address",
                &format!("02:ee:00:00:00:{host:02x}"),
                "mtu",
                "1500",
            ]);
            namespace.ip(&["addr", "add", &format!("192.0.2.{host}/24"), "dev", UNDERLAY]);
            namespace.ip(&[
                "addr",
                "add",
                &format!("{}/64", Ipv6Addr::from(v6(host))),
                "dev",
                UNDERLAY,
                "nodad",
            ]);
            namespace.ip(&["link", "set", UNDERLAY, "up"]);
        }
        for namespace in [&a, &b] {
            namespace.ready(UNDERLAY);
        }
        let mut wire = Self {
            a: Host::new(a, v4(A), v6(A)),
            b: Host::new(b, v4(B), v6(B)),
        };
        wire.a.peer(B, wire.peer(way, A, B));
        wire.b.peer(A, wire.peer(way, B, A));
        wire.a.remote(FAR, B);
        wire.b.remote(ONE, A);
        wire.b.remote(TWO, A);
        wire
    }

    fn peer(&self, way: Way, from: u32, to: u32) -> Peer {
        let address = |host| if way.v6 { v6(host) } else { mapped(v4(host)) };
        let namespace = if from == A {
            &self.a.namespace
        } else {
            &self.b.namespace
        };
        Peer {
            local: address(from),
            remote: address(to),
            next_hop: address(to),
            ifindex: namespace.ifindex(UNDERLAY),
            mtu: 1500,
            flags: if way.resolved { PEER_RESOLVED } else { 0 },
            source_mac: mac(from),
            next_hop_mac: mac(to),
        }
    }
}
