//! Table P: frames from a workload.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use etherparse::Ethernet2HeaderSlice;
use membership::id::NodeId;

use super::admission::{Memory, Passenger};
use super::fragment::Entrance;
use super::headers::Ip;
use super::icmp_error::{IcmpError, Stop};
use super::owner::{self, Owner, Speaker};
use super::policy::End;
use super::routing::{self, Onward, Routed};
use super::{ARP, ETHERNET, Host, Ingress, Reason, Verdict, arp, flood, is_group, neighbour};
use crate::forwarding::{Forwarding, Place, Port, Segment, Station};
use crate::name::Mac;

/// What a tunnel adds to a frame's IP packet, without the outer IP header: Ethernet 14, UDP 8, VXLAN or Geneve 8.
const TUNNEL: usize = 14 + 8 + 8;

/// What is known about the sender of a frame.
#[derive(Debug)]
pub(super) struct Sender<'a> {
    pub(super) host: &'a Host,
    pub(super) ingress: &'a Ingress,
    pub(super) domain: &'a Forwarding,
    pub(super) port: &'a Port,
}

impl<'a> Sender<'a> {
    /// P1.
    pub(super) fn of(host: Option<&'a Host>, ingress: &'a Ingress) -> Result<Self, Reason> {
        let host = host.ok_or(Reason::UnknownPort)?;
        let domain = host.domains.get(&ingress.domain).ok_or(Reason::UnknownPort)?;
        let port = domain.ports.get(&ingress.endpoint).ok_or(Reason::UnknownPort)?;
        Ok(Self {
            host,
            ingress,
            domain,
            port,
        })
    }

    /// The sender's station.
    pub(super) fn speaker(&self) -> Speaker {
        let (vni, mac) = (self.port.vni, self.port.mac);
        Speaker { vni, mac }
    }

    /// Table S.
    pub(super) fn may_use(&self, address: IpAddr) -> bool {
        self.speaker().may_use(self.domain, address)
    }

