//! Table R: what the router does, and table Q: what it may have done.

use std::collections::BTreeSet;
use std::time::Duration;

use etherparse::SlicedPacket;
use overlay::forwarding::Route;
use overlay::model::Verdict;

use crate::campus::{LAN, ROUTER, campus, mac_of, net, outcome, port};
use crate::fabric::{label, mac, received, sent};
use crate::frames::{tunnelled, with};
use crate::lab::node;
use crate::talk::{HIGH, SYN, Talk, WEB};

fn web(destination: &str) -> Talk {
    let source = if destination.contains(':') {
        "fd00::5"
    } else {
        "10.0.0.5"
    };
    Talk::routed("web", source, destination)
}

fn udp(destination: &str) -> Vec<u8> {
    web(destination).udp(HIGH, WEB, 8)
}

#[test]
fn frames_for_the_router() {
    let echo = web("10.0.0.1").echo(1, false);
    let mut options = with(&echo, &[(14, 0x46), (17, echo[17] + 4)]);
    options.splice(34..34, [1, 1, 1, 0]);
    let link_local = mac(ROUTER).link_local().to_string();
    let own = mac_of("web").link_local().to_string();
    let table = [
        ("R1", echo.clone(), "reply"),
        ("R1 another gateway", web("10.0.1.1").echo(1, false), "reply"),
        ("R1 IPv6", web("fd00::1").echo(1, false), "reply"),
        (
            "R1 link-local",
            Talk::routed("web", &own, &link_local).echo(1, false),
            "reply",
        ),
        ("R1 TTL 1", web("10.0.0.1").hops(1).echo(1, false), "reply"),
        ("R1 no request", web("10.0.0.1").echo(1, true), "router_port"),
        ("R1 UDP", udp("10.0.0.1"), "router_port"),
        ("R1 options", options, "router_port"),
        ("R1 a fragment", with(&echo, &[(20, 0x20)]), "router_port"),
        ("R2 destination", udp("169.254.1.1"), "unroutable"),
        ("R2 destination, IPv6", udp("fe80::1234"), "unroutable"),
        (
            "R2 source",
            Talk::routed("web", &own, "fd01::5").udp(HIGH, WEB, 8),
            "unroutable",
        ),
        ("R3", web("10.0.1.5").hops(1).udp(HIGH, WEB, 8), "ttl_exceeded and told"),
        (
            "R3 IPv6",
            web("fd01::5").hops(1).udp(HIGH, WEB, 8),
            "ttl_exceeded and told",
        ),
        ("R4 none", udp("10.5.0.1"), "unroutable and told"),
        ("R4 none, IPv6", udp("2001:db8::1"), "unroutable and told"),
        ("R4 blackhole", udp("10.8.0.1"), "blackhole"),
        ("R5 connected", udp("10.0.1.5"), "to app"),
        ("R5 connected, IPv6", udp("fd01::5"), "to app"),
        ("R5 connected, there", udp("10.0.1.6"), "by beta in 8"),
        ("R5 the same network", udp("10.0.0.6"), "by beta in 7"),
        ("R5 via", udp("10.9.3.4"), "by beta in 8"),
        ("R5 via, IPv6", udp("fd09::4"), "by beta in 8"),
        ("R6 nobody", udp("10.0.1.77"), "unknown_neighbour and told"),
        ("R6 nobody, IPv6", udp("fd01::77"), "unknown_neighbour and told"),
        ("R6 no hop", udp("10.7.0.1"), "unknown_neighbour and told"),
        ("R6 no hops", udp("10.3.0.1"), "unknown_neighbour and told"),
        ("R7", udp("10.6.0.1"), "unknown_destination"),
        ("M1 itself", udp("10.0.0.5"), "martian"),
        ("M1 loopback", udp("127.0.0.1"), "martian"),
        ("M1 multicast", udp("224.0.0.1"), "martian"),
        ("M1 broadcast", udp("255.255.255.255"), "martian"),
        ("M1 mapped", udp("::ffff:10.0.1.5"), "martian"),
        ("M1 ::1", udp("::1"), "martian"),
        ("G1", web("10.0.1.5").tcp(HIGH, WEB, SYN | 1), "tcp_flags"),
        ("G1 none", web("10.0.1.5").tcp(HIGH, WEB, 0), "tcp_flags"),
    ];
    let model = campus(&|_| ());
    for (row, frame, expected) in table {
        assert_eq!(outcome(&sent(&model, &port("web"), &frame)), expected, "{row}");
    }
}

#[test]
fn a_routed_frame_is_right() {
    let model = campus(&|_| ());
    for (frame, hops, checksum) in [(udp("10.0.1.5"), 22, Some(24)), (udp("fd01::5"), 21, None)] {
        let Verdict::Deliver { frame: routed, .. } = sent(&model, &port("web"), &frame) else {
            panic!("not delivered")
        };
        let mut expected = [&mac_of("app").octets()[..], &mac(ROUTER).octets(), &frame[12..]].concat();
        expected[hops] = 63;
        if let Some(at) = checksum {
            // One less in the upper byte of a word is one more in the sum's.
            expected[at] = expected[at].wrapping_add(1);
        }
        assert_eq!(routed, expected);
        let seen = SlicedPacket::from_ethernet(&routed).unwrap();
        if let Some(etherparse::NetSlice::Ipv4(ip)) = seen.net {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
        }
    }
}

