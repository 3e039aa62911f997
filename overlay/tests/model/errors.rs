//! Tables E and I: ICMP errors, of workloads and of the fabric.

use std::net::IpAddr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use overlay::forwarding::Forwarding;
use overlay::model::{Model, Verdict};

use crate::campus::{DMZ, alter, at, campus, mac_of, net, outcome, port, vni};
use crate::fabric::sent;
use crate::frames::tunnelled;
use crate::lab::node;
use crate::talk::{ACK, HIGH, SYN, Talk, WEB};

fn forth(v6: bool) -> Talk {
    let (from, to) = if v6 {
        ("fd00::5", "fd01::5")
    } else {
        ("10.0.0.5", "10.0.1.5")
    };
    Talk::routed("web", from, to)
}

fn back(v6: bool) -> Talk {
    let (from, to) = if v6 {
        ("fd01::5", "fd00::5")
    } else {
        ("10.0.1.5", "10.0.0.5")
    };
    Talk::routed("app", from, to)
}

#[test]
fn errors_of_workloads_quote_a_connection() {
    for (v6, unreachable) in [(false, 3), (true, 1)] {
        let question = forth(v6).udp(HIGH, WEB, 8);
        let error = |about: &[u8]| back(v6).error(unreachable, 3, about);
        let mut model = campus(&|_| ());
        let mut send = |who: &str, frame: &[u8]| outcome(&model.from_endpoint(&port(who), frame, at(0)));
        assert_eq!(send("app", &error(&question)), "unrelated", "nobody asked");
        assert_eq!(send("web", &question), "to app");
        assert_eq!(send("web", &forth(v6).echo(4, false)), "to app");
        let header = if v6 { 54 } else { 34 };
        let later = forth(v6).fragment(17, 1, 1, false, &question[header..]);
        let table = [
            ("E4", question.clone(), "to web"),
            ("E4 an echo", forth(v6).echo(4, false), "to web"),
            ("E4 eight bytes", question[..header + 8].to_vec(), "to web"),
            ("E1 seven bytes", question[..header + 7].to_vec(), "unrelated"),
            ("E1 a later fragment", later, "unrelated"),
            ("E2", back(v6).udp(WEB, HIGH, 8), "unrelated"),
            ("E3 another port", forth(v6).udp(HIGH, WEB + 1, 8), "unrelated"),
            ("E3 another protocol", forth(v6).tcp(HIGH, WEB, SYN), "unrelated"),
            ("E3 another echo", forth(v6).echo(5, false), "unrelated"),
        ];
        for (row, about, expected) in table {
            assert_eq!(send("app", &error(&about)), expected, "{row} {v6}");
        }
        let mut options = question.clone();
        options[14] = if v6 { 0x70 } else { 0x46 };
        assert_eq!(send("app", &error(&options)), "unrelated", "E1 {v6}");
    }
}

/// What becomes of a frame that beta's host sends to web's in a tunnel.
fn arrives(model: &mut Model, frame: &[u8]) -> String {
    let packet = tunnelled("192.0.2.2", "192.0.2.1", 8, 7, frame);
    outcome(&model.from_underlay(node("alpha"), &packet, at(0)))
}

