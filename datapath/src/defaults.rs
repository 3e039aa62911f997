//! Default routes by an interface in the main table of this thread's namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol};

use crate::error::Error;
use crate::netlink::{Netlink, OUR_PROTOCOL, READ_MAX, at_most};

/// A default route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DefaultRoute {
    pub(crate) gateway: IpAddr,
    /// We added it.
    pub(crate) ours: bool,
}

/// The default routes by an interface of this thread's namespace, which may have any number of others: each table begins
/// with them. One that is behind what is read is taken for none; the kernel says so where another is added.
pub(crate) async fn default_routes(ifindex: u32) -> Result<Vec<DefaultRoute>, Error> {
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let mut routes = Vec::new();
    for family in [v4, v6] {
        let netlink = Netlink::connect()?;
        let listed = at_most(READ_MAX, netlink.handle.route().get(family).execute()).await;
        let listed = listed.map_err(Error::netlink("list the routes in the namespace"))?;
        routes.extend(listed.iter().filter_map(|message| parse(message, ifindex)));
    }
    Ok(routes)
}

impl Netlink {
    pub(crate) async fn add_default_route(&self, ifindex: u32, gateway: IpAddr) -> Result<(), Error> {
        let added = self.handle.route().add(message(ifindex, gateway)).execute().await;
        added.map_err(Error::netlink(format!(
            "add the default route by {gateway} in the namespace"
        )))
    }

    /// One that is gone is fine.
    pub(crate) async fn remove_default_route(&self, ifindex: u32, gateway: IpAddr) -> Result<(), Error> {
        let removed = self.handle.route().del(message(ifindex, gateway)).execute().await;
        let action = format!("remove the default route by {gateway} in the namespace");
        match removed.map_err(Error::netlink(action)) {
            Err(e) if e.errno() == Some(nix::libc::ESRCH) => Ok(()),
            other => other,
        }
    }
}

fn message(ifindex: u32, gateway: IpAddr) -> RouteMessage {
    let ours = RouteProtocol::Other(OUR_PROTOCOL);
    match gateway {
        IpAddr::V4(v4) => RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(v4)
            .output_interface(ifindex)
            .protocol(ours)
            .build(),
        IpAddr::V6(v6) => RouteMessageBuilder::<Ipv6Addr>::new()
            .gateway(v6)
            .output_interface(ifindex)
            .protocol(ours)
            .build(),
    }
}

fn parse(message: &RouteMessage, ifindex: u32) -> Option<DefaultRoute> {
    let header = &message.header;
    let is_main = header.table == RouteHeader::RT_TABLE_MAIN && header.destination_prefix_length == 0;
    let leaves_here = message.attributes.contains(&RouteAttribute::Oif(ifindex));
    let gateway = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Gateway(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    let ours = header.protocol == RouteProtocol::Other(OUR_PROTOCOL);
    (is_main && leaves_here).then_some(DefaultRoute {
        gateway: gateway?,
        ours,
    })
}
