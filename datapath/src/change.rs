//! A change of some stations of a domain is brought into force at the cost of those stations, not of the domain: what they
//! have, what they come to have and what lies around that are compared, and the rest stays unread.

use std::collections::{BTreeMap, BTreeSet};

use datapath_common::StationKey;
use overlay::forwarding::{Change, Forwarding, Place, Station};
use overlay::name::{EndpointName, Mac, Vni};
use tracing::debug;

use crate::datapath::Datapath;
use crate::diff::Operation;
use crate::error::Error;
use crate::installed::{Installed, StationOf};
use crate::lower::{Ground, Interfaces, lower_some};
use crate::tables::{Tables, address, first_prefix, members};
use crate::{Applied, PortState, readiness};

/// The stations of this host of one domain.
pub(crate) type Here = BTreeMap<(Vni, Mac), Station>;

impl Datapath {
    /// As [`Datapath::apply`], where since that of this domain only some stations changed, ports with them, and what
    /// `change` says can change with those. [`Error::Whole`] if it reaches further, or the domain was not applied; after any
    /// error apply the whole domain.
    pub async fn apply_change(&mut self, change: &Change) -> Result<Applied, Error> {
        let domain = &change.forwarding.domain;
        let whole = || Error::Whole(domain.clone());
        if self.unknown {
            return Err(whole());
        }
        self.reconnect()?;
        // Whatever comes of this: what is not finished is not known.
        let here = self.here.remove(domain).ok_or_else(whole)?;
        let wanted = with_stations(change, here);
        let numbers = self.assign(&wanted)?;
        let untouched = self.untouched_ports(&wanted).filter(|_| !change.stations.is_empty());
        let is_untouched = untouched.is_some();
        let (interfaces, ports) = match untouched {
            Some(ports) => ports,
            None => {
                self.links = self.netlink.links().await?;
                self.ready_ports(&wanted, numbers.domain).await?
            }
        };
        let stations = concerned(change, &wanted);
        let mine = self
            .installed
            .part_of(numbers.domain, &wanted, &stations)
            .ok_or_else(whole)?;
        let tunnels = self.tunnels(&wanted, &mine).await?;
        let ground = Ground {
            numbers: &numbers,
            interfaces: &interfaces,
            tunnels: &tunnels,
            installed: &mine,
            everything: self.installed.tables(),
            fresh: &mut self.fresh,
        };
        let mut tables = lower_some(&wanted, ground).ok_or_else(whole)?;
        self.with_functions(numbers.domain, &mut tables);
        let operations = operations(&self.installed, &mine, tables, &stations).ok_or_else(whole)?;
        self.obey(&operations)?;
        let peers = self.installed.tables().peers.clone();
        let ports = if is_untouched {
            ports
        } else {
            self.shut(&wanted, &operations).await?;
            self.links = self.netlink.links().await?;
            self.keep_devices(false).await?;
            let ports = readiness::wait(&self.netlink, ports).await;
            let waits = |endpoint: &EndpointName| matches!(ports.get(endpoint), Some(PortState::Waiting(_)));
            self.watch.set(self.node, &wanted, waits, &self.links);
            ports
        };
        if mine.peers != peers {
            self.attach_underlay(&peers).await?;
        }
        self.remember(&wanted);
        debug!(%domain, operations = operations.len(), "changed");
        Ok(Applied {
            operations: operations.len(),
            ports,
        })
    }

    /// Keeps what the next change needs of a domain that is as it is wanted.
    pub(crate) fn remember(&mut self, wanted: &Forwarding) {
        let stations = wanted.stations.iter();
        let here = stations.filter(|(_, station)| station.place == Place::Here);
        let here: Here = here.map(|(key, station)| (*key, station.clone())).collect();
        if wanted.networks.is_empty() {
            self.here.remove(&wanted.domain);
        } else {
            self.here.insert(wanted.domain.clone(), here);
        }
    }

    /// The ports, if every one is ready as it is wanted.
    fn untouched_ports(&self, wanted: &Forwarding) -> Option<(Interfaces, BTreeMap<EndpointName, PortState>)> {
        let none = BTreeMap::new();
        let kept = self.kept.get(&wanted.domain).unwrap_or(&none);
        let (mut interfaces, mut states) = (Interfaces::new(), BTreeMap::new());
        for (endpoint, port) in &wanted.ports {
            let mtu = wanted.networks.get(&port.network)?.mtu.into();
            let (interface, state) = kept.get(endpoint)?.as_it_was(port, mtu)?;
            interfaces.insert(endpoint.clone(), interface);
            states.insert(endpoint.clone(), state);
        }
        (kept.len() == wanted.ports.len()).then_some((interfaces, states))
    }
}