#[test]
fn an_echo_reply_is_right() {
    let model = campus(&|_| ());
    for (frame, address) in [
        (web("10.0.1.1").hops(9).echo(1, false), 4),
        (web("fd01::1").hops(9).echo(1, false), 16),
    ] {
        let Verdict::Reply(reply) = sent(&model, &port("web"), &frame) else {
            panic!("no reply")
        };
        assert_eq!((&reply[..6], &reply[6..12]), (&frame[6..12], &frame[..6]));
        let addresses = if address == 4 { 26 } else { 22 };
        assert_eq!(reply[addresses..][..address], frame[addresses + address..][..address]);
        let seen = SlicedPacket::from_ethernet(&reply).unwrap();
        match (seen.net.unwrap(), seen.transport.unwrap()) {
            (etherparse::NetSlice::Ipv4(ip), etherparse::TransportSlice::Icmpv4(icmp)) => {
                let header = ip.header().to_header();
                assert_eq!(
                    (header.time_to_live, header.header_checksum),
                    (64, header.calc_header_checksum())
                );
                let header = icmp.header();
                assert_eq!(
                    (icmp.type_u8(), header.checksum),
                    (0, header.icmp_type.calc_checksum(icmp.payload()))
                );
            }
            (etherparse::NetSlice::Ipv6(ip), etherparse::TransportSlice::Icmpv6(icmp)) => {
                let header = ip.header();
                assert_eq!((header.hop_limit(), icmp.type_u8()), (64, 129));
                assert!(icmp.is_checksum_valid(header.source(), header.destination()));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn flows_are_spread_over_hops_and_stay_on_them() {
    let hops = ["10.0.1.5", "10.0.1.6", "10.0.1.7"].map(|hop| (label("dmz"), hop.parse().unwrap()));
    let model = campus(&move |domain| {
        let router = domain.routers.get_mut(&label("core")).unwrap();
        router
            .routes
            .insert(net("10.4.0.0/16"), Route::Via(BTreeSet::from(hops.clone())));
    });
    let mut taken = BTreeSet::new();
    for flow in 0..64 {
        let way = |payload| {
            let frame = web("10.4.0.1").udp(HIGH + flow, WEB, payload);
            match sent(&model, &port("web"), &frame) {
                Verdict::Deliver { frame, .. } | Verdict::Encapsulate { frame, .. } => frame[..6].to_vec(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(way(8), way(80));
        taken.insert(way(8));
    }
    assert_eq!(taken.len(), 3);
    let fragments = [(0, true), (2, false)].map(|(offset, more)| {
        let frame = web("10.4.0.1").fragment(17, 5, offset, more, &[0; 16]);
        let mut model = model.clone();
        let first = web("10.4.0.1").fragment(17, 5, 0, true, &[0; 16]);
        let _ = model.from_endpoint(&port("web"), &first, Duration::ZERO);
        match model.from_endpoint(&port("web"), &frame, Duration::ZERO) {
            Verdict::Deliver { frame, .. } | Verdict::Encapsulate { frame, .. } => frame[..6].to_vec(),
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(fragments[0], fragments[1], "all of one datagram");
}

#[test]
fn who_may_send_a_routed_frame() {
    let to_web = |source: &str| Talk::from_router("web", source, "10.0.0.5").udp(WEB, HIGH, 8);
    let table = [
        ("Q1 of store", to_web("10.0.1.6"), "to web"),
        ("Q1 of db, in the same network", to_web("10.0.0.6"), "to web"),
        ("Q1 of somebody here", to_web("10.0.1.5"), "wrong_vtep"),
        ("Q1 of nobody", to_web("10.0.1.77"), "wrong_vtep"),
        ("Q1 of the router", to_web("10.0.1.1"), "wrong_vtep"),
        ("Q2", to_web("10.9.0.1"), "to web"),
        ("Q2 via nobody", to_web("10.7.0.1"), "wrong_vtep"),
        ("Q2 via who does not own it", to_web("10.6.0.1"), "wrong_vtep"),
        ("Q3 blackhole", to_web("10.8.0.1"), "wrong_vtep"),
        ("Q3 no route", to_web("10.5.0.1"), "wrong_vtep"),
        ("T15", with(&to_web("10.0.1.6"), &[(4, 0), (5, 1)]), "not_here"),
    ];
    let model = campus(&|_| ());
    for (row, inner, expected) in table {
        let packet = tunnelled("192.0.2.2", "192.0.2.1", 8, LAN as u32, &inner);
        assert_eq!(outcome(&received(&model, node("alpha"), &packet)), expected, "{row}");
    }
}

#[test]
fn the_gateway_is_a_neighbour_but_nobody_may_be_it() {
    let model = campus(&|_| ());
    let spoofed = Talk::direct("web", "10.0.0.1", "db", "10.0.0.6").udp(HIGH, WEB, 8);
    assert_eq!(outcome(&sent(&model, &port("web"), &spoofed)), "source_address");
    let link_local = Talk::direct("web", "fe80::abcd", "db", "fd00::6").udp(HIGH, WEB, 8);
    assert_eq!(outcome(&sent(&model, &port("web"), &link_local)), "by beta in 7");
    let routers = mac(ROUTER).link_local().to_string();
    let link_local = Talk::direct("web", &routers, "db", "fd00::6").udp(HIGH, WEB, 8);
    assert_eq!(outcome(&sent(&model, &port("web"), &link_local)), "source_address");
    let behind = Talk::direct("gate", "10.9.1.1", "store", "10.0.1.6").udp(HIGH, WEB, 8);
    assert_eq!(outcome(&sent(&model, &port("gate"), &behind)), "to store");
    let behind = Talk::direct("gate", "10.10.1.1", "store", "10.0.1.6").udp(HIGH, WEB, 8);
    assert_eq!(outcome(&sent(&model, &port("gate"), &behind)), "source_address");
}
