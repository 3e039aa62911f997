//! Packets between the endpoints of [`crate::campus`], made by etherparse.

use std::net::IpAddr;

use etherparse::{IpFragOffset, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, PacketBuilder, PacketBuilderStep};

use crate::campus::{ROUTER, mac_of};
use crate::fabric::mac;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;
/// A port in the middle of nowhere, and one that is served.
pub(crate) const HIGH: u16 = 40_000;
pub(crate) const WEB: u16 = 80;

/// Who sends from which address to which: through the router, or straight to somebody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk {
    macs: ([u8; 6], [u8; 6]),
    source: IpAddr,
    destination: IpAddr,
    hops: u8,
}

impl Talk {
    pub(crate) fn routed(from: &str, source: &str, destination: &str) -> Self {
        Self {
            macs: (mac_of(from).octets(), mac(ROUTER).octets()),
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            hops: 64,
        }
    }

    pub(crate) fn direct(from: &str, source: &str, to: &str, destination: &str) -> Self {
        let macs = (mac_of(from).octets(), mac_of(to).octets());
        Self {
            macs,
            ..Self::routed(from, source, destination)
        }
    }

    /// As the router passes it on, to somebody.
    pub(crate) fn from_router(to: &str, source: &str, destination: &str) -> Self {
        let macs = (mac(ROUTER).octets(), mac_of(to).octets());
        Self {
            macs,
            ..Self::routed("web", source, destination)
        }
    }

    pub(crate) fn hops(self, hops: u8) -> Self {
        Self { hops, ..self }
    }

    fn start(self) -> PacketBuilderStep<etherparse::IpHeaders> {
        let ethernet = PacketBuilder::ethernet2(self.macs.0, self.macs.1);
        match (self.source, self.destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), self.hops),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), self.hops),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn tcp(self, from: u16, to: u16, flags: u8) -> Vec<u8> {
        let mut builder = self.start().tcp(from, to, 1, 1000);
        for (flag, number) in [(FIN, 0), (SYN, 1), (RST, 2), (ACK, 3)] {
            builder = match (flags & flag != 0, number) {
                (false, _) => builder,
                (true, 0) => builder.fin(),
                (true, 1) => builder.syn(),
                (true, 2) => builder.rst(),
                (true, _) => builder.ack(1),
            };
        }
        let mut frame = Vec::new();
        builder.write(&mut frame, b"").unwrap();
        frame
    }

    pub(crate) fn udp(self, from: u16, to: u16, payload: usize) -> Vec<u8> {
        let mut frame = Vec::new();
        self.start().udp(from, to).write(&mut frame, &vec![7; payload]).unwrap();
        frame
    }

    /// ICMP or ICMPv6.
    pub(crate) fn icmp(self, kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let written = if self.source.is_ipv4() {
            self.start().icmpv4_raw(kind, code, rest).write(&mut frame, payload)
        } else {
            self.start().icmpv6_raw(kind, code, rest).write(&mut frame, payload)
        };
        written.unwrap();
        frame
    }

    pub(crate) fn echo(self, identifier: u8, reply: bool) -> Vec<u8> {
        let kind = match (self.source.is_ipv4(), reply) {
            (true, false) => 8,
            (true, true) => 0,
            (false, false) => 128,
            (false, true) => 129,
        };
        self.icmp(kind, 0, [0, identifier, 0, 1], b"ping")
    }

    /// An ICMP error about a frame.
    pub(crate) fn error(self, kind: u8, code: u8, about: &[u8]) -> Vec<u8> {
        self.icmp(kind, code, [0; 4], &about[14..])
    }

    pub(crate) fn protocol(self, number: u8) -> Vec<u8> {
        let mut frame = Vec::new();
        self.start().write(&mut frame, number.into(), b"something").unwrap();
        frame
    }

    /// A fragment of a datagram: eight times `offset` bytes in, with `more` to come.
    pub(crate) fn fragment(self, protocol: u8, number: u16, offset: u16, more: bool, data: &[u8]) -> Vec<u8> {
        let place = IpFragOffset::try_new(offset).unwrap();
        let ether_type: [u8; 2];
        let mut packet = Vec::new();
        match (self.source, self.destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let length = data.len() as u16;
                let mut header =
                    Ipv4Header::new(length, self.hops, protocol.into(), from.octets(), to.octets()).unwrap();
                header.identification = number;
                header.dont_fragment = false;
                header.more_fragments = more;
                header.fragment_offset = place;
                header.header_checksum = header.calc_header_checksum();
                header.write(&mut packet).unwrap();
                ether_type = [0x08, 0x00];
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = Ipv6Header {
                    payload_length: data.len() as u16 + 8,
                    next_header: 44.into(),
                    hop_limit: self.hops,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Ipv6Header::default()
                };
                header.write(&mut packet).unwrap();
                Ipv6FragmentHeader::new(protocol.into(), place, more, number.into())
                    .write(&mut packet)
                    .unwrap();
                ether_type = [0x86, 0xdd];
            }
            other => panic!("{other:?}"),
        }
        [&self.macs.1[..], &self.macs.0, &ether_type, &packet, data].concat()
    }
}
