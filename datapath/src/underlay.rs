//! The interfaces on which tunnels arrive: those that carry our tunnel addresses, and those by which other hosts are
//! reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use datapath_common::Peer;

use crate::error::Error;
use crate::lower::Local;
use crate::netlink::{Kind, Link, Netlink, Owned};
use crate::uplink::Uplinks;

/// The underlay interfaces.
pub(crate) fn interfaces(
    local: &Local,
    links: &BTreeMap<u32, Link>,
    addresses: &[Owned],
    peers: &BTreeMap<u32, Peer>,
    uplinks: &Uplinks,
) -> BTreeSet<u32> {
    let carrying = addresses
        .iter()
        .filter(|owned| local.addresses().any(|ip| ip == owned.ip))
        .map(|o| o.ifindex);
    carrying
        .chain(peers.values().map(|peer| peer.ifindex))
        .chain(uplinks.values().flatten().copied())
        .filter(|ifindex| links.get(ifindex).is_some_and(|link| link.kind != Kind::Loopback))
        .collect()
}

/// MTU of the interface that carries an address of ours, in bytes.
pub(crate) async fn mtu(address: IpAddr) -> Result<u32, Error> {
    let netlink = Netlink::connect()?;
    let addresses = netlink.addresses().await?;
    let carrying = addresses
        .iter()
        .find(|owned| owned.ip == address)
        .ok_or(Error::Address(address))?;
    let links = netlink.links().await?;
    links
        .get(&carrying.ifindex)
        .map(|link| link.mtu)
        .ok_or(Error::Address(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_arrive_where_our_address_is_and_where_they_leave() {
        let link = |ifindex, kind| {
            (
                ifindex,
                Link {
                    ifindex,
                    kind,
                    ..Link::default()
                },
            )
        };
        let links = [
            link(1, Kind::Loopback),
            link(2, Kind::Other),
            link(3, Kind::Other),
            link(4, Kind::Other),
            link(5, Kind::Other),
        ]
        .into();
        let owned = |ifindex, ip: [u8; 4]| Owned {
            ifindex,
            ip: ip.into(),
            prefix: 24,
            ours: false,
        };
        let addresses = [
            owned(1, [192, 0, 2, 1]),
            owned(2, [192, 0, 2, 1]),
            owned(4, [192, 0, 2, 9]),
        ];
        let peer = |ifindex| Peer {
            local: [0; 16],
            remote: [0; 16],
            next_hop: [0; 16],
            ifindex,
            mtu: 1500,
            flags: 0,
            source_mac: [0; 6],
            next_hop_mac: [0; 6],
        };
        let peers = [(1, peer(3)), (2, peer(0))].into();
        let local = Local {
            ipv4: Some([192, 0, 2, 1].into()),
            ipv6: None,
            port: 4789,
            geneve_port: 6081,
            strict_vxlan: false,
        };
        let uplinks = [(1, [1, 3, 5].into())].into();
        assert_eq!(
            interfaces(&local, &links, &addresses, &peers, &uplinks),
            [2, 3, 5].into()
        );
    }
}
