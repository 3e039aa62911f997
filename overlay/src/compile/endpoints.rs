//! Which endpoints are in force, and with which addresses.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use membership::id::NodeId;

use super::segments::Segments;
use super::sources;
use crate::address;
use crate::condition::{Cause, Report};
use crate::fact::{Attachment, Binding};
use crate::forwarding::{Group, Place, Port, Station};
use crate::name::{EndpointName, Mac, NetworkName, Vni};
use crate::object::NetworkSpec;
use crate::object::endpoint::Labels;
use crate::subnet::Subnet;
use crate::view::{SeenEndpoint, View};

/// An endpoint whose packets may flow once it is attached.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    pub(super) network: &'a NetworkName,
    pub(super) vni: Vni,
    pub(super) mac: Mac,
    pub(super) attachment: Option<(NodeId, &'a Attachment)>,
    pub(super) labels: &'a Labels,
    addresses: BTreeMap<IpAddr, u8>,
    pub(super) prefixes: BTreeSet<IpNet>,
}

impl Admitted<'_> {
    /// Its own addresses but the link-local one.
    pub(super) fn own(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.keys().copied()
    }

    /// Addresses that it may only send from.
    pub(super) fn single_prefixes(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let single = self
            .prefixes
            .iter()
            .filter(|net| net.prefix_len() == net.max_prefix_len());
        single.map(IpNet::addr)
    }

    /// An address that it answers for, of the same family if it has one.
    pub(super) fn answering(&self, other: IpAddr) -> IpAddr {
        let same = self.own().find(|own| own.is_ipv4() == other.is_ipv4());
        same.unwrap_or(IpAddr::V6(self.mac.link_local()))
    }

    pub(super) fn port(&self, gateways: BTreeSet<IpAddr>, binding: Binding) -> Port {
        let (network, addresses) = (self.network.clone(), self.addresses.clone());
        Port {
            network,
            vni: self.vni,
            mac: self.mac,
            addresses,
            gateways,
            binding,
        }
    }

    pub(super) fn station(&self, name: &EndpointName, place: Place, groups: BTreeSet<Group>) -> Station {
        let link_local = IpAddr::V6(self.mac.link_local());
        let addresses = self.addresses.keys().copied().chain([link_local]).collect();
        Station {
            endpoint: name.clone(),
            place,
            addresses,
            prefixes: self.prefixes.clone(),
            groups,
        }
    }
}

/// What is had by whom, in each network.
#[derive(Default)]
pub(super) struct Taken<'a> {
    macs: BTreeMap<(&'a NetworkName, Mac), &'a EndpointName>,
    pub(super) addresses: BTreeMap<(&'a NetworkName, IpAddr), &'a EndpointName>,
}

pub(super) fn in_force<'a>(
    view: &'a View,
    segments: &Segments,
    report: &mut Report,
) -> BTreeMap<EndpointName, Admitted<'a>> {
    let mut by_age: Vec<(&EndpointName, &SeenEndpoint)> = view.endpoints.iter().collect();
    by_age.sort_by_key(|(name, endpoint)| (endpoint.stamp, *name));
    let mut taken = Taken::default();
    let mut admitted = BTreeMap::new();
    for (name, seen) in &by_age {
        match admit(view, segments, name, seen, &mut taken, report) {
            Ok(endpoint) => {
                admitted.insert((*name).clone(), endpoint);
            }
            Err(cause) => report.endpoint(name, &cause),
        }
        placement(view, name, seen, report);
    }
    for (name, seen) in &by_age {
        if let Some(endpoint) = admitted.get_mut(*name) {
            claimed(view, name, seen, endpoint, &mut taken, report);
            complete(view, name, endpoint, report);
        }
    }
    sources::allow(view, &by_age, &taken, &mut admitted, report);
    admitted
}