    /// Whether it is exactly one of its own addresses.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.owner(address).is_some_and(|owner| owner.mac() == self.port.mac)
    }

    /// Who has exactly this address in the sender's segment.
    pub(super) fn owner(&self, address: IpAddr) -> Option<Owner<'a>> {
        Owner::exact(self.domain, self.port.vni, address)
    }

    /// Whether the MAC address is that of a station of the sender's segment at another host.
    pub(super) fn is_elsewhere(&self, mac: [u8; 6]) -> bool {
        let station = owner::station(self.domain, self.port.vni, mac);
        station.is_some_and(|(_, station)| station.place != Place::Here)
    }

    fn segment(&self) -> Result<&'a Segment, Reason> {
        let segment = self.domain.networks.get(&self.port.network);
        segment
            .filter(|segment| segment.vni == self.port.vni)
            .ok_or(Reason::UnknownVni)
    }

    /// P2 to P22.
    pub(super) fn send(&self, memory: &mut Memory, frame: &[u8], now: Duration) -> Result<Verdict, Stop> {
        let ethernet = Ethernet2HeaderSlice::from_slice(frame).map_err(|_| Reason::Truncated)?;
        if ethernet.source() != self.port.mac.octets() {
            return Err(Reason::SourceMac.into());
        }
        let host_mac = self.ingress.host_mac.map(Mac::octets);
        if host_mac == Some(ethernet.destination()) {
            return Err(Reason::HostLink.into());
        }
        let segment = self.segment()?;
        let (destination, ether_type) = (ethernet.destination(), ethernet.ether_type().0);
        if flood::is_reserved(destination) {
            return Err(Reason::Multicast.into());
        }
        if flood::is_tag(ether_type) {
            return Err(Reason::EtherType.into());
        }
        let packet = &frame[ETHERNET..];
        if ether_type == ARP {
            let answer = arp::answer(self, segment.flood, destination, packet)?;
            return answer.map_or_else(|| self.plain(memory, segment, frame), Ok);
        }
        let Some(ip) = Ip::of(ether_type, packet)? else {
            flood::carries(self.domain)?;
            return self.plain(memory, segment, frame);
        };
        self.check_source(&ip, destination)?;
        if ip.transport().is_some_and(|of| of.is_server(ip.source.is_ipv4())) {
            return Err(Reason::RogueServer.into());
        }
        if let Some(message) = ip.icmpv6().filter(|message| matches!(message[0], 135 | 136)) {
            let answer = neighbour::answer(self, segment.flood, destination, &ip, message)?;
            return answer.map_or_else(|| self.plain(memory, segment, frame), Ok);
        }
        let entrance = Entrance::Port(self.ingress.endpoint.clone());
        let group = is_group(destination);
        let passenger = Passenger::board(memory, self.domain, entrance, (&ip, group), now)?;
        if group || (segment.flood && self.is_unknown(destination)) {
            return self.everybody(memory, &passenger, segment, frame);
        }
        let onward = match self.onward(&passenger, segment, destination, frame)? {
            Routed::Answered(verdict) => return Ok(verdict),
            Routed::On(onward) => onward,
        };
        self.admit(memory, &passenger, &onward)?;
        self.leave(&ip, onward)
    }

    /// P9.
    fn check_source(&self, ip: &Ip<'_>, destination: [u8; 6]) -> Result<(), Reason> {
        if is_nameless(ip, destination) || self.may_use(ip.source) {
            Ok(())
        } else {
            Err(Reason::SourceAddress)
        }
    }

    /// Whether no station and no router of the segment has the MAC address.
    fn is_unknown(&self, mac: [u8; 6]) -> bool {
        let router = owner::router(self.domain, self.port.vni);
        let routed = router.is_some_and(|router| router.mac.octets() == mac);
        !routed && owner::station(self.domain, self.port.vni, mac).is_none() && mac != self.port.mac.octets()
    }

    /// P14 and P15.
    fn onward(
        &self,
        passenger: &Passenger<'_>,
        segment: &'a Segment,
        destination: [u8; 6],
        frame: &[u8],
    ) -> Result<Routed<'a>, Stop> {
        let vni = segment.vni;
        let router = owner::router(self.domain, vni);
        if let Some(router) = router.filter(|router| router.mac.octets() == destination) {
            return routing::route(self, router, passenger, frame);
        }
        let station = owner::station(self.domain, vni, destination).filter(|(mac, _)| *mac != self.port.mac);
        let (mac, station) = station.ok_or(Reason::UnknownDestination)?;
        if owner::is_anothers(self.domain, vni, Some(mac), passenger.ip.destination) {
            return Err(Reason::DestinationAddress.into());
        }
        Ok(Routed::On(Onward {
            segment,
            station,
            frame: frame.to_vec(),
        }))
    }

    /// P16 and P17.
    fn admit(&self, memory: &mut Memory, passenger: &Passenger<'_>, onward: &Onward<'_>) -> Result<(), Reason> {
        let ip = passenger.ip;
        let source = End {
            address: ip.source,
            groups: self.speaker().groups(self.domain),
            asked: true,
        };
        let destination = End {
            address: ip.destination,
            groups: &onward.station.groups,
            asked: onward.station.place == Place::Here,
        };
        passenger.admit(memory, self.speaker(), source, destination)
    }

    /// P18 to P22.
    fn leave(&self, ip: &Ip<'_>, onward: Onward<'_>) -> Result<Verdict, Stop> {
        let Onward {
            segment,
            station,
            frame,
        } = onward;
        if ip.packet.len() > usize::from(segment.mtu) {
            return Err(Stop::telling(Reason::Mtu, IcmpError::TooBig(segment.mtu)));
        }
        self.carry(segment, station, frame)
    }

    /// P19 to P22.
    pub(super) fn carry(&self, segment: &Segment, station: &Station, frame: Vec<u8>) -> Result<Verdict, Stop> {
        let Place::Host(to) = station.place else {
            return Ok(Verdict::Deliver {
                domain: self.domain.domain.clone(),
                endpoint: station.endpoint.clone(),
                frame,
            });
        };
        let (source, destination) = self.path(to, frame.len())?;
        Ok(Verdict::Encapsulate {
            to,
            vni: segment.vni,
            source,
            destination,
            encapsulation: self.domain.encapsulation,
            frame,
        })
    }

    /// Whether there is a tunnel to a host, routed or not.
    pub(super) fn has_tunnel(&self, to: NodeId) -> bool {
        let theirs = self.domain.hosts.get(&to);
        theirs.is_some_and(|theirs| self.host.tunnel_to(theirs).is_some())
    }

    /// P20 and P21: the ends of the tunnel that carries so long a frame to a host.
    pub(super) fn path(&self, to: NodeId, length: usize) -> Result<(IpAddr, IpAddr), Stop> {
        let theirs = self.domain.hosts.get(&to).filter(|_| !self.host.unrouted.contains(&to));
        let ends = theirs
            .and_then(|theirs| self.host.tunnel_to(theirs))
            .ok_or(Reason::NoRoute)?;
        let around = TUNNEL + if ends.0.is_ipv4() { 20 } else { 40 };
        let path = self.host.vtep.as_ref().map_or(0, |ours| ours.underlay_mtu);
        let fits = usize::from(path).saturating_sub(around);
        if length - ETHERNET > fits {
            let mtu = u16::try_from(fits).unwrap_or(u16::MAX);
            return Err(Stop::telling(Reason::Mtu, IcmpError::TooBig(mtu)));
        }
        Ok(ends)
    }
}

/// Whether it is a message to a group from who has no address yet (P9).
pub(super) fn is_nameless(ip: &Ip<'_>, destination: [u8; 6]) -> bool {
    ip.source == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && is_group(destination)
        && ip
            .icmpv6()
            .is_some_and(|message| matches!(message[0], 131 | 132 | 133 | 135 | 143))
}
