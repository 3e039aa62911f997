//! What [`crate::Datapath`] does to the maps for a domain, without interfaces, pins, routes and attachments: these are given.
//! Tests of the programs fill the maps of a loaded object by it, so that they meet what the programs meet on a host: the
//! same lowering, the same difference, the same operations and generations.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use aya::Ebpf;
use datapath_common::Peer;
use membership::id::NodeId;
use overlay::forwarding::Forwarding;
use overlay::name::{DomainName, EndpointName};

use crate::Config;
use crate::apply::{change, release_numbers};
use crate::audits::{AuditCount, Audited};
use crate::drops::{self, DropCount};
use crate::error::Error;
use crate::fresh::Fresh;
use crate::installed::Installed;
use crate::lower::{Ground, Interface, Local, Tunnels, lower, number_tunnels};
use crate::maps::Maps;
use crate::numbers::{Name, Numbers};

/// The maps of a loaded object, and what is in them.
pub struct Rehearsal {
    maps: Maps,
    installed: Installed,
    numbers: Numbers,
    fresh: Fresh,
    local: Local,
    audited: Audited,
}

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rehearsal").finish_non_exhaustive()
    }
}

impl Rehearsal {
    /// On the maps of this object, whatever is in them. Of the configuration only the tunnel ends count.
    pub fn on(ebpf: &Ebpf, config: &Config) -> Result<Self, Error> {
        let maps = Maps::unpinned(ebpf)?;
        let installed = Installed::new(maps.read()?);
        Ok(Self {
            numbers: maps.read_numbers()?,
            fresh: Fresh::above(installed.tables().highest_number()),
            maps,
            installed,
            local: Local {
                ipv4: config.ipv4,
                ipv6: config.ipv6,
                port: config.port,
                geneve_port: config.geneve_port,
                strict_vxlan: config.strict_vxlan,
            },
            audited: Audited::default(),
        })
    }

    /// Makes one domain what `wanted` says; how many operations that took. A port waits that has no interface.
    /// `route` gives the tunnel between an address of ours and one of another host.
    pub fn apply(
        &mut self,
        wanted: &Forwarding,
        interfaces: &BTreeMap<EndpointName, Interface>,
        route: impl Fn(IpAddr, IpAddr) -> Peer,
    ) -> Result<usize, Error> {
        let (numbers, fresh) = self.numbers.assign(wanted);
        self.maps.put_numbers(&fresh).map_err(|stopped| stopped.error)?;
        let vnis = wanted.networks.values().map(|segment| segment.vni.get()).collect();
        let mine = self.installed.tables().part(numbers.domain, &vnis);
        let tunnels = self.tunnels(wanted, &mine.peers, route);
        let ground = Ground {
            numbers: &numbers,
            interfaces,
            tunnels: &tunnels,
            installed: &mine,
            everything: self.installed.tables(),
            fresh: &mut self.fresh,
        };
        let mut tables = lower(wanted, ground);
        let operations = change(&self.installed, &mine, &mut tables);
        self.maps.obey(&operations, &mut self.installed)?;
        self.audited.set(wanted);
        Ok(operations.len())
    }

    fn tunnels(
        &self,
        wanted: &Forwarding,
        installed: &BTreeMap<u32, Peer>,
        route: impl Fn(IpAddr, IpAddr) -> Peer,
    ) -> Tunnels {
        let hosts = wanted.hosts.iter();
        let ends: BTreeMap<NodeId, (IpAddr, IpAddr)> = hosts
            .filter_map(|(host, vtep)| Some((*host, self.local.tunnel(vtep)?)))
            .collect();
        let numbers = number_tunnels(installed, ends.values().map(|(_, remote)| *remote));
        let number = |(_, remote): &(IpAddr, IpAddr)| numbers.get(remote).copied();
        let peers = ends.values();
        Tunnels {
            hosts: ends
                .iter()
                .filter_map(|(host, ends)| Some((*host, number(ends)?)))
                .collect(),
            peers: peers
                .filter_map(|ends| Some((number(ends)?, route(ends.0, ends.1))))
                .collect(),
        }
    }

    /// Gives up the numbers of domains and endpoints of which nothing is installed.
    pub fn release_numbers(&mut self) -> Result<(), Error> {
        release_numbers(&mut self.maps, &mut self.numbers, &self.installed, []).map(|_| ())
    }

    /// The number of a domain, or of an endpoint of it.
    #[must_use]
    pub fn number(&self, domain: &DomainName, endpoint: Option<&EndpointName>) -> Option<u32> {
        self.numbers.number(&Name {
            domain: domain.clone(),
            endpoint: endpoint.cloned(),
        })
    }

    /// The drop counters, summed over CPUs.
    pub fn drops(&self) -> Result<Vec<DropCount>, Error> {
        let counts = self.maps.drops()?;
        Ok(counts
            .into_iter()
            .map(|(key, count)| drops::named(key, count, &self.numbers))
            .collect())
    }

    /// What the audit rules counted since the rules of their direction changed, summed over CPUs.
    pub fn audits(&self) -> Result<Vec<AuditCount>, Error> {
        let counts = self.maps.audits()?;
        Ok(self.audited.named(&counts, &self.numbers, self.installed.tables()))
    }
}
