//! A domain that is compiled once and then followed: after a change of endpoints it is compiled again only as far as the
//! change reaches, with the same [`compile`](crate::compile()) over a part of the domain. `tests/follow.rs` holds that
//! the result is that of a full one.
//!
//! A change reaches an endpoint if it is about it, or if the endpoint has, or had, a thing that can have one owner only
//! in common with one that the change reaches: a MAC address, an address, a prefix, a claim (`holdings`). Endpoints that
//! routes lead over are always in the part. Whatever else changes (a network, a router, a policy, the tunnel ends) makes
//! a full compile necessary, and [`Followed::gather`] says so; nothing is kept of endpoints that a full one could not
//! make again.

mod holdings;
mod part;
mod records;

use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;

use crate::compile::{compile, compile_part};
use crate::forwarding::{Change, Forwarding, Place};
use crate::name::{DomainName, EndpointName, Mac, NetworkName, Vni};
use crate::view::View;

pub use holdings::Holdings;
pub use part::Part;
pub use records::Records;

/// One domain on one host, followed.
#[derive(Debug)]
pub struct Followed {
    here: NodeId,
    /// What is to be done, but without stations and conditions.
    forwarding: Forwarding,
    /// Where the station of each endpoint is.
    placed: BTreeMap<EndpointName, Placed>,
    /// How many stations each other host has in each segment.
    counts: BTreeMap<(Vni, NodeId), u32>,
    holdings: Holdings,
}

/// Where a station is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    vni: Vni,
    mac: Mac,
    place: Place,
}

impl Followed {
    /// Compiles a domain in full, to be followed from there. `holdings` must be of what the view was made from.
    #[must_use]
    pub fn start(view: &View, here: NodeId, holdings: Holdings) -> (Self, Forwarding) {
        let forwarding = compile(view, here);
        let mut followed = Self {
            here,
            forwarding: Forwarding {
                stations: BTreeMap::new(),
                conditions: BTreeMap::new(),
                domain: forwarding.domain.clone(),
                default_policy: forwarding.default_policy,
                encapsulation: forwarding.encapsulation,
                networks: forwarding.networks.clone(),
                routers: forwarding.routers.clone(),
                rules: forwarding.rules.clone(),
                ports: forwarding.ports.clone(),
                hosts: forwarding.hosts.clone(),
            },
            placed: BTreeMap::new(),
            counts: BTreeMap::new(),
            holdings,
        };
        for (at, station) in &forwarding.stations {
            followed.place(station.endpoint.clone(), *at, station.place);
        }
        (followed, forwarding)
    }

    /// Which domain.
    #[must_use]
    pub fn domain(&self) -> &DomainName {
        &self.forwarding.domain
    }

    /// What has to be done for the domain, with a part of it compiled anew.
    ///
    /// None if the change reaches further than the part: then all is to be started anew.
    pub fn advance(&mut self, part: Part) -> Option<Change> {
        let elsewhere = self.elsewhere(&part.names);
        let compiled = compile_part(&part.view, self.here, &elsewhere);
        if !self.same_ground(&compiled) {
            return None;
        }
        let mut stations = BTreeMap::new();
        for name in &part.names {
            if let Some(gone) = self.displace(name) {
                stations.insert((gone.vni, gone.mac), None);
            }
            self.forwarding.ports.remove(name);
        }
        self.forwarding.ports.extend(compiled.ports);
        self.forwarding.routers = compiled.routers;
        for (at, station) in compiled.stations {
            self.place(station.endpoint.clone(), at, station.place);
            stations.insert(at, Some(station));
        }
        self.holdings.replace(part.holds);
        self.count(&part.view);
        let forwarding = Forwarding {
            conditions: compiled.conditions,
            ..self.forwarding.clone()
        };
        let endpoints = part.names;
        Some(Change {
            forwarding,
            endpoints,
            stations,
        })
    }

    /// The networks that have ports here besides those of these endpoints.
    fn elsewhere(&self, names: &BTreeSet<EndpointName>) -> BTreeSet<NetworkName> {
        let ports = self.forwarding.ports.iter();
        let others = ports.filter(|(name, _)| !names.contains(*name));
        others.map(|(_, port)| port.network.clone()).collect()
    }

    /// Whether the stations of other endpoints are as they were.
    fn same_ground(&self, compiled: &Forwarding) -> bool {
        let numbers = |forwarding: &Forwarding| {
            let networks = forwarding.networks.iter();
            let ground =
                networks.map(|(name, segment)| (name.clone(), segment.vni, segment.mtu, segment.router.clone()));
            ground.collect::<Vec<_>>()
        };
        numbers(compiled) == numbers(&self.forwarding) && compiled.rules == self.forwarding.rules
    }

    fn place(&mut self, endpoint: EndpointName, (vni, mac): (Vni, Mac), place: Place) {
        if let Place::Host(host) = place {
            *self.counts.entry((vni, host)).or_default() += 1;
        }
        self.placed.insert(endpoint, Placed { vni, mac, place });
    }

    fn displace(&mut self, endpoint: &EndpointName) -> Option<Placed> {
        let gone = self.placed.remove(endpoint)?;
        if let Place::Host(host) = gone.place
            && let Some(count) = self.counts.get_mut(&(gone.vni, host))
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&(gone.vni, host));
            }
        }
        Some(gone)
    }

    /// Says of segments and of the domain which other hosts are in them.
    fn count(&mut self, view: &View) {
        for segment in self.forwarding.networks.values_mut() {
            let vni = segment.vni;
            let members = self.counts.keys().filter(|(of, _)| *of == vni);
            segment.members = members.map(|(_, host)| *host).collect();
        }
        let hosts: BTreeSet<NodeId> = self.counts.keys().map(|(_, host)| *host).collect();
        let vteps = hosts
            .into_iter()
            .filter_map(|host| Some((host, view.hosts.get(&host)?.clone())));
        self.forwarding.hosts = vteps.collect();
    }
}
