//! Table N: neighbour discovery from a workload.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::checksum::Sum16BitWords;

use super::headers::Ip;
use super::owner::Owner;
use super::port::Sender;
use super::{Reason, Verdict};
use crate::name::Mac;

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

pub(super) fn answer(sender: &Sender<'_>, ip: &Ip<'_>, message: &[u8]) -> Result<Verdict, Reason> {
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
    let own = sender.has(IpAddr::V6(target));
    let host = sender.ingress.host_mac.is_some_and(|mac| target == mac.link_local());
    match (message[0] == SOLICITATION, own) {
        (false, true) => Err(Reason::Gratuitous),
        (false, false) => Err(Reason::NeighbourSpoof),
        (true, true) => Err(Reason::DadProbe),
        (true, false) if host => Err(Reason::HostLink),
        (true, false) => {
            let owner = sender.owner(IpAddr::V6(target)).ok_or(Reason::UnknownNeighbour)?;
            Ok(Verdict::Reply(advertisement(owner, target, sender.port.mac, ip.source)))
        }
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
