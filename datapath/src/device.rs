//! The kernel's own tunnel devices (`vxlan external`, `geneve external`): one for each encapsulation in use, up, without
//! a stack behind it, kept over restarts, made again where somebody deletes it. A device owns the UDP port, so that
//! network cards and the kernel aggregate tunnelled TCP, and carries what the programs cannot (`CARRIERS.md`). The
//! programs work without it: what is in its way is told, never an error of the datapath.

use std::collections::BTreeMap;

use datapath_common::SEGMENT_GENEVE;
use membership::id::NodeId;
use overlay::object::domain::Encapsulation;
use rtnetlink::packet_route::link::{InfoData, InfoGeneve, InfoVxlan, LinkAttribute, LinkInfo};
use rtnetlink::{LinkGeneve, LinkMessageBuilder, LinkVxlan};
use tracing::{info, warn};

use crate::attach::Hook;
use crate::datapath::Datapath;
use crate::error::Error;
use crate::links::{ALIAS, fnv1a, group};
use crate::netlink::{Kind, Link, Netlink};

/// Source ports of tunnels (RFC 7348 section 5).
const SOURCE_PORTS: (u16, u16) = (49_152, 65_535);
/// Looks between two tries to make what could not be made.
const REST: u32 = 10;

/// A tunnel device, for an operator to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `vxlan` or `geneve`.
    pub encapsulation: &'static str,
    /// Its name.
    pub name: String,
    /// Its UDP port.
    pub port: u16,
    /// Why it is not in use and what to do; nothing if it is.
    pub problem: Option<String>,
}

/// What the kernel says of a tunnel device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tunnel {
    encapsulation: Encapsulation,
    port: u16,
    /// Where to is told with each packet.
    external: bool,
}

/// The devices, wanted and made.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    made: BTreeMap<&'static str, Made>,
    /// Looks until what could not be made is tried again.
    rest: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    device: Device,
    /// 0 where there is a problem.
    ifindex: u32,
}

impl Devices {
    pub(crate) fn status(&self) -> Vec<Device> {
        self.made.values().map(|made| made.device.clone()).collect()
    }

    /// The index of a device that is in use, else 0.
    pub(crate) fn index(&self, encapsulation: Encapsulation) -> u32 {
        self.made.get(word(encapsulation)).map_or(0, |made| made.ifindex)
    }

    /// What could not be made, and what nobody needs, is looked at next time.
    pub(crate) fn look_soon(&mut self) {
        self.rest = 0;
    }

    /// The indices of those in use.
    pub(crate) fn indices(&self) -> impl Iterator<Item = u32> {
        self.made.values().map(|made| made.ifindex).filter(|index| *index != 0)
    }
}

impl Datapath {
    /// Makes the devices that are wanted, as they should be, and removes those that are not, unless another build's
    /// programs use them. What could not be made before is tried with `again` only.
    pub(crate) async fn keep_devices(&mut self, again: bool) -> Result<(), Error> {
        for encapsulation in [Encapsulation::Vxlan, Encapsulation::Geneve] {
            let known = self.devices.made.get(word(encapsulation));
            match self.port_of(encapsulation) {
                None if self.succession.is_pending() => {}
                None if known.is_some() || again => self.remove_device(encapsulation).await?,
                None => {}
                Some(_) if !again && known.is_some_and(|made| made.ifindex == 0) => {}
                Some(port) => self.keep_device(encapsulation, port).await,
            }
        }
        let (vxlan_device, geneve_device) = (
            self.devices.index(Encapsulation::Vxlan),
            self.devices.index(Encapsulation::Geneve),
        );
        let Some(mut settings) = self.maps.settings()? else {
            return Ok(());
        };
        if (settings.vxlan_device, settings.geneve_device) != (vxlan_device, geneve_device) {
            (settings.vxlan_device, settings.geneve_device) = (vxlan_device, geneve_device);
            self.maps.set_settings(settings)?;
        }
        Ok(())
    }

    /// To be called at every look.
    pub(crate) async fn look_at_devices(&mut self) -> Result<(), Error> {
        self.devices.rest = self.devices.rest.saturating_sub(1);
        if self.devices.rest > 0 {
            return Ok(());
        }
        self.devices.rest = REST;
        self.keep_devices(true).await
    }

