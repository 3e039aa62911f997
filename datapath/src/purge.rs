//! Removes all that a node made in the kernel, and only that; also when its daemon is gone and things are half there,
//! and when interfaces go while it works.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aya::programs::TcAttachType;
use membership::id::NodeId;
use rtnetlink::packet_route::tc::TcHandle;

use crate::attach::{self, Hook};
use crate::bpffs::{Pins, entries, parse_hook};
use crate::device;
use crate::error::Error;
use crate::hurry::Hurry;
use crate::links::{is_unfinished, owner_of};
use crate::netlink::{Link, Netlink};
use crate::nexthop::release_neighbours;

/// Removes every pin, link and device that `node` made; what was removed, a line each.
pub async fn purge(bpffs: &Path, node: NodeId) -> Result<Vec<String>, Error> {
    let netlink = Netlink::connect()?;
    let pins = Pins::new(bpffs, node);
    let mut lines = Vec::new();
    // First, as long as the pins say that there may be some: a purge that ends half way is repeated.
    if pins.node().exists() {
        let released = release_neighbours(&netlink, &BTreeMap::new()).await?;
        lines.extend((released > 0).then(|| format!("{released} managed neighbours")));
    }
    purge_veths(&netlink, node, &mut lines).await?;
    device::purge(&netlink, node, &mut lines).await?;
    let links = netlink.links().await?;
    if pins.node().exists() {
        purge_pins(&netlink, node, &pins, &links, &mut lines).await?;
        // Of other nodes there may be more in it.
        let _ = pins.node().parent().map(fs::remove_dir);
    }
    Ok(lines)
}

/// Takes stubs and qdiscs off `links`, of which some may be gone by now, and removes the pins.
pub(crate) async fn purge_pins(
    netlink: &Netlink,
    node: NodeId,
    pins: &Pins,
    links: &BTreeMap<u32, Link>,
    lines: &mut Vec<String>,
) -> Result<(), Error> {
    Hurry::end_former(pins);
    purge_hooks(netlink, node, pins, links, lines).await?;
    purge_qdiscs(netlink, pins, links, lines).await?;
    fs::remove_dir_all(pins.node()).map_err(Error::file("remove the pins", pins.node()))?;
    lines.push(format!("pins {}", pins.node().display()));
    Ok(())
}

async fn purge_veths(netlink: &Netlink, node: NodeId, lines: &mut Vec<String>) -> Result<(), Error> {
    for link in netlink.links().await?.values() {
        if let Some((domain, endpoint)) = owner_of(link, node) {
            netlink.delete(link).await?;
            lines.push(format!("veth {} of {domain}/{endpoint}", link.name));
        } else if is_unfinished(link, node) {
            netlink.delete(link).await?;
            lines.push(format!("{}, which was being made", link.name));
        }
    }
    Ok(())
}

/// An interface of somebody else's is set down before its stubs go: its workload never meets the host's stack.
async fn purge_hooks(
    netlink: &Netlink,
    node: NodeId,
    pins: &Pins,
    links: &BTreeMap<u32, Link>,
    lines: &mut Vec<String>,
) -> Result<(), Error> {
    for pin in entries(&pins.hooks())? {
        let Some((ifindex, hook, mechanism)) = parse_hook(&pin) else {
            continue;
        };
        let link = links.get(&ifindex);
        // Another interface may have got the index of one that is gone.
        if let (Some(link), Hook::FromEndpoint | Hook::ToEndpoint) = (link, hook)
            && link.up
            && attach::runs(netlink, &pin, link, (hook, mechanism), node).await?
        {
            match netlink.down(link).await {
                Err(e) if e.is_gone() => {}
                other => other?,
            }
        }
        attach::detach(&pin, link.map(|link| link.name.as_str()), hook, mechanism, node)?;
        lines.extend(link.map(|link| format!("{} ({}) on {}", hook.program(), mechanism.name(), link.name)));
    }
    Ok(())
}

/// Removes the clsact qdiscs that we added, unless somebody else's filter is on one.
async fn purge_qdiscs(
    netlink: &Netlink,
    pins: &Pins,
    links: &BTreeMap<u32, Link>,
    lines: &mut Vec<String>,
) -> Result<(), Error> {
    for marker in entries(&pins.qdiscs())? {
        let ifindex = marker
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.parse::<u32>().ok());
        let Some(link) = ifindex.and_then(|ifindex| links.get(&ifindex)) else {
            continue;
        };
        let ingress = netlink.filters(link, TcAttachType::Ingress).await?;
        let egress = netlink.filters(link, TcAttachType::Egress).await?;
        if ingress.is_empty() && egress.is_empty() {
            let mut qdisc = netlink
                .handle
                .qdisc()
                .del(i32::try_from(link.ifindex).unwrap_or_default());
            let header = &mut qdisc.message_mut().header;
            header.parent = TcHandle::CLSACT;
            header.handle = TcHandle::from(0xffff_0000);
            let removed = qdisc.execute().await;
            match removed.map_err(Error::netlink(format!("remove clsact from {}", link.name))) {
                // Somebody removed it, or the interface is gone or another one that got the index.
                Err(e) if e.is_gone() || matches!(e.errno(), Some(nix::libc::ENOENT | nix::libc::EINVAL)) => {}
                other => {
                    other?;
                    lines.push(format!("clsact on {}", link.name));
                }
            }
        }
    }
    Ok(())
}
