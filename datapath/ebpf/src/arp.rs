//! ARP of workloads (RFC 826, RFC 5227): answered here from replicated state, never forwarded. The order of checks is
//! table A of the reference model (`overlay::model`).

use datapath_common::{Port, Reason, Settings};

use crate::drop::Owner;
use crate::headers::{Arp, ETHERNET, Ethernet, ether};
use crate::owner::{mac_words, neighbour, same};
use crate::packet::Packet;
use crate::{TC_ACT_REDIRECT, Verdict, deliver, ip, owner, trace};

const HARDWARE_ETHERNET: u16 = 1_u16.to_be();
const LENGTHS: u16 = 0x0604_u16.to_be();
const REQUEST: u16 = 1_u16.to_be();
const REPLY: u16 = 2_u16.to_be();

/// Turns a request into its reply, in place, and sends it back.
#[inline(always)]
pub fn answer(packet: &mut Packet, port: &Port, settings: &Settings) -> Result<Verdict, Reason> {
    packet.linear(ETHERNET + size_of::<Arp>())?;
    let arp = *packet.at::<Arp>(ETHERNET)?;
    let asker = mac_words(&port.mac);
    let owner = asked(&arp, port)?;

    let frame = packet.at_mut::<Ethernet>(0)?;
    frame.destination = asker;
    frame.source = owner;
    *packet.at_mut::<Arp>(ETHERNET)? = Arp {
        operation: REPLY,
        sender_mac: owner,
        sender_address: arp.target_address,
        target_mac: asker,
        target_address: arp.sender_address,
        ..arp
    };
    trace::end(Owner::of(port), TC_ACT_REDIRECT, 0);
    deliver::back(packet, settings)
}

/// The MAC address that a request asks for.
#[inline(always)]
fn asked(arp: &Arp, port: &Port) -> Result<[u16; 3], Reason> {
    let asker = mac_words(&port.mac);
    if arp.hardware != HARDWARE_ETHERNET
        || arp.protocol != ether::IPV4
        || arp.lengths != LENGTHS
        || (arp.operation != REQUEST && arp.operation != REPLY)
    {
        return Err(Reason::Malformed);
    }
    if !same(arp.sender_mac, asker) {
        return Err(Reason::NeighbourSpoof);
    }
    let (sender, target) = (word(arp.sender_address), word(arp.target_address));
    let probe = sender == 0 && arp.operation == REQUEST;
    if !probe && !is_of(port, sender) {
        return Err(Reason::NeighbourSpoof);
    }
    if arp.operation == REPLY || sender == target {
        return Err(Reason::Gratuitous);
    }
    match owner_of(port, target) {
        None => Err(Reason::UnknownNeighbour),
        Some(owner) if same(owner, asker) => Err(Reason::DadProbe),
        Some(owner) => Ok(owner),
    }
}

#[inline(always)]
fn owner_of(port: &Port, address: u32) -> Option<[u16; 3]> {
    neighbour(port.vni, &ip::mapped(address)).map(|neighbour| mac_words(&neighbour.mac))
}

/// Whether the endpoint may use the address, a prefix of its own included.
#[inline(always)]
fn is_of(port: &Port, address: u32) -> bool {
    let owner = owner::of(port.vni, &ip::mapped(address), true);
    owner.is_some_and(|owner| same(mac_words(&owner.mac), mac_words(&port.mac)))
}

/// An address as one word in memory order.
#[inline(always)]
fn word(halves: [u16; 2]) -> u32 {
    let ([a, b], [c, d]) = (halves[0].to_ne_bytes(), halves[1].to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}