    /// The UDP port of an encapsulation that is in use.
    fn port_of(&self, encapsulation: Encapsulation) -> Option<u16> {
        let uses_geneve = || {
            let mut segments = self.installed.tables().segments.values();
            segments.any(|segment| segment.flags & SEGMENT_GENEVE != 0)
        };
        let (vxlan, geneve) = (self.local.port, self.local.geneve_port);
        match encapsulation {
            Encapsulation::Vxlan => Some(vxlan).filter(|port| *port != 0),
            Encapsulation::Geneve => Some(geneve).filter(|port| *port != 0 && *port != vxlan && uses_geneve()),
        }
    }

    async fn keep_device(&mut self, encapsulation: Encapsulation, port: u16) {
        let name = name(self.node, encapsulation);
        let tunnel = Tunnel {
            encapsulation,
            port,
            external: true,
        };
        let (ifindex, problem) = match self.ready_device(&name, tunnel).await {
            Ok(ifindex) => (ifindex, None),
            Err(error) => (0, Some(problem(&error, &name, tunnel))),
        };
        let device = Device {
            encapsulation: word(encapsulation),
            name,
            port,
            problem,
        };
        let made = Made { device, ifindex };
        if self.devices.made.get(word(encapsulation)) != Some(&made) {
            let (name, problem) = (&made.device.name, &made.device.problem);
            match problem {
                None => info!(name, port, "the tunnel device is up"),
                Some(problem) => warn!(name, port, problem, "no tunnel device"),
            }
            self.devices.made.insert(word(encapsulation), made);
        }
    }

    /// The order matters, as for a workload's interface: it comes up when our stub is on it.
    async fn ready_device(&mut self, name: &str, tunnel: Tunnel) -> Result<u32, Error> {
        let alias = alias(self.node, tunnel.encapsulation);
        // What was seen last may be older than what we made.
        let link = match self.netlink.link_named(name).await? {
            Some(link) if link.kind == Kind::Tunnel(tunnel) && (link.alias.is_empty() || link.alias == alias) => link,
            Some(link) if link.alias == alias && self.succession.is_pending() => return Err(Error::InUse(link.name)),
            Some(link) if link.alias == alias => {
                self.netlink.delete(&link).await?;
                self.make_device(name, tunnel).await?
            }
            _ => self.make_device(name, tunnel).await?,
        };
        if link.alias != alias {
            self.netlink.set_alias(&link, &alias).await?;
        }
        if !self.stubs.attached.contains(&(link.ifindex, Hook::FromDevice)) {
            self.stubs.attach(&link, Hook::FromDevice)?;
        }
        if !link.no_arp || !link.up {
            self.netlink.quiet(&link, link.mtu).await?;
        }
        if !link.up {
            self.netlink.up(&link).await?;
        }
        Ok(link.ifindex)
    }

    async fn make_device(&self, name: &str, tunnel: Tunnel) -> Result<Link, Error> {
        create(&self.netlink, self.node, name, tunnel).await?;
        let made = self.netlink.link_named(name).await?;
        made.ok_or(Error::Part("tunnel device"))
    }

    async fn remove_device(&mut self, encapsulation: Encapsulation) -> Result<(), Error> {
        self.devices.made.remove(word(encapsulation));
        let found = self.netlink.link_named(&name(self.node, encapsulation)).await?;
        match found.filter(|link| link.alias == alias(self.node, encapsulation)) {
            Some(link) => self.netlink.delete(&link).await,
            None => Ok(()),
        }
    }
}

/// Removes the devices of a node; what was removed, a line each.
pub(crate) async fn purge(netlink: &Netlink, node: NodeId, lines: &mut Vec<String>) -> Result<(), Error> {
    let aliases = [Encapsulation::Vxlan, Encapsulation::Geneve].map(|encapsulation| alias(node, encapsulation));
    for link in netlink.links().await?.values() {
        if aliases.contains(&link.alias) {
            netlink.delete(link).await?;
            lines.push(format!("tunnel device {}", link.name));
        }
    }
    Ok(())
}

/// What the description of a link says of a tunnel.
pub(crate) fn tunnel(info: &LinkInfo) -> Option<Tunnel> {
    let LinkInfo::Data(data) = info else { return None };
    let mut tunnel = Tunnel {
        encapsulation: Encapsulation::Vxlan,
        port: 0,
        external: false,
    };
    match data {
        InfoData::Vxlan(infos) => infos.iter().for_each(|info| match info {
            InfoVxlan::Port(port) => tunnel.port = *port,
            InfoVxlan::CollectMetadata(external) => tunnel.external = *external,
            _ => {}
        }),
        InfoData::Geneve(infos) => {
            tunnel.encapsulation = Encapsulation::Geneve;
            infos.iter().for_each(|info| match info {
                InfoGeneve::Port(port) => tunnel.port = *port,
                InfoGeneve::CollectMetadata => tunnel.external = true,
                _ => {}
            });
        }
        _ => return None,
    }
    Some(tunnel)
}

