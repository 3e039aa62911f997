//! Frames to nobody that is known: unicast, frames that are not IP, and neighbours' questions and answers.

use datapath_common::{Port, Reason, mapped};
use etherparse::ArpOperation;

use crate::bench::{Bench, peer_b6};
use crate::book::{
    self, ALL_NODES, ALL_NODES_MAC, API, BROADCAST, DB, DENIED, DENIED_DOMAIN, HOST_B, MARK, NOBODY, RED, RED_DOMAIN,
    UNSPECIFIED, WEB, Workload, link_local,
};
use crate::floods::{ALL, ONLY_B, Outcome, bench, expect, expect_inside, flooding, inside_b, send, strange};
use crate::frames::{Tunnel, arp, icmp6, link_option, neighbour, solicitation, udp4};
use crate::rules::{ALLOW, DENY, rules};

#[test]
fn unknown_unicast() {
    let Some(mut bench) = bench() else { return };
    let unknown = Outcome::Dropped(Reason::UnknownDestination);
    expect(&bench, "IPv4", &udp4(&WEB, &NOBODY), unknown);
    expect(
        &bench,
        "not IP",
        &strange(&WEB, NOBODY.mac),
        Outcome::Dropped(Reason::UnknownDestination),
    );
    flooding(&mut bench);
    expect(&bench, "IPv4, flooded", &udp4(&WEB, &NOBODY), Outcome::Copies(ALL));
    expect(
        &bench,
        "not IP, flooded",
        &strange(&WEB, NOBODY.mac),
        Outcome::Copies(ALL),
    );
    let own = Workload { mac: WEB.mac, ..NOBODY };
    expect(
        &bench,
        "to its own MAC",
        &udp4(&WEB, &own),
        Outcome::Dropped(Reason::UnknownDestination),
    );
    rules(&mut bench, &[ALLOW], &[DENY]);
    let (outcome, ..) = send(&bench, "from_endpoint", "rules are asked", &udp4(&WEB, &NOBODY));
    assert_eq!(outcome, Outcome::Copies(ONLY_B));
}

#[test]
fn frames_that_are_not_ip_to_one() {
    let Some(mut bench) = bench() else { return };
    let near = strange(&WEB, API.mac);
    expect(&bench, "to a workload here", &near, Outcome::One(near.clone(), MARK));
    let far = strange(&WEB, DB.mac);
    let (outcome, out, _) = send(&bench, "from_endpoint", "to another host", &far);
    assert!(matches!(outcome, Outcome::One(_, 0)), "{outcome:?}");
    assert_eq!(inside_b(&out), far);
    bench.peer(HOST_B, peer_b6());
    let (_, out, _) = send(&bench, "from_endpoint", "to another host over IPv6", &far);
    assert_eq!(out[70..], far);
    let back = strange(&DB, WEB.mac);
    for packet in [Tunnel::inbound(RED).by_b(&back), Tunnel::inbound(RED).by_b6(&back)] {
        let (outcome, ..) = send(&bench, "from_underlay", "from a tunnel", &packet);
        assert_eq!(outcome, Outcome::One(back.clone(), MARK));
    }
    bench.port(Some(book::port(DENIED, DENIED_DOMAIN)));
    expect(
        &bench,
        "where the default is to deny",
        &near,
        Outcome::Dropped(Reason::EtherType),
    );
    bench.port(Some(book::port(RED, RED_DOMAIN)));
    bench.router();
    let router = strange(&WEB, book::ROUTER_MAC);
    expect(&bench, "to the router", &router, Outcome::Dropped(Reason::RouterPort));
}

/// An address that only `DB`, or `WEB`, may have, and nobody answers for.
const EXTRA: [u8; 4] = [10, 0, 0, 200];

fn extra(bench: &mut Bench, owner: &Workload) {
    let owner = datapath_common::Neighbour {
        mac: owner.mac,
        flags: 0,
    };
    bench.prefix(RED, 4, mapped(EXTRA), 96 + 32, owner);
}

