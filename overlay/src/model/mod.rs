//! The reference forwarding model: what the datapath must do with a packet, in plain Rust over [`Forwarding`]s. Packet
//! tests give a frame to both and compare. It is the specification of the eBPF programs; it refuses to be fast, keeps
//! no state, and knows nothing of maps, of GSO (a super-packet counts as its segments) or of next hops.
//!
//! Checks run in the order of these tables; the first that holds decides. Reasons are [`Reason`] names.
//!
//! # P: a frame from a workload (`from_endpoint`)
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | P1 | the interface is no programmed port | `unknown_port` |
//! | P2 | fewer than 14 bytes | `truncated` |
//! | P3 | source MAC is not the port's | `source_mac` |
//! | P4 | destination MAC is that of the host side of the link (not asked where the host side has none: a tap) | `host_link` |
//! | P5 | the port's VNI has no segment | `unknown_vni` |
//! | P6 | ethertype 0x0806 (untagged) | go to A |
//! | P7 | ethertype neither 0x0800 nor 0x86dd, or a VLAN tag (in the frame or in its metadata) | `ether_type` |
//! | P8 | the IP headers, by table H | `truncated`, `malformed` |
//! | P9 | source address is not one of the port's (fixed, allocated, link-local of its MAC); `::` is let through if the destination MAC is a group address and the packet is ICMPv6 of type 131, 132, 133, 135 or 143 | `source_address` |
//! | P10 | ICMPv6 type 134 (RA); IPv4 UDP to port 68; IPv6 UDP to port 546 (what DHCP servers send) | `rogue_server` |
//! | P11 | ICMPv6 type 135 or 136 | go to N |
//! | P12 | destination MAC is a group address | `multicast` |
//! | P13 | destination MAC is the port's own, or no station of the VNI has it | `unknown_destination` |
//! | P14 | the domain's default policy is deny | `policy` |
//! | P15 | the IP packet (IPv4 total length; IPv6 40 + payload length) is longer than the segment's MTU | `mtu` |
//! | P16 | the station is on this host | deliver |
//! | P17 | no tunnel end of the station's host in a family that this host has, IPv4 first; or no route | `no_route` |
//! | P18 | — | encapsulate |
//!
//! # A: ARP from a workload (RFC 826, RFC 5227). Nothing of it crosses a tunnel; unicast requests are answered here too.
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | A1 | fewer than 14 + 28 bytes | `truncated` |
//! | A2 | hardware type ≠ 1, protocol type ≠ 0x0800, lengths ≠ 6 and 4, or operation neither 1 nor 2 | `malformed` |
//! | A3 | sender hardware address is not the port's MAC | `neighbour_spoof` |
//! | A4 | sender protocol address is not one of the port's; 0.0.0.0 is let through in a request (a probe) | `neighbour_spoof` |
//! | A5 | operation 2 (an answer: nobody asked), or target protocol address = sender's (an announcement) | `gratuitous` |
//! | A6 | target protocol address is one of the port's own | `dad_probe` |
//! | A7 | no station of the VNI has the target protocol address | `unknown_neighbour` |
//! | A8 | — | reply to the port: operation 2, sender = (station's MAC, target), target = (port's MAC, sender) |
//!
//! # N: neighbour discovery from a workload (RFC 4861), after P10. Nothing of it crosses a tunnel either.
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | N1 | an extension header stands before the ICMPv6 header (RFC 6980), hop limit ≠ 255, or code ≠ 0 | `malformed` |
//! | N2 | fewer than 24 bytes of ICMPv6 | `truncated` |
//! | N3 | the target is a multicast address | `malformed` |
//! | N4 | 136, the target is one of the port's own | `gratuitous` |
//! | N5 | 136, otherwise | `neighbour_spoof` |
//! | N6 | 135, the target is one of the port's own | `dad_probe` |
//! | N7 | 135, the target is the link-local address of the host side's MAC (if it has one) | `host_link` |
//! | N8 | 135, no station of the VNI has the target | `unknown_neighbour` |
//! | N9 | 135 | reply to the port: NA for the target with target link-layer address option, O = 1, R = 0, hop limit 255, source = target; asker's source `::`: S = 0, to ff02::1 (and 33:33:00:00:00:01), else S = 1, to the asker |
//!
//! # T: a packet from the underlay (`from_underlay`)
//!
//! Ours is: IPv4 or IPv6 (no extension header) without a VLAN tag, to one of this host's tunnel addresses, UDP (8 bytes
//! of it are there) to the VXLAN port, not a later fragment. All else passes untouched to whoever is next.
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | T1 | outer source is no tunnel end of a host that any domain on this host knows | `unknown_vtep` |
//! | T2 | a first fragment (MF set) | `outer_fragment` |
//! | T3 | UDP length or what is there of UDP is under 8 + 8 bytes | `truncated` |
//! | T4 | the VXLAN flag I (0x08 of the first byte) is not set; reserved bits are ignored (RFC 7348 section 5) | `vxlan_flags` |
//! | T5 | the VNI has no segment on this host | `unknown_vni` |
//! | T6 | the inner frame has fewer than 14 bytes | `truncated` |
//! | T7 | no station of the VNI has the inner source MAC, or it does not live at the host that the outer source is of | `wrong_vtep` |
//! | T8 | inner ethertype neither 0x0800 nor 0x86dd (ARP and VLAN tags included) | `ether_type` |
//! | T9 | the inner IP headers, by table H | `truncated`, `malformed` |
//! | T10 | inner source address is not one of that station's (`::` never is) | `wrong_vtep` |
//! | T11 | as P10 | `rogue_server` |
//! | T12 | ICMPv6 type 135 or 136 (hosts answer for their peers: none crosses a tunnel) | `neighbour_spoof` |
//! | T13 | inner destination MAC is a group address | `multicast` |
//! | T14 | no station of the VNI has the inner destination MAC | `unknown_destination` |
//! | T15 | that station is not on this host | `not_here` |
//! | T16 | the domain's default policy is deny | `policy` |
//! | T17 | outer ECN is CE (3) and inner ECN is Not-ECT (0); else outer CE is copied inside (RFC 6040) | `ecn` |
//! | T18 | — | deliver |
//!
//! # H: IP headers
//!
//! "What is there" ends with the frame; padding behind the IP packet is ignored, so the upper layer ends with the IP packet.
//!
//! | nr | check | outcome |
//! |---|---|---|
//! | H1 | IPv4: fewer than 20 bytes; IPv6: fewer than 40 | `truncated` |
//! | H2 | version ≠ the ethertype's; IPv4 header length < 20; IPv4 total length < a header length that is there | `malformed` |
//! | H3 | IPv4: header or total length beyond what is there; IPv6: 40 + payload length beyond it | `truncated` |
//! | H4 | IPv6: extension headers 0, 43, 60 (8 × (length + 1) bytes) and 44 (8) are walked, at most 4, a later fragment's being the last; a fifth follows | `malformed` |
//! | H5 | IPv6: an extension header ends behind the IP packet | `truncated` |
//! | H6 | not a later fragment, and UDP with fewer than 8 bytes or ICMPv6 with fewer than 4 | `truncated` |
//!
//! A later fragment (offset ≠ 0) has no upper layer: checks on UDP and ICMPv6 do not hold for it. So has what is behind any
//! other header (AH, ESP, "no next header"). ICMPv6 is next header 58 of IPv6 only.
//!
//! What the stack itself sends to a workload's host side never gets here: `to_endpoint` drops it as `not_forwarded`.