#[test]
fn errors_come_from_who_has_business_with_the_connection() {
    let to_app = Talk::routed("web", "10.0.0.5", "10.0.1.5").udp(HIGH, WEB, 8);
    let beyond = Talk::routed("web", "10.0.0.5", "10.9.1.1").udp(HIGH, WEB, 8);
    let table = [
        ("the other end", "app", "10.0.1.5", &to_app, true),
        ("nobody's business", "store", "10.0.1.6", &to_app, false),
        ("a router, but not on the way", "gate", "10.9.1.1", &to_app, false),
        ("another than the router", "store", "10.0.1.6", &beyond, false),
        ("the router before the end", "gate", "10.0.1.7", &beyond, true),
        ("one behind that", "gate", "10.9.0.1", &beyond, true),
        ("the end behind it", "gate", "10.9.1.1", &beyond, true),
    ];
    for (row, who, source, about, passes) in table {
        let mut model = campus(&|_| ());
        for question in [&to_app, &beyond] {
            let (_, verdict) = model.journey(&port("web"), question, at(0));
            assert!(outcome(&verdict).starts_with("to "), "{row}: {verdict:?}");
        }
        let error = Talk::routed(who, source, "10.0.0.5").error(3, 3, about);
        let says = outcome(&model.from_endpoint(&port(who), &error, at(0)));
        let expected = match (passes, who) {
            (true, "app") => "to web",
            (true, _) => "by alpha in 7",
            (false, _) => "unrelated",
        };
        assert_eq!(says, expected, "{row}");
        if who == "app" {
            continue;
        }
        let sent_on = Talk::from_router("web", source, "10.0.0.5").error(3, 3, about);
        let says = arrives(&mut model, &sent_on);
        assert_eq!(
            says,
            if passes { "to web" } else { "unrelated" },
            "{row}, asked by the other host"
        );
    }
    let store_carries = |domain: &mut Forwarding| {
        let store = domain.stations.get_mut(&(vni(DMZ), mac_of("store"))).unwrap();
        store.prefixes.insert(net("10.0.0.0/24"));
    };
    let mut model = campus(&store_carries);
    assert_eq!(outcome(&model.from_endpoint(&port("web"), &to_app, at(0))), "to app");
    let carried = Talk::from_router("web", "10.0.1.6", "10.0.0.5").error(3, 4, &to_app);
    assert_eq!(
        arrives(&mut model, &carried),
        "to web",
        "an appliance that may send web's packets on"
    );
}

/// Type, code, the four bytes behind the checksum, source, and what is quoted.
fn read(frame: &[u8]) -> (u8, u8, [u8; 4], IpAddr, Vec<u8>) {
    let seen = SlicedPacket::from_ethernet(frame).unwrap();
    match (seen.net.unwrap(), seen.transport.unwrap()) {
        (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(icmp)) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            assert_eq!(header.time_to_live, 64);
            let own = icmp.header();
            assert_eq!(own.checksum, own.icmp_type.calc_checksum(icmp.payload()));
            let source = header.source.into();
            (
                icmp.type_u8(),
                icmp.code_u8(),
                icmp.bytes5to8(),
                source,
                icmp.payload().to_vec(),
            )
        }
        (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(icmp)) => {
            let header = ip.header();
            assert!(icmp.is_checksum_valid(header.source(), header.destination()));
            assert_eq!(header.hop_limit(), 64);
            let source = header.source_addr().into();
            (
                icmp.type_u8(),
                icmp.code_u8(),
                icmp.bytes5to8(),
                source,
                icmp.payload().to_vec(),
            )
        }
        other => panic!("{other:?}"),
    }
}

fn told(model: &Model, who: &str, frame: &[u8]) -> Option<Vec<u8>> {
    match sent(model, &port(who), frame) {
        Verdict::Drop { error, .. } => error,
        other => panic!("{other:?}"),
    }
}

fn without_router(domain: &mut Forwarding) {
    domain.routers.clear();
    for segment in domain.networks.values_mut() {
        segment.router = None;
    }
}

