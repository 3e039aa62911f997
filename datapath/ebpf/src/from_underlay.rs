//! What arrives from the underlay. What is no tunnel packet of ours passes untouched; the rest is delivered to a workload
//! here or dropped, never sent on. The order of checks is table T of the reference model (`overlay::model`).

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use datapath_common::probe::PROBE_VNI;
use datapath_common::{HERE, Reason, SEGMENT_ALLOW, Settings};

use crate::drop::Owner;
use crate::encap::VNI_VALID;
use crate::headers::{ETHERNET, Ethernet, Udp, Vxlan};
use crate::icmp6::{NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, ROUTER_ADVERTISEMENT};
use crate::ip::{self, Ip};
use crate::maps::{SEGMENTS, SETTINGS, VTEPS};
use crate::outer::{Outer, ours};
use crate::owner::{group, owns, station};
use crate::packet::Packet;
use crate::{Verdict, action, decap, from_endpoint, icmp6, probe};

/// At the ingress of an underlay interface.
#[classifier]
pub fn from_underlay(ctx: TcContext) -> i32 {
    let mut packet = Packet::new(&ctx);
    let length = packet.len();
    let mut owner = Owner::NOBODY;
    let result = match SETTINGS.get(0) {
        Some(settings) => match ours(&mut packet, settings) {
            Some(outer) => try_from_underlay(&mut packet, &outer, settings, &mut owner),
            None => Ok(Verdict::Pass),
        },
        None => Ok(Verdict::Pass),
    };
    action(result, owner, length)
}

#[inline(always)]
fn try_from_underlay(
    packet: &mut Packet,
    outer: &Outer,
    settings: &Settings,
    owner: &mut Owner,
) -> Result<Verdict, Reason> {
    // SAFETY: a value may change while it is read; each field is valid by itself.
    let host = *unsafe { VTEPS.get(outer.source) }.ok_or(Reason::UnknownVtep)?;
    if outer.fragment {
        return Err(Reason::OuterFragment);
    }
    let vni = vni(packet, outer.udp)?;
    if vni == PROBE_VNI {
        return probe::receive(packet, outer, host);
    }
    // SAFETY: as above.
    let segment = unsafe { SEGMENTS.get(vni) }.ok_or(Reason::UnknownVni)?;
    owner.domain = segment.domain;

    let inner = outer.udp + size_of::<Udp>() + size_of::<Vxlan>();
    packet.linear(inner + ETHERNET)?;
    let frame = *packet.at::<Ethernet>(inner)?;
    let ip = source(packet, &frame, inner, vni, host)?;
    if group(frame.destination) {
        return Err(Reason::Multicast);
    }
    let station = station(vni, frame.destination).ok_or(Reason::UnknownDestination)?;
    if station.peer != HERE {
        return Err(Reason::NotHere);
    }
    owner.endpoint = station.endpoint;
    if segment.flags & SEGMENT_ALLOW == 0 {
        return Err(Reason::Policy);
    }
    decap::receive(packet, outer, &frame, &ip, station, settings)
}

/// The VNI of a tunnel packet whose UDP header is at `udp`.
#[inline(always)]
fn vni(packet: &mut Packet, udp: usize) -> Result<u32, Reason> {
    const LEAST: usize = size_of::<Udp>() + size_of::<Vxlan>();
    packet.linear(udp + LEAST)?;
    if usize::from(u16::from_be(packet.at::<Udp>(udp)?.length)) < LEAST {
        return Err(Reason::Truncated);
    }
    let vxlan = packet.at::<Vxlan>(udp + size_of::<Udp>())?;
    if vxlan.flags & VNI_VALID == 0 {
        return Err(Reason::VxlanFlags);
    }
    Ok(u32::from_be(vxlan.vni) >> 8)
}

/// Checks that an inner frame at `inner` comes from where its sender lives; its IP header.
#[inline(always)]
fn source(packet: &mut Packet, frame: &Ethernet, inner: usize, vni: u32, host: u32) -> Result<Ip, Reason> {
    match station(vni, frame.source) {
        Some(station) if station.peer == host && host != HERE => {}
        _ => return Err(Reason::WrongVtep),
    }
    let ip = ip::parse(packet, frame.ether_type, inner + ETHERNET)?.ok_or(Reason::EtherType)?;
    if (!ip.v4 && ip::pretends(&ip.source)) || !owns(vni, frame.source, &ip.source) {
        return Err(Reason::WrongVtep);
    }
    let icmp = icmp6::kind(packet, &ip)?;
    if icmp == Some(ROUTER_ADVERTISEMENT) || from_endpoint::serves_dhcp(packet, &ip)? {
        return Err(Reason::RogueServer);
    }
    match icmp {
        Some(NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT) => Err(Reason::NeighbourSpoof),
        _ => Ok(ip),
    }
}
