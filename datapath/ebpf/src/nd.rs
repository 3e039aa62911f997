//! Neighbour discovery of workloads (RFC 4861): answered here from replicated state. What that does not know, link-local
//! addresses of a workload's own choice above all, is asked of the whole segment. The order of checks is table N of the
//! reference model (`overlay::model`).

use datapath_common::checksum::folded;
use datapath_common::{Address, NEIGHBOUR_ROUTER, Port, Reason, SEGMENT_FLOOD, Segment, Settings};

use crate::headers::{ETHERNET, Ethernet, Icmp6, Ipv6, LinkOption, MacWords, Neighbour, ether, protocol};
use crate::icmp::{NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION};
use crate::owner::{mac_words, neighbour, same};
use crate::packet::Packet;
use crate::walk::{IP_EXTENDED, Walk};
use crate::{Verdict, deliver, ip, owner, trace};

/// Target link-layer address option.
const TARGET_LINK: u8 = 2;
/// The Router, Solicited and Override flags of an advertisement.
const ROUTER: u32 = 0x8000_0000_u32.to_be();
const SOLICITED: u32 = 0x4000_0000_u32.to_be();
const OVERRIDE: u32 = 0x2000_0000_u32.to_be();
const HOP_LIMIT: u8 = 255;
/// Where the target stands in the frame, and the option that follows it.
const MESSAGE: usize = ETHERNET + size_of::<Ipv6>();
const OPTION: usize = MESSAGE + size_of::<Neighbour>();
const ANSWER: usize = OPTION + size_of::<LinkOption>();
/// What an answer carries behind its IPv6 header.
const PAYLOAD: u16 = (ANSWER - MESSAGE) as u16;
/// All nodes: ff02::1 and its MAC address.
const ALL_NODES: [u32; 4] = [0xff02_0000_u32.to_be(), 0, 0, 1_u32.to_be()];
const ALL_NODES_MAC: MacWords = [0x3333_u16.to_be(), 0, 1_u16.to_be()];

/// Turns a solicitation into its advertisement, in place, and sends it back; none if others have to see it.
#[inline(always)]
pub fn answer(
    packet: &mut Packet,
    walk: &Walk,
    port: &Port,
    segment: &Segment,
    settings: &Settings,
    kind: u8,
) -> Result<Option<Verdict>, Reason> {
    let target = target(packet, walk, ETHERNET)?;
    let [a, b, c, d, e, f, ..] = walk.flow.frame;
    let to = mac_words(&[a, b, c, d, e, f]);
    let Some((owner, router)) = asked(port, to, target, kind, segment.flags & SEGMENT_FLOOD != 0)? else {
        return Ok(None);
    };
    write(packet, port, ip::words(&walk.key.source), target, owner, router)?;
    trace::back(packet, walk.owner, 0);
    deliver::back(packet, settings).map(Some)
}

/// Checks what another host passed on: a message of the station with this MAC address, whose IP header is at `start`.
#[inline(always)]
pub fn check(packet: &mut Packet, walk: &Walk, start: usize, mac: MacWords, kind: u8) -> Result<(), Reason> {
    let target = ip::address(target(packet, walk, start)?);
    if kind == NEIGHBOUR_ADVERTISEMENT && !owner::has(walk.flow.vni, &target, false, mac) {
        return Err(Reason::NeighbourSpoof);
    }
    // It is answered for where it is asked.
    if kind == NEIGHBOUR_ADVERTISEMENT && neighbour(walk.flow.vni, &target).is_some() {
        return Err(Reason::Gratuitous);
    }
    Ok(())
}

/// The target of a message that is as it should be; its IP header is at `start`.
#[inline(always)]
fn target(packet: &mut Packet, walk: &Walk, start: usize) -> Result<[u32; 4], Reason> {
    if walk.ip.is(IP_EXTENDED) {
        return Err(Reason::Malformed);
    }
    let message = start + size_of::<Ipv6>();
    let hop_limit = packet.at::<Ipv6>(start)?.hop_limit;
    if hop_limit != HOP_LIMIT || packet.at::<Icmp6>(message)?.code != 0 {
        return Err(Reason::Malformed);
    }
    if message + size_of::<Neighbour>() > walk.ip.end as usize {
        return Err(Reason::Truncated);
    }
    packet.linear(message + size_of::<Neighbour>())?;
    let target = packet.at::<Neighbour>(message)?.target;
    if ip::address(target)[0] == 0xff {
        return Err(Reason::Malformed);
    }
    Ok(target)
}

