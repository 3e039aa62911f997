//! ARP and neighbour discovery: answered in place, spoofs dropped.

use datapath_common::{Port, Reason};
use etherparse::ArpOperation;

use crate::bench::Bench;
use crate::book::{
    self, API, BLUE_ONLY, BROADCAST, DB, HOST_SIDE, NOBODY, RED, RED_DOMAIN, UNSPECIFIED, WEB, Workload, link_local,
};
use crate::fate::{Fate, dropped, to_host_side};
use crate::frames::{advertisement, arp, ethernet, icmp6, icmp6_hops, ip6, link_option, neighbour, solicitation};

const ZERO_MAC: [u8; 6] = [0; 6];
const REQUEST: ArpOperation = ArpOperation::REQUEST;
const REPLY: ArpOperation = ArpOperation::REPLY;

/// `WEB` asks all for the MAC address of `target`.
fn who_has(target: [u8; 4]) -> Vec<u8> {
    arp((WEB.mac, BROADCAST), REQUEST, (WEB.mac, WEB.v4), (ZERO_MAC, target))
}

fn is_at(owner: &Workload, asker: [u8; 4]) -> Fate {
    to_host_side(&arp(
        (owner.mac, WEB.mac),
        REPLY,
        (owner.mac, owner.v4),
        (WEB.mac, asker),
    ))
}

#[test]
fn arp_is_answered_in_place() {
    let Some(bench) = Bench::on_devices() else { return };
    let padded = [who_has(DB.v4), vec![0; 18]].concat();
    let Fate::Redirected(answer, mark) = is_at(&DB, WEB.v4) else {
        unreachable!()
    };
    let padded_answer = Fate::Redirected([answer, vec![0; 18]].concat(), mark);
    let unicast = arp((WEB.mac, DB.mac), REQUEST, (WEB.mac, WEB.v4), (DB.mac, DB.v4));
    let probe = arp((WEB.mac, BROADCAST), REQUEST, (WEB.mac, [0; 4]), (ZERO_MAC, DB.v4));
    bench.table(
        "from_endpoint",
        vec![
            ("who has another host's workload", who_has(DB.v4), is_at(&DB, WEB.v4)),
            ("who has the workload next door", who_has(API.v4), is_at(&API, WEB.v4)),
            ("padded to 60 bytes", padded, padded_answer),
            ("asked by unicast", unicast, is_at(&DB, WEB.v4)),
            ("a probe for somebody's address", probe, is_at(&DB, [0; 4])),
        ],
    );
}

#[test]
fn arp_that_is_not_answered() {
    let Some(bench) = Bench::on_devices() else { return };
    let from_web = (WEB.mac, BROADCAST);
    let mut exotic = who_has(DB.v4);
    exotic[14 + 1] = 6;
    let mut long = who_has(DB.v4);
    long[14 + 4] = 8;
    let inverse = arp(from_web, ArpOperation(8), (WEB.mac, WEB.v4), (ZERO_MAC, DB.v4));
    bench.table(
        "from_endpoint",
        vec![
            (
                "who has an address nobody has",
                who_has(NOBODY.v4),
                dropped(Reason::UnknownNeighbour),
            ),
            (
                "who has an address only blue has",
                who_has(BLUE_ONLY.v4),
                dropped(Reason::UnknownNeighbour),
            ),
            (
                "a probe for its own address",
                arp(from_web, REQUEST, (WEB.mac, [0; 4]), (ZERO_MAC, WEB.v4)),
                dropped(Reason::DadProbe),
            ),
            (
                "an announcement of its own address",
                who_has(WEB.v4),
                dropped(Reason::Gratuitous),
            ),
            (
                "an answer for its own address",
                arp((WEB.mac, API.mac), REPLY, (WEB.mac, WEB.v4), (API.mac, API.v4)),
                dropped(Reason::Gratuitous),
            ),
            (
                "an answer for somebody else's address",
                arp((WEB.mac, API.mac), REPLY, (WEB.mac, DB.v4), (API.mac, API.v4)),
                dropped(Reason::NeighbourSpoof),
            ),
            (
                "a request in somebody else's name",
                arp(from_web, REQUEST, (WEB.mac, DB.v4), (ZERO_MAC, API.v4)),
                dropped(Reason::NeighbourSpoof),
            ),
            (
                "a request with somebody else's MAC inside",
                arp(from_web, REQUEST, (DB.mac, WEB.v4), (ZERO_MAC, API.v4)),
                dropped(Reason::NeighbourSpoof),
            ),
            (
                "an answer without an address",
                arp((WEB.mac, DB.mac), REPLY, (WEB.mac, [0; 4]), (DB.mac, DB.v4)),
                dropped(Reason::NeighbourSpoof),
            ),
            ("hardware that is not Ethernet", exotic, dropped(Reason::Malformed)),
            ("long hardware addresses", long, dropped(Reason::Malformed)),
            ("inverse ARP", inverse, dropped(Reason::Malformed)),
            (
                "half a packet",
                who_has(DB.v4)[..30].to_vec(),
                dropped(Reason::Truncated),
            ),
        ],
    );
}