/// Checks one endpoint against all older ones: its MAC and its fixed addresses are its own, or nothing of it is in
/// force.
fn admit<'a>(
    view: &'a View,
    segments: &Segments,
    name: &'a EndpointName,
    seen: &'a SeenEndpoint,
    taken: &mut Taken<'a>,
    report: &mut Report,
) -> Result<Admitted<'a>, Cause> {
    let network = &seen.spec.network;
    let object = view
        .networks
        .get(network)
        .ok_or_else(|| Cause::NoNetwork(network.clone()))?;
    let segment = segments
        .in_force
        .get(network)
        .ok_or_else(|| Cause::NetworkDenied(network.clone()))?;
    let mac = seen.spec.mac.ok_or(Cause::NoMac)?;
    let router = segment.router.clone();
    if let Some(router) = router.filter(|router| address::router_mac(&view.domain, router) == mac) {
        return Err(Cause::MacOfRouter { mac, router });
    }
    if let Some(other) = taken.macs.get(&(network, mac)) {
        return Err(Cause::DuplicateMac {
            mac,
            other: (*other).clone(),
        });
    }
    let addresses = usable(network, &object.spec, name, seen, report);
    for &address in addresses.keys() {
        if let Some(other) = taken.addresses.get(&(network, address)) {
            return Err(Cause::DuplicateAddress {
                address,
                other: (*other).clone(),
            });
        }
    }
    taken.macs.insert((network, mac), name);
    taken
        .addresses
        .extend(addresses.keys().map(|address| ((network, *address), name)));
    let attachment = seen.attachment.as_ref().map(|(host, attachment)| (*host, attachment));
    Ok(Admitted {
        network,
        vni: segment.vni,
        mac,
        attachment,
        labels: &seen.spec.labels,
        addresses,
        prefixes: BTreeSet::new(),
    })
}

/// The fixed addresses that a subnet of the network admits, with its prefix length.
fn usable(
    name: &NetworkName,
    network: &NetworkSpec,
    endpoint: &EndpointName,
    seen: &SeenEndpoint,
    report: &mut Report,
) -> BTreeMap<IpAddr, u8> {
    let mut addresses = BTreeMap::new();
    for &address in seen.spec.addresses.iter() {
        match network
            .subnet_of(address)
            .map(|subnet| (subnet, subnet.admits(address)))
        {
            None => report.endpoint(
                endpoint,
                &Cause::AddressOutside {
                    address,
                    network: name.clone(),
                },
            ),
            Some((subnet, Err(why))) => report.endpoint(endpoint, &Cause::AddressUnusable { address, subnet, why }),
            Some((subnet, Ok(()))) => {
                addresses.insert(address, subnet.net().prefix_len());
            }
        }
    }
    addresses
}

/// Adds the claimed addresses, which come after all fixed ones.
fn claimed<'a>(
    view: &'a View,
    name: &'a EndpointName,
    seen: &SeenEndpoint,
    endpoint: &mut Admitted<'a>,
    taken: &mut Taken<'a>,
    report: &mut Report,
) {
    for &address in &seen.claimed {
        let subnet = view
            .networks
            .get(endpoint.network)
            .and_then(|network| network.spec.subnet_of(address));
        let Some(subnet) = subnet.filter(|subnet| subnet.admits(address).is_ok()) else {
            continue;
        };
        let holder = *taken.addresses.entry((endpoint.network, address)).or_insert(name);
        if holder == name {
            endpoint.addresses.insert(address, subnet.net().prefix_len());
        } else {
            report.endpoint(
                name,
                &Cause::AddressLost {
                    address,
                    other: holder.clone(),
                },
            );
        }
    }
}

/// Says in which subnets an endpoint has no address.
fn complete(view: &View, name: &EndpointName, endpoint: &Admitted<'_>, report: &mut Report) {
    let Some(network) = view.networks.get(endpoint.network) else {
        return;
    };
    let bare = |subnet: &&Subnet| !endpoint.addresses.keys().any(|address| subnet.contains(*address));
    for &subnet in network.spec.subnets.iter().filter(bare) {
        match (subnet.ipv4(), endpoint.attachment) {
            (Some(_), Some(_)) => report.endpoint(name, &Cause::AddressPending(subnet)),
            (Some(_), None) => {}
            (None, _) => report.endpoint(name, &Cause::AddressMissing(subnet)),
        }
    }
}

/// Says what is odd about where an endpoint is.
fn placement(view: &View, name: &EndpointName, seen: &SeenEndpoint, report: &mut Report) {
    let refused: &BTreeSet<NodeId> = &seen.refused;
    for host in refused {
        report.endpoint(name, &Cause::HostNotAllowed(*host));
    }
    match &seen.attachment {
        None => report.endpoint(name, &Cause::NotAttached),
        Some((host, _)) if !view.hosts.contains_key(host) => report.endpoint(name, &Cause::NoTunnel(*host)),
        Some(_) => {}
    }
}
