//! Routers: their numbers, routes and next hops. The routes of a router stand under its number and are never changed: a
//! router with other routes gets another number, and its segments go over to it.

use std::collections::{BTreeMap, BTreeSet};

use datapath_common as map;
use ipnet::IpNet;
use overlay::forwarding::{Forwarding, Route, Router};
use overlay::name::{NetworkName, RouterName};

use super::Ground;
use crate::tables::{Prefix, Tables, address, family, trie_length};

/// The numbers of the routers of a domain.
pub(super) type Routers<'a> = BTreeMap<&'a RouterName, u32>;

/// Where a route leads, told without the number of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Connected(u32),
    Via(Vec<map::Hop>),
    Blackhole,
}

/// The routes of a router, whatever its number.
type Content = BTreeMap<Prefix<map::RouteKey>, Target>;

/// Adds the routes of the routers that the segments here have, under the numbers that they are installed under if they
/// are; the numbers.
pub(super) fn lower<'a>(wanted: &'a Forwarding, ground: &mut Ground<'_>, tables: &mut Tables) -> Routers<'a> {
    let mut numbers = Routers::new();
    for name in wanted.networks.values().filter_map(|segment| segment.router.as_ref()) {
        let Some(router) = wanted.routers.get(name).filter(|_| !numbers.contains_key(name)) else {
            continue;
        };
        let content = content(wanted, router);
        let given: BTreeSet<u32> = numbers.values().copied().collect();
        let candidates = installed_as(router, ground);
        let kept = candidates
            .into_iter()
            .find(|number| !given.contains(number) && installed_content(ground.installed, *number) == content);
        let number = match kept {
            Some(number) => {
                keep(number, ground.installed, tables);
                number
            }
            None => install(content, ground, tables),
        };
        numbers.insert(name, number);
    }
    numbers
}

/// Numbers that the router has in segments of its domain.
fn installed_as(router: &Router, ground: &Ground<'_>) -> BTreeSet<u32> {
    let segments = ground.installed.segments.values();
    segments
        .filter(|s| s.domain == ground.numbers.domain && s.router != 0 && s.router_mac == router.mac.octets())
        .map(|segment| segment.router)
        .collect()
}

fn content(wanted: &Forwarding, router: &Router) -> Content {
    let routes = router.routes.iter();
    routes
        .map(|(prefix, route)| (key(prefix), target(wanted, route)))
        .collect()
}

fn target(wanted: &Forwarding, route: &Route) -> Target {
    let vni = |network: &NetworkName| wanted.networks.get(network).map(|segment| segment.vni.get());
    match route {
        Route::Connected(network) => vni(network).map_or(Target::Via(Vec::new()), Target::Connected),
        Route::Via(hops) => {
            let known = hops.iter().filter_map(|(network, ip)| Some((vni(network)?, *ip)));
            let hop = |(vni, ip)| map::Hop {
                vni,
                address: address(ip),
            };
            Target::Via(known.map(hop).collect())
        }
        Route::Blackhole => Target::Blackhole,
    }
}

fn installed_content(installed: &Tables, number: u32) -> Content {
    let target = |route: &map::Route| match route.kind {
        map::ROUTE_CONNECTED => Target::Connected(route.vni),
        map::ROUTE_VIA => Target::Via(installed.hops_of(route.set)),
        _ => Target::Blackhole,
    };
    let without_number = |key: &Prefix<map::RouteKey>| Prefix {
        data: map::RouteKey {
            router: [0; 4],
            ..key.data
        },
        ..*key
    };
    let routes = installed.routes_of(number);
    routes
        .map(|(key, route)| (without_number(key), target(route)))
        .collect()
}

fn keep(number: u32, installed: &Tables, tables: &mut Tables) {
    for (key, route) in installed.routes_of(number) {
        tables.routes.insert(*key, *route);
        if route.kind == map::ROUTE_VIA {
            tables.hops.extend(crate::tables::members(&installed.hops, route.set));
        }
    }
}

/// Adds the routes under another number; routes with the same next hops share a set.
fn install(content: Content, ground: &mut Ground<'_>, tables: &mut Tables) -> u32 {
    let number = ground.number();
    let mut sets: Vec<(Vec<map::Hop>, u32)> = Vec::new();
    for (mut key, target) in content {
        key.data.router = number.to_be_bytes();
        let nowhere = map::Route {
            kind: map::ROUTE_BLACKHOLE,
            vni: 0,
            set: 0,
            hops: 0,
        };
        let route = match target {
            Target::Blackhole => nowhere,
            Target::Connected(vni) => map::Route {
                kind: map::ROUTE_CONNECTED,
                vni,
                ..nowhere
            },
            Target::Via(hops) => {
                let known = sets.iter().find(|(known, _)| *known == hops).map(|(_, set)| *set);
                let count = u32::try_from(hops.len()).unwrap_or(u32::MAX);
                let set = known.unwrap_or_else(|| {
                    let set = if hops.is_empty() { 0 } else { ground.number() };
                    let members = (0..)
                        .zip(&hops)
                        .map(|(index, hop)| (map::MemberKey { set, index }, *hop));
                    tables.hops.extend(members);
                    sets.push((hops, set));
                    set
                });
                map::Route {
                    kind: map::ROUTE_VIA,
                    set,
                    hops: count,
                    ..nowhere
                }
            }
        };
        tables.routes.insert(key, route);
    }
    number
}

fn key(prefix: &IpNet) -> Prefix<map::RouteKey> {
    let ip = prefix.network();
    Prefix {
        data: map::RouteKey {
            router: [0; 4],
            family: family(ip),
            address: address(ip),
        },
        length: trie_length(ip, prefix.prefix_len()),
    }
}
