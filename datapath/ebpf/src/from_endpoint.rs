//! What a workload sends. It is forwarded, answered or dropped, never passed to the host's stack. The order of checks is
//! table P of the reference model (`overlay::model`).

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::{HERE, Port, Reason, SEGMENT_ALLOW, Segment, Settings};

use crate::drop::Owner;
use crate::headers::{ETHERNET, Ethernet, ether, protocol};
use crate::ip::{self, Ip};
use crate::maps::{PEERS, PORTS, SEGMENTS, SETTINGS};
use crate::owner::{group, mac_words, owns, same, station};
use crate::packet::Packet;
use crate::{Verdict, action, arp, deliver, encap, icmp6, nd};

/// At the ingress of the host side of a workload's interface.
#[classifier]
pub fn from_endpoint(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    let length = packet.len();
    // SAFETY: a value may change while it is read; each field is valid by itself.
    match unsafe { PORTS.get(packet.ifindex()) } {
        Some(port) => action(try_from_endpoint(&mut packet, port), Owner::of(port), length),
        None => action(Err(Reason::UnknownPort), Owner::NOBODY, length),
    }
}

#[inline(always)]
fn try_from_endpoint(packet: &mut Packet, port: &Port) -> Result<Verdict, Reason> {
    packet.linear(ETHERNET)?;
    let frame = *packet.at::<Ethernet>(0)?;
    if !same(frame.source, mac_words(&port.mac)) {
        return Err(Reason::SourceMac);
    }
    let host_mac = mac_words(&port.host_mac);
    if same(frame.destination, host_mac) && !same(host_mac, [0; 3]) {
        return Err(Reason::HostLink);
    }
    let settings = SETTINGS.get(0).ok_or(Reason::NoProgram)?;
    // SAFETY: a value may change while it is read; each field is valid by itself.
    let segment = unsafe { SEGMENTS.get(port.vni) }.ok_or(Reason::UnknownVni)?;
    if packet.tagged() {
        return Err(Reason::EtherType);
    }
    if frame.ether_type == ether::ARP {
        return arp::answer(packet, port, settings);
    }
    let Some(ip) = ip::parse(packet, frame.ether_type, ETHERNET)? else {
        return Err(Reason::EtherType);
    };
    let icmp = icmp6::kind(packet, &ip)?;
    if !ip.v4 && ip::pretends(&ip.source) || !owns(port.vni, frame.source, &ip.source) {
        let unspecified = !ip.v4 && ip::words(&ip.source) == [0; 4] && group(frame.destination);
        if !(unspecified && icmp.is_some_and(icmp6::without_address)) {
            return Err(Reason::SourceAddress);
        }
    }
    if icmp == Some(icmp6::ROUTER_ADVERTISEMENT) || serves_dhcp(packet, &ip)? {
        return Err(Reason::RogueServer);
    }
    match icmp {
        Some(kind @ (icmp6::NEIGHBOUR_SOLICITATION | icmp6::NEIGHBOUR_ADVERTISEMENT)) => {
            nd::answer(packet, port, settings, &ip, kind)
        }
        _ => forward(packet, port, settings, segment, &frame, &ip),
    }
}

#[inline(always)]
fn forward(
    packet: &mut Packet,
    port: &Port,
    settings: &Settings,
    segment: &Segment,
    frame: &Ethernet,
    ip: &Ip,
) -> Result<Verdict, Reason> {
    if group(frame.destination) {
        return Err(Reason::Multicast);
    }
    if same(frame.destination, frame.source) {
        return Err(Reason::UnknownDestination);
    }
    let station = station(port.vni, frame.destination).ok_or(Reason::UnknownDestination)?;
    if segment.flags & SEGMENT_ALLOW == 0 {
        return Err(Reason::Policy);
    }
    let longest = ip.longest(packet, ETHERNET)?;
    if longest > segment.mtu as usize {
        return Err(Reason::Mtu);
    }
    if station.peer == HERE {
        return deliver::to(packet, station, settings, true);
    }
    // SAFETY: a value may change while it is read; each field is valid by itself.
    let peer = unsafe { PEERS.get(station.peer) }.ok_or(Reason::NoRoute)?;
    encap::send(packet, frame, ip, peer, (port.vni, settings.port as u16), longest)
}

/// Whether it is what only a DHCP server sends: to a client's port (RFC 2131 section 4.1, RFC 9915 section 7.2).
#[inline(always)]
pub fn serves_dhcp(packet: &mut Packet, ip: &Ip) -> Result<bool, Reason> {
    if ip.protocol != Some(protocol::UDP) {
        return Ok(false);
    }
    let client = if ip.v4 { 68 } else { 546 };
    Ok(ip.udp_destination(packet)? == Some(client))
}
