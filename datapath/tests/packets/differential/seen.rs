//! Whether what the programs did with a packet is what the model says.

use std::collections::BTreeSet;

use datapath::Rehearsal;
use datapath_common::{Address, FLOW_ENCAPSULATE, Peer, Reason, Trace};
use etherparse::checksum::Sum16BitWords;
use etherparse::{
    EtherType, Ethernet2Header, IpEcn, IpNumber, Ipv4Header, Ipv4HeaderSlice, Ipv6FlowLabel, Ipv6Header,
    Ipv6HeaderSlice, UdpHeader,
};
use overlay::model::Verdict;
use overlay::name::{DomainName, EndpointName};
use overlay::object::domain::Encapsulation;

use crate::book::LOOPBACK;

use super::flow::Sent;
use super::hosts::{GENEVE, VXLAN};
use super::programs::{address, interface, peer};
use super::world::{Entrance, World};

/// The shortest frame on a wire: shorter ones may be filled up.
const SHORTEST: usize = 60;
/// Most bytes of an ICMP error's IP packet (RFC 1812 section 4.3.2.3) and of an ICMPv6 one (RFC 4443 section 2.4).
const ERROR_MAX: [usize; 2] = [576, 1280];

/// What the programs did.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) returned: u32,
    pub(crate) passed: bool,
    pub(crate) dropped: bool,
    pub(crate) out: Vec<u8>,
    pub(crate) trace: Trace,
    /// The tunnel that it was sent through, if it was.
    pub(crate) peer: Option<Peer>,
    pub(crate) copies: Copies,
}

/// Who got copies: numbers of endpoints, addresses of hosts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Copies {
    pub(crate) endpoints: BTreeSet<u32>,
    pub(crate) hosts: BTreeSet<Address>,
}

/// Where it happened: what there is, and by which numbers the programs know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) world: &'a World,
    pub(crate) maps: &'a Rehearsal,
}

impl Place<'_> {
    /// Whether an endpoint's interface is a programmed port.
    fn is_port(&self, domain: usize, endpoint: usize) -> bool {
        let name = self.world.plans[domain].endpoints[endpoint].name();
        self.world.domains[domain].ports.contains_key(&name)
    }

    /// Numbers of a domain and of an endpoint of it.
    fn numbers(&self, domain: &DomainName, endpoint: &EndpointName) -> Option<(u32, u32)> {
        let domain_number = self.maps.number(domain, None)?;
        Some((domain_number, self.maps.number(domain, Some(endpoint))?))
    }
}

impl Seen {
    /// Nothing, or what is different.
    pub(crate) fn agrees(&self, place: Place<'_>, sent: &Sent, verdict: &Verdict) -> Result<(), String> {
        let right = match verdict {
            Verdict::Pass => self.passed && self.out == sent.packet,
            Verdict::Deliver {
                domain,
                endpoint,
                frame,
            } => self.delivered(place, domain, endpoint, frame),
            Verdict::Encapsulate {
                vni,
                source,
                destination,
                encapsulation,
                frame,
                ..
            } => {
                let peer = peer(place.world, *source, *destination);
                self.sent_on()
                    && self.trace.flags & FLOW_ENCAPSULATE != 0
                    && self.trace.vni == vni.get()
                    && (self.peer, self.trace.egress) == (Some(peer), peer.ifindex)
                    && self.is_around(&peer, *encapsulation, vni.get(), frame)
            }
            Verdict::Flood { .. } => self.flooded(place, sent, verdict),
            Verdict::Reply(frame) => {
                self.sent_on() && self.goes_back() && self.out.starts_with(frame) && self.is_of(place, sent)
            }
            Verdict::Drop { reason, error: None } => {
                self.dropped && self.reason(reason.name()) && self.is_of(place, sent)
            }
            Verdict::Drop {
                reason,
                error: Some(error),
            } => {
                let told = !self.passed && !self.dropped && self.reason(reason.name()) && self.is_of(place, sent);
                told && self.goes_back() && tells(error, &self.out, &sent.packet)
            }
        };
        if right { Ok(()) } else { Err(self.describe(verdict)) }
    }

