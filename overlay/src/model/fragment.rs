//! Table F: fragments of IP packets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::Reason;
use super::headers::{Fragment, Ip};
use super::transport::{TCP, Transport};
use crate::name::{DomainName, EndpointName, Vni};

/// How long a first fragment is remembered.
const LIFETIME: Duration = Duration::from_secs(30);
/// What a first fragment says of TCP, at least.
const TCP_HEADER: usize = 20;

/// Where a packet came into a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Entrance {
    /// From a workload.
    Port(EndpointName),
    /// Through a tunnel, in this segment.
    Tunnel(Vni),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    domain: DomainName,
    entrance: Entrance,
    source: IpAddr,
    destination: IpAddr,
    identification: u32,
    /// Of IPv4; 0 for IPv6.
    protocol: u8,
}

/// What first fragments said.
#[derive(Debug, Clone, Default)]
pub(super) struct Fragments(BTreeMap<Key, (Transport, Duration)>);

impl Fragments {
    /// The upper-layer header of a packet, or that of its first fragment.
    pub(super) fn transport(
        &self,
        domain: &DomainName,
        entrance: &Entrance,
        ip: &Ip<'_>,
        now: Duration,
    ) -> Result<Transport, Reason> {
        if let Some(transport) = ip.transport() {
            return Ok(transport);
        }
        let Fragment::Later { identification, offset } = ip.fragment else {
            return Err(Reason::FragmentState);
        };
        if ip.protocol == TCP && offset < TCP_HEADER {
            return Err(Reason::TinyFragment);
        }
        match self.0.get(&key(domain, entrance, ip, identification)) {
            Some((transport, seen)) if now.saturating_sub(*seen) < LIFETIME => Ok(*transport),
            Some(_) | None => Err(Reason::FragmentState),
        }
    }

    /// Forgets those of domains and entrances of which that is not true.
    pub(super) fn retain(&mut self, is_here: impl Fn(&DomainName, &Entrance) -> bool) {
        self.0.retain(|key, _| is_here(&key.domain, &key.entrance));
    }

    /// Remembers a packet if it is a first fragment.
    pub(super) fn remember(
        &mut self,
        domain: &DomainName,
        entrance: &Entrance,
        ip: &Ip<'_>,
        transport: Transport,
        now: Duration,
    ) {
        if let Fragment::First(identification) = ip.fragment {
            let key = key(domain, entrance, ip, identification);
            self.0.insert(key, (transport, now));
        }
    }
}

fn key(domain: &DomainName, entrance: &Entrance, ip: &Ip<'_>, identification: u32) -> Key {
    Key {
        domain: domain.clone(),
        entrance: entrance.clone(),
        source: ip.source,
        destination: ip.destination,
        identification,
        protocol: if ip.source.is_ipv4() { ip.protocol } else { 0 },
    }
}
