//! The hosts of the differential test: this one, one over IPv4, one over IPv6, and one that nobody can reach.

use std::collections::BTreeMap;
use std::net::IpAddr;

use membership::id::NodeId;
use overlay::fact::Vtep;

pub(crate) const HERE: u8 = 1;
/// Reached over IPv4.
pub(crate) const B: u8 = 2;
/// Reached over IPv6.
pub(crate) const C: u8 = 3;
/// Without a tunnel end.
pub(crate) const D: u8 = 4;
/// Of no cluster.
pub(crate) const STRANGER: u8 = 9;

pub(crate) const VXLAN: u16 = 4789;
pub(crate) const UNDERLAY_MTU: u16 = 1500;

pub(crate) fn node(number: u8) -> NodeId {
    NodeId::of_key(&[number; 32])
}

/// Its IPv4 and IPv6 tunnel addresses, if it has them.
pub(crate) fn tunnel_ends(number: u8) -> [IpAddr; 2] {
    [
        [192, 0, 2, number].into(),
        format!("2001:db8::{number}").parse().unwrap(),
    ]
}

/// All tunnel ends but D's.
pub(crate) fn vteps() -> BTreeMap<NodeId, Vtep> {
    let vtep = |(number, v4, v6)| {
        let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = tunnel_ends(number).into() else {
            panic!("an IPv4 and an IPv6 address")
        };
        let vtep = Vtep {
            ipv4: Some(ipv4).filter(|_| v4),
            ipv6: Some(ipv6).filter(|_| v6),
            port: VXLAN,
            underlay_mtu: UNDERLAY_MTU,
        };
        (node(number), vtep)
    };
    [(HERE, true, true), (B, true, false), (C, false, true)]
        .map(vtep)
        .into()
}
