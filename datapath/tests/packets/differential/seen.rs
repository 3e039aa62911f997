//! Whether what the programs did with a packet is what the model says.

use std::collections::BTreeSet;
use std::net::IpAddr;

use datapath::Rehearsal;
use datapath_common::{Address, FLOW_ENCAPSULATE, Reason, Trace};
use etherparse::checksum::Sum16BitWords;
use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use overlay::model::Verdict;
use overlay::name::{DomainName, EndpointName};
use overlay::object::domain::Encapsulation;

use super::flow::Sent;
use super::hosts::{GENEVE, VXLAN};
use super::programs::{address, interface};
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
                self.sent_on()
                    && self.trace.flags & FLOW_ENCAPSULATE != 0
                    && self.trace.vni == vni.get()
                    && self.tunnelled(*encapsulation, vni.get(), frame) == Some((*source, *destination))
            }
            Verdict::Flood { .. } => self.flooded(place, sent, verdict),
            Verdict::Reply(frame) => self.sent_on() && self.out.starts_with(frame) && self.is_of(place, sent),
            Verdict::Drop { reason, error: None } => {
                self.dropped && self.reason(reason.name()) && self.is_of(place, sent)
            }
            Verdict::Drop {
                reason,
                error: Some(error),
            } => {
                let told = !self.passed && !self.dropped && self.reason(reason.name()) && self.is_of(place, sent);
                told && tells(error, &self.out, &sent.packet)
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

    fn reason(&self, name: &str) -> bool {
        Reason::from_number(self.trace.reason).is_some_and(|reason| reason.name() == name)
    }

    /// Whether domain and endpoint are those of who sent it; of a tunnel the counters say it.
    fn is_of(&self, place: Place<'_>, sent: &Sent) -> bool {
        let named = (self.trace.domain, self.trace.endpoint);
        match sent.entrance {
            _ if self.reason("unknown_port") => named == (0, 0),
            Entrance::Port(domain, endpoint) => {
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
            && interface(place.world, domain, endpoint) == Some(trace.target)
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
            let ends = self.tunnelled(*encapsulation, vni.get(), frame);
            ends.is_some_and(|ends| hosts.values().any(|host| *host == ends))
        };
        self.dropped && self.trace.reason == 0 && self.is_of(place, sent) && self.copies == copies && bytes
    }

    /// The ends of the tunnel that the frame is in, if all else is right.
    fn tunnelled(&self, encapsulation: Encapsulation, vni: u32, frame: &[u8]) -> Option<(IpAddr, IpAddr)> {
        let class = match frame[12..14] {
            [0x08, 0] => frame[15],
            [0x86, 0xdd] => frame[15] >> 4,
            _ => 0,
        };
        let (ends, ecn, port, header, inner) = outer(&self.out)?;
        let [_, a, b, c] = vni.to_be_bytes();
        let expected = match encapsulation {
            Encapsulation::Vxlan => (VXLAN, [8, 0, 0, 0, a, b, c, 0]),
            Encapsulation::Geneve => (GENEVE, [0, 0, 0x65, 0x58, a, b, c, 0]),
        };
        let right = ecn == class & 3 && (port, header) == expected && same(frame, inner);
        right.then_some(ends)
    }
}

/// The frame, or the frame filled up with zeros to the shortest of a wire.
fn same(frame: &[u8], out: &[u8]) -> bool {
    let padding = out.strip_prefix(frame);
    padding
        .is_some_and(|padding| padding.is_empty() || (out.len() == SHORTEST && padding.iter().all(|byte| *byte == 0)))
}

type Outer<'a> = ((IpAddr, IpAddr), u8, u16, [u8; 8], &'a [u8]);

/// Addresses, ECN, port, the tunnel's header and the frame of an encapsulated packet that is right in all else.
fn outer(packet: &[u8]) -> Option<Outer<'_>> {
    let (kind, packet) = (packet.get(12..14)?, packet.get(14..)?);
    let (ends, ecn, rest) = if kind == [0x08, 0] {
        let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
        let owned = header.to_header();
        let right = owned.header_checksum == owned.calc_header_checksum()
            && usize::from(owned.total_len) == packet.len()
            && (owned.time_to_live, owned.dont_fragment, owned.dscp.value()) == (64, true, 0);
        let ends = (header.source_addr().into(), header.destination_addr().into());
        (ends, owned.ecn.value(), packet.get(20..).filter(|_| right)?)
    } else {
        let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
        let right = usize::from(header.payload_length()) + 40 == packet.len() && header.hop_limit() == 64;
        let ends = (header.source_addr().into(), header.destination_addr().into());
        (ends, header.traffic_class() & 3, packet.get(40..).filter(|_| right)?)
    };
    let (udp, rest) = rest.split_first_chunk::<8>()?;
    let (header, frame) = rest.split_first_chunk::<8>()?;
    let source = u16::from_be_bytes([udp[0], udp[1]]);
    let length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
    let right = source >= 49_152 && length == rest.len() + 8 && udp[6..] == [0, 0];
    right.then_some((ends, ecn, u16::from_be_bytes([udp[2], udp[3]]), *header, frame))
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
