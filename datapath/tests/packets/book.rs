//! The address book: who the packets of the tests are from and to. Red and blue use the same addresses.

use datapath_common::{
    Address, FLOOD_PEER, FLOOD_PORT, FloodTarget, HERE, KERNEL_TRACE, PORT_NAMESPACE, Port, Segment, Settings, mapped,
    slot,
};

/// A workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) endpoint: u32,
    pub(crate) mac: [u8; 6],
    pub(crate) v4: [u8; 4],
    pub(crate) v6: [u8; 16],
    /// Number of the host it lives on.
    pub(crate) host: u32,
    /// Host side of its interface, if it lives here.
    pub(crate) ifindex: u32,
    pub(crate) flags: u32,
}

const fn v6(network: u16, host: u16) -> [u8; 16] {
    let (n, h) = (network.to_be_bytes(), host.to_be_bytes());
    [0xfd, 0, n[0], n[1], 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, h[0], h[1]]
}

/// The link-local address of a MAC address (RFC 4291 appendix A).
pub(crate) const fn link_local(mac: [u8; 6]) -> [u8; 16] {
    [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        mac[0] ^ 2,
        mac[1],
        mac[2],
        0xff,
        0xfe,
        mac[3],
        mac[4],
        mac[5],
    ]
}

/// The interface of the test facility: the loopback, whatever its namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// This host and its peers, as numbers and tunnel addresses.
pub(crate) const HOST_B: u32 = 2;
pub(crate) const HOST_C: u32 = 3;
pub(crate) const HERE_V4: [u8; 4] = [192, 0, 2, 1];
pub(crate) const HERE_V6: [u8; 16] = v6(0xffff, 1);
pub(crate) const HOST_B_V4: [u8; 4] = [192, 0, 2, 2];
pub(crate) const HOST_B_V6: [u8; 16] = v6(0xffff, 2);
pub(crate) const HOST_C_V4: [u8; 4] = [192, 0, 2, 3];
pub(crate) const STRANGER_V4: [u8; 4] = [192, 0, 2, 99];
pub(crate) const STRANGER_V6: [u8; 16] = v6(0xffff, 99);
pub(crate) const UNDERLAY_MTU: u32 = 1600;
pub(crate) const HERE_MAC: [u8; 6] = [0x02, 0xee, 0, 0, 0, 1];
pub(crate) const NEXT_HOP_MAC: [u8; 6] = [0x02, 0xee, 0, 0, 0, 2];
pub(crate) const VXLAN: u16 = 4789;
pub(crate) const GENEVE: u16 = 6081;
pub(crate) const MARK: u32 = 0xfab;

pub(crate) const RED: u32 = 100;
pub(crate) const BLUE: u32 = 200;
/// A segment whose domain denies what no policy allows.
pub(crate) const DENIED: u32 = 300;
pub(crate) const UNUSED_VNI: u32 = 400;
pub(crate) const RED_DOMAIN: u32 = 1;
pub(crate) const BLUE_DOMAIN: u32 = 2;
pub(crate) const DENIED_DOMAIN: u32 = 3;
pub(crate) const MTU: u32 = 1450;

/// Red's workload whose interface the packets of `from_endpoint` come in by; it is a namespace here.
pub(crate) const WEB: Workload = Workload {
    endpoint: 11,
    mac: [0x02, 0xaa, 0, 0, 0, 0x11],
    v4: [10, 0, 0, 11],
    v6: v6(1, 0x11),
    host: HERE,
    ifindex: LOOPBACK,
    flags: PORT_NAMESPACE,
};
/// Red's other namespace here.
pub(crate) const API: Workload = Workload {
    endpoint: 12,
    mac: [0x02, 0xaa, 0, 0, 0, 0x12],
    v4: [10, 0, 0, 12],
    v6: v6(1, 0x12),
    host: HERE,
    ifindex: 3,
    flags: PORT_NAMESPACE,
};
/// Red's virtual machine here, behind a tap.
pub(crate) const VM: Workload = Workload {
    endpoint: 13,
    mac: [0x02, 0xaa, 0, 0, 0, 0x13],
    v4: [10, 0, 0, 13],
    v6: v6(1, 0x13),
    host: HERE,
    ifindex: 4,
    flags: 0,
};
/// Red's workload on host B, which is reached over IPv4.
pub(crate) const DB: Workload = Workload {
    endpoint: 0,
    mac: [0x02, 0xaa, 0, 0, 0, 0x21],
    v4: [10, 0, 0, 21],
    v6: v6(1, 0x21),
    host: HOST_B,
    ifindex: 0,
    flags: 0,
};
/// Red's workload on host C, to which there is no route.
pub(crate) const LOST: Workload = Workload {
    mac: [0x02, 0xaa, 0, 0, 0, 0x31],
    v4: [10, 0, 0, 31],
    v6: v6(1, 0x31),
    host: HOST_C,
    ..DB
};
/// A MAC and addresses that only blue has.
pub(crate) const BLUE_ONLY: Workload = Workload {
    mac: [0x02, 0xbb, 0, 0, 0, 0x77],
    v4: [10, 0, 0, 77],
    v6: v6(1, 0x77),
    host: HOST_B,
    ..DB
};
/// Nobody's MAC and addresses.
pub(crate) const NOBODY: Workload = Workload {
    mac: [0x02, 0xcc, 0, 0, 0, 0x99],
    v4: [10, 0, 0, 99],
    v6: v6(1, 0x99),
    host: 0,
    ..DB
};

