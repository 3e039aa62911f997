//! What an upper-layer header says: what rules, connections and fragments look at.

use std::net::IpAddr;

use super::headers::{Fragment, Ip};

/// Of IPv4 only.
pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
const UDP: u8 = 17;
/// Of IPv6 only.
pub(super) const ICMPV6: u8 = 58;
const SCTP: u8 = 132;

/// Flags of TCP (RFC 9293 section 3.1).
pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// An upper-layer header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transport {
    pub(super) protocol: u8,
    pub(super) content: Content,
}

/// What is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// TCP, UDP, SCTP.
    Ports { source: u16, destination: u16 },
    /// ICMP of the packet's family.
    Icmp { kind: u8, code: u8, identifier: u16 },
    /// Anything else.
    Opaque,
}

/// What an ICMP message is to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// An echo request with this identifier.
    Request(u16),
    /// An echo reply with this identifier.
    Reply(u16),
    /// An error.
    Error,
    /// None of these.
    Other,
}

impl Transport {
    /// Of an upper layer; none if that is too short to tell.
    pub(super) fn of(protocol: u8, v4: bool, upper: &[u8]) -> Option<Self> {
        let icmp = protocol == if v4 { ICMP } else { ICMPV6 };
        let content = match (protocol, upper) {
            (TCP | UDP | SCTP, &[a, b, c, d, _, _, _, _, ..]) => Content::Ports {
                source: u16::from_be_bytes([a, b]),
                destination: u16::from_be_bytes([c, d]),
            },
            (TCP | UDP | SCTP, _) => return None,
            (_, &[kind, code, _, _, ref rest @ ..]) if icmp => Content::Icmp {
                kind,
                code,
                identifier: rest.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes)),
            },
            _ if icmp => return None,
            _ => Content::Opaque,
        };
        Some(Self { protocol, content })
    }

    /// What it is, if it is ICMP.
    pub(super) fn message(self) -> Option<Message> {
        let Content::Icmp { kind, identifier, .. } = self.content else {
            return None;
        };
        let v6 = self.protocol == ICMPV6;
        Some(match (v6, kind) {
            (false, 8) | (true, 128) => Message::Request(identifier),
            (false, 0) | (true, 129) => Message::Reply(identifier),
            (false, 3 | 11 | 12) | (true, 1..=4) => Message::Error,
            _ => Message::Other,
        })
    }

    /// Source and destination port, echo's identifier twice, or zeros.
    fn ports(self) -> (u16, u16) {
        match (self.content, self.message()) {
            (Content::Ports { source, destination }, _) => (source, destination),
            (_, Some(Message::Request(identifier) | Message::Reply(identifier))) => (identifier, identifier),
            _ => (0, 0),
        }
    }

    /// P10, T11: what routers and DHCP servers send.
    pub(super) fn is_server(self, v4: bool) -> bool {
        let client = if v4 { 68 } else { 546 };
        match (self.protocol, self.content) {
            (ICMPV6, Content::Icmp { kind, .. }) => kind == 134,
            (UDP, Content::Ports { destination, .. }) => destination == client,
            _ => false,
        }
    }
}

/// Who speaks what with whom, as the packets of one direction carry it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tuple {
    pub(super) protocol: u8,
    pub(super) source: (IpAddr, u16),
    pub(super) destination: (IpAddr, u16),
}

impl Tuple {
    pub(super) fn of(source: IpAddr, destination: IpAddr, transport: Transport) -> Self {
        let (from, to) = transport.ports();
        Self {
            protocol: transport.protocol,
            source: (source, from),
            destination: (destination, to),
        }
    }

    /// As the packets of the other direction carry it.
    pub(super) fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }
}

/// FIN, SYN, RST and ACK of a TCP packet that is no later fragment.
pub(super) fn tcp_flags(ip: &Ip<'_>) -> Option<u8> {
    let later = matches!(ip.fragment, Fragment::Later { .. });
    let flags = *ip.upper.get(13)?;
    (ip.protocol == TCP && !later).then_some(flags & (FIN | SYN | RST | ACK))
}