#[test]
fn neighbour_solicitations_are_answered_in_place() {
    let Some(bench) = Bench::on_devices() else { return };
    let answer = |owner: &Workload, target, source| to_host_side(&advertisement(owner, target, &WEB, source));
    let unicast = icmp6((WEB.mac, DB.mac), (WEB.v6, DB.v6), 135, &neighbour(0, DB.v6, &[]));
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let options = neighbour(0, DB.v6, &[&link_option(1, WEB.mac), &nonce]);
    let (group_mac, group) = book::solicited(DB.v6);
    let long = icmp6((WEB.mac, group_mac), (WEB.v6, group), 135, &options);
    let own_link_local = link_local(WEB.mac);
    bench.table(
        "from_endpoint",
        vec![
            (
                "another host's workload",
                solicitation(&WEB, WEB.v6, DB.v6),
                answer(&DB, DB.v6, WEB.v6),
            ),
            (
                "the workload next door",
                solicitation(&WEB, WEB.v6, API.v6),
                answer(&API, API.v6, WEB.v6),
            ),
            (
                "a link-local address, from one",
                solicitation(&WEB, own_link_local, link_local(DB.mac)),
                answer(&DB, link_local(DB.mac), own_link_local),
            ),
            (
                "is it still there, without an option",
                unicast,
                answer(&DB, DB.v6, WEB.v6),
            ),
            ("with more options than an answer has", long, answer(&DB, DB.v6, WEB.v6)),
            (
                "duplicate address detection of somebody's address: all nodes are told",
                solicitation(&WEB, UNSPECIFIED, DB.v6),
                answer(&DB, DB.v6, UNSPECIFIED),
            ),
        ],
    );
}

#[test]
fn neighbour_discovery_that_is_not_answered() {
    let Some(mut bench) = Bench::on_devices() else { return };
    let link = (WEB.mac, API.mac);
    let ip = (WEB.v6, API.v6);
    let says = |target| icmp6(link, ip, 136, &neighbour(0x20, target, &[&link_option(2, WEB.mac)]));
    let host = solicitation(&WEB, WEB.v6, link_local(HOST_SIDE));
    let mut code = solicitation(&WEB, WEB.v6, DB.v6);
    code[14 + 40 + 1] = 1;
    let behind_options = [&[58, 0, 1, 4, 0, 0, 0, 0], &solicitation(&WEB, WEB.v6, DB.v6)[54..]].concat();
    let forged = Workload { v6: WEB.v6, ..WEB };
    bench.table(
        "from_endpoint",
        vec![
            (
                "an address nobody has",
                solicitation(&WEB, WEB.v6, NOBODY.v6),
                dropped(Reason::UnknownNeighbour),
            ),
            (
                "an address only blue has",
                solicitation(&WEB, WEB.v6, BLUE_ONLY.v6),
                dropped(Reason::UnknownNeighbour),
            ),
            (
                "an IPv4 address in disguise",
                solicitation(&WEB, WEB.v6, datapath_common::mapped(DB.v4)),
                dropped(Reason::UnknownNeighbour),
            ),
            (
                "duplicate address detection of its own",
                solicitation(&WEB, UNSPECIFIED, WEB.v6),
                dropped(Reason::DadProbe),
            ),
            ("the host side of its link", host.clone(), dropped(Reason::HostLink)),
            (
                "an advertisement of its own address",
                says(WEB.v6),
                dropped(Reason::Gratuitous),
            ),
            (
                "an advertisement of somebody else's address",
                says(DB.v6),
                dropped(Reason::NeighbourSpoof),
            ),
            (
                "an advertisement of nobody's address",
                says(NOBODY.v6),
                dropped(Reason::NeighbourSpoof),
            ),
            (
                "from somebody else's address",
                solicitation(&WEB, DB.v6, API.v6),
                dropped(Reason::SourceAddress),
            ),
            (
                "for a group",
                icmp6(link, ip, 135, &neighbour(0, book::ALL_NODES, &[])),
                dropped(Reason::Malformed),
            ),
            (
                "from beyond a router",
                icmp6_hops(link, ip, 135, &neighbour(0, DB.v6, &[]), 64),
                dropped(Reason::Malformed),
            ),
            ("with a code", code, dropped(Reason::Malformed)),
            (
                "behind destination options",
                ip6(&forged, &API, 60, 0, &behind_options),
                dropped(Reason::Malformed),
            ),
            (
                "that ends in its target",
                icmp6(link, ip, 135, &[0; 12]),
                dropped(Reason::Truncated),
            ),
        ],
    );
    bench.port(Some(Port {
        host_mac: [0; 6],
        ..book::port(RED, RED_DOMAIN)
    }));
    bench.table(
        "from_endpoint",
        vec![("a tap has no host side", host, dropped(Reason::Multicast))],
    );
}

#[test]
fn router_advertisements_and_what_no_bridge_passes_on() {
    let Some(bench) = Bench::on_devices() else { return };
    let advertisement = icmp6(
        (WEB.mac, book::ALL_NODES_MAC),
        (link_local(WEB.mac), book::ALL_NODES),
        134,
        &[0; 12],
    );
    let hidden = [&[58, 0, 1, 4, 0, 0, 0, 0], &advertisement[54..]].concat();
    let fragment = [&[58, 0, 0, 1, 0, 0, 0, 9], &advertisement[54..]].concat();
    bench.table(
        "from_endpoint",
        vec![
            ("to all", advertisement, dropped(Reason::RogueServer)),
            (
                "to one, behind hop-by-hop options",
                ip6(&WEB, &API, 0, 0, &hidden),
                dropped(Reason::RogueServer),
            ),
            (
                "to one, in a first fragment",
                ip6(&WEB, &API, 44, 0, &fragment),
                dropped(Reason::RogueServer),
            ),
            (
                "LLDP",
                ethernet(WEB.mac, [1, 0x80, 0xc2, 0, 0, 0xe], 0x88cc, &[0; 46]),
                dropped(Reason::Multicast),
            ),
        ],
    );
}
