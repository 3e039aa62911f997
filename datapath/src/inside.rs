//! A workload's end of its veth, set up in the workload's network namespace: MAC address, MTU, addresses, default routes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::libc;
use overlay::forwarding::Port;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressProtocol};
use rtnetlink::packet_route::link::In6AddrGenMode;
use rtnetlink::{AddressMessageBuilder, LinkUnspec};

use crate::defaults::{DefaultRoute, default_routes};
use crate::error::Error;
use crate::links::{addr_gen_mode, set_ipv6};
use crate::netlink::{Netlink, OUR_PROTOCOL, Owned};
use crate::netns::Namespace;

/// How the inner end has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside {
    pub(crate) interface: String,
    pub(crate) mac: [u8; 6],
    pub(crate) mtu: u32,
    pub(crate) addresses: BTreeMap<IpAddr, u8>,
    /// Where everything else is reached; none without a router.
    pub(crate) gateways: BTreeSet<IpAddr>,
}

impl Inside {
    pub(crate) fn of(port: &Port, interface: &str, mtu: u32) -> Self {
        Self {
            interface: interface.to_owned(),
            mac: port.mac.octets(),
            mtu,
            addresses: port.addresses.clone(),
            gateways: port.gateways.clone(),
        }
    }
}

/// Sets it up, and up. Only what differs is changed.
pub(crate) async fn set_up(namespace: &Namespace, inner: u32, wanted: Inside) -> Result<(), Error> {
    namespace
        .run(async move |netlink: &Netlink| set_up_inside(netlink, inner, &wanted).await)
        .await
}

async fn set_up_inside(netlink: &Netlink, inner: u32, wanted: &Inside) -> Result<(), Error> {
    let Some(link) = netlink.link(inner).await? else {
        return Ok(());
    };
    let change = |what: &str| format!("{what} of {} in the namespace", wanted.interface);
    if link.mac != wanted.mac {
        let message = LinkUnspec::new_with_index(inner).address(wanted.mac.to_vec()).build();
        netlink.change(message, change("set the MAC address")).await?;
    }
    if link.mtu != wanted.mtu {
        netlink
            .change(
                LinkUnspec::new_with_index(inner).mtu(wanted.mtu).build(),
                change("set the MTU"),
            )
            .await?;
    }
    if !link.up && wanted.addresses.keys().any(IpAddr::is_ipv6) {
        prepare_ipv6(netlink, inner, &wanted.interface).await?;
    }
    set_addresses(netlink, inner, wanted).await?;
    if !link.up {
        netlink
            .change(
                LinkUnspec::new_with_index(inner).up().build(),
                change("set up the link"),
            )
            .await?;
    }
    set_routes(netlink, inner, wanted).await
}

/// The link-local address is the one of the MAC (RFC 4291 appendix A), usable at once: nobody else can have it.
async fn prepare_ipv6(netlink: &Netlink, inner: u32, interface: &str) -> Result<(), Error> {
    set_ipv6(interface, "disable_ipv6", "0")?;
    set_ipv6(interface, "accept_dad", "0")?;
    let action = format!("set the link-local address of {interface} in the namespace");
    netlink
        .change(addr_gen_mode(inner, In6AddrGenMode::Eui64), action)
        .await
}

async fn set_addresses(netlink: &Netlink, inner: u32, wanted: &Inside) -> Result<(), Error> {
    // A connection for each list: it may be longer than what is read of it.
    let there: Vec<Owned> = Netlink::connect()?.addresses_of(inner).await?;
    let is_wanted = |a: &Owned| wanted.addresses.get(&a.ip) == Some(&a.prefix);
    for stale in there.iter().filter(|a| a.ours && !is_wanted(a)) {
        let message = match stale.ip {
            IpAddr::V4(v4) => AddressMessageBuilder::<Ipv4Addr>::new()
                .address(v4, stale.prefix)
                .index(inner)
                .build(),
            IpAddr::V6(v6) => AddressMessageBuilder::<Ipv6Addr>::new()
                .address(v6, stale.prefix)
                .index(inner)
                .build(),
        };
        let removed = netlink.handle.address().del(message).execute().await;
        removed.map_err(Error::netlink(format!(
            "remove the address {} in the namespace",
            stale.ip
        )))?;
    }
    for (ip, prefix) in &wanted.addresses {
        if there.iter().any(|a| a.ip == *ip && a.prefix == *prefix) {
            continue;
        }
        match add_address(netlink, inner, *ip, *prefix).await {
            // The workload switched IPv6 off: that is its own affair, and its IPv4 goes on.
            Err(e) if ip.is_ipv6() && e.errno() == Some(libc::EACCES) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Without duplicate address detection: the fabric knows whose an address is.
async fn add_address(netlink: &Netlink, inner: u32, ip: IpAddr, prefix: u8) -> Result<(), Error> {
    let mut request = netlink.handle.address().add(inner, ip, prefix).replace();
    let message = request.message_mut();
    message
        .attributes
        .push(AddressAttribute::Protocol(AddressProtocol::Other(OUR_PROTOCOL)));
    if ip.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    request.execute().await.map_err(Error::netlink(format!(
        "add the address {ip}/{prefix} in the namespace"
    )))
}

/// One default route in each family in which there is a gateway. What the workload set itself stays.
async fn set_routes(netlink: &Netlink, inner: u32, wanted: &Inside) -> Result<(), Error> {
    let there = default_routes(inner).await?;
    for is_family in [IpAddr::is_ipv4, IpAddr::is_ipv6] {
        let gateway = wanted.gateways.iter().find(|ip| is_family(ip)).copied();
        let routes = there.iter().filter(|route| is_family(&route.gateway));
        let (kept, stale): (Vec<&DefaultRoute>, Vec<&DefaultRoute>) =
            routes.partition(|route| Some(route.gateway) == gateway);
        for stale in stale.iter().filter(|route| route.ours) {
            netlink.remove_default_route(inner, stale.gateway).await?;
        }
        let Some(gateway) = gateway.filter(|_| kept.is_empty()) else {
            continue;
        };
        match netlink.add_default_route(inner, gateway).await {
            // It has a default route of its own, or has switched the family off.
            Err(e)
                if matches!(
                    e.errno(),
                    Some(libc::EEXIST | libc::EACCES | libc::ENETUNREACH | libc::EHOSTUNREACH)
                ) => {}
            other => other?,
        }
    }
    Ok(())
}
