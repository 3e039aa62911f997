//! Table T: packets from a tunnel.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use etherparse::Ethernet2HeaderSlice;

use super::admission::{Memory, Passenger};
use super::flood::{self, Asked};
use super::fragment::Entrance;
use super::headers::Ip;
use super::owner::{self, NO_GROUPS, Speaker, longest};
use super::policy::End;
use super::port::is_nameless;
use super::transport::Message;
use super::{
    ARP, ETHERNET, Host, Reason, Tunnelled, Verdict, arp, geneve, is_group, neighbour, origin, probe, rewrite, vxlan,
};
use crate::forwarding::{Forwarding, Place, Route, Segment, Station};
use crate::name::{Mac, Vni};
use crate::object::domain::Encapsulation;

/// Length of a UDP header.
const UDP: usize = 8;
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

impl Origin {
    /// The station's MAC address.
    fn station(&self) -> Option<Mac> {
        match self {
            Self::Station(mac) => Some(*mac),
            Self::Router => None,
        }
    }
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
    if tunnelled.hops == 0 {
        return Err(Reason::OuterTtl);
    }
    if !tunnelled.checked {
        return Err(Reason::OuterChecksum);
    }
    let (header, behind) = tunnelled.payload.split_first_chunk().ok_or(Reason::Truncated)?;
    if tunnelled.length < LEAST || tunnelled.room > UDP + tunnelled.payload.len() {
        return Err(Reason::Truncated);
    }
    if usize::from(tunnelled.length) != tunnelled.room {
        return Err(Reason::OuterLength);
    }
    let (number, frame) = match tunnelled.encapsulation {
        Encapsulation::Vxlan => vxlan::open(*header, behind, host.strict)?,
        Encapsulation::Geneve => geneve::open(*header, behind)?,
    };
    if number == probe::VNI && tunnelled.encapsulation == Encapsulation::Vxlan {
        return Err(probe::refused(frame));
    }
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
        let (destination, ether_type) = (ethernet.destination(), ethernet.ether_type().0);
        let origin = self.origin(ethernet.source())?;
        if flood::is_reserved(destination) {
            return Err(Reason::Multicast);
        }
        if flood::is_tag(ether_type) {
            return Err(Reason::EtherType);
        }
        let packet = &frame[ETHERNET..];
        if ether_type == ARP {
            arp::check(
                self.domain,
                self.vni,
                origin.station().ok_or(Reason::WrongVtep)?,
                packet,
            )?;
            return self.plain(memory, destination, frame, None);
        }
        let Some(ip) = Ip::of(ether_type, packet)? else {
            flood::carries(self.domain)?;
            origin.station().ok_or(Reason::WrongVtep)?;
            return self.plain(memory, destination, frame, None);
        };
        self.check_source(&origin, &ip, destination)?;
        if ip.transport().is_some_and(|of| of.is_server(ip.source.is_ipv4())) {
            return Err(Reason::RogueServer);
        }
        if let Some(message) = ip.icmpv6().filter(|message| matches!(message[0], 135 | 136)) {
            let mac = origin.station().ok_or(Reason::NeighbourSpoof)?;
            neighbour::check(self.domain, self.vni, mac, &ip, message)?;
            return self.plain(memory, destination, frame, Some(&ip));
        }
        let group = is_group(destination);
        let entrance = Entrance::Tunnel(self.vni);
        let passenger = Passenger::board(memory, self.domain, entrance, (&ip, group), now)?;
        let Some((mac, station)) = self.receiver(memory, destination)? else {
            return self.everybody(memory, &origin, &passenger, frame);
        };
        if owner::is_anothers(self.domain, self.vni, Some(mac), ip.destination) && !self.is_sent_on(&origin, &ip) {
            return Err(Reason::DestinationAddress);
        }
        // `check_source` found it.
        let speaker = self.speaker(&origin, ip.source).ok_or(Reason::WrongVtep)?;
        let source = End {
            address: ip.source,
            groups: speaker.groups(self.domain),
            asked: false,
        };
        let receiver = End {
            address: ip.destination,
            groups: &station.groups,
            asked: true,
        };
        passenger.admit(memory, speaker, source, receiver)?;
        self.deliver(station, frame, Some(&ip))
    }

    /// T13: to everybody here whose rules let it in.
    fn everybody(
        &self,
        memory: &mut Memory,
        origin: &Origin,
        passenger: &Passenger<'_>,
        frame: &[u8],
    ) -> Result<Verdict, Reason> {
        if passenger.transport.message() == Some(Message::Error) {
            return Err(Reason::Unrelated);
        }
        let ip = passenger.ip;
        if owner::is_anothers(self.domain, self.vni, None, ip.destination) {
            return Err(Reason::DestinationAddress);
        }
        passenger.remember(memory);
        let speaker = self.speaker(origin, ip.source);
        let source = End {
            address: ip.source,
            groups: speaker.map_or(&NO_GROUPS, |speaker| speaker.groups(self.domain)),
            asked: false,
        };
        memory.account.length = ip.packet.len();
        self.spread(memory, frame, Some(ip), Some((source, passenger.spoken())))
    }

    /// A frame of which no rule speaks: to the one who has its address, or to everybody here.
    fn plain(
        &self,
        memory: &mut Memory,
        destination: [u8; 6],
        frame: &[u8],
        ip: Option<&Ip<'_>>,
    ) -> Result<Verdict, Reason> {
        match self.receiver(memory, destination)? {
            Some((_, station)) => self.deliver(station, frame, ip),
            None => self.spread(memory, frame, ip, None),
        }
    }

    fn spread(
        &self,
        memory: &mut Memory,
        frame: &[u8],
        ip: Option<&Ip<'_>>,
        asked: Asked<'_>,
    ) -> Result<Verdict, Reason> {
        let segment = self.segment().ok_or(Reason::UnknownVni)?;
        let frame = self.opened(frame, ip)?;
        let endpoints = flood::receivers(self.domain, segment, None, asked, &mut memory.account);
        if endpoints.is_empty() {
            return Err(Reason::Multicast);
        }
        Ok(Verdict::Flood {
            vni: self.vni,
            domain: self.domain.domain.clone(),
            endpoints,
            hosts: BTreeMap::new(),
            encapsulation: self.domain.encapsulation,
            frame,
        })
    }

    fn deliver(&self, station: &Station, frame: &[u8], ip: Option<&Ip<'_>>) -> Result<Verdict, Reason> {
        Ok(Verdict::Deliver {
            domain: self.domain.domain.clone(),
            endpoint: station.endpoint.clone(),
            frame: self.opened(frame, ip)?,
        })
    }

    /// T20: the frame as it comes out of the tunnel.
    fn opened(&self, frame: &[u8], ip: Option<&Ip<'_>>) -> Result<Vec<u8>, Reason> {
        let Some(ip) = ip else { return Ok(frame.to_vec()) };
        let ecn = decapsulated(ip.ecn, self.tunnelled.ecn).ok_or(Reason::Ecn)?;
        Ok(if ecn == ip.ecn {
            frame.to_vec()
        } else {
            rewrite::marked(frame, ip.source.is_ipv4(), ecn)
        })
    }

    /// Who gets a frame for this MAC address; none if everybody does.
    fn receiver(&self, memory: &mut Memory, mac: [u8; 6]) -> Result<Option<(Mac, &Station)>, Reason> {
        if is_group(mac) {
            return Ok(None);
        }
        let floods = self.segment().is_some_and(|segment| segment.flood);
        match self.destination(mac) {
            Err(Reason::UnknownDestination) if floods => Ok(None),
            Err(reason) => Err(reason),
            Ok((mac, station)) => {
                memory.account.owner = Some((self.domain.domain.clone(), Some(station.endpoint.clone())));
                Ok(Some((mac, station)))
            }
        }
    }

    fn segment(&self) -> Option<&Segment> {
        self.domain.networks.values().find(|segment| segment.vni == self.vni)
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
    fn check_source(&self, origin: &Origin, ip: &Ip<'_>, destination: [u8; 6]) -> Result<(), Reason> {
        let may = match origin {
            Origin::Station(mac) => {
                owner::may_use(self.domain, self.vni, *mac, ip.source) || is_nameless(ip, destination)
            }
            Origin::Router => self.speaker(origin, ip.source).is_some(),
        };
        if may { Ok(()) } else { Err(Reason::WrongVtep) }
    }

    /// T15 to T17.
    fn destination(&self, mac: [u8; 6]) -> Result<(Mac, &Station), Reason> {
        if owner::router(self.domain, self.vni).is_some_and(|router| router.mac.octets() == mac) {
            return Err(Reason::NotHere);
        }
        let station = owner::station(self.domain, self.vni, mac);
        let (mac, station) = station.ok_or(Reason::UnknownDestination)?;
        if station.place == Place::Here {
            Ok((mac, station))
        } else {
            Err(Reason::NotHere)
        }
    }

    /// The station that a frame from this address comes from; that of a routed one (table Q) is in a segment of its own.
    fn speaker(&self, origin: &Origin, source: IpAddr) -> Option<Speaker> {
        match origin {
            Origin::Station(mac) => Some(Speaker {
                vni: self.vni,
                mac: *mac,
            }),
            Origin::Router => {
                let router = owner::router(self.domain, self.vni)?;
                origin::sender(self.domain, router, source, |place| self.sent_by(place))
            }
        }
    }

    /// Whether it is the router that sends its destination to a next hop.
    fn is_sent_on(&self, origin: &Origin, ip: &Ip<'_>) -> bool {
        let router = owner::router(self.domain, self.vni).filter(|_| matches!(origin, Origin::Router));
        let route = router.and_then(|router| longest(&router.routes, ip.destination));
        matches!(route, Some(Route::Via(_)))
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
