//! Table N: neighbour discovery from a workload, and what of it comes from a tunnel.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::checksum::Sum16BitWords;

use super::headers::Ip;
use super::owner::{self, Owner};
use super::port::Sender;
use super::{Reason, Verdict};
use crate::forwarding::Forwarding;
use crate::name::{Mac, Vni};

/// Type, code, checksum, reserved and target: the same in a solicitation and an advertisement.
const LENGTH: usize = 24;
/// Neighbour solicitation.
const SOLICITATION: u8 = 135;
/// RFC 4861 section 4.4: R, S and O.
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
/// ff02::1 and the MAC address it is sent to (RFC 2464 section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

/// N1 to N3: the target of a message.
fn target(ip: &Ip<'_>, message: &[u8]) -> Result<Ipv6Addr, Reason> {
    if ip.extended || ip.hop_limit != 255 || message[1] != 0 {
        return Err(Reason::Malformed);
    }
    let target: [u8; 16] = message
        .get(8..LENGTH)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(Reason::Truncated)?;
    let target = Ipv6Addr::from(target);
    if target.is_multicast() {
        return Err(Reason::Malformed);
    }
    Ok(target)
}

/// The answer to a workload; none if others have to see what it says.
pub(super) fn answer(
    sender: &Sender<'_>,
    floods: bool,
    destination: [u8; 6],
    ip: &Ip<'_>,
    message: &[u8],
) -> Result<Option<Verdict>, Reason> {
    let target = target(ip, message)?;
    let address = IpAddr::V6(target);
    let floods = floods || owner::is_link_local64(address);
    let own = sender.has(address);
    let host = sender.ingress.host_mac.is_some_and(|mac| target == mac.link_local());
    let owner = sender.owner(address);
    match (message[0] == SOLICITATION, owner) {
        (false, _) if own && sender.is_elsewhere(destination) => Ok(None),
        (false, _) if own => Err(Reason::Gratuitous),
        (false, None) if floods && sender.may_use(address) => Ok(None),
        (false, _) => Err(Reason::NeighbourSpoof),
        (true, _) if own => Err(Reason::DadProbe),
        (true, _) if host => Err(Reason::HostLink),
        (true, Some(owner)) => {
            let frame = advertisement(owner, target, sender.port.mac, ip.source);
            Ok(Some(Verdict::Reply(frame)))
        }
        (true, None) if floods => Ok(None),
        (true, None) => Err(Reason::UnknownNeighbour),
    }
}

/// T12: what another host passed on of a station.
pub(super) fn check(domain: &Forwarding, vni: Vni, mac: Mac, ip: &Ip<'_>, message: &[u8]) -> Result<(), Reason> {
    let target = IpAddr::V6(target(ip, message)?);
    if message[0] == SOLICITATION {
        return Ok(());
    }
    if !owner::may_use(domain, vni, mac, target) {
        return Err(Reason::NeighbourSpoof);
    }
    match Owner::exact(domain, vni, target) {
        Some(_) => Err(Reason::Gratuitous),
        None => Ok(()),
    }
}

fn advertisement(owner: Owner<'_>, target: Ipv6Addr, to_mac: Mac, asker: IpAddr) -> Vec<u8> {
    let (to, to_mac, flags) = match asker {
        IpAddr::V6(asker) if !asker.is_unspecified() => (asker, to_mac.octets(), SOLICITED | OVERRIDE),
        IpAddr::V6(_) | IpAddr::V4(_) => (ALL_NODES, ALL_NODES_MAC, OVERRIDE),
    };
    let flags = flags | if matches!(owner, Owner::Router(_)) { ROUTER } else { 0 };
    let (mac, target) = (owner.mac().octets(), target.octets());
    let mut message = [&[136, 0, 0, 0, flags, 0, 0, 0][..], &target, &[2, 1], &mac].concat();
    let sum = pseudo_header(target, to.octets(), message.len()).add_slice(&message);
    message[2..4].copy_from_slice(&sum.ones_complement().to_be().to_be_bytes());
    let header = [0x60, 0, 0, 0, 0, message.len() as u8, 58, 255];
    [
        &to_mac[..],
        &mac,
        &[0x86, 0xdd],
        &header,
        &target,
        &to.octets(),
        &message,
    ]
    .concat()
}

/// RFC 8200 section 8.1.
fn pseudo_header(source: [u8; 16], destination: [u8; 16], length: usize) -> Sum16BitWords {
    let length = (length as u32).to_be_bytes();
    Sum16BitWords::new()
        .add_16bytes(source)
        .add_16bytes(destination)
        .add_4bytes(length)
        .add_4bytes([0, 0, 0, 58])
}
