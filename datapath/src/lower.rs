//! From what a domain wants on this host to the bytes of the maps. Pure: interfaces, numbers, tunnels and what is
//! installed of the domain are given. What is installed matters for numbers only: sets of rules, of next hops, of targets of
//! group frames and routers that are as they are wanted keep theirs, and groups keep their bits, so that what does not change is not written.

#[cfg(test)]
mod again;
#[cfg(test)]
pub(crate) mod fixture;
mod floods;
mod groups;
mod routes;
mod rules;
mod stations;
#[cfg(test)]
mod tests;
mod tunnels;

use std::collections::BTreeMap;
use std::net::IpAddr;

use datapath_common as map;
use overlay::forwarding::{Forwarding, Segment};
use overlay::name::{EndpointName, NetworkName};
use overlay::object::domain::Encapsulation;

pub(crate) use groups::{and, looked_at, or, without};
pub(crate) use tunnels::{Local, Tunnels, keep_tunnels_of, number_tunnels};

use crate::fresh::Fresh;
use crate::numbers::DomainNumbers;
use crate::tables::{Tables, address};

/// The host side of a port's interface, attached and ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interface {
    /// Its index.
    pub ifindex: u32,
    /// Its own MAC address; zero for a tap, whose MAC is the workload's business.
    pub mac: [u8; 6],
    /// Whether its other end is in another network namespace.
    pub namespace: bool,
}

/// Number of the tunnel of stations whose host has none: no host has it, so that packets to them have no route.
pub(crate) const NOWHERE: u32 = u32::MAX - 1;

/// The ports whose interface is there.
pub(crate) type Interfaces = BTreeMap<EndpointName, Interface>;

/// What a domain stands on at this moment.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) numbers: &'a DomainNumbers,
    pub(crate) interfaces: &'a Interfaces,
    pub(crate) tunnels: &'a Tunnels,
    /// What a change of the domain may touch.
    pub(crate) installed: &'a Tables,
    /// All that is installed.
    pub(crate) everything: &'a Tables,
    pub(crate) fresh: &'a mut Fresh,
}

impl Ground<'_> {
    fn number(&mut self) -> u32 {
        self.fresh.number(|number| self.everything.has_number(number))
    }
}

/// As [`lower`], of those stations only that `wanted` has; none if what they have cannot be said without the others.
pub(crate) fn lower_some(wanted: &Forwarding, ground: Ground<'_>) -> Option<Tables> {
    let bits = groups::choose_for_some(wanted, &ground)?;
    Some(lower_with(wanted, ground, &bits))
}

/// The tables of one domain. A port without an interface is left out: nothing can reach it, and its own frames are
/// denied. A station whose host has no tunnel is [`NOWHERE`].
pub(crate) fn lower(wanted: &Forwarding, ground: Ground<'_>) -> Tables {
    let bits = groups::choose(wanted, &ground);
    lower_with(wanted, ground, &bits)
}

fn lower_with(wanted: &Forwarding, mut ground: Ground<'_>, bits: &groups::Bits) -> Tables {
    let vteps = ground.tunnels.peers.iter().map(|(number, peer)| (peer.remote, *number));
    let mut tables = Tables {
        peers: ground.tunnels.peers.clone(),
        vteps: vteps.collect(),
        ..Tables::default()
    };
    if wanted.networks.is_empty() {
        return tables;
    }
    rules::lower(wanted, &mut ground, bits, &mut tables);
    let routers = routes::lower(wanted, &mut ground, &mut tables);
    for (network, segment) in &wanted.networks {
        let mut value = lower_segment(wanted, network, segment, ground.numbers.domain, &routers);
        (value.flood, value.flood_targets) = floods::lower(wanted, segment, &mut ground, bits, &mut tables);
        tables.segments.insert(segment.vni.get(), value);
    }
    lower_ports(wanted, &ground, &mut tables);
    stations::lower(wanted, &ground, bits, &mut tables);
    tables
}

fn lower_segment(
    wanted: &Forwarding,
    network: &NetworkName,
    segment: &Segment,
    domain: u32,
    routers: &routes::Routers<'_>,
) -> map::Segment {
    let name = segment.router.as_ref();
    let router = name.and_then(|name| Some((wanted.routers.get(name)?, *routers.get(name)?)));
    let addresses = router.and_then(|(router, _)| router.addresses.get(network));
    let gateway = |is_family: fn(&IpAddr) -> bool| {
        let mut addresses = addresses.into_iter().flat_map(|addresses| addresses.keys());
        let gateway = addresses.find(|ip| is_family(ip) && !is_link_local(**ip));
        gateway.map_or([0; 16], |ip| address(*ip))
    };
    let encapsulation = match wanted.encapsulation {
        Encapsulation::Vxlan => 0,
        Encapsulation::Geneve => map::SEGMENT_GENEVE,
    };
    map::Segment {
        domain,
        flags: encapsulation | if segment.flood { map::SEGMENT_FLOOD } else { 0 },
        mtu: segment.mtu.into(),
        router: router.map_or(0, |(_, number)| number),
        router_mac: router.map_or([0; 6], |(router, _)| router.mac.octets()),
        zero: [0; 2],
        gateway4: gateway(IpAddr::is_ipv4),
        gateway6: gateway(IpAddr::is_ipv6),
        flood: 0,
        flood_targets: 0,
    }
}

fn lower_ports(wanted: &Forwarding, ground: &Ground<'_>, tables: &mut Tables) {
    for (name, port) in &wanted.ports {
        let (interface, endpoint) = (ground.interfaces.get(name), ground.numbers.endpoints.get(name));
        if let (Some(interface), Some(endpoint)) = (interface, endpoint) {
            let (vni, mac) = (port.vni.get(), port.mac.octets());
            let value = map::Port {
                domain: ground.numbers.domain,
                endpoint: *endpoint,
                vni,
                flags: port_flags(*interface),
                slot: map::slot::station(vni, mac),
                mac,
                host_mac: interface.mac,
            };
            tables.ports.insert(interface.ifindex, value);
        }
    }
}

fn port_flags(interface: Interface) -> u32 {
    if interface.namespace { map::PORT_NAMESPACE } else { 0 }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