mod arp;
mod headers;
mod journey;
mod neighbour;
pub mod outer;
mod port;
pub mod reason;
mod tunnel;

use std::collections::BTreeMap;
use std::net::IpAddr;

use membership::id::NodeId;

use crate::fact::Vtep;
use crate::forwarding::{Forwarding, Segment, Station};
use crate::name::{DomainName, EndpointName, Mac, Vni};

pub use outer::Tunnelled;
pub use reason::Reason;

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

/// Hosts and what each has to do.
#[derive(Debug, Clone, Default)]
pub struct Model {
    hosts: BTreeMap<NodeId, Host>,
}

/// One host.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Its end of the tunnels.
    pub vtep: Option<Vtep>,
    /// What it has to do, by domain.
    pub domains: BTreeMap<DomainName, Forwarding>,
}

/// A workload's port on a host, as its frames come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingress {
    /// The host.
    pub host: NodeId,
    /// The endpoint's domain.
    pub domain: DomainName,
    /// The endpoint.
    pub endpoint: EndpointName,
    /// MAC address of the host side of its link; a tap has none.
    pub host_mac: Option<Mac>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not ours: whoever is next gets it as it is.
    Pass,
    /// To a workload's port on this host.
    Deliver {
        /// Its domain.
        domain: DomainName,
        /// The endpoint.
        endpoint: EndpointName,
    },
    /// Into the tunnel to a host.
    Encapsulate {
        /// The host.
        to: NodeId,
        /// Segment.
        vni: Vni,
        /// Our tunnel address.
        source: IpAddr,
        /// The other host's.
        destination: IpAddr,
    },
    /// Back to the port it came from.
    Reply(Vec<u8>),
    /// Nowhere.
    Drop(Reason),
}

