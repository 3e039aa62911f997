//! ARP and neighbour discovery of an endpoint, right and wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType, PacketBuilder};
use overlay::name::Mac;

use super::dice::Dice;
use super::draft::{Draft, Upper};
use super::odd;
use super::plan::addresses;
use super::world::World;

/// A link-local address of a station's own choice.
const CHOSEN: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x77);

/// A frame.
pub(crate) fn random(dice: &mut Dice, world: &World, domain: usize, endpoint: usize) -> Vec<u8> {
    let router = Mac::try_from(world.plans[domain].router_mac()).unwrap();
    let endpoint = world.endpoint(domain, endpoint);
    let own = addresses(endpoint.network, endpoint.last);
    let lasts = [endpoint.last, endpoint.last, 1, 10, 11, 12, 13, 14, 99];
    let other = addresses(endpoint.network, *dice.pick(&lasts));
    let mac = endpoint.mac().octets();
    let mut frame = if dice.percent(50) {
        let lent = Ipv4Addr::from([10, endpoint.network as u8, 0, 200 + endpoint.number]);
        arp(dice, mac, [v4(own[0]), lent], v4(other[0]))
    } else {
        let link_local = [endpoint.mac(), router].map(|mac| mac.link_local());
        let host = endpoint.host_mac().unwrap_or(endpoint.mac()).link_local();
        let targets = [
            v6(other[1]),
            v6(other[1]),
            v6(own[1]),
            v6(own[1]),
            link_local[0],
            link_local[1],
            host,
            CHOSEN,
            CHOSEN,
        ];
        let sources = [v6(own[1]), v6(own[1]), link_local[0], CHOSEN, Ipv6Addr::UNSPECIFIED];
        let (source, target) = (*dice.pick(&sources), *dice.pick(&targets));
        discovery(dice, mac, source, target)
    };
    if dice.percent(15) {
        let _ = odd::bytes(dice, &mut frame);
    }
    frame
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(v6) => v6,
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
    }
}

/// Some station's MAC address, or everybody's.
fn to(dice: &mut Dice, group: [u8; 6]) -> [u8; 6] {
    let station = [2, 0xaa, 0, 0, dice.below(2) as u8, 10 + dice.below(4) as u8];
    *dice.pick(&[group, group, group, station])
}

fn arp(dice: &mut Dice, mac: [u8; 6], [own, lent]: [Ipv4Addr; 2], target: Ipv4Addr) -> Vec<u8> {
    let operation = *dice.pick(&[1, 1, 1, 1, 2, 3]);
    let sender = *dice.pick(&[own, own, own, lent, lent, Ipv4Addr::UNSPECIFIED, target]);
    let target = *dice.pick(&[target, target, target, sender]);
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation(operation),
        &mac,
        &sender.octets(),
        &[0; 6],
        &target.octets(),
    );
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(mac, to(dice, [0xff; 6])).arp(packet.unwrap());
    builder.write(&mut frame).unwrap();
    frame
}

fn discovery(dice: &mut Dice, mac: [u8; 6], source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let kind = *dice.pick(&[135, 135, 135, 136, 133, 143]);
    let body = if matches!(kind, 135 | 136) {
        target.octets().to_vec()
    } else {
        vec![0; 4]
    };
    let draft = Draft {
        to: to(dice, [0x33, 0x33, 0xff, 0, 0, 1]),
        from: mac,
        vlan: false,
        ether_type: None,
        source: source.into(),
        destination: "ff02::1:ff00:1".parse().unwrap(),
        hops: if dice.percent(95) { 255 } else { 64 },
        class: 0,
        fragment: None,
        options: 0,
        extensions: if dice.percent(5) { vec![60] } else { vec![] },
        upper: Upper::Icmp {
            kind,
            code: u8::from(dice.percent(3)),
            rest: [0; 4],
            body,
        },
        payload: *dice.pick(&[0, 8]),
        padding: 0,
    };
    draft.bytes()
}
