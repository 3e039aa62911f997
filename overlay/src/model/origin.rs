//! Table Q: who may send a routed frame.

use std::net::IpAddr;

use super::owner::{Owner, Speaker, is_mapped, longest};
use crate::forwarding::{Forwarding, Place, Route, Router};
use crate::name::{NetworkName, Vni};

/// The station that a routed packet's source address leads to, if it lives where `lives` says that the packet came from.
pub(super) fn sender<'a>(
    domain: &'a Forwarding,
    router: &'a Router,
    source: IpAddr,
    lives: impl Fn(Place) -> bool,
) -> Option<Speaker> {
    let mut candidates = candidates(domain, router, source).into_iter();
    candidates.find_map(|(vni, owner)| {
        let (mac, station) = owner.station()?;
        lives(station.place).then_some(Speaker { vni, mac })
    })
}

/// Who has the address, and in which segment, on any of the ways back to it.
fn candidates<'a>(domain: &'a Forwarding, router: &'a Router, source: IpAddr) -> Vec<(Vni, Owner<'a>)> {
    let vni = |network: &NetworkName| domain.networks.get(network).map(|segment| segment.vni);
    match longest(&router.routes, source) {
        _ if is_mapped(source) => vec![],
        Some(Route::Connected(network)) => vni(network)
            .and_then(|vni| Some((vni, Owner::of(domain, vni, source)?)))
            .into_iter()
            .collect(),
        Some(Route::Via(hops)) => hops
            .iter()
            .filter_map(|(network, hop)| {
                let vni = vni(network)?;
                Some((vni, behind(domain, vni, *hop, source)?))
            })
            .collect(),
        Some(Route::Blackhole) | None => vec![],
    }
}

/// The station of a hop, if the address is of one of its prefixes.
fn behind(domain: &Forwarding, vni: Vni, hop: IpAddr, source: IpAddr) -> Option<Owner<'_>> {
    let hop = Owner::exact(domain, vni, hop)?;
    Owner::by_prefix(domain, vni, source).filter(|owner| owner.mac() == hop.mac())
}
