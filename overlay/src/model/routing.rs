//! Table R: what a router does with a frame.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::headers::{Fragment, Ip};
use super::icmp_error::{IcmpError, Stop};
use super::owner::{Owner, is_link_local, longest};
use super::port::Sender;
use super::transport::Message;
use super::{Reason, Verdict, admission::Passenger, hash, rewrite};
use crate::forwarding::{Forwarding, Route, Router, Segment, Station};
use crate::name::NetworkName;

/// Where a frame goes on a segment.
#[derive(Debug)]
pub(super) struct Onward<'a> {
    pub(super) segment: &'a Segment,
    pub(super) station: &'a Station,
    /// As it leaves.
    pub(super) frame: Vec<u8>,
}

/// What a router does.
#[derive(Debug)]
pub(super) enum Routed<'a> {
    /// It answers itself.
    Answered(Verdict),
    On(Onward<'a>),
}

/// R6.
const NOBODY: Stop = Stop::telling(Reason::UnknownNeighbour, IcmpError::NoHost);

/// What the router does with a frame of a workload.
pub(super) fn route<'a>(
    sender: &Sender<'a>,
    router: &'a Router,
    passenger: &Passenger<'_>,
    frame: &[u8],
) -> Result<Routed<'a>, Stop> {
    let ip = passenger.ip;
    let mut own = router.addresses.values().flat_map(|addresses| addresses.keys());
    if own.any(|address| *address == ip.destination) {
        let reply = answer(sender, router, ip, frame)?;
        return Ok(Routed::Answered(reply));
    }
    if is_link_local(ip.source) || is_link_local(ip.destination) {
        return Err(Reason::Unroutable.into());
    }
    if ip.hop_limit <= 1 {
        return Err(Stop::telling(Reason::TtlExceeded, IcmpError::TtlExceeded));
    }
    let target = target(sender.domain, router, passenger)?;
    let (mac, station) = target.owner.and_then(Owner::station).ok_or(NOBODY)?;
    if (target.segment.vni, mac) == (sender.port.vni, sender.port.mac) {
        return Err(Reason::UnknownDestination.into());
    }
    Ok(Routed::On(Onward {
        segment: target.segment,
        station,
        frame: rewrite::routed(frame, ip.source.is_ipv4(), router.mac, mac),
    }))
}

/// R1.
fn answer(sender: &Sender<'_>, router: &Router, ip: &Ip<'_>, frame: &[u8]) -> Result<Verdict, Reason> {
    let request = matches!(
        ip.transport().and_then(|transport| transport.message()),
        Some(Message::Request(_))
    );
    if !request || ip.options || ip.extended || ip.fragment != Fragment::None {
        return Err(Reason::RouterPort);
    }
    Ok(Verdict::Reply(rewrite::echoed(frame, ip, sender.port.mac, router.mac)))
}

struct Target<'a> {
    segment: &'a Segment,
    owner: Option<Owner<'a>>,
}

/// R4 and R5, and the lookups of R6.
fn target<'a>(domain: &'a Forwarding, router: &'a Router, passenger: &Passenger<'_>) -> Result<Target<'a>, Stop> {
    let nowhere = Stop::telling(Reason::Unroutable, IcmpError::NoRoute);
    let segment = |network: &NetworkName| domain.networks.get(network).ok_or(nowhere);
    let destination = passenger.ip.destination;
    match longest(&router.routes, destination).ok_or(nowhere)? {
        Route::Blackhole => Err(Reason::Blackhole.into()),
        Route::Connected(network) => {
            let segment = segment(network)?;
            Ok(Target {
                segment,
                owner: Owner::of(domain, segment.vni, destination),
            })
        }
        Route::Via(hops) => {
            let (network, address) = hop(hops, passenger).ok_or(NOBODY)?;
            let segment = segment(network)?;
            Ok(Target {
                segment,
                owner: Owner::exact(domain, segment.vni, *address),
            })
        }
    }
}

type Hop = (NetworkName, IpAddr);

fn hop<'a>(hops: &'a BTreeSet<Hop>, passenger: &Passenger<'_>) -> Option<&'a Hop> {
    let number = hash::hop(passenger.ip, passenger.transport, hops.len().max(1));
    hops.iter().nth(number)
}
