//! Table T: packets from a tunnel.

use std::net::IpAddr;
use std::time::Duration;

use etherparse::Ethernet2HeaderSlice;

use super::admission::{Memory, Passenger};
use super::fragment::Entrance;
use super::headers::Ip;
use super::owner::{self, Owner, groups};
use super::policy::End;
use super::{ETHERNET, Host, Reason, Tunnelled, Verdict, geneve, is_group, origin, rewrite, vxlan};
use crate::forwarding::{Forwarding, Place, Station};
use crate::name::{Mac, Vni};
use crate::object::domain::Encapsulation;

/// Length of a UDP header and a VXLAN or Geneve header.
const LEAST: u16 = 8 + 8;
/// ECN codepoints (RFC 3168 section 5).
const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// Who sent an inner frame.
enum Origin {
    Station(Mac),
    Router,
}

/// Where a tunnelled packet arrives.
struct Arrival<'a> {
    host: &'a Host,
    domain: &'a Forwarding,
    vni: Vni,
    tunnelled: &'a Tunnelled<'a>,
}

pub(super) fn from_tunnel(
    host: &Host,
    memory: &mut Memory,
    tunnelled: &Tunnelled<'_>,
    now: Duration,
) -> Result<Verdict, Reason> {
    host.hosts_at(tunnelled.source).next().ok_or(Reason::UnknownVtep)?;
    if tunnelled.fragment {
        return Err(Reason::OuterFragment);
    }
    let (header, behind) = tunnelled.payload.split_first_chunk().ok_or(Reason::Truncated)?;
    if tunnelled.length < LEAST {
        return Err(Reason::Truncated);
    }
    let (number, frame) = match tunnelled.encapsulation {
        Encapsulation::Vxlan => vxlan::open(*header, behind)?,
        Encapsulation::Geneve => geneve::open(*header, behind)?,
    };
    let vni = Vni::try_from(u64::from(number)).map_err(|_| Reason::UnknownVni)?;
    let domain = host
        .segment(vni)
        .filter(|domain| domain.encapsulation == tunnelled.encapsulation);
    let arrival = Arrival {
        host,
        domain: domain.ok_or(Reason::UnknownVni)?,
        vni,
        tunnelled,
    };
    memory.account.owner = Some((arrival.domain.domain.clone(), None));
    arrival.receive(memory, frame, now)
}

impl Arrival<'_> {
    /// T6 to T21.
    fn receive(&self, memory: &mut Memory, frame: &[u8], now: Duration) -> Result<Verdict, Reason> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).map_err(|_| Reason::Truncated)?;
        let origin = self.origin(ethernet.source())?;
        let ip = Ip::of(ethernet.ether_type().0, &frame[ETHERNET..])?.ok_or(Reason::EtherType)?;
        self.check_source(&origin, ip.source)?;
        if ip.transport().is_some_and(|of| of.is_server(ip.source.is_ipv4())) {
            return Err(Reason::RogueServer);
        }
        if ip.icmpv6().is_some_and(|message| matches!(message[0], 135 | 136)) {
            return Err(Reason::NeighbourSpoof);
        }
        if is_group(ethernet.destination()) {
            return Err(Reason::Multicast);
        }
        let passenger = Passenger::board(memory, self.domain, Entrance::Tunnel(self.vni), &ip, now)?;
        let station = self.destination(ethernet.destination())?;
        memory.account.owner = Some((self.domain.domain.clone(), Some(station.endpoint.clone())));
        let end = |address, asked| End {
            address,
            groups: groups(self.owner(&origin, address, asked)),
            asked,
        };
        passenger.admit(memory, end(ip.source, false), end(ip.destination, true))?;
        let ecn = decapsulated(ip.ecn, self.tunnelled.ecn).ok_or(Reason::Ecn)?;
        let frame = if ecn == ip.ecn {
            frame.to_vec()
        } else {
            rewrite::marked(frame, ip.source.is_ipv4(), ecn)
        };
        Ok(Verdict::Deliver {
            domain: self.domain.domain.clone(),
            endpoint: station.endpoint.clone(),
            frame,
        })
    }

    /// T7.
    fn origin(&self, mac: [u8; 6]) -> Result<Origin, Reason> {
        if owner::router(self.domain, self.vni).is_some_and(|router| router.mac.octets() == mac) {
            return Ok(Origin::Router);
        }
        let station = owner::station(self.domain, self.vni, mac);
        let there = station.filter(|(_, station)| self.sent_by(station.place));
        there.map(|(mac, _)| Origin::Station(mac)).ok_or(Reason::WrongVtep)
    }

    /// T10.
    fn check_source(&self, origin: &Origin, source: IpAddr) -> Result<(), Reason> {
        let may = match origin {
            Origin::Station(mac) => owner::may_use(self.domain, self.vni, *mac, source),
            Origin::Router => self.routed_sender(source).is_some(),
        };
        if may { Ok(()) } else { Err(Reason::WrongVtep) }
    }

    /// T15 to T17.
    fn destination(&self, mac: [u8; 6]) -> Result<&Station, Reason> {
        if owner::router(self.domain, self.vni).is_some_and(|router| router.mac.octets() == mac) {
            return Err(Reason::NotHere);
        }
        let station = owner::station(self.domain, self.vni, mac);
        let (_, station) = station.ok_or(Reason::UnknownDestination)?;
        if station.place == Place::Here {
            Ok(station)
        } else {
            Err(Reason::NotHere)
        }
    }

    /// The owner of an end's address; that of a routed source is in a segment of its own.
    fn owner(&self, origin: &Origin, address: IpAddr, here: bool) -> Option<Owner<'_>> {
        match origin {
            Origin::Router if !here => self.routed_sender(address),
            Origin::Router | Origin::Station(_) => Owner::of(self.domain, self.vni, address),
        }
    }

    /// Table Q.
    fn routed_sender(&self, source: IpAddr) -> Option<Owner<'_>> {
        let router = owner::router(self.domain, self.vni)?;
        origin::sender(self.domain, router, source, |place| self.sent_by(place))
    }

    fn sent_by(&self, place: Place) -> bool {
        match place {
            Place::Here => false,
            Place::Host(node) => self.host.hosts_at(self.tunnelled.source).any(|at| at == node),
        }
    }
}

/// The inner ECN field behind a tunnel (RFC 6040 figure 4); none if the packet must be dropped.
fn decapsulated(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (ECT_0 | ECT_1, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}