impl Model {
    /// The hosts of a cluster and what each has to do.
    pub fn of(hosts: impl IntoIterator<Item = (NodeId, Host)>) -> Self {
        Self {
            hosts: hosts.into_iter().collect(),
        }
    }

    /// What becomes of a frame that a workload sends (table P).
    #[must_use]
    pub fn from_endpoint(&self, ingress: &Ingress, frame: &[u8]) -> Verdict {
        port::from_endpoint(self.hosts.get(&ingress.host), ingress, frame).unwrap_or_else(Verdict::Drop)
    }

    /// What becomes of a packet (with its Ethernet header) that a host gets from the underlay (table T).
    #[must_use]
    pub fn from_underlay(&self, host: NodeId, packet: &[u8]) -> Verdict {
        let Some(vtep) = self.hosts.get(&host).and_then(|host| host.vtep.as_ref()) else {
            return Verdict::Pass;
        };
        match outer::ours(vtep, packet) {
            Some(tunnelled) => self.from_tunnel(host, &tunnelled),
            None => Verdict::Pass,
        }
    }

    /// What becomes of a tunnelled packet that is a host's (table T from T1 on).
    #[must_use]
    pub fn from_tunnel(&self, host: NodeId, tunnelled: &Tunnelled<'_>) -> Verdict {
        let host = self.hosts.get(&host);
        host.map_or(Err(Reason::UnknownVtep), |host| tunnel::from_tunnel(host, tunnelled))
            .unwrap_or_else(Verdict::Drop)
    }
}

impl Host {
    /// The domain and segment of a VNI.
    fn segment(&self, vni: Vni) -> Option<(&Forwarding, &Segment)> {
        self.domains.values().find_map(|domain| {
            let segment = domain.networks.values().find(|segment| segment.vni == vni)?;
            Some((domain, segment))
        })
    }

    /// The hosts (one, unless their tunnel ends clash) that a tunnel from this address is of.
    fn hosts_at(&self, source: IpAddr) -> impl Iterator<Item = NodeId> {
        let known = self.domains.values().flat_map(|domain| &domain.hosts);
        known
            .filter(move |(_, vtep)| vtep.addresses().any(|address| address == source))
            .map(|(node, _)| *node)
    }
}

/// The station of a segment that has an address.
fn owner(domain: &Forwarding, vni: Vni, address: IpAddr) -> Option<(Mac, &Station)> {
    let stations = domain.stations.iter().filter(|((of, _), _)| *of == vni);
    stations
        .map(|((_, mac), station)| (*mac, station))
        .find(|(_, station)| station.addresses.contains(&address))
}

/// Whether the octets are a group address (IEEE 802-2014 section 8.2).
fn is_group(mac: [u8; 6]) -> bool {
    mac[0] & 1 == 1
}