#[test]
fn arp_of_what_is_not_known() {
    let Some(mut bench) = bench() else { return };
    let ask = |from: &Workload, target| {
        arp(
            (from.mac, BROADCAST),
            ArpOperation::REQUEST,
            (from.mac, from.v4),
            ([0; 6], target),
        )
    };
    let tell = |from: &Workload, to: [u8; 6]| {
        arp(
            (from.mac, to),
            ArpOperation::REPLY,
            (from.mac, EXTRA),
            (WEB.mac, WEB.v4),
        )
    };
    expect(
        &bench,
        "unknown",
        &ask(&WEB, EXTRA),
        Outcome::Dropped(Reason::UnknownNeighbour),
    );
    extra(&mut bench, &WEB);
    expect(
        &bench,
        "an answer where nobody asks",
        &tell(&WEB, API.mac),
        Outcome::Dropped(Reason::Gratuitous),
    );
    flooding(&mut bench);
    let question = ask(&WEB, EXTRA);
    let (outcome, out, _) = send(&bench, "from_endpoint", "unknown, flooded", &question);
    assert_eq!(outcome, Outcome::Copies(ALL));
    assert_eq!(inside_b(&out), question);
    let own = arp(
        (WEB.mac, BROADCAST),
        ArpOperation::REQUEST,
        (WEB.mac, EXTRA),
        ([0; 6], EXTRA),
    );
    expect(
        &bench,
        "an announcement of an extra address",
        &own,
        Outcome::Copies(ALL),
    );
    let answer = tell(&WEB, DB.mac);
    let (outcome, out, _) = send(&bench, "from_endpoint", "an answer", &answer);
    assert!(matches!(outcome, Outcome::One(_, 0)), "{outcome:?}");
    assert_eq!(inside_b(&out), answer);
    extra(&mut bench, &DB);
    expect(
        &bench,
        "another's address",
        &tell(&WEB, DB.mac),
        Outcome::Dropped(Reason::NeighbourSpoof),
    );

    let padded = |frame: Vec<u8>| [frame, vec![0; 18]].concat();
    let answer = tell(&DB, WEB.mac);
    expect_inside(
        &bench,
        "his answer",
        &answer,
        Outcome::One(padded(answer.clone()), MARK),
    );
    expect_inside(&bench, "his question", &ask(&DB, NOBODY.v4), Outcome::Copies(0b111));
    let probe = arp(
        (DB.mac, BROADCAST),
        ArpOperation::REQUEST,
        (DB.mac, [0; 4]),
        ([0; 6], NOBODY.v4),
    );
    expect_inside(&bench, "his probe", &probe, Outcome::Copies(0b111));
    let wrong = Outcome::Dropped(Reason::WrongVtep);
    expect_inside(
        &bench,
        "of another's address",
        &ask(&Workload { v4: WEB.v4, ..DB }, NOBODY.v4),
        wrong,
    );
    let forged = arp(
        (DB.mac, BROADCAST),
        ArpOperation::REQUEST,
        (API.mac, DB.v4),
        ([0; 6], NOBODY.v4),
    );
    expect_inside(&bench, "of another's MAC", &forged, Outcome::Dropped(Reason::WrongVtep));
    let told = arp(
        (DB.mac, WEB.mac),
        ArpOperation::REPLY,
        (DB.mac, DB.v4),
        (WEB.mac, WEB.v4),
    );
    expect_inside(&bench, "of what is known", &told, Outcome::Dropped(Reason::Gratuitous));
    expect_inside(&bench, "cut off", &answer[..41], Outcome::Dropped(Reason::Truncated));
}

#[test]
fn what_a_foreign_tunnel_end_asks_is_answered() {
    let Some(bench) = bench() else { return };
    let question = arp(
        (DB.mac, BROADCAST),
        ArpOperation::REQUEST,
        (DB.mac, DB.v4),
        ([0; 6], WEB.v4),
    );
    expect_inside(&bench, "his question", &question, Outcome::Copies(0b111));
    let answer = |from: &Workload, to: &Workload| {
        arp(
            (from.mac, to.mac),
            ArpOperation::REPLY,
            (from.mac, from.v4),
            (to.mac, to.v4),
        )
    };
    let said = answer(&WEB, &DB);
    let (outcome, out, _) = send(&bench, "from_endpoint", "the answer", &said);
    assert!(matches!(outcome, Outcome::One(_, 0)), "{outcome:?}");
    assert_eq!(inside_b(&out), said);
    let gratuitous = || Outcome::Dropped(Reason::Gratuitous);
    expect(&bench, "to one of this host", &answer(&WEB, &API), gratuitous());
    expect(
        &bench,
        "to nobody",
        &answer(&WEB, &Workload { mac: NOBODY.mac, ..DB }),
        gratuitous(),
    );
    let forged = answer(&Workload { v4: API.v4, ..WEB }, &DB);
    expect(
        &bench,
        "of another's address",
        &forged,
        Outcome::Dropped(Reason::NeighbourSpoof),
    );

    expect_inside(
        &bench,
        "his solicitation",
        &solicitation(&DB, DB.v6, WEB.v6),
        Outcome::Copies(0b111),
    );
    let advertised = |target, to: &Workload| {
        let body = neighbour(0x60, target, &[&link_option(2, WEB.mac)]);
        icmp6((WEB.mac, to.mac), (WEB.v6, to.v6), 136, &body)
    };
    let said = advertised(WEB.v6, &DB);
    let (outcome, out, _) = send(&bench, "from_endpoint", "the advertisement", &said);
    assert!(matches!(outcome, Outcome::One(_, 0)), "{outcome:?}");
    assert_eq!(inside_b(&out), said);
    expect(&bench, "one to this host", &advertised(WEB.v6, &API), gratuitous());
    expect(
        &bench,
        "one of another's address",
        &advertised(API.v6, &DB),
        Outcome::Dropped(Reason::NeighbourSpoof),
    );
}

