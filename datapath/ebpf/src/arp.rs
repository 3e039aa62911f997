//! ARP of workloads (RFC 826, RFC 5227): answered here from replicated state. What that does not know goes to others only
//! where the segment floods; what a foreign tunnel end asks, workloads answer. The order of checks is tables A and TA of the reference model (`overlay::model`).

use datapath_common::{Port, Reason, SEGMENT_FLOOD, Segment, Settings};

use crate::drop::Owner;
use crate::headers::{Arp, ETHERNET, Ethernet, MacWords, ether};
use crate::owner::{mac_words, neighbour, same};
use crate::packet::Packet;
use crate::{Verdict, deliver, ip, owner, trace};

const HARDWARE_ETHERNET: u16 = 1_u16.to_be();
const LENGTHS: u16 = 0x0604_u16.to_be();
const REQUEST: u16 = 1_u16.to_be();
const REPLY: u16 = 2_u16.to_be();

/// Turns a request into its reply, in place, and sends it back; none if others have to see it.
#[inline(always)]
pub fn answer(
    packet: &mut Packet,
    port: &Port,
    to: MacWords,
    segment: &Segment,
    settings: &Settings,
) -> Result<Option<Verdict>, Reason> {
    packet.linear(ETHERNET + size_of::<Arp>())?;
    let arp = *packet.at::<Arp>(ETHERNET)?;
    let asker = mac_words(&port.mac);
    let Some(owner) = asked(&arp, port, to, segment.flags & SEGMENT_FLOOD != 0)? else {
        return Ok(None);
    };

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
    trace::back(packet, Owner::of(port), 0);
    deliver::back(packet, settings).map(Some)
}

/// Checks what another host passed on: ARP of the station with this MAC address, at `start`.
#[inline(always)]
pub fn check(packet: &mut Packet, start: usize, vni: u32, frame: &Ethernet) -> Result<(), Reason> {
    packet.linear(start + size_of::<Arp>())?;
    let arp = *packet.at::<Arp>(start)?;
    form(&arp)?;
    let (sender, target) = (word(arp.sender_address), word(arp.target_address));
    let probe = sender == 0 && arp.operation == REQUEST;
    let his = probe || owner::has(vni, &ip::mapped(sender), true, frame.source);
    if !same(arp.sender_mac, frame.source) || !his {
        return Err(Reason::WrongVtep);
    }
    let told = arp.operation == REPLY || sender == target;
    let exact = neighbour(vni, &ip::mapped(sender)).is_some();
    if told && exact { Err(Reason::Gratuitous) } else { Ok(()) }
}

/// Refuses what is not ARP for Ethernet and IPv4.
#[inline(always)]
fn form(arp: &Arp) -> Result<(), Reason> {
    if arp.hardware != HARDWARE_ETHERNET
        || arp.protocol != ether::IPV4
        || arp.lengths != LENGTHS
        || (arp.operation != REQUEST && arp.operation != REPLY)
    {
        return Err(Reason::Malformed);
    }
    Ok(())
}

/// The MAC address that a request asks for; none if others have to see what is said: where the segment `floods`, or an
/// answer `to` a station at another host, which may be a foreign one that asked.
#[inline(always)]
fn asked(arp: &Arp, port: &Port, to: MacWords, floods: bool) -> Result<Option<MacWords>, Reason> {
    let asker = mac_words(&port.mac);
    form(arp)?;
    if !same(arp.sender_mac, asker) {
        return Err(Reason::NeighbourSpoof);
    }
    let (sender, target) = (word(arp.sender_address), word(arp.target_address));
    let probe = sender == 0 && arp.operation == REQUEST;
    if !probe && !owner::has(port.vni, &ip::mapped(sender), true, asker) {
        return Err(Reason::NeighbourSpoof);
    }
    if arp.operation == REPLY && owner::elsewhere(port.vni, to) {
        return Ok(None);
    }
    if arp.operation == REPLY || sender == target {
        // Of an address that all hosts know, nobody has to be told.
        return if floods && owner_of(port, sender).is_none() {
            Ok(None)
        } else {
            Err(Reason::Gratuitous)
        };
    }
    match owner_of(port, target) {
        None if floods => Ok(None),
        None => Err(Reason::UnknownNeighbour),
        Some(owner) if same(owner, asker) => Err(Reason::DadProbe),
        owner => Ok(owner),
    }
}

#[inline(always)]
fn owner_of(port: &Port, address: u32) -> Option<MacWords> {
    neighbour(port.vni, &ip::mapped(address)).map(|neighbour| mac_words(&neighbour.mac))
}

/// An address as one word in memory order.
#[inline(always)]
fn word(halves: [u16; 2]) -> u32 {
    let ([a, b], [c, d]) = (halves[0].to_ne_bytes(), halves[1].to_ne_bytes());
    u32::from_ne_bytes([a, b, c, d])
}
