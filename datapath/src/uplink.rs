//! Several uplinks: the next hops of one route to a host (ECMP). Tunnels may arrive by each, and leave by one that has a
//! carrier: by the one that the kernel chooses for the two ends, or, where that has lost its carrier, by another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt as _;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage, RouteNextHop, RouteNextHopFlags};

use crate::error::Error;
use crate::netlink::{Link, Netlink, Route, gateway, route_mtu};
use crate::nexthop::Ends;

/// Interfaces by which the far end of each tunnel is reached.
pub(crate) type Uplinks = BTreeMap<u32, BTreeSet<u32>>;

/// The way to a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// By which packets leave; `None` if there is none.
    pub(crate) route: Option<Route>,
    /// By which they may arrive.
    pub(crate) uplinks: BTreeSet<u32>,
}

impl Netlink {
    /// The way between two ends.
    pub(crate) async fn way(&self, ends: Ends, links: &BTreeMap<u32, Link>) -> Result<Way, Error> {
        let Some(route) = self.route(ends.0, ends.1).await? else {
            return Ok(Way::default());
        };
        let hops = self.next_hops(ends).await?;
        let mut uplinks: BTreeSet<u32> = hops.iter().map(|hop| hop.ifindex).collect();
        let route = choose(route, &hops, links, ends.1);
        uplinks.insert(route.ifindex);
        Ok(Way {
            route: Some(route),
            uplinks,
        })
    }

    /// The next hops of a route that has several; none if it has one.
    async fn next_hops(&self, (local, remote): Ends) -> Result<Vec<Route>, Error> {
        let mut message = match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(remote, 32)
                .source_prefix(local, 32)
                .build(),
            (IpAddr::V6(local), IpAddr::V6(remote)) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(remote, 128)
                .source_prefix(local, 128)
                .build(),
            _ => return Ok(Vec::new()),
        };
        // The whole entry of the table, not only what the kernel makes of it for these two ends.
        message.header.flags.insert(RouteFlags::FibMatch);
        match self.handle.route().get(message).execute().try_next().await {
            Ok(message) => Ok(message.as_ref().map(parse_next_hops).unwrap_or_default()),
            Err(rtnetlink::Error::NetlinkError(_)) => Ok(Vec::new()),
            Err(e) => Err(Error::netlink(format!("look up the next hops to {remote}"))(e)),
        }
    }
}

fn parse_next_hops(message: &RouteMessage) -> Vec<Route> {
    let hops = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    let mtu = route_mtu(message);
    let usable = |hop: &&RouteNextHop| !hop.flags.contains(RouteNextHopFlags::Dead);
    let hops = hops.into_iter().flatten().filter(usable);
    hops.map(|hop| Route {
        ifindex: hop.interface_index,
        gateway: hop.attributes.iter().find_map(gateway),
        mtu,
    })
    .collect()
}

/// The kernel's choice while its link has a carrier, or else a next hop whose link has one. Hosts spread over them.
fn choose(route: Route, hops: &[Route], links: &BTreeMap<u32, Link>, remote: IpAddr) -> Route {
    let lives = |ifindex| links.get(&ifindex).is_some_and(|link: &Link| link.up && link.carrier);
    if lives(route.ifindex) {
        return route;
    }
    let living: Vec<&Route> = hops.iter().filter(|hop| lives(hop.ifindex)).collect();
    let last = match remote {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    let chosen = living.get(usize::from(last) % living.len().max(1));
    chosen.map_or(route, |hop| **hop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(ifindex: u32) -> Route {
        Route {
            ifindex,
            gateway: Some([198, 51, 100, ifindex as u8].into()),
            mtu: None,
        }
    }

    fn links(alive: &[u32]) -> BTreeMap<u32, Link> {
        let link = |ifindex| Link {
            ifindex,
            up: true,
            carrier: alive.contains(&ifindex),
            ..Link::default()
        };
        (2..=4).map(|ifindex| (ifindex, link(ifindex))).collect()
    }

    #[test]
    fn packets_leave_by_a_link_that_lives() {
        let hops = [hop(2), hop(3), hop(4)];
        let remote = |last| IpAddr::from([192, 0, 2, last]);
        let chosen = |hops: &[Route], alive: &[u32], last| choose(hop(2), hops, &links(alive), remote(last)).ifindex;
        assert_eq!(chosen(&hops, &[2, 3, 4], 7), 2, "the kernel's choice");
        assert_eq!(chosen(&hops, &[3], 7), 3);
        assert_eq!([0, 1].map(|last| chosen(&hops, &[3, 4], last)), [3, 4], "they spread");
        assert_eq!(chosen(&hops, &[], 7), 2, "there is nothing better");
        assert_eq!(chosen(&[], &[3, 4], 7), 2, "there is only one");
    }

    #[test]
    fn dead_next_hops_are_none() {
        let next = |ifindex, flags| {
            let mut hop = RouteNextHop::default();
            (hop.interface_index, hop.flags) = (ifindex, flags);
            hop
        };
        let mut message = RouteMessage::default();
        let hops = vec![next(2, RouteNextHopFlags::Dead), next(3, RouteNextHopFlags::Onlink)];
        message.attributes.push(RouteAttribute::MultiPath(hops));
        let parsed: Vec<u32> = parse_next_hops(&message).iter().map(|hop| hop.ifindex).collect();
        assert_eq!(parsed, [3]);
    }
}