#[test]
fn the_fabric_tells_what_is_wrong() {
    let mtu = |mtu: u16| u32::from(mtu).to_be_bytes();
    let web = |source: &str, destination: &str| Talk::routed("web", source, destination);
    let l2 = |size| Talk::direct("web", "10.0.0.5", "db", "10.0.0.6").udp(HIGH, WEB, size);
    let table = [
        (
            "R3",
            web("10.0.0.5", "10.0.1.5").hops(1).udp(HIGH, WEB, 8),
            (11, 0, [0; 4], "10.0.0.1"),
        ),
        (
            "R3 IPv6",
            web("fd00::5", "fd01::5").hops(0).udp(HIGH, WEB, 8),
            (3, 0, [0; 4], "fd00::1"),
        ),
        (
            "R4",
            web("10.0.0.5", "10.5.0.1").udp(HIGH, WEB, 8),
            (3, 0, [0; 4], "10.0.0.1"),
        ),
        (
            "R4 IPv6",
            web("fd00::5", "fd05::1").udp(HIGH, WEB, 8),
            (1, 0, [0; 4], "fd00::1"),
        ),
        (
            "R6",
            web("10.0.0.5", "10.0.1.77").udp(HIGH, WEB, 0),
            (3, 1, [0; 4], "10.0.0.1"),
        ),
        (
            "R6 IPv6",
            web("fd00::5", "fd01::77").udp(HIGH, WEB, 0),
            (1, 3, [0; 4], "fd00::1"),
        ),
        (
            "P18 routed",
            web("10.0.0.5", "10.0.1.5").udp(HIGH, WEB, 1373),
            (3, 4, mtu(1400), "10.0.0.1"),
        ),
        (
            "P18 routed, IPv6",
            web("fd00::5", "fd01::5").udp(HIGH, WEB, 1353),
            (2, 0, mtu(1400), "fd00::1"),
        ),
        ("P18", l2(1403), (3, 4, mtu(1430), "10.0.0.1")),
        (
            "a few bytes",
            web("10.0.0.5", "10.5.0.1").protocol(99),
            (3, 0, [0; 4], "10.0.0.1"),
        ),
    ];
    let model = campus(&|_| ());
    for (row, frame, (kind, code, rest, source)) in table {
        let error = told(&model, "web", &frame).unwrap_or_else(|| panic!("{row}: nothing"));
        assert_eq!((&error[..6], &error[6..12]), (&frame[6..12], &frame[..6]), "{row}");
        let least = if frame[12] == 8 { 28 } else { 48 };
        let quote = frame[14..][..least].to_vec();
        assert_eq!(
            read(&error),
            (kind, code, rest, source.parse().unwrap(), quote),
            "{row}"
        );
    }
    let flat = campus(&without_router);
    let (.., source, _) = read(&told(&flat, "web", &l2(1403)).unwrap());
    assert_eq!(source, "10.0.0.6".parse::<IpAddr>().unwrap());
}

#[test]
fn the_path_may_be_narrower_than_the_network() {
    let mut model = campus(&|domain| {
        for segment in domain.networks.values_mut() {
            segment.mtu = 9000;
        }
    });
    let frame = |size| Talk::direct("web", "10.0.0.5", "db", "10.0.0.6").udp(HIGH, WEB, size);
    assert_eq!(outcome(&sent(&model, &port("web"), &frame(1450 - 28))), "by beta in 7");
    assert_eq!(
        outcome(&sent(&model, &port("web"), &[frame(1450 - 28), vec![0]].concat())),
        "mtu and told"
    );
    let (kind, code, rest, ..) = read(&told(&model, "web", &frame(1451 - 28)).unwrap());
    assert_eq!((kind, code, rest), (3, 4, 1450_u32.to_be_bytes()));
    alter(&mut model, &|domain| {
        domain.hosts.clear();
    });
    assert_eq!(outcome(&sent(&model, &port("web"), &frame(8))), "no_route");
}

#[test]
fn nobody_is_told_about_these() {
    let model = campus(&|_| ());
    let error = Talk::routed("web", "10.0.0.5", "10.5.0.1").error(3, 3, &forth(false).udp(HIGH, WEB, 8));
    let redirect = Talk::routed("web", "fd00::5", "fd05::1").icmp(137, 0, [0; 4], &[0; 32]);
    let long = forth(false).fragment(17, 1, 3, true, &[0; 1400]);
    let first = forth(false).fragment(17, 1, 0, true, &[0; 24]);
    assert_eq!(
        (told(&model, "web", &error), told(&model, "web", &redirect)),
        (None, None)
    );
    let mut model = model;
    assert_eq!(outcome(&model.from_endpoint(&port("web"), &first, at(0))), "to app");
    assert_eq!(outcome(&model.from_endpoint(&port("web"), &long, at(0))), "mtu");
}

#[test]
fn a_hundred_errors_a_second() {
    let mut model = campus(&|_| ());
    let frame = Talk::routed("web", "10.0.0.5", "10.5.0.1").tcp(HIGH, WEB, ACK);
    let mut count = |second: u64| {
        let told = |_: &u32| outcome(&model.from_endpoint(&port("web"), &frame, at(second))) == "unroutable and told";
        (0..250).filter(told).count()
    };
    assert_eq!([count(10), count(10), count(11), count(100)], [100, 0, 100, 100]);
}