/// The host side of `WEB`'s link.
pub(crate) const HOST_SIDE: [u8; 6] = [0x02, 0xfa, 0, 0, 0, 1];
pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];
pub(crate) const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
pub(crate) const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub(crate) const UNSPECIFIED: [u8; 16] = [0; 16];

/// A group address's MAC and the address itself, for the neighbour solicitation of `target` (RFC 4291 section 2.7.1).
pub(crate) fn solicited(target: [u8; 16]) -> ([u8; 6], [u8; 16]) {
    let [a, b, c] = [target[13], target[14], target[15]];
    (
        [0x33, 0x33, 0xff, a, b, c],
        [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c],
    )
}

impl Workload {
    /// All its addresses as they stand in the maps.
    pub(crate) fn addresses(self) -> [Address; 3] {
        [mapped(self.v4), self.v6, link_local(self.mac)]
    }
}

/// Red's other segment, behind its router, and one that the router does not know.
pub(crate) const GREEN: u32 = 101;
pub(crate) const ROUTER_MAC: [u8; 6] = [0x02, 0xdd, 0, 0, 0, 1];
pub(crate) const ROUTER_NUMBER: u32 = 5;
/// The router's addresses in red's first segment and in the other.
pub(crate) const GATEWAY: Workload = Workload {
    endpoint: 0,
    mac: ROUTER_MAC,
    v4: [10, 0, 0, 1],
    v6: v6(1, 1),
    host: datapath_common::ROUTER,
    ifindex: 0,
    flags: 0,
};
pub(crate) const FAR_GATEWAY: Workload = Workload {
    v4: [10, 0, 1, 1],
    v6: v6(2, 1),
    ..GATEWAY
};
/// Red's workload in the other segment on this host.
pub(crate) const APP: Workload = Workload {
    endpoint: 14,
    mac: [0x02, 0xaa, 0, 0, 1, 0x14],
    v4: [10, 0, 1, 14],
    v6: v6(2, 0x14),
    ifindex: 6,
    ..API
};
/// Red's workload in the other segment on host B.
pub(crate) const STORE: Workload = Workload {
    mac: [0x02, 0xaa, 0, 0, 1, 0x21],
    v4: [10, 0, 1, 21],
    v6: v6(2, 0x21),
    ..DB
};
/// A second one there: with `STORE`, two ways to the same prefix.
pub(crate) const SHOP: Workload = Workload {
    mac: [0x02, 0xaa, 0, 0, 1, 0x22],
    v4: [10, 0, 1, 22],
    v6: v6(2, 0x22),
    ..DB
};
/// Nobody's, in the other segment.
pub(crate) const VACANT: Workload = Workload {
    v4: [10, 0, 1, 99],
    v6: v6(2, 0x99),
    ..NOBODY
};

impl Workload {
    /// As `self`, but reached through the router.
    pub(crate) fn routed(self) -> Self {
        Self {
            mac: ROUTER_MAC,
            ..self
        }
    }

    /// As `self`, with other addresses.
    pub(crate) fn with(self, v4: [u8; 4], v6: [u8; 16]) -> Self {
        Self { v4, v6, ..self }
    }
}

/// The port of `WEB`, on a segment.
pub(crate) fn port(vni: u32, domain: u32) -> Port {
    Port {
        domain,
        endpoint: WEB.endpoint,
        vni,
        flags: WEB.flags,
        slot: slot::station(vni, WEB.mac),
        mac: WEB.mac,
        host_mac: HOST_SIDE,
    }
}

/// The set of `FLOODS` that tests use.
pub(crate) const FLOOD_SET: u32 = 7;

/// A workload of this host that gets group frames. Copies really leave, by the loopback.
pub(crate) const fn member(workload: &Workload) -> FloodTarget {
    FloodTarget {
        kind: FLOOD_PORT,
        target: LOOPBACK,
        endpoint: workload.endpoint,
        zero: 0,
        groups: [0; 4],
    }
}

/// A host that has workloads that get group frames.
pub(crate) const fn member_host(host: u32) -> FloodTarget {
    FloodTarget {
        kind: FLOOD_PEER,
        target: host,
        endpoint: 0,
        zero: 0,
        groups: [0; 4],
    }
}

/// A segment of a domain, without a router.
pub(crate) fn segment(domain: u32) -> Segment {
    Segment {
        domain,
        flags: 0,
        mtu: MTU,
        router: 0,
        router_mac: [0; 6],
        zero: [0; 2],
        gateway4: [0; 16],
        gateway6: [0; 16],
        flood: 0,
        flood_targets: 0,
    }
}

/// This host's settings, on a kernel without anything special.
pub(crate) fn settings() -> Settings {
    Settings {
        ipv4: mapped(HERE_V4),
        ipv6: HERE_V6,
        port: VXLAN.into(),
        geneve_port: GENEVE.into(),
        mark: MARK,
        kernel: KERNEL_TRACE,
        vxlan_device: 0,
        geneve_device: 0,
    }
}