    fn describe(&self, verdict: &Verdict) -> String {
        let reason = Reason::from_number(self.trace.reason).map_or("none", Reason::name);
        format!(
            "the model says {verdict:02x?}, the programs returned {} with reason {reason}, {:?}, and this packet: {:02x?}",
            self.returned, self.trace, self.out
        )
    }

    fn sent_on(&self) -> bool {
        !self.passed && !self.dropped && self.trace.reason == 0
    }

    /// Whether it leaves by the interface it came in by, which is the facility's.
    fn goes_back(&self) -> bool {
        (self.trace.egress, self.trace.peer) == (LOOPBACK, 0)
    }

    fn reason(&self, name: &str) -> bool {
        Reason::from_number(self.trace.reason).is_some_and(|reason| reason.name() == name)
    }

    /// Whether domain and endpoint are those of who sent it; of a tunnel the counters say it.
    fn is_of(&self, place: Place<'_>, sent: &Sent) -> bool {
        let named = (self.trace.domain, self.trace.endpoint);
        match sent.entrance {
            _ if self.reason("unknown_port") => named == (0, 0),
            Entrance::Stack(domain, endpoint, _) if !place.is_port(domain, endpoint) => named == (0, 0),
            Entrance::Port(domain, endpoint)
            | Entrance::Exhausted(domain, endpoint)
            | Entrance::Stack(domain, endpoint, _) => {
                let plan = &place.world.plans[domain];
                place.numbers(&plan.domain(), &plan.endpoints[endpoint].name()) == Some(named)
            }
            Entrance::Underlay => true,
        }
    }

    fn delivered(&self, place: Place<'_>, domain: &DomainName, endpoint: &EndpointName, frame: &[u8]) -> bool {
        let trace = &self.trace;
        self.sent_on()
            && trace.flags & FLOW_ENCAPSULATE == 0
            && place.numbers(domain, endpoint) == Some((trace.domain, trace.endpoint))
            && (interface(place.world, domain, endpoint), trace.peer) == (Some(trace.egress), 0)
            && same(frame, &self.out)
    }

    fn flooded(&self, place: Place<'_>, sent: &Sent, verdict: &Verdict) -> bool {
        let Verdict::Flood {
            vni,
            domain,
            endpoints,
            hosts,
            encapsulation,
            frame,
        } = verdict
        else {
            return false;
        };
        let numbers = endpoints
            .iter()
            .map(|endpoint| place.maps.number(domain, Some(endpoint)));
        let copies = Copies {
            endpoints: numbers.map(Option::unwrap_or_default).collect(),
            hosts: hosts.values().map(|(_, remote)| address(*remote)).collect(),
        };
        // What is left behind is the last copy.
        let bytes = if hosts.is_empty() {
            same(frame, &self.out)
        } else {
            let mut peers = hosts
                .values()
                .map(|(source, remote)| peer(place.world, *source, *remote));
            peers.any(|peer| self.is_around(&peer, *encapsulation, vni.get(), frame))
        };
        self.dropped && self.trace.reason == 0 && self.is_of(place, sent) && self.copies == copies && bytes
    }

    /// Whether what left is the frame in this tunnel, to the last byte; but for what spreads flows over paths: the source
    /// port, of which the range is known, and the flow label.
    fn is_around(&self, peer: &Peer, encapsulation: Encapsulation, vni: u32, frame: &[u8]) -> bool {
        let out = &self.out;
        let udp = 14 + if pretends(&peer.remote) { 20 } else { 40 };
        let Some(inner) = out.get(udp + 16..).filter(|inner| same(frame, inner)) else {
            return false;
        };
        let mut expected = around(peer, encapsulation, vni, inner);
        if udp == 54 {
            expected[15] = expected[15] & 0xf0 | out[15] & 0x0f;
            expected[16..18].copy_from_slice(&out[16..18]);
        }
        let port = [out[udp], out[udp + 1]];
        expected[udp..udp + 2].copy_from_slice(&port);
        u16::from_be_bytes(port) >= 49_152 && *out == expected
    }
}

