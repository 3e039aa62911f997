//! Tables B and L: frames for everybody in a segment, and frames of which no rule speaks.

use std::collections::{BTreeMap, BTreeSet};

use etherparse::Ethernet2HeaderSlice;

use super::account::Account;
use super::admission::{Memory, Passenger};
use super::icmp_error::Stop;
use super::owner::{self, NO_GROUPS};
use super::policy::{self, End, Spoken};
use super::port::Sender;
use super::transport::Message;
use super::{ETHERNET, Reason, Verdict, is_group};
use crate::forwarding::{Direction, Forwarding, Segment};
use crate::name::{EndpointName, Mac};
use crate::object::domain::DefaultPolicy;

/// 01:80:c2:00:00:00 to 0f, which no bridge passes on (IEEE 802.1Q section 8.6.3).
pub(super) fn is_reserved(mac: [u8; 6]) -> bool {
    mac[..5] == [0x01, 0x80, 0xc2, 0, 0] && mac[5] < 0x10
}

/// The ethertypes of VLAN tags.
pub(super) fn is_tag(ether_type: u16) -> bool {
    matches!(ether_type, 0x8100 | 0x88a8)
}

/// L1.
pub(super) fn carries(domain: &Forwarding) -> Result<(), Reason> {
    if domain.default_policy == DefaultPolicy::Allow {
        Ok(())
    } else {
        Err(Reason::EtherType)
    }
}

/// Whom the rules of receivers are asked about: the far end, and what is spoken.
pub(super) type Asked<'a> = Option<(End<'a>, Spoken)>;

/// B4: the endpoints here that get a copy; the `sender` does not.
pub(super) fn receivers(
    domain: &Forwarding,
    segment: &Segment,
    sender: Option<Mac>,
    asked: Asked<'_>,
    account: &mut Account,
) -> BTreeSet<EndpointName> {
    let mut receivers = BTreeSet::new();
    let ports = domain.ports.iter().filter(|(_, port)| port.vni == segment.vni);
    for (endpoint, port) in ports.filter(|(_, port)| Some(port.mac) != sender) {
        let station = owner::station(domain, port.vni, port.mac.octets());
        let local = |far: End<'_>| End {
            address: far.address,
            groups: station.map_or(&NO_GROUPS, |(_, station)| &station.groups),
            asked: true,
        };
        let allowed = asked.is_none_or(|(far, what)| {
            let ends = (local(far), far);
            policy::allows(domain, Direction::Ingress, ends, what, &mut account.audits)
        });
        if allowed {
            receivers.insert(endpoint.clone());
        } else {
            account.copies.push((endpoint.clone(), Reason::Policy));
        }
    }
    receivers
}

impl Sender<'_> {
    /// B1 to B6.
    pub(super) fn everybody(
        &self,
        memory: &mut Memory,
        passenger: &Passenger<'_>,
        segment: &Segment,
        frame: &[u8],
    ) -> Result<Verdict, Stop> {
        let ip = passenger.ip;
        if passenger.transport.message() == Some(Message::Error) {
            return Err(Reason::Unrelated.into());
        }
        if owner::is_anothers(self.domain, self.port.vni, None, ip.destination) {
            return Err(Reason::DestinationAddress.into());
        }
        let end = |address, groups| End {
            address,
            groups,
            asked: true,
        };
        let source = end(ip.source, self.speaker().groups(self.domain));
        let what = passenger.spoken();
        memory.account.length = ip.packet.len();
        let ends = (source, end(ip.destination, &NO_GROUPS));
        if !policy::allows(self.domain, Direction::Egress, ends, what, &mut memory.account.audits) {
            return Err(Reason::Policy.into());
        }
        passenger.remember(memory);
        if ip.packet.len() > usize::from(segment.mtu) {
            return Err(Reason::Mtu.into());
        }
        Ok(self.spread(segment, frame, Some((source, what)), &mut memory.account)?)
    }

    /// L2 to L7.
    pub(super) fn plain(&self, memory: &mut Memory, segment: &Segment, frame: &[u8]) -> Result<Verdict, Stop> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).map_err(|_| Reason::Truncated)?;
        let destination = ethernet.destination();
        let fits = frame.len() - ETHERNET <= usize::from(segment.mtu);
        if !is_group(destination) {
            if destination == self.port.mac.octets() {
                return Err(Reason::UnknownDestination.into());
            }
            let router = owner::router(self.domain, segment.vni);
            if router.is_some_and(|router| router.mac.octets() == destination) {
                return Err(Reason::RouterPort.into());
            }
            if let Some((_, station)) = owner::station(self.domain, segment.vni, destination) {
                let verdict = if fits {
                    self.carry(segment, station, frame.to_vec())
                } else {
                    Err(Reason::Mtu.into())
                };
                // Nobody is told.
                return verdict.map_err(|stop| stop.reason.into());
            }
            if !segment.flood {
                return Err(Reason::UnknownDestination.into());
            }
        }
        if !fits {
            return Err(Reason::Mtu.into());
        }
        Ok(self.spread(segment, frame, None, &mut memory.account)?)
    }

    /// B4 to B6.
    fn spread(
        &self,
        segment: &Segment,
        frame: &[u8],
        asked: Asked<'_>,
        account: &mut Account,
    ) -> Result<Verdict, Reason> {
        let endpoints = receivers(self.domain, segment, Some(self.port.mac), asked, account);
        let mut hosts = BTreeMap::new();
        for host in &segment.members {
            match self.path(*host, frame.len()) {
                Ok(ends) => {
                    hosts.insert(*host, ends);
                }
                // There is none, so the host is no member.
                Err(_) if !self.has_tunnel(*host) => {}
                Err(stop) => account.copies.push((self.ingress.endpoint.clone(), stop.reason)),
            }
        }
        if endpoints.is_empty() && hosts.is_empty() {
            return Err(Reason::Multicast);
        }
        Ok(Verdict::Flood {
            vni: segment.vni,
            domain: self.domain.domain.clone(),
            endpoints,
            hosts,
            encapsulation: self.domain.encapsulation,
            frame: frame.to_vec(),
        })
    }
}