/// What is wanted, with the stations that change and all of this host, which depend on interfaces.
pub(crate) fn with_stations(change: &Change, here: Here) -> Forwarding {
    let mut stations = here;
    for (key, station) in &change.stations {
        match station {
            Some(station) => drop(stations.insert(*key, station.clone())),
            None => drop(stations.remove(key)),
        }
    }
    Forwarding {
        stations,
        ..change.forwarding.clone()
    }
}

/// Stations that are compared: those that change, those of this host, and routers.
pub(crate) fn concerned(change: &Change, wanted: &Forwarding) -> BTreeSet<StationOf> {
    let keys = change.stations.keys().chain(wanted.stations.keys());
    let stations = keys.map(|(vni, mac)| (vni.get(), mac.octets()));
    let routers = wanted.networks.values().filter_map(|segment| {
        let router = wanted.routers.get(segment.router.as_ref()?)?;
        Some((segment.vni.get(), router.mac.octets()))
    });
    stations.chain(routers).collect()
}

/// What to do, where `tables` are those of these `stations` only and `mine` is the part of them.
pub(crate) fn operations(
    installed: &Installed,
    mine: &Tables,
    mut tables: Tables,
    stations: &BTreeSet<StationOf>,
) -> Option<Vec<Operation>> {
    // An address that one of these comes to have is another's: who gets it follows from both.
    let is_known = |vni, mac| stations.contains(&(vni, mac));
    let neighbours = tables.neighbours.keys();
    let mut owners = neighbours.filter_map(|key| Some((key.vni, installed.tables().neighbours.get(key)?.mac)));
    if owners.any(|(vni, mac)| !is_known(vni, mac)) {
        return None;
    }
    for (key, owner) in &mine.prefixes {
        if !is_known(crate::tables::vni_of(key), owner.mac) {
            if tables.prefixes.contains_key(key) {
                return None;
            }
            tables.prefixes.insert(*key, *owner);
        }
    }
    Some(crate::apply::change(installed, mine, &mut tables))
}

impl Installed {
    /// What of all that is installed a change of some stations of a domain may touch, and what lies around it: all of the
    /// domain but other stations and their addresses. None if the domain has not these segments, and no others.
    pub(crate) fn part_of(&self, domain: u32, wanted: &Forwarding, stations: &BTreeSet<StationOf>) -> Option<Tables> {
        let all = self.tables();
        let vnis: BTreeSet<u32> = wanted.networks.values().map(|segment| segment.vni.get()).collect();
        let own = all.segments.iter().filter(|(_, segment)| segment.domain == domain);
        let mut mine = Tables {
            segments: own.map(|(vni, segment)| (*vni, *segment)).collect(),
            peers: all.peers.clone(),
            vteps: all.vteps.clone(),
            ..Tables::default()
        };
        if !mine.segments.keys().eq(vnis.iter()) {
            return None;
        }
        let ports = all.ports.iter();
        let own = ports.filter(|(_, port)| port.domain == domain || vnis.contains(&port.vni));
        mine.ports.extend(own.map(|(ifindex, port)| (*ifindex, *port)));
        let value = *all.domains.get(&domain)?;
        mine.domains.insert(domain, value);
        for set in [value.egress, value.ingress] {
            mine.rules.extend(members(&all.rules, set));
        }
        let segments: Vec<_> = mine.segments.iter().map(|(vni, segment)| (*vni, *segment)).collect();
        for (vni, segment) in segments {
            mine.floods.extend(members(&all.floods, segment.flood));
            for (key, route) in all.routes_of(segment.router) {
                mine.routes.insert(*key, *route);
                mine.hops.extend(members(&all.hops, route.set));
            }
            mine.prefixes
                .extend(all.prefixes.range(first_prefix(vni)..first_prefix(vni + 1)));
        }
        let claimed = wanted.stations.iter().flat_map(|((vni, _), station)| {
            let key = |ip: &_| datapath_common::NeighbourKey {
                vni: vni.get(),
                address: address(*ip),
            };
            station.addresses.iter().map(key)
        });
        for key in claimed {
            mine.neighbours.extend(all.neighbours.get_key_value(&key));
        }
        for (vni, mac) in stations {
            let key = StationKey {
                vni: *vni,
                mac: *mac,
                zero: [0; 2],
            };
            mine.stations.extend(all.stations.get_key_value(&key));
            for key in self.addresses_of((*vni, *mac)) {
                mine.neighbours.extend(all.neighbours.get_key_value(&key));
            }
        }
        Some(mine)
    }
}
