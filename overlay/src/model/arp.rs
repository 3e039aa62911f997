//! Table A: ARP from a workload.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType};

use super::port::Sender;
use super::{Reason, Verdict};
use crate::name::Mac;

/// Length of an ARP packet for Ethernet and IPv4.
const LENGTH: usize = 28;

pub(super) fn answer(sender: &Sender<'_>, packet: &[u8]) -> Result<Verdict, Reason> {
    let packet = packet.get(..LENGTH).ok_or(Reason::Truncated)?;
    // It is long enough for Ethernet and IPv4: if it is too short for itself, it is for something else.
    let arp = ArpPacketSlice::from_slice(packet).map_err(|_| Reason::Malformed)?;
    let request = arp.operation() == ArpOperation::REQUEST;
    let ours = arp.hw_addr_type() == ArpHardwareId::ETHERNET
        && arp.proto_addr_type() == EtherType::IPV4
        && (arp.hw_addr_size(), arp.proto_addr_size()) == (6, 4)
        && (request || arp.operation() == ArpOperation::REPLY);
    if !ours {
        return Err(Reason::Malformed);
    }
    let (asker, target) = (ipv4(arp.sender_protocol_addr())?, ipv4(arp.target_protocol_addr())?);
    let probe = request && asker.is_unspecified();
    if arp.sender_hw_addr() != sender.port.mac.octets() || !(probe || sender.may_use(IpAddr::V4(asker))) {
        return Err(Reason::NeighbourSpoof);
    }
    if !request || target == asker {
        return Err(Reason::Gratuitous);
    }
    if sender.has(IpAddr::V4(target)) {
        return Err(Reason::DadProbe);
    }
    let owner = sender.owner(IpAddr::V4(target)).ok_or(Reason::UnknownNeighbour)?;
    Ok(Verdict::Reply(reply(owner.mac(), target, sender.port.mac, asker)))
}

fn ipv4(octets: &[u8]) -> Result<Ipv4Addr, Reason> {
    <[u8; 4]>::try_from(octets)
        .map(Ipv4Addr::from)
        .map_err(|_| Reason::Malformed)
}

fn reply(mac: Mac, address: Ipv4Addr, to_mac: Mac, to: Ipv4Addr) -> Vec<u8> {
    let header: [u8; 10] = [0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4, 0x00, 0x02];
    let (mac, to_mac) = (mac.octets(), to_mac.octets());
    [
        &to_mac[..],
        &mac,
        &header,
        &mac,
        &address.octets(),
        &to_mac,
        &to.octets(),
    ]
    .concat()
}
