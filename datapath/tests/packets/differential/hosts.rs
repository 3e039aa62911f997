//! The hosts of the differential test: this one, one over IPv4, one over IPv6, and one that listens on another port.

use std::collections::BTreeMap;
use std::net::IpAddr;

use membership::id::NodeId;
use overlay::fact::Vtep;

pub(crate) const HERE: u8 = 1;
/// Reached over IPv4.
pub(crate) const B: u8 = 2;
/// Reached over IPv6.
pub(crate) const C: u8 = 3;
/// Without a tunnel to it.
pub(crate) const D: u8 = 4;
/// Of no cluster.
pub(crate) const STRANGER: u8 = 9;

pub(crate) const VXLAN: u16 = 4789;
pub(crate) const GENEVE: u16 = 6081;
pub(crate) const UNDERLAY_MTU: u16 = 1500;

pub(crate) fn node(number: u8) -> NodeId {
    NodeId::of_key(&[number; 32])
}

/// IPv4 and IPv6 tunnel addresses of a host, if it has them.
pub(crate) fn tunnel_ends(number: u8) -> [IpAddr; 2] {
    [
        [192, 0, 2, number].into(),
        format!("2001:db8::{number}").parse().unwrap(),
    ]
}

/// A tunnel end at the addresses of a number.
pub(crate) fn vtep(number: u8, v4: bool, v6: bool) -> Vtep {
    let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = tunnel_ends(number).into() else {
        panic!("an IPv4 and an IPv6 address")
    };
    Vtep {
        ipv4: Some(ipv4).filter(|_| v4),
        ipv6: Some(ipv6).filter(|_| v6),
        port: VXLAN,
        underlay_mtu: UNDERLAY_MTU,
    }
}

/// All hosts.
pub(crate) fn all() -> BTreeMap<NodeId, Vtep> {
    let other_port = Vtep {
        port: VXLAN + 1,
        ..vtep(D, true, true)
    };
    [
        (node(HERE), vtep(HERE, true, true)),
        (node(B), vtep(B, true, false)),
        (node(C), vtep(C, false, true)),
        (node(D), other_port),
    ]
    .into()
}
