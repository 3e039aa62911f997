//! The way to each tunnel's far end: route, next hop and, once resolved, both MAC addresses. The kernel keeps the
//! next hops resolved (managed neighbours); what is not resolved yet, the programs leave to the kernel's own lookup.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use datapath_common::{PEER_RESOLVED, Peer};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteProtocol;
use tracing::debug;

use crate::error::Error;
use crate::netlink::{Kind, Link, Neighbour, Neighbours, Netlink, OUR_PROTOCOL, Route};
use crate::tables::{address, ip};
use crate::uplink::Uplinks;

/// The two ends of a tunnel, ours first.
pub(crate) type Ends = (IpAddr, IpAddr);

/// The tunnels as they are routed at this moment, and the interfaces by which they may arrive. Asks the kernel to keep their next hops resolved.
pub(crate) async fn route_peers(
    netlink: &Netlink,
    links: &BTreeMap<u32, Link>,
    tunnels: &BTreeMap<u32, Ends>,
) -> Result<(BTreeMap<u32, Peer>, Uplinks), Error> {
    let neighbours = if tunnels.is_empty() {
        Neighbours::new()
    } else {
        netlink.neighbours().await?
    };
    let mut peers = BTreeMap::new();
    let mut uplinks = Uplinks::new();
    for (number, ends) in tunnels {
        let way = netlink.way(*ends, links).await?;
        let peer = peer(*ends, way.route, links, &neighbours);
        keep_resolved(netlink, &peer, links, &neighbours).await;
        peers.insert(*number, peer);
        uplinks.insert(*number, way.uplinks);
    }
    Ok((peers, uplinks))
}

/// The tunnels with their MAC addresses as `neighbours` has them; routes stay.
pub(crate) fn resolve_peers(
    peers: &BTreeMap<u32, Peer>,
    links: &BTreeMap<u32, Link>,
    neighbours: &Neighbours,
) -> BTreeMap<u32, Peer> {
    peers
        .iter()
        .map(|(number, peer)| (*number, resolved(*peer, links, neighbours)))
        .collect()
}

fn peer(ends: Ends, route: Option<Route>, links: &BTreeMap<u32, Link>, neighbours: &Neighbours) -> Peer {
    // A route over the loopback interface leads back to us: it is no way to another host.
    let route = route.filter(|route| {
        links
            .get(&route.ifindex)
            .is_some_and(|link| link.kind != Kind::Loopback)
    });
    let link_mtu = route
        .and_then(|route| links.get(&route.ifindex))
        .map_or(0, |link| link.mtu);
    let unresolved = Peer {
        local: address(ends.0),
        remote: address(ends.1),
        next_hop: address(route.and_then(|route| route.gateway).unwrap_or(ends.1)),
        ifindex: route.map_or(0, |route| route.ifindex),
        mtu: route
            .and_then(|route| route.mtu)
            .map_or(link_mtu, |mtu| mtu.min(link_mtu)),
        flags: 0,
        source_mac: [0; 6],
        next_hop_mac: [0; 6],
    };
    resolved(unresolved, links, neighbours)
}

fn resolved(peer: Peer, links: &BTreeMap<u32, Link>, neighbours: &Neighbours) -> Peer {
    let ours = links
        .get(&peer.ifindex)
        .map(|link| link.mac)
        .filter(|mac| *mac != [0; 6]);
    let theirs = neighbours
        .get(&(peer.ifindex, ip(peer.next_hop)))
        .and_then(|neighbour| neighbour.mac);
    match ours.zip(theirs) {
        Some((source_mac, next_hop_mac)) => Peer {
            flags: peer.flags | PEER_RESOLVED,
            source_mac,
            next_hop_mac,
            ..peer
        },
        None => Peer {
            flags: peer.flags & !PEER_RESOLVED,
            source_mac: [0; 6],
            next_hop_mac: [0; 6],
            ..peer
        },
    }
}