fn pretends(address: &Address) -> bool {
    address.starts_with(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
}

/// A frame as it leaves through a tunnel.
fn around(peer: &Peer, encapsulation: Encapsulation, vni: u32, frame: &[u8]) -> Vec<u8> {
    let class = match frame[12..14] {
        [0x08, 0] => frame[15],
        [0x86, 0xdd] => frame[15] >> 4,
        _ => 0,
    };
    let [_, a, b, c] = vni.to_be_bytes();
    let (port, header) = match encapsulation {
        Encapsulation::Vxlan => (VXLAN, [8, 0, 0, 0, a, b, c, 0]),
        Encapsulation::Geneve => (GENEVE, [0, 0, 0x65, 0x58, a, b, c, 0]),
    };
    let length = u16::try_from(16 + frame.len()).unwrap();
    let udp = UdpHeader {
        source_port: 0,
        destination_port: port,
        length,
        checksum: 0,
    };
    let (kind, ip) = if pretends(&peer.remote) {
        let [local, remote] = [&peer.local, &peer.remote].map(|end| end[12..].try_into().unwrap());
        let mut ip = Ipv4Header::new(length, 64, IpNumber::UDP, local, remote).unwrap();
        ip.ecn = IpEcn::try_new(class & 3).unwrap();
        ip.header_checksum = ip.calc_header_checksum();
        (0x0800, ip.to_bytes().to_vec())
    } else {
        let ip = Ipv6Header {
            traffic_class: class & 3,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: length,
            next_header: IpNumber::UDP,
            hop_limit: 64,
            source: peer.local,
            destination: peer.remote,
        };
        (0x86dd, ip.to_bytes().to_vec())
    };
    let link = Ethernet2Header {
        source: peer.source_mac,
        destination: peer.next_hop_mac,
        ether_type: EtherType(kind),
    };
    [&link.to_bytes()[..], &ip, &udp.to_bytes(), &header, frame].concat()
}

/// The frame, or the frame filled up with zeros to the shortest of a wire.
fn same(frame: &[u8], out: &[u8]) -> bool {
    let padding = out.strip_prefix(frame);
    padding
        .is_some_and(|padding| padding.is_empty() || (out.len() == SHORTEST && padding.iter().all(|byte| *byte == 0)))
}

/// Whether an ICMP error is the expected one, but for how much it quotes of the packet.
fn tells(expected: &[u8], out: &[u8], about: &[u8]) -> bool {
    let v4 = expected[12..14] == [0x08, 0];
    let (header, most) = if v4 { (20, ERROR_MAX[0]) } else { (40, ERROR_MAX[1]) };
    let quote = 14 + header + 8;
    if out.len() < expected.len() || out.len() - 14 > most {
        return false;
    }
    // All but lengths and checksums.
    let blank = |frame: &[u8]| {
        let mut frame = frame[..quote].to_vec();
        let (length, ip_sum) = if v4 { (16, Some(24)) } else { (18, None) };
        let sums = [Some(length), ip_sum, Some(14 + header + 2)];
        for at in sums.into_iter().flatten() {
            frame[at..at + 2].fill(0);
        }
        frame
    };
    let quoted = &out[quote..];
    about[14..].starts_with(quoted) && blank(expected) == blank(out) && checked(out, v4)
}

/// Whether lengths and checksums of an ICMP packet are right.
fn checked(frame: &[u8], v4: bool) -> bool {
    let packet = &frame[14..];
    if v4 {
        let header = Ipv4HeaderSlice::from_slice(packet).unwrap().to_header();
        let whole = usize::from(header.total_len) == packet.len();
        let sum = Sum16BitWords::new().add_slice(&packet[20..]).ones_complement();
        return whole && header.header_checksum == header.calc_header_checksum() && sum == 0;
    }
    let header = Ipv6HeaderSlice::from_slice(packet).unwrap();
    let message = &packet[40..];
    let sum = Sum16BitWords::new()
        .add_16bytes(header.source())
        .add_16bytes(header.destination())
        .add_4bytes((message.len() as u32).to_be_bytes())
        .add_2bytes([0, 58])
        .add_slice(message)
        .ones_complement();
    usize::from(header.payload_length()) == message.len() && sum == 0
}