/// The MAC address that a solicitation asks for, and whether it is a router's; none if others have to see the message,
/// which for all but link-local addresses only happens where the segment `floods`.
#[inline(always)]
fn asked(
    port: &Port,
    to: MacWords,
    target: [u32; 4],
    kind: u8,
    floods: bool,
) -> Result<Option<(MacWords, bool)>, Reason> {
    let address = ip::address(target);
    let floods = floods || owner::link_local(&address);
    let owner = if ip::pretends(&address) {
        None
    } else {
        neighbour(port.vni, &address)
            .map(|neighbour| (mac_words(&neighbour.mac), neighbour.flags & NEIGHBOUR_ROUTER != 0))
    };
    let own = owner.is_some_and(|(owner, _)| same(owner, mac_words(&port.mac)));
    match (kind, owner) {
        (NEIGHBOUR_SOLICITATION, _) if own => Err(Reason::DadProbe),
        (NEIGHBOUR_SOLICITATION, _) if target == ip::words(&link_local(&port.host_mac)) && port.host_mac != [0; 6] => {
            Err(Reason::HostLink)
        }
        (NEIGHBOUR_SOLICITATION, Some(_)) => Ok(owner),
        (NEIGHBOUR_SOLICITATION, None) if floods => Ok(None),
        (NEIGHBOUR_SOLICITATION, None) => Err(Reason::UnknownNeighbour),
        // A foreign tunnel end may have asked.
        _ if own && owner::elsewhere(port.vni, to) => Ok(None),
        _ if own => Err(Reason::Gratuitous),
        (_, None) if floods && owner::has(port.vni, &address, false, mac_words(&port.mac)) => Ok(None),
        _ => Err(Reason::NeighbourSpoof),
    }
}

/// The link-local address of a MAC address (RFC 4291 appendix A).
#[inline(always)]
fn link_local(mac: &[u8; 6]) -> Address {
    [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        mac[0] ^ 2,
        mac[1],
        mac[2],
        0xff,
        0xfe,
        mac[3],
        mac[4],
        mac[5],
    ]
}

#[inline(always)]
fn write(
    packet: &mut Packet,
    port: &Port,
    asker: [u32; 4],
    target: [u32; 4],
    owner: MacWords,
    router: bool,
) -> Result<(), Reason> {
    if packet.len() as usize != ANSWER {
        packet.resize(ANSWER)?;
    }
    packet.linear(ANSWER)?;
    // An asker without an address is told with all others (RFC 4861 section 7.2.4).
    let nameless = asker == [0; 4];
    let destination = if nameless { ALL_NODES } else { asker };
    let flags = if nameless { OVERRIDE } else { SOLICITED | OVERRIDE } | if router { ROUTER } else { 0 };
    let icmp = Icmp6 {
        kind: NEIGHBOUR_ADVERTISEMENT,
        code: 0,
        checksum: 0,
    };
    let option = LinkOption {
        kind: TARGET_LINK,
        length: 1,
        mac: owner,
    };
    let checksum = checksum(target, destination, flags, &option);

    *packet.at_mut::<Ethernet>(0)? = Ethernet {
        destination: if nameless { ALL_NODES_MAC } else { mac_words(&port.mac) },
        source: owner,
        ether_type: ether::IPV6,
    };
    *packet.at_mut::<Ipv6>(ETHERNET)? = Ipv6 {
        version_class_flow: 0x6000_0000_u32.to_be(),
        payload_length: PAYLOAD.to_be(),
        next_header: protocol::ICMP6,
        hop_limit: HOP_LIMIT,
        source: target,
        destination,
    };
    *packet.at_mut::<Neighbour>(MESSAGE)? = Neighbour {
        icmp: Icmp6 { checksum, ..icmp },
        flags,
        target,
    };
    *packet.at_mut::<LinkOption>(OPTION)? = option;
    Ok(())
}

/// The advertisement's checksum, pseudo-header included (RFC 8200 section 8.1). Its source is its target.
#[inline(always)]
fn checksum(target: [u32; 4], destination: [u32; 4], flags: u32, option: &LinkOption) -> u16 {
    let pseudo = u64::from(PAYLOAD.to_be()) + u64::from(u16::from(protocol::ICMP6).to_be());
    let start = u64::from(u16::from_ne_bytes([NEIGHBOUR_ADVERTISEMENT, 0])) + u64::from(flags);
    let link = u64::from(u16::from_ne_bytes([option.kind, option.length]))
        + u64::from(option.mac[0])
        + u64::from(option.mac[1])
        + u64::from(option.mac[2]);
    folded(pseudo + start + link + 2 * sum(target) + sum(destination))
}

#[inline(always)]
fn sum(words: [u32; 4]) -> u64 {
    u64::from(words[0]) + u64::from(words[1]) + u64::from(words[2]) + u64::from(words[3])
}
