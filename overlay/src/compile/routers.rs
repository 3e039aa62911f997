//! Which routers are in force, which networks they join, and where they send what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use membership::id::NodeId;

use super::endpoints::Admitted;
use super::segments::Segments;
use crate::address::router_mac;
use crate::condition::{Cause, Report};
use crate::forwarding::{Route, Router};
use crate::name::{EndpointName, Mac, NetworkName, RouterName};
use crate::object::router::Target;
use crate::prefix::Prefix;
use crate::view::{SeenRouter, View};

/// Which router each network has: of several the older.
pub(super) fn joined(view: &View, segments: &mut Segments, report: &mut Report) {
    let mut by_age: Vec<(&RouterName, &SeenRouter)> = view.routers.iter().collect();
    by_age.sort_by_key(|(name, router)| (router.stamp, *name));
    for (name, router) in by_age {
        if router.versions > 1 {
            report.router(name, &Cause::RouterConflict(router.versions));
        }
        for network in router.spec.networks.iter() {
            let Some(segment) = segments.in_force.get_mut(network) else {
                let cause = match view.networks.contains_key(network) {
                    true => Cause::NetworkDenied(network.clone()),
                    false => Cause::NothingToJoin(network.clone()),
                };
                report.router(name, &cause);
                continue;
            };
            match &segment.router {
                Some(other) => {
                    let (network, other) = (network.clone(), other.clone());
                    report.router(name, &Cause::NetworkJoined { network, other });
                }
                None => segment.router = Some(name.clone()),
            }
        }
    }
}

/// The next hops that there are: by network and address, an address that the one who has it answers for.
type Hops<'a> = BTreeMap<(&'a NetworkName, IpAddr), IpAddr>;

/// All routers, complete.
pub(super) fn in_force(
    view: &View,
    here: NodeId,
    segments: &Segments,
    admitted: &BTreeMap<EndpointName, Admitted<'_>>,
    report: &mut Report,
) -> BTreeMap<RouterName, Router> {
    let hops = hops(view, here, admitted);
    let routers = view.routers.iter().map(|(name, seen)| {
        let mac = router_mac(&view.domain, name);
        let mut joining = Joining {
            name,
            view,
            segments,
            hops: &hops,
            joined: joined_by(name, seen, segments),
            report,
        };
        let router = Router {
            mac,
            addresses: joining.addresses(mac),
            routes: joining.routes(seen),
        };
        (name.clone(), router)
    });
    routers.collect()
}

fn joined_by<'a>(name: &RouterName, seen: &'a SeenRouter, segments: &Segments) -> BTreeSet<&'a NetworkName> {
    let of_this = |network: &&NetworkName| {
        let segment = segments.in_force.get(*network);
        segment.is_some_and(|segment| segment.router.as_ref() == Some(name))
    };
    seen.spec.networks.iter().filter(of_this).collect()
}

/// A router among its networks.
struct Joining<'a> {
    name: &'a RouterName,
    view: &'a View,
    segments: &'a Segments,
    hops: &'a Hops<'a>,
    joined: BTreeSet<&'a NetworkName>,
    report: &'a mut Report,
}

impl Joining<'_> {
    /// Its own addresses in each network.
    fn addresses(&self, mac: Mac) -> BTreeMap<NetworkName, BTreeMap<IpAddr, u8>> {
        let link_local = IpAddr::V6(mac.link_local());
        let of = |network: &NetworkName| {
            let subnets = self.segments.subnets(network);
            let gateways = subnets.map(|subnet| (subnet.gateway(), subnet.net().prefix_len()));
            gateways.chain([(link_local, 128)]).collect()
        };
        let networks = self.joined.iter().copied();
        networks.map(|network| (network.clone(), of(network))).collect()
    }

    /// Subnets first, then what the object says. Subnets that are not in force, and routes without a next hop, stay as
    /// routes to nobody: their packets must not fall through to a wider route.
    fn routes(&mut self, seen: &SeenRouter) -> BTreeMap<IpNet, Route> {
        let mut routes = self.connected();
        let lost = self.lost(seen, &routes);
        routes.extend(lost.into_iter().map(|net| (net, Route::Via(BTreeSet::new()))));
        for (&prefix, target) in seen.spec.routes.iter() {
            if routes.contains_key(&prefix.net()) {
                self.report.router(self.name, &Cause::RouteShadowed(prefix));
                continue;
            }
            let route = match target {
                Target::Blackhole => Route::Blackhole,
                Target::Via(hops) => Route::Via(self.reached(prefix, hops)),
            };
            routes.insert(prefix.net(), route);
        }
        routes
    }

    fn connected(&self) -> BTreeMap<IpNet, Route> {
        let networks = self.joined.iter().copied();
        let connected = networks.flat_map(|network| {
            let subnets = self.segments.subnets(network);
            subnets.map(|subnet| (subnet.net(), Route::Connected(network.clone())))
        });
        connected.collect()
    }

    /// Subnets that its object joins and that are in no connected one.
    fn lost(&self, seen: &SeenRouter, connected: &BTreeMap<IpNet, Route>) -> Vec<IpNet> {
        let named = seen.spec.networks.iter();
        let subnets = named.flat_map(|network| {
            let network = self.view.networks.get(network);
            network.into_iter().flat_map(|network| network.spec.subnets.iter())
        });
        let apart = |net: &IpNet| !connected.keys().any(|connected| connected.contains(net));
        subnets.map(|subnet| subnet.net()).filter(apart).collect()
    }

    /// The next hops that there are.
    fn reached(&mut self, prefix: Prefix, named: &BTreeSet<IpAddr>) -> BTreeSet<(NetworkName, IpAddr)> {
        let mut reached = BTreeSet::new();
        for &hop in named {
            match self.via(hop) {
                Some(found) => {
                    reached.insert(found);
                }
                None => self.report.router(self.name, &Cause::HopMissing { prefix, hop }),
            }
        }
        if reached.is_empty() {
            self.report.router(self.name, &Cause::RouteUnreachable(prefix));
        }
        reached
    }

    fn via(&self, hop: IpAddr) -> Option<(NetworkName, IpAddr)> {
        let holds = |network: &NetworkName| self.segments.subnets(network).any(|subnet| subnet.contains(hop));
        let network = self.joined.iter().copied().find(|network| holds(network))?;
        let address = self.hops.get(&(network, hop))?;
        Some((network.clone(), *address))
    }
}

/// Addresses of endpoints that packets can be sent to. An address that an endpoint may only send from leads to one that
/// it answers for.
fn hops<'a>(view: &View, here: NodeId, admitted: &BTreeMap<EndpointName, Admitted<'a>>) -> Hops<'a> {
    let mut hops = Hops::new();
    if view.routers.values().all(|router| router.spec.routes.is_empty()) {
        return hops;
    }
    let reachable = |host: NodeId| host == here || view.hosts.contains_key(&host);
    for endpoint in admitted.values() {
        if !endpoint.attachment.is_some_and(|(host, _)| reachable(host)) {
            continue;
        }
        for hop in endpoint.single_prefixes() {
            hops.insert((endpoint.network, hop), endpoint.answering(hop));
        }
        hops.extend(endpoint.own().map(|own| ((endpoint.network, own), own)));
    }
    hops
}
