//! From a view to what one host has to do. Pure and deterministic; what is not in force has a condition that says why.
//! Where two objects claim one thing, the older (then the lower name) has it, on every host alike.
//!
//! `segments` decides which networks are in force, `endpoints` which endpoints and with which addresses; here the result
//! is cut to what this host needs: networks with a port here, and the stations in them.

mod endpoints;
mod segments;

use std::collections::BTreeMap;

use membership::id::NodeId;

use crate::condition::{Cause, Report};
use crate::fact::Vtep;
use crate::forwarding::{Forwarding, Place, Port, Segment, Station};
use crate::name::{EndpointName, Mac, NetworkName, Vni};
use crate::view::View;

use endpoints::Admitted;

/// What `here` has to do for the domain.
#[must_use]
pub fn compile(view: &View, here: NodeId) -> Forwarding {
    let mut report = Report::default();
    for ((kind, name), why) in &view.unreadable {
        report.add(*kind, name, &Cause::Unreadable(why.clone()));
    }
    let segments = segments::in_force(view, &mut report);
    let admitted = endpoints::in_force(view, &segments, &mut report);
    let ports = ports(&admitted, here);
    let networks = local(&segments, &ports);
    let stations = stations(view, &admitted, &networks, here, &mut report);
    Forwarding {
        domain: view.domain.clone(),
        default_policy: view.spec.default_policy,
        hosts: hosts(view, &stations),
        networks,
        ports,
        stations,
        conditions: report.finish(),
    }
}

/// The networks that are in force on every host that has a port in them, each with its number and MTU.
#[must_use]
pub fn networks(view: &View) -> BTreeMap<NetworkName, Segment> {
    segments::in_force(view, &mut Report::default())
}

fn ports(admitted: &BTreeMap<EndpointName, Admitted<'_>>, here: NodeId) -> BTreeMap<EndpointName, Port> {
    let attached = admitted.iter().filter_map(|(name, endpoint)| {
        let (host, attachment) = endpoint.attachment?;
        (host == here).then(|| (name.clone(), endpoint.port(attachment.binding.clone())))
    });
    attached.collect()
}

/// The segments that have a port here.
fn local(
    segments: &BTreeMap<NetworkName, Segment>,
    ports: &BTreeMap<EndpointName, Port>,
) -> BTreeMap<NetworkName, Segment> {
    let in_use = |name: &NetworkName| ports.values().any(|port| port.network == *name);
    segments
        .iter()
        .filter(|(name, _)| in_use(name))
        .map(|(name, segment)| (name.clone(), segment.clone()))
        .collect()
}

fn stations(
    view: &View,
    admitted: &BTreeMap<EndpointName, Admitted<'_>>,
    networks: &BTreeMap<NetworkName, Segment>,
    here: NodeId,
    report: &mut Report,
) -> BTreeMap<(Vni, Mac), Station> {
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
        stations.insert((endpoint.vni, endpoint.mac), endpoint.station(name, place));
    }
    stations
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