/// Makes a device, down. It takes packets without a UDP checksum over IPv6, as the programs send them.
async fn create(netlink: &Netlink, node: NodeId, name: &str, tunnel: Tunnel) -> Result<(), Error> {
    let group = LinkAttribute::Group(group(node));
    let message = match tunnel.encapsulation {
        Encapsulation::Vxlan => LinkMessageBuilder::<LinkVxlan>::new(name)
            .collect_metadata(true)
            .port(tunnel.port)
            .port_range(SOURCE_PORTS.0, SOURCE_PORTS.1)
            .learning(false)
            .udp_zero_csum6_rx(true)
            .append_extra_attribute(group)
            .build(),
        Encapsulation::Geneve => LinkMessageBuilder::<LinkGeneve>::new(name)
            .append_info_data(InfoGeneve::CollectMetadata)
            .append_info_data(InfoGeneve::Port(tunnel.port))
            .append_info_data(InfoGeneve::UdpZeroCsum6Rx(true))
            .append_extra_attribute(group)
            .build(),
    };
    let made = netlink.handle.link().add(message).execute().await;
    made.map_err(Error::netlink(format!("make the tunnel device {name}")))
}

/// Why a device is not there, and what to do.
fn problem(error: &Error, name: &str, tunnel: Tunnel) -> String {
    let (word, port) = (word(tunnel.encapsulation), tunnel.port);
    let loses = "until then tunnelled TCP is not aggregated, and super-packets of workloads' own tunnels are dropped";
    match error.errno() {
        Some(nix::libc::EADDRINUSE) => {
            format!("UDP port {port} is in use: see `ss -ulpn` and `ip -d link show type {word}`; {loses}")
        }
        Some(nix::libc::EEXIST) => format!(
            "another {word} device has UDP port {port}, or an interface is named {name}: see `ip -d link`; {loses}"
        ),
        Some(nix::libc::EOPNOTSUPP) => format!("this kernel has no {word} devices: load the module {word}; {loses}"),
        _ => format!("{}; {loses}", error.words()),
    }
}

fn word(encapsulation: Encapsulation) -> &'static str {
    match encapsulation {
        Encapsulation::Vxlan => "vxlan",
        Encapsulation::Geneve => "geneve",
    }
}

/// `fabvx` or `fabgn` and 50 bits of a hash, 15 characters (IFNAMSIZ less the final zero).
fn name(node: NodeId, encapsulation: Encapsulation) -> String {
    let prefix = match encapsulation {
        Encapsulation::Vxlan => "fabvx",
        Encapsulation::Geneve => "fabgn",
    };
    let hash = fnv1a(node.as_str().as_bytes());
    let digit = |place: u32| char::from_digit((hash >> (5 * place) & 0x1f) as u32, 32).unwrap_or('0');
    prefix.chars().chain((0..10).map(digit)).collect()
}

/// By which an operator and a later run know it.
fn alias(node: NodeId, encapsulation: Encapsulation) -> String {
    format!("{ALIAS} {node} device {}", word(encapsulation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_and_is_a_nodes_own() {
        let nodes = [NodeId::of_key(&[1; 32]), NodeId::of_key(&[2; 32])];
        let names = nodes.map(|node| name(node, Encapsulation::Vxlan));
        assert!(names.iter().all(|name| name.len() == 15), "{names:?}");
        assert_ne!(names[0], names[1]);
        assert_ne!(names[0], name(nodes[0], Encapsulation::Geneve));
    }

    #[test]
    fn a_problem_says_what_to_do() {
        let tunnel = Tunnel {
            encapsulation: Encapsulation::Vxlan,
            port: 4789,
            external: true,
        };
        let error = |errno| Error::Netlink {
            action: "set fabvx up".into(),
            source: std::io::Error::from_raw_os_error(errno),
        };
        for (errno, expected) in [
            (nix::libc::EADDRINUSE, "UDP port 4789 is in use"),
            (nix::libc::EEXIST, "is named fabvx"),
            (nix::libc::EOPNOTSUPP, "load the module vxlan"),
            (nix::libc::EPERM, "cannot set fabvx up"),
        ] {
            let text = problem(&error(errno), "fabvx", tunnel);
            assert!(text.contains(expected), "{text}");
        }
    }
}