#[test]
fn neighbour_discovery_of_what_is_not_known() {
    let Some(mut bench) = bench() else { return };
    let hidden = link_local([0x02, 0xff, 0xff, 0xff, 0xff, 0xff]);
    let question = solicitation(&WEB, WEB.v6, hidden);
    let (outcome, out, _) = send(&bench, "from_endpoint", "a link-local address", &question);
    assert_eq!(outcome, Outcome::Copies(ALL));
    assert_eq!(inside_b(&out), question);
    expect(
        &bench,
        "whether anybody has it",
        &solicitation(&WEB, UNSPECIFIED, hidden),
        Outcome::Copies(ALL),
    );
    let unknown = solicitation(&WEB, WEB.v6, NOBODY.v6);
    expect(
        &bench,
        "another address",
        &unknown,
        Outcome::Dropped(Reason::UnknownNeighbour),
    );
    let says = |from: &Workload, mac, to, target| {
        icmp6(
            (from.mac, mac),
            (from.v6, to),
            136,
            &neighbour(0x60, target, &[&link_option(2, from.mac)]),
        )
    };
    let answer = says(&WEB, DB.mac, DB.v6, hidden);
    let (outcome, out, _) = send(&bench, "from_endpoint", "an answer", &answer);
    assert!(matches!(outcome, Outcome::One(_, 0)), "{outcome:?}");
    assert_eq!(inside_b(&out), answer);
    let defence = says(&WEB, ALL_NODES_MAC, ALL_NODES, hidden);
    expect(&bench, "that it has it", &defence, Outcome::Copies(ALL));
    let here = says(&WEB, API.mac, API.v6, hidden);
    expect(
        &bench,
        "an answer to a workload here",
        &here,
        Outcome::One(here.clone(), MARK),
    );
    let spoof = says(&WEB, API.mac, API.v6, link_local(DB.mac));
    expect(&bench, "of another's", &spoof, Outcome::Dropped(Reason::NeighbourSpoof));

    let asked = solicitation(&DB, DB.v6, hidden);
    expect_inside(&bench, "his question", &asked, Outcome::Copies(0b111));
    expect_inside(
        &bench,
        "whether anybody here has it",
        &solicitation(&DB, UNSPECIFIED, hidden),
        Outcome::Copies(0b111),
    );
    let answer = says(&DB, WEB.mac, WEB.v6, hidden);
    let packet = Tunnel::inbound(RED).by_b(&answer);
    assert_eq!(
        send(&bench, "from_underlay", "his answer", &packet).0,
        Outcome::One(answer, MARK)
    );
    let spoof = says(&DB, WEB.mac, WEB.v6, link_local(API.mac));
    expect_inside(
        &bench,
        "of another's address",
        &spoof,
        Outcome::Dropped(Reason::NeighbourSpoof),
    );
    let known = says(&DB, WEB.mac, WEB.v6, DB.v6);
    expect_inside(&bench, "of what is known", &known, Outcome::Dropped(Reason::Gratuitous));
    flooding(&mut bench);
    expect(&bench, "another address, flooded", &unknown, Outcome::Copies(ALL));
    bench.port(Some(Port {
        host_mac: WEB.mac,
        ..book::port(RED, RED_DOMAIN)
    }));
}
