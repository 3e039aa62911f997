//! Table F: fragments of IP packets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::Reason;
use super::headers::{Fragment, Ip};
use super::transport::Transport;
use crate::name::{DomainName, EndpointName, Vni};

/// How long a first fragment is remembered.
const LIFETIME: Duration = Duration::from_secs(30);

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

/// What a first fragment said.
#[derive(Debug, Clone, Copy)]
struct First {
    transport: Transport,
    /// Where its header ends, in bytes of what is fragmented.
    header_end: usize,
    seen: Duration,
}

/// What first fragments said.
#[derive(Debug, Clone, Default)]
pub(super) struct Fragments(BTreeMap<Key, First>);

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
        let first = self.0.get(&key(domain, entrance, ip, identification));
        match first.filter(|first| now.saturating_sub(first.seen) < LIFETIME) {
            Some(first) if offset < first.header_end => Err(Reason::TinyFragment),
            Some(first) => Ok(first.transport),
            None => Err(Reason::FragmentState),
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
            let before = self
                .0
                .get(&key)
                .filter(|first| now.saturating_sub(first.seen) < LIFETIME);
            let before = before.map_or(0, |first| first.header_end);
            let first = First {
                transport,
                header_end: before.max(ip.behind_fragment + ip.least_first()),
                seen: now,
            };
            self.0.insert(key, first);
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
