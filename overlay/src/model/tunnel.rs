//! Table T: packets from a tunnel.

use std::net::IpAddr;

use etherparse::Ethernet2HeaderSlice;

use super::headers::Ip;
use super::{ETHERNET, Host, Reason, Tunnelled, Verdict, is_group};
use crate::forwarding::{Forwarding, Place, Station};
use crate::name::{Mac, Vni};
use crate::object::domain::DefaultPolicy;

/// Length of a UDP header, and of a VXLAN header (RFC 7348 section 5):
///
/// ```text
/// |R|R|R|R|I|R|R|R|            Reserved                           |
/// |                VXLAN Network Identifier (VNI) |   Reserved    |
/// ```
const UDP: u16 = 8;
const VXLAN: u16 = 8;
const FLAG_I: u8 = 0x08;

pub(super) fn from_tunnel(host: &Host, tunnelled: &Tunnelled<'_>) -> Result<Verdict, Reason> {
    host.hosts_at(tunnelled.source).next().ok_or(Reason::UnknownVtep)?;
    if tunnelled.fragment {
        return Err(Reason::OuterFragment);
    }
    let [flags, _, _, _, a, b, c, _, frame @ ..] = tunnelled.payload else {
        return Err(Reason::Truncated);
    };
    if tunnelled.length < UDP + VXLAN {
        return Err(Reason::Truncated);
    }
    if flags & FLAG_I == 0 {
        return Err(Reason::VxlanFlags);
    }
    let number = u32::from_be_bytes([0, *a, *b, *c]);
    let vni = Vni::try_from(u64::from(number)).map_err(|_| Reason::UnknownVni)?;
    let (domain, _) = host.segment(vni).ok_or(Reason::UnknownVni)?;
    let ethernet = Ethernet2HeaderSlice::from_slice(frame).map_err(|_| Reason::Truncated)?;
    let source = station(domain, vni, ethernet.source()).filter(|source| lives_at(host, source, tunnelled.source));
    let source = source.ok_or(Reason::WrongVtep)?;
    let ip = Ip::of(ethernet.ether_type().0, &frame[ETHERNET..])?.ok_or(Reason::EtherType)?;
    if !source.addresses.contains(&ip.source) {
        return Err(Reason::WrongVtep);
    }
    if ip.is_server() {
        return Err(Reason::RogueServer);
    }
    if ip.icmpv6().is_some_and(|message| matches!(message[0], 135 | 136)) {
        return Err(Reason::NeighbourSpoof);
    }
    if is_group(ethernet.destination()) {
        return Err(Reason::Multicast);
    }
    let station = station(domain, vni, ethernet.destination()).ok_or(Reason::UnknownDestination)?;
    deliver(domain, station, &ip, tunnelled.congested)
}

fn station(domain: &Forwarding, vni: Vni, mac: [u8; 6]) -> Option<&Station> {
    domain.stations.get(&(vni, Mac::try_from(mac).ok()?))
}

fn lives_at(host: &Host, station: &Station, outer: IpAddr) -> bool {
    match station.place {
        Place::Here => false,
        Place::Host(node) => host.hosts_at(outer).any(|at| at == node),
    }
}

fn deliver(domain: &Forwarding, station: &Station, ip: &Ip<'_>, congested: bool) -> Result<Verdict, Reason> {
    if station.place != Place::Here {
        return Err(Reason::NotHere);
    }
    if domain.default_policy == DefaultPolicy::Deny {
        return Err(Reason::Policy);
    }
    if congested && ip.ecn == 0 {
        return Err(Reason::Ecn);
    }
    Ok(Verdict::Deliver {
        domain: domain.domain.clone(),
        endpoint: station.endpoint.clone(),
    })
}
