//! From a view to what one host has to do. Pure and deterministic; what is not in force has a condition that says why.
//! Where two objects claim one thing, the older (then the lower name) has it, on every host alike.
//!
//! `segments` decides which networks are in force, `routers` who joins them and where it sends what, `endpoints` which
//! endpoints are and with which addresses, `sources` what else they may send from, `policies` which rules hold. Here the
//! result is cut to what this host needs: networks with a port here, those that are routed to from them, and the
//! stations in all of these.

mod endpoints;
mod policies;
mod routers;
mod segments;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use membership::id::NodeId;

use crate::condition::{Cause, Report};
use crate::fact::Vtep;
use crate::forwarding::{Forwarding, Group, Place, Port, Segment, Station};
use crate::name::{EndpointName, Mac, NetworkName, RouterName, Vni};
use crate::object::endpoint::Labels;
use crate::ruleset::Ruleset;
use crate::subnet::Subnet;
use crate::view::View;

use endpoints::Admitted;
use segments::Segments;

/// What `here` has to do for the domain.
#[must_use]
pub fn compile(view: &View, here: NodeId) -> Forwarding {
    compile_part(view, here, &BTreeSet::new())
}

/// The same for some of the endpoints of a domain: those that can stand in each other's way, and those that routes lead
/// over. `elsewhere` are the networks that have ports on this host besides.
pub(crate) fn compile_part(view: &View, here: NodeId, elsewhere: &BTreeSet<NetworkName>) -> Forwarding {
    let mut report = Report::default();
    for ((kind, name), why) in &view.unreadable {
        report.add(*kind, name, &Cause::Unreadable(why.clone()));
    }
    let mut segments = segments::in_force(view, &mut report);
    routers::joined(view, &mut segments, &mut report);
    let admitted = endpoints::in_force(view, &segments, &mut report);
    let mut routers = routers::in_force(view, here, &segments, &admitted, &mut report);
    let (default_policy, ruleset) = policies::in_force(view, &mut report);
    let ports = ports(&admitted, &segments, here);
    let local: BTreeSet<&NetworkName> = ports.values().map(|port| &port.network).chain(elsewhere).collect();
    let mut networks = needed(&segments, &local);
    routers.retain(|name, _| networks.values().any(|segment| segment.router.as_ref() == Some(name)));
    let stations = stations(view, &admitted, &networks, &ruleset, here, &mut report);
    fill(&mut networks, &stations);
    Forwarding {
        domain: view.domain.clone(),
        default_policy,
        encapsulation: view.spec.encapsulation,
        routers,
        rules: if local.is_empty() { Vec::new() } else { ruleset.rules },
        hosts: hosts(view, &stations),
        networks,
        ports,
        stations,
        conditions: report.finish(),
    }
}

/// The networks that are in force on every host that has a port in them, each with its number and MTU; whoever is in them
/// is left out.
#[must_use]
pub fn networks(view: &View) -> BTreeMap<NetworkName, Segment> {
    let mut report = Report::default();
    let mut segments = segments::in_force(view, &mut report);
    routers::joined(view, &mut segments, &mut report);
    segments.in_force
}

fn ports(
    admitted: &BTreeMap<EndpointName, Admitted<'_>>,
    segments: &Segments,
    here: NodeId,
) -> BTreeMap<EndpointName, Port> {
    let attached = admitted.iter().filter_map(|(name, endpoint)| {
        let (host, attachment) = endpoint.attachment?;
        let gateways = || gateways(endpoint, segments);
        (host == here).then(|| (name.clone(), endpoint.port(gateways(), attachment.binding.clone())))
    });
    attached.collect()
}

/// The gateways of the subnets in which an endpoint has an address.
fn gateways(endpoint: &Admitted<'_>, segments: &Segments) -> BTreeSet<IpAddr> {
    let segment = segments.in_force.get(endpoint.network);
    if segment.is_none_or(|segment| segment.router.is_none()) {
        return BTreeSet::new();
    }
    let used = |subnet: &Subnet| endpoint.own().any(|address| subnet.contains(address));
    let subnets = segments.subnets(endpoint.network).filter(used);
    subnets.map(Subnet::gateway).collect()
}

/// The segments that have a port here, and those that can be reached from one of them by its router.
fn needed(segments: &Segments, local: &BTreeSet<&NetworkName>) -> BTreeMap<NetworkName, Segment> {
    let router = |name: &&NetworkName| segments.in_force.get(*name)?.router.as_ref();
    let routers: BTreeSet<&RouterName> = local.iter().filter_map(router).collect();
    let needed = segments.in_force.iter().filter(|(name, segment)| {
        let routed = segment.router.as_ref().is_some_and(|router| routers.contains(router));
        routed || local.contains(name)
    });
    needed.map(|(name, segment)| (name.clone(), segment.clone())).collect()
}

fn stations(
    view: &View,
    admitted: &BTreeMap<EndpointName, Admitted<'_>>,
    networks: &BTreeMap<NetworkName, Segment>,
    ruleset: &Ruleset<'_>,
    here: NodeId,
    report: &mut Report,
) -> BTreeMap<(Vni, Mac), Station> {
    // Most endpoints share their labels with others.
    let mut groups: BTreeMap<&Labels, BTreeSet<Group>> = BTreeMap::new();
    let mut stations = BTreeMap::new();
    for (name, endpoint) in admitted
        .iter()
        .filter(|(_, endpoint)| networks.contains_key(endpoint.network))
    {
        let Some((host, _)) = endpoint.attachment else { continue };
        let place = if host == here { Place::Here } else { Place::Host(host) };
        if place != Place::Here && !reachable(view, name, host, here, report) {
            continue;
        }
        let groups = groups.entry(endpoint.labels);
        let groups = groups.or_insert_with(|| ruleset.groups(endpoint.labels)).clone();
        stations.insert((endpoint.vni, endpoint.mac), endpoint.station(name, place, groups));
    }
    stations
}

/// Says of each network which other hosts have a station in it.
fn fill(networks: &mut BTreeMap<NetworkName, Segment>, stations: &BTreeMap<(Vni, Mac), Station>) {
    let mut members: BTreeMap<Vni, BTreeSet<NodeId>> = BTreeMap::new();
    for ((vni, _), station) in stations {
        if let Place::Host(host) = station.place {
            members.entry(*vni).or_default().insert(host);
        }
    }
    for segment in networks.values_mut() {
        segment.members = members.remove(&segment.vni).unwrap_or_default();
    }
}

/// Whether the host has a tunnel end at all. That there is no way to it is no reason to forget what lives there.
fn reachable(view: &View, endpoint: &EndpointName, host: NodeId, here: NodeId, report: &mut Report) -> bool {
    let Some(theirs) = view.hosts.get(&host) else {
        return false;
    };
    if view.hosts.get(&here).is_some_and(|ours| ours.path_to(theirs).is_none()) {
        report.endpoint(endpoint, &Cause::NoTunnelFamily { host, here });
    }
    true
}

fn hosts(view: &View, stations: &BTreeMap<(Vni, Mac), Station>) -> BTreeMap<NodeId, Vtep> {
    let there = stations.values().filter_map(|station| match station.place {
        Place::Host(host) => Some((host, view.hosts.get(&host)?.clone())),
        Place::Here => None,
    });
    there.collect()
}
