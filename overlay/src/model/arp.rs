//! Tables A and TA: ARP from a workload, and from a tunnel.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{ArpHardwareId, ArpOperation, ArpPacketSlice, EtherType};

use super::owner::{self, Owner};
use super::port::Sender;
use super::{Reason, Verdict};
use crate::forwarding::Forwarding;
use crate::name::{Mac, Vni};

/// Length of an ARP packet for Ethernet and IPv4.
const LENGTH: usize = 28;

/// What ARP says.
struct Said {
    request: bool,
    mac: [u8; 6],
    sender: Ipv4Addr,
    target: Ipv4Addr,
}

/// A1 and A2.
fn read(packet: &[u8]) -> Result<Said, Reason> {
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
    Ok(Said {
        request,
        mac: arp.sender_hw_addr().try_into().map_err(|_| Reason::Malformed)?,
        sender: ipv4(arp.sender_protocol_addr())?,
        target: ipv4(arp.target_protocol_addr())?,
    })
}

/// The answer to a workload; none if others have to see what it says.
pub(super) fn answer(
    sender: &Sender<'_>,
    floods: bool,
    destination: [u8; 6],
    packet: &[u8],
) -> Result<Option<Verdict>, Reason> {
    let said = read(packet)?;
    let probe = said.request && said.sender.is_unspecified();
    if said.mac != sender.port.mac.octets() || !(probe || sender.may_use(IpAddr::V4(said.sender))) {
        return Err(Reason::NeighbourSpoof);
    }
    if !said.request || said.target == said.sender {
        let unknown = sender.owner(IpAddr::V4(said.sender)).is_none();
        let asked = !said.request && sender.is_elsewhere(destination);
        return if asked || (floods && unknown) {
            Ok(None)
        } else {
            Err(Reason::Gratuitous)
        };
    }
    if sender.has(IpAddr::V4(said.target)) {
        return Err(Reason::DadProbe);
    }
    match sender.owner(IpAddr::V4(said.target)) {
        Some(owner) => {
            let reply = reply(owner.mac(), said.target, sender.port.mac, said.sender);
            Ok(Some(Verdict::Reply(reply)))
        }
        None if floods => Ok(None),
        None => Err(Reason::UnknownNeighbour),
    }
}

/// Table TA: what another host passed on of a station.
pub(super) fn check(domain: &Forwarding, vni: Vni, mac: Mac, packet: &[u8]) -> Result<(), Reason> {
    let said = read(packet)?;
    let address = IpAddr::V4(said.sender);
    let probe = said.request && said.sender.is_unspecified();
    if said.mac != mac.octets() || !(probe || owner::may_use(domain, vni, mac, address)) {
        return Err(Reason::WrongVtep);
    }
    let told = !said.request || said.sender == said.target;
    if told && Owner::exact(domain, vni, address).is_some() {
        return Err(Reason::Gratuitous);
    }
    Ok(())
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
