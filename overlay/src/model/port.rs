//! Table P: frames from a workload.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::Ethernet2HeaderSlice;

use super::headers::Ip;
use super::{ETHERNET, Host, Ingress, Reason, Verdict, arp, is_group, neighbour};
use crate::forwarding::{Forwarding, Place, Port, Segment, Station};
use crate::name::Mac;
use crate::object::domain::DefaultPolicy;

/// What is known about the sender of a frame.
pub(super) struct Sender<'a> {
    pub(super) ingress: &'a Ingress,
    pub(super) domain: &'a Forwarding,
    pub(super) port: &'a Port,
}

impl Sender<'_> {
    /// Whether the address is its own: fixed, allocated, or the link-local one of its MAC.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.port.addresses.contains_key(&address) || address == IpAddr::V6(self.port.mac.link_local())
    }
}

pub(super) fn from_endpoint(host: Option<&Host>, ingress: &Ingress, frame: &[u8]) -> Result<Verdict, Reason> {
    let host = host.ok_or(Reason::UnknownPort)?;
    let domain = host.domains.get(&ingress.domain).ok_or(Reason::UnknownPort)?;
    let port = domain.ports.get(&ingress.endpoint).ok_or(Reason::UnknownPort)?;
    let ethernet = Ethernet2HeaderSlice::from_slice(frame).map_err(|_| Reason::Truncated)?;
    if ethernet.source() != port.mac.octets() {
        return Err(Reason::SourceMac);
    }
    if ingress
        .host_mac
        .is_some_and(|mac| ethernet.destination() == mac.octets())
    {
        return Err(Reason::HostLink);
    }
    let segment = domain
        .networks
        .get(&port.network)
        .filter(|s| s.vni == port.vni)
        .ok_or(Reason::UnknownVni)?;
    let sender = Sender { ingress, domain, port };
    let packet = &frame[ETHERNET..];
    if ethernet.ether_type().0 == 0x0806 {
        return arp::answer(&sender, packet);
    }
    let ip = Ip::of(ethernet.ether_type().0, packet)?.ok_or(Reason::EtherType)?;
    admit_source(&sender, &ip, ethernet.destination())?;
    if ip.is_server() {
        return Err(Reason::RogueServer);
    }
    if let Some(message) = ip.icmpv6().filter(|message| matches!(message[0], 135 | 136)) {
        return neighbour::answer(&sender, &ip, message);
    }
    let station = destination(&sender, ethernet.destination())?;
    forward(host, &sender, segment, &ip, station)
}

fn admit_source(sender: &Sender<'_>, ip: &Ip<'_>, destination: [u8; 6]) -> Result<(), Reason> {
    let unspecified = ip.source == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && is_group(destination)
        && ip
            .icmpv6()
            .is_some_and(|message| matches!(message[0], 131 | 132 | 133 | 135 | 143));
    if sender.has(ip.source) || unspecified {
        Ok(())
    } else {
        Err(Reason::SourceAddress)
    }
}

fn destination<'a>(sender: &Sender<'a>, mac: [u8; 6]) -> Result<&'a Station, Reason> {
    if is_group(mac) {
        return Err(Reason::Multicast);
    }
    let mac = Mac::try_from(mac).map_err(|_| Reason::UnknownDestination)?;
    let station = sender
        .domain
        .stations
        .get(&(sender.port.vni, mac))
        .filter(|_| mac != sender.port.mac);
    station.ok_or(Reason::UnknownDestination)
}

fn forward(
    host: &Host,
    sender: &Sender<'_>,
    segment: &Segment,
    ip: &Ip<'_>,
    station: &Station,
) -> Result<Verdict, Reason> {
    let domain = sender.domain;
    if domain.default_policy == DefaultPolicy::Deny {
        return Err(Reason::Policy);
    }
    if ip.length > usize::from(segment.mtu) {
        return Err(Reason::Mtu);
    }
    match station.place {
        Place::Here => Ok(Verdict::Deliver {
            domain: domain.domain.clone(),
            endpoint: station.endpoint.clone(),
        }),
        Place::Host(to) => {
            let path = host
                .vtep
                .as_ref()
                .zip(domain.hosts.get(&to))
                .and_then(|(ours, theirs)| ours.path_to(theirs));
            let (source, destination) = path.ok_or(Reason::NoRoute)?;
            Ok(Verdict::Encapsulate {
                to,
                vni: segment.vni,
                source,
                destination,
            })
        }
    }
}
