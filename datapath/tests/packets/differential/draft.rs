//! A frame before it is bytes, so that single fields can be changed. Etherparse writes the headers.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{IpFragOffset, Ipv4Header, Ipv4Options, Ipv6FragmentHeader, Ipv6Header, TcpHeader, UdpHeader};

/// An Ethernet frame with an IP packet.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) to: [u8; 6],
    pub(crate) from: [u8; 6],
    pub(crate) vlan: bool,
    /// If it is not the IP packet's.
    pub(crate) ether_type: Option<u16>,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) hops: u8,
    /// DSCP and ECN.
    pub(crate) class: u8,
    pub(crate) fragment: Option<Piece>,
    /// Words of IPv4 options.
    pub(crate) options: usize,
    /// Kinds of IPv6 extension headers.
    pub(crate) extensions: Vec<u8>,
    pub(crate) upper: Upper,
    pub(crate) payload: usize,
    /// Bytes behind the IP packet.
    pub(crate) padding: usize,
}

/// Which piece of a datagram it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) number: u16,
    /// In units of eight bytes.
    pub(crate) offset: u16,
    pub(crate) more: bool,
    /// IPv6: destination options are the first of what is fragmented.
    pub(crate) options: bool,
}

/// What an IP packet carries.
#[derive(Debug, Clone)]
pub(crate) enum Upper {
    Tcp {
        ports: (u16, u16),
        flags: u8,
    },
    Udp {
        ports: (u16, u16),
    },
    Sctp {
        ports: (u16, u16),
    },
    /// ICMP of the family: type, code, the four bytes behind the checksum, and what follows.
    Icmp {
        kind: u8,
        code: u8,
        rest: [u8; 4],
        body: Vec<u8>,
    },
    /// Bytes of any protocol.
    Other(u8, Vec<u8>),
}

impl Draft {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut upper = self.upper();
        if let Some(piece) = self.fragment.filter(|piece| piece.offset > 0) {
            // A later piece has no header of its own.
            upper = vec![piece.offset as u8; upper.len().clamp(8, 1400)];
        }
        let packet = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.v4(source.octets(), destination.octets(), &upper),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.v6(source.octets(), destination.octets(), &upper),
            other => panic!("{other:?}"),
        };
        let natural = if self.source.is_ipv4() { 0x0800 } else { 0x86dd };
        let ether_type = self.ether_type.unwrap_or(natural).to_be_bytes();
        let vlan: &[u8] = if self.vlan { &[0x81, 0, 0, 5] } else { &[] };
        [
            &self.to[..],
            &self.from,
            vlan,
            &ether_type,
            &packet,
            &vec![0; self.padding],
        ]
        .concat()
    }

    fn protocol(&self) -> u8 {
        match self.upper {
            Upper::Tcp { .. } => 6,
            Upper::Udp { .. } => 17,
            Upper::Sctp { .. } => 132,
            Upper::Icmp { .. } if self.source.is_ipv4() => 1,
            Upper::Icmp { .. } => 58,
            Upper::Other(number, _) => number,
        }
    }

    fn v4(&self, source: [u8; 4], destination: [u8; 4], upper: &[u8]) -> Vec<u8> {
        let mut header = Ipv4Header::new(0, self.hops, self.protocol().into(), source, destination).unwrap();
        header.options = Ipv4Options::try_from(&vec![1; self.options * 4][..]).unwrap();
        header.total_len = (header.header_len() + upper.len()) as u16;
        header.dscp = (self.class >> 2).try_into().unwrap();
        header.ecn = (self.class & 3).try_into().unwrap();
        if let Some(piece) = self.fragment {
            header.identification = piece.number;
            header.dont_fragment = false;
            header.more_fragments = piece.more;
            header.fragment_offset = IpFragOffset::try_new(piece.offset).unwrap();
        }
        header.header_checksum = header.calc_header_checksum();
        let mut packet = Vec::new();
        header.write(&mut packet).unwrap();
        [&packet, upper].concat()
    }

    fn v6(&self, source: [u8; 16], destination: [u8; 16], upper: &[u8]) -> Vec<u8> {
        let options = self.fragment.filter(|piece| piece.options).map(|_| 60);
        let kinds: Vec<u8> = self
            .extensions
            .iter()
            .copied()
            .chain(self.fragment.map(|_| 44))
            .chain(options)
            .collect();
        let next = |at: usize| kinds.get(at).copied().unwrap_or(self.protocol());
        let mut behind = Vec::new();
        // In a later fragment, the options are only named.
        let later = self.fragment.is_some_and(|piece| piece.offset > 0);
        let written = kinds.len() - options.filter(|_| later).map_or(0, |_| 1);
        for (at, kind) in kinds.iter().enumerate().take(written) {
            let piece = self.fragment.filter(|_| at == self.extensions.len());
            match (kind, piece) {
                (_, Some(piece)) => {
                    let offset = IpFragOffset::try_new(piece.offset).unwrap();
                    let header = Ipv6FragmentHeader::new(next(at + 1).into(), offset, piece.more, piece.number.into());
                    header.write(&mut behind).unwrap();
                }
                // An atomic fragment.
                (44, None) => behind.extend([next(at + 1), 0, 0, 0, 0, 0, 0, 7]),
                (_, None) => behind.extend([next(at + 1), 0, 1, 4, 0, 0, 0, 0]),
            }
        }
        behind.extend(upper);
        let header = Ipv6Header {
            traffic_class: self.class,
            payload_length: behind.len() as u16,
            next_header: next(0).into(),
            hop_limit: self.hops,
            source,
            destination,
            ..Ipv6Header::default()
        };
        let mut packet = Vec::new();
        header.write(&mut packet).unwrap();
        [packet, behind].concat()
    }

    fn upper(&self) -> Vec<u8> {
        let payload = vec![0x55; self.payload];
        let mut bytes = Vec::new();
        match &self.upper {
            Upper::Tcp { ports, flags } => {
                let header = TcpHeader::new(ports.0, ports.1, 1, 1000);
                header.write(&mut bytes).unwrap();
                bytes[13] = *flags;
            }
            Upper::Udp { ports } => {
                let length = (8 + payload.len()) as u16;
                let (source_port, destination_port) = *ports;
                let header = UdpHeader {
                    source_port,
                    destination_port,
                    length,
                    checksum: 0,
                };
                header.write(&mut bytes).unwrap();
            }
            Upper::Sctp { ports } => {
                bytes.extend(ports.0.to_be_bytes());
                bytes.extend(ports.1.to_be_bytes());
                bytes.extend([0; 8]);
            }
            Upper::Icmp { kind, code, rest, body } => {
                return self.icmp([*kind, *code], rest, &[&body[..], &payload].concat());
            }
            Upper::Other(_, all) => bytes.extend(all),
        }
        bytes.extend(payload);
        bytes
    }

    fn icmp(&self, start: [u8; 2], rest: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = [&start[..], &[0, 0], rest, body].concat();
        let sum = match (self.source, self.destination) {
            (IpAddr::V6(source), IpAddr::V6(destination)) => Sum16BitWords::new()
                .add_16bytes(source.octets())
                .add_16bytes(destination.octets())
                .add_4bytes((bytes.len() as u32).to_be_bytes())
                .add_2bytes([0, 58]),
            _ => Sum16BitWords::new(),
        };
        let sum = sum.add_slice(&bytes).ones_complement();
        bytes[2..4].copy_from_slice(&sum.to_be().to_be_bytes());
        bytes
    }
}