/// Makes the next hop a managed neighbour, or at least starts to resolve it. An entry that an administrator fixed
/// stays as it is; a refusal costs only speed, because the programs then leave the lookup to the kernel.
async fn keep_resolved(netlink: &Netlink, peer: &Peer, links: &BTreeMap<u32, Link>, neighbours: &Neighbours) {
    let next_hop = ip(peer.next_hop);
    let known = neighbours
        .get(&(peer.ifindex, next_hop))
        .is_some_and(|neighbour| neighbour.ours || neighbour.fixed);
    let resolvable = links.get(&peer.ifindex).is_some_and(|link| !link.no_arp);
    if known || !resolvable {
        return;
    }
    let request = || {
        let mut request = netlink
            .handle
            .neighbours()
            .add(peer.ifindex, next_hop)
            .state(NeighbourState::None)
            .replace();
        let protocol = NeighbourAttribute::Protocol(RouteProtocol::Other(OUR_PROTOCOL));
        request.message_mut().attributes.push(protocol);
        request
    };
    let mut managed = request();
    managed
        .message_mut()
        .attributes
        .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    if let Err(refused) = managed.execute().await {
        debug!(%next_hop, %refused, "no managed neighbour");
        if let Err(refused) = request().flags(NeighbourFlags::Use).execute().await {
            debug!(%next_hop, %refused, "no neighbour");
        }
    }
}

/// Gives up the neighbours that no tunnel needs; returns how many.
pub(crate) async fn release_neighbours(netlink: &Netlink, peers: &BTreeMap<u32, Peer>) -> Result<usize, Error> {
    let needed: BTreeSet<(u32, IpAddr)> = peers.values().map(|peer| (peer.ifindex, ip(peer.next_hop))).collect();
    let neighbours = netlink.neighbours().await?;
    let stale = neighbours
        .iter()
        .filter(|(key, Neighbour { ours, .. })| *ours && !needed.contains(key));
    let mut released = 0;
    for ((ifindex, destination), _) in stale {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = *ifindex;
        let (family, attribute) = match destination {
            IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(*v4)),
            IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(*v6)),
        };
        message.header.family = family;
        message.attributes.push(NeighbourAttribute::Destination(attribute));
        match netlink.handle.neighbours().del(message).execute().await {
            Ok(()) => released += 1,
            Err(refused) => debug!(%destination, %refused, "the neighbour stays"),
        }
    }
    Ok(released)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn ends() -> Ends {
        ([192, 0, 2, 1].into(), [198, 51, 100, 1].into())
    }

    fn links() -> BTreeMap<u32, Link> {
        let uplink = Link {
            ifindex: 2,
            name: "eth0".into(),
            mac: OURS,
            mtu: 1500,
            ..Link::default()
        };
        let lo = Link {
            ifindex: 1,
            name: "lo".into(),
            mtu: 65_536,
            kind: Kind::Loopback,
            ..Link::default()
        };
        [(1, lo), (2, uplink)].into()
    }

    fn neighbours(ip: [u8; 4]) -> Neighbours {
        [(
            (2, ip.into()),
            Neighbour {
                mac: Some(THEIRS),
                ours: false,
                fixed: false,
            },
        )]
        .into()
    }

    #[test]
    fn a_gateway_is_the_next_hop_and_resolves() {
        let route = Route {
            ifindex: 2,
            gateway: Some([192, 0, 2, 254].into()),
            mtu: Some(1400),
        };
        let peer = peer(ends(), Some(route), &links(), &neighbours([192, 0, 2, 254]));
        assert_eq!(ip(peer.next_hop), IpAddr::from([192, 0, 2, 254]));
        assert_eq!((peer.ifindex, peer.mtu, peer.flags), (2, 1400, PEER_RESOLVED));
        assert_eq!((peer.source_mac, peer.next_hop_mac), (OURS, THEIRS));
    }

    #[test]
    fn on_the_link_the_host_itself_is_the_next_hop() {
        let route = Route {
            ifindex: 2,
            gateway: None,
            mtu: None,
        };
        let peer = peer(ends(), Some(route), &links(), &Neighbours::new());
        assert_eq!(peer.next_hop, peer.remote);
        assert_eq!((peer.mtu, peer.flags, peer.next_hop_mac), (1500, 0, [0; 6]));
    }

    #[test]
    fn no_route_and_a_route_to_ourselves_are_no_way() {
        for route in [
            None,
            Some(Route {
                ifindex: 1,
                gateway: None,
                mtu: None,
            }),
        ] {
            let peer = peer(ends(), route, &links(), &Neighbours::new());
            assert_eq!((peer.ifindex, peer.flags), (0, 0));
        }
    }

    #[test]
    fn a_neighbour_that_fails_takes_its_mac_along() {
        let route = Route {
            ifindex: 2,
            gateway: None,
            mtu: None,
        };
        let before = [(1, peer(ends(), Some(route), &links(), &neighbours([198, 51, 100, 1])))].into();
        let after = resolve_peers(&before, &links(), &Neighbours::new());
        assert_eq!((after[&1].flags, after[&1].next_hop_mac), (0, [0; 6]));
    }
}
