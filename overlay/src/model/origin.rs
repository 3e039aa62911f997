//! Table Q: who may send a routed frame.

use std::net::IpAddr;

use super::owner::{Owner, is_mapped, longest};
use crate::forwarding::{Forwarding, Place, Route, Router};
use crate::name::{NetworkName, Vni};

/// The owner of a routed packet's source address, if it lives where `lives` says that the packet came from.
pub(super) fn sender<'a>(
    domain: &'a Forwarding,
    router: &'a Router,
    source: IpAddr,
    lives: impl Fn(Place) -> bool,
) -> Option<Owner<'a>> {
    let there = |owner: &Owner<'_>| owner.station().is_some_and(|(_, station)| lives(station.place));
    candidates(domain, router, source).into_iter().find(there)
}

/// Who has the address, on any of the ways back to it.
fn candidates<'a>(domain: &'a Forwarding, router: &'a Router, source: IpAddr) -> Vec<Owner<'a>> {
    let vni = |network: &NetworkName| domain.networks.get(network).map(|segment| segment.vni);
    match longest(&router.routes, source) {
        _ if is_mapped(source) => vec![],
        Some(Route::Connected(network)) => vni(network)
            .and_then(|vni| Owner::of(domain, vni, source))
            .into_iter()
            .collect(),
        Some(Route::Via(hops)) => hops
            .iter()
            .filter_map(|(network, hop)| behind(domain, vni(network)?, *hop, source))
            .collect(),
        Some(Route::Blackhole) | None => vec![],
    }
}

/// The station of a hop, if the address is of one of its prefixes.
fn behind(domain: &Forwarding, vni: Vni, hop: IpAddr, source: IpAddr) -> Option<Owner<'_>> {
    let hop = Owner::exact(domain, vni, hop)?;
    Owner::by_prefix(domain, vni, source).filter(|owner| owner.mac() == hop.mac())
}
