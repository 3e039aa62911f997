//! Table E: ICMP errors of workloads. Rules are not asked about one, so it has to come from who has business with the
//! connection that it speaks of: from an end of it, or from a router on the way to one.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::Reason;
use super::admission::Passenger;
use super::connection::Connections;
use super::owner::Speaker;
use super::transport::{Message, Transport, Tuple};

/// Bytes of ICMP before what it quotes, and of the upper layer that it must quote.
const ICMP: usize = 8;
const UPPER: usize = 8;

/// Whether an error of this station speaks of a live connection that is its business.
pub(super) fn check(connections: &Connections, error: &Passenger<'_>, speaker: Speaker) -> Result<(), Reason> {
    let quote = error.ip.upper.get(ICMP..).ok_or(Reason::Unrelated)?;
    let quoted = if error.ip.source.is_ipv4() {
        v4(quote)
    } else {
        v6(quote)
    };
    let (source, destination, transport) = quoted.ok_or(Reason::Unrelated)?;
    if source != error.ip.destination {
        return Err(Reason::Unrelated);
    }
    if matches!(transport.message(), Some(Message::Error | Message::Other)) {
        return Err(Reason::Unrelated);
    }
    if ![destination, source]
        .into_iter()
        .any(|end| speaker.may_use(error.domain, end))
    {
        return Err(Reason::Unrelated);
    }
    let tuple = Tuple::of(source, destination, transport);
    let domain = &error.domain.domain;
    let live = [tuple, tuple.reversed()]
        .into_iter()
        .any(|tuple| connections.live(domain, tuple, error.now).is_some());
    if live { Ok(()) } else { Err(Reason::Unrelated) }
}

type Quoted = (IpAddr, IpAddr, Transport);

fn v4(quote: &[u8]) -> Option<Quoted> {
    let header = Ipv4HeaderSlice::from_slice(quote).ok()?;
    let later = header.fragments_offset().value() != 0;
    if later || header.slice().len() != 20 {
        return None;
    }
    let upper = quote.get(20..20 + UPPER)?;
    let transport = Transport::of(header.protocol().0, true, upper)?;
    let ends = (header.source_addr().into(), header.destination_addr().into());
    Some((ends.0, ends.1, transport))
}

fn v6(quote: &[u8]) -> Option<Quoted> {
    let header = Ipv6HeaderSlice::from_slice(quote).ok()?;
    let next = header.next_header();
    let extension = [
        IpNumber::IPV6_HEADER_HOP_BY_HOP,
        IpNumber::IPV6_ROUTE_HEADER,
        IpNumber::IPV6_FRAGMENTATION_HEADER,
        IpNumber::IPV6_DESTINATION_OPTIONS,
    ];
    if extension.contains(&next) {
        return None;
    }
    let upper = quote.get(40..40 + UPPER)?;
    let transport = Transport::of(next.0, false, upper)?;
    let ends = (header.source_addr().into(), header.destination_addr().into());
    Some((ends.0, ends.1, transport))
}
