//! Frames for all of a segment, frames that are not IP, and what neighbours ask and tell each other: who gets them. No
//! connection is made, nothing is cached, nothing is routed. Tables B, L and TA of the reference model
//! (`overlay::model`); `flood.rs` does what is decided here.

use datapath_common::{DOMAIN_ALLOW, LIMIT_BROADCAST, Port, ROUTER, Reason, SEGMENT_FLOOD, Segment};

use crate::headers::{ETHERNET, Ethernet, MacWords, ether};
use crate::icmp::{self, Kind};
use crate::outer::Outer;
use crate::owner::{group, meant_for_all, same, station};
use crate::packet::Packet;
use crate::policy::{self, Ends, Opinion};
use crate::slow_endpoint::{load, target};
use crate::transport::is_icmp;
use crate::walk::Walk;
use crate::{Verdict, connection, encap, entry, fragment, limit, words};

/// 01:80:c2:00:00:00 to :0f, which no bridge passes on (IEEE 802.1Q section 8.6.3).
#[inline(always)]
pub fn reserved(mac: MacWords) -> bool {
    [mac[0], mac[1]] == [0x0180_u16.to_be(), 0xc200_u16.to_be()] && u16::from_be(mac[2]) < 0x10
}

/// Whether the frame carries a VLAN tag in its bytes.
#[inline(always)]
pub fn tagged(frame: &Ethernet) -> bool {
    matches!(frame.ether_type, ether::TAG | ether::SERVICE_TAG)
}

/// Whether frames that no rule can speak of are carried.
#[inline(always)]
pub fn carries(domain: u32) -> Result<(), Reason> {
    match entry::domain(domain) {
        Some(domain) if domain.flags & DOMAIN_ALLOW != 0 => Ok(()),
        _ => Err(Reason::EtherType),
    }
}

/// Notes of a frame that is not IP what would be known of an IP packet: its MAC addresses spread it over paths.
#[inline(always)]
pub fn name(walk: &mut Walk, frame: &Ethernet) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = frame.addresses();
    walk.key.destination = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, e, f];
    walk.key.source = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, g, h, i, j, k, l];
    walk.key.protocol = 0;
    walk.key.ports = 0;
    walk.ip.flags = 0;
    walk.ip.ecn = 0;
}

/// An IP packet of a workload for all of its segment; table B from B2 on.
#[inline(always)]
pub fn packet(packet: &mut Packet, walk: &mut Walk, port: &Port, segment: &Segment) -> Result<Verdict, Reason> {
    if icmp::kind(&walk.ip) == Kind::Error {
        return Err(Reason::Unrelated);
    }
    meant_for_all(walk, port.vni)?;
    limited(packet, walk, port)?;
    words::zero(&mut walk.destination_groups);
    connection::name(walk);
    let asked = Ends {
        initiator: true,
        responder: false,
    };
    if policy::ask(walk, rule_port(walk), false, asked) != Opinion::Allowed {
        return Err(Reason::Policy);
    }
    fragment::remember(walk);
    let load = load(packet, walk)?;
    if load.longest > walk.flow.mtu as usize {
        return Err(Reason::Mtu);
    }
    walk.flood.longest = encap::longest(packet, load.longest) as u32;
    walk.flood.ip = 1;
    walk.flood.rules = 1;
    everybody(walk, port, segment)
}

/// What rules take for the destination port of a packet that opens no connection.
#[inline(always)]
pub fn rule_port(walk: &Walk) -> u32 {
    if is_icmp(walk.key.protocol, walk.ip.v4()) {
        walk.ip.icmp
    } else {
        walk.key.ports & 0xffff
    }
}

/// A frame of a workload of which no rule speaks. `ip`: it is an IP packet all the same.
#[inline(always)]
pub fn plain(
    packet: &Packet,
    walk: &mut Walk,
    port: &Port,
    segment: &Segment,
    frame: &Ethernet,
    ip: bool,
) -> Result<Verdict, Reason> {
    let length = packet.len() - ETHERNET as u32;
    walk.flood.longest = length;
    walk.flood.ip = ip.into();
    walk.flood.rules = 0;
    let known = if group(frame.destination) {
        None
    } else if same(frame.destination, frame.source) {
        return Err(Reason::UnknownDestination);
    } else {
        station(port.vni, frame.destination)
    };
    if let Some(station) = known {
        if station.peer == ROUTER {
            return Err(Reason::RouterPort);
        }
        // No rule speaks of what neighbours tell each other.
        if ip || frame.ether_type == ether::ARP {
            limited(packet, walk, port)?;
        }
        target(walk, station);
        walk.flood.sender = port.endpoint;
        walk.flood.members = 0;
        return if length > walk.flow.mtu {
            Err(Reason::Mtu)
        } else {
            Ok(Verdict::Flood)
        };
    }
    if !group(frame.destination) && segment.flags & SEGMENT_FLOOD == 0 {
        return Err(Reason::UnknownDestination);
    }
    limited(packet, walk, port)?;
    if length > walk.flow.mtu {
        return Err(Reason::Mtu);
    }
    everybody(walk, port, segment)
}

/// A super-packet costs what its segments would.
#[inline(always)]
fn limited(packet: &Packet, walk: &Walk, port: &Port) -> Result<(), Reason> {
    let frames = match packet.segment() {
        0 => 1,
        payload => packet.len().div_ceil(payload),
    };
    if limit::take_many(port.endpoint, LIMIT_BROADCAST, frames, walk.nanoseconds) {
        Ok(())
    } else {
        Err(Reason::RateLimit)
    }
}

/// From a workload to all others of its segment.
#[inline(always)]
fn everybody(walk: &mut Walk, port: &Port, segment: &Segment) -> Result<Verdict, Reason> {
    walk.flood.sender = port.endpoint;
    walk.flood.peers = 1;
    members(walk, segment)
}

/// From another host to the segment's workloads here.
#[inline(always)]
pub fn here(walk: &mut Walk, segment: &Segment, rules: bool) -> Result<Verdict, Reason> {
    walk.flood.rules = rules.into();
    walk.flood.peers = 0;
    members(walk, segment)
}

#[inline(always)]
fn members(walk: &mut Walk, segment: &Segment) -> Result<Verdict, Reason> {
    walk.flood.set = segment.flood;
    walk.flood.members = segment.flood_targets;
    if segment.flood_targets == 0 {
        return Err(Reason::Multicast);
    }
    Ok(Verdict::Flood)
}

/// Notes what `flood.rs` has to take off before the inner frame at `start`.
#[inline(always)]
pub fn inside(walk: &mut Walk, outer: &Outer, start: usize, ip: bool) {
    walk.flood.start = start as u32;
    walk.flood.outer_ecn = outer.ecn.into();
    walk.flood.outer_v4 = outer.v4.into();
    walk.flood.ip = ip.into();
}
