//! Connections: what opens them, what they let through, how they end.

use datapath_common::connection::State;
use datapath_common::{ConnectionKey, Reason, mapped};

use crate::bench::{Bench, Context};
use crate::book::{API, APP, DB, RED, RED_DOMAIN, WEB, Workload};
use crate::fate::{Fate, dropped, to_namespace};
use crate::frames::{Tunnel, echo4, echo6, icmp_error, tcp4_back, tcp4_flags, udp4, udp4_ports, udp6, with_ttl};
use crate::routes::with_router;
use crate::rules::{ALLOW, DENY, leaves, rules};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// As a workload on host B sends it to `WEB`.
fn tunnelled(inner: &[u8]) -> Vec<u8> {
    Tunnel::inbound(RED).by_b(inner)
}

pub(crate) fn key(protocol: u32, from: &Workload, to: &Workload, ports: (u16, u16)) -> ConnectionKey {
    ConnectionKey {
        domain: RED_DOMAIN,
        ports: u32::from(ports.0) << 16 | u32::from(ports.1),
        protocol,
        source: mapped(from.v4),
        destination: mapped(to.v4),
    }
}

fn refused() -> Fate {
    Fate::Dropped(Reason::Policy, RED_DOMAIN, WEB.endpoint)
}

#[test]
fn an_answer_needs_no_rule_and_an_unasked_one_does() {
    let Some(mut bench) = Bench::new() else { return };
    rules(&mut bench, &[ALLOW], &[]);
    let (question, answer) = (
        udp4_ports(&WEB, &DB, (5000, 53), b"?"),
        udp4_ports(&DB, &WEB, (53, 5000), b"!"),
    );
    let unasked = Fate::Dropped(Reason::Policy, RED_DOMAIN, WEB.endpoint);
    bench.table(
        "from_underlay",
        vec![("an answer that nobody asked for", tunnelled(&answer), unasked.clone())],
    );
    assert!(leaves(&bench, "the question", &question));
    assert_eq!(
        bench.connection(key(17, &WEB, &DB, (5000, 53))).unwrap().state,
        State::OneWay as u32
    );
    bench.remembered(
        "from_underlay",
        vec![("the answer", tunnelled(&answer), to_namespace(&answer))],
    );
    let tuple = key(17, &WEB, &DB, (5000, 53));
    assert_eq!(bench.connection(tuple).unwrap().state, State::TwoWay as u32);
    assert!(bench.permanent(tuple));
    let other = udp4_ports(&DB, &WEB, (53, 5001), b"!");
    bench.table("from_underlay", vec![("to another port", tunnelled(&other), unasked)]);
    assert!(leaves(&bench, "the question again", &question));
    assert_eq!(bench.trace().fast, 1);
}

#[test]
fn a_change_of_rules_hits_what_is_open() {
    let Some(mut bench) = Bench::on_devices() else { return };
    rules(&mut bench, &[ALLOW], &[ALLOW]);
    let frame = udp4(&WEB, &API);
    bench.remembered("from_endpoint", vec![("allowed", frame.clone(), to_namespace(&frame))]);
    let tuple = key(17, &WEB, &API, (40_000, 53));
    assert!(bench.connection(tuple).is_some());
    rules(&mut bench, &[DENY], &[ALLOW]);
    bench.table("from_endpoint", vec![("denied", frame.clone(), refused())]);
    assert!(
        bench.connection(tuple).is_some(),
        "else its other end's packet would open one"
    );
    rules(&mut bench, &[ALLOW], &[DENY]);
    bench.table(
        "from_endpoint",
        vec![("denied by the receiver's rules", frame.clone(), refused())],
    );
    bench.table(
        "from_underlay",
        vec![("as those of a tunnel", tunnelled(&udp4(&DB, &WEB)), refused())],
    );
    rules(&mut bench, &[DENY], &[ALLOW]);
    let inward = udp4(&DB, &WEB);
    bench.remembered(
        "from_underlay",
        vec![(
            "the sender's rules are its host's business",
            tunnelled(&inward),
            to_namespace(&inward),
        )],
    );
    assert!(leaves(&bench, "the answer", &udp4_ports(&WEB, &DB, (53, 40_000), b"!")));
    rules(&mut bench, &[DENY], &[DENY]);
    assert!(!leaves(
        &bench,
        "the answer, denied",
        &udp4_ports(&WEB, &DB, (53, 40_000), b"!")
    ));
}

#[test]
fn the_life_of_a_tcp_connection() {
    let Some(mut bench) = Bench::on_devices() else { return };
    rules(&mut bench, &[ALLOW], &[]);
    let tuple = key(6, &WEB, &DB, (40_001, 80));
    for (what, reply, flags, state, permanent, fast) in [
        ("SYN", false, SYN, State::Opening, false, 0),
        ("SYN ACK", true, SYN | ACK, State::Opened, false, 0),
        ("data before its ACK", true, ACK, State::Opened, false, 1),
        ("ACK", false, ACK, State::Established, true, 0),
        ("data", true, ACK, State::Established, true, 1),
        ("FIN", true, FIN | ACK, State::ClosingByResponder, true, 1),
        ("FIN again", true, FIN | ACK, State::ClosingByResponder, true, 1),
        ("ACK of the FIN", false, ACK, State::ClosingByResponder, true, 1),
        ("the other FIN", false, FIN | ACK, State::Closed, false, 0),
        ("the last ACK", true, ACK, State::Closed, false, 1),
        ("SYN of another connection", false, SYN, State::Opening, false, 0),
        ("an ACK that may mean more", true, ACK, State::Established, true, 0),
        ("a reset", true, RST | ACK, State::Closed, false, 0),
    ] {
        let fate = if reply {
            bench.fate(
                "from_underlay",
                what,
                &tunnelled(&tcp4_back(&DB, &WEB, flags)),
                Context::default(),
            )
        } else {
            bench.fate("from_endpoint", what, &tcp4_flags(&WEB, &DB, flags), Context::default())
        };
        assert!(matches!(fate, Fate::Redirected(..)), "{what}: {fate:?}");
        assert_eq!(bench.trace().fast, fast, "{what}");
        let connection = bench.connection(tuple).unwrap();
        assert_eq!(State::from_number(connection.state), Some(state), "{what}");
        assert_eq!(bench.permanent(tuple), permanent, "{what}");
    }
    let syn = tunnelled(&tcp4_back(&DB, &WEB, SYN));
    bench.table(
        "from_underlay",
        vec![("the responder opens one of its own, denied", syn.clone(), refused())],
    );
    rules(&mut bench, &[ALLOW], &[ALLOW]);
    let fate = bench.fate("from_underlay", "allowed", &syn, Context::default());
    assert_eq!(fate, to_namespace(&tcp4_back(&DB, &WEB, SYN)));
    let own = key(6, &DB, &WEB, (80, 40_001));
    assert_eq!(bench.connection(own).unwrap().state, State::Opening as u32);
    assert!(bench.connection(tuple).is_none(), "the old one has made room");
}

#[test]
fn what_takes_the_place_of_a_connection_that_was_pushed_out_begins_anew() {
    let Some(mut bench) = Bench::new() else { return };
    let tuple = key(6, &WEB, &DB, (40_001, 80));
    let back = |flags| tunnelled(&tcp4_back(&DB, &WEB, flags));
    assert!(leaves(&bench, "SYN", &tcp4_flags(&WEB, &DB, SYN)));
    bench.fate("from_underlay", "SYN|ACK", &back(SYN | ACK), Context::default());
    bench.remove_connection(tuple);
    assert!(leaves(&bench, "picked up", &tcp4_flags(&WEB, &DB, ACK)));
    assert_eq!(bench.connection(tuple).unwrap().state, State::Opening as u32);
    bench.fate("from_underlay", "its answer", &back(ACK), Context::default());
    assert_eq!(bench.connection(tuple).unwrap().state, State::Established as u32);
}

#[test]
fn a_fin_of_what_stands_with_those_that_count_for_nobody_is_the_slow_paths() {
    let Some(mut bench) = Bench::new() else { return };
    let tuple = key(6, &WEB, &DB, (40_001, 80));
    bench.establish((mapped(WEB.v4), mapped(DB.v4)), (40_001, 80));
    let ack = tcp4_flags(&WEB, &DB, ACK);
    assert!(leaves(&bench, "ACK", &ack) && leaves(&bench, "ACK", &ack));
    assert_eq!(bench.trace().fast, 1);
    let connection = bench.connection(tuple).unwrap();
    bench.remove_connection(tuple);
    bench.put_half_open(
        tuple,
        datapath_common::Connection {
            endpoint: 0,
            ..connection
        },
    );
    assert!(leaves(&bench, "FIN", &tcp4_flags(&WEB, &DB, FIN | ACK)));
    assert_eq!(bench.trace().fast, 0);
    assert_eq!(bench.connection(tuple).unwrap().state, State::ClosingByInitiator as u32);
    assert!(bench.permanent(tuple), "there is room");
}

#[test]
fn a_fin_that_gets_nowhere_ends_nothing() {
    let Some(mut bench) = with_router(Bench::on_devices()) else {
        return;
    };
    let app = APP.routed();
    let tuple = key(6, &WEB, &APP, (40_001, 80));
    let established = datapath_common::Connection {
        seen: bench.seconds(),
        state: State::Established as u32,
        endpoint: WEB.endpoint,
    };
    bench.put("CONNECTIONS", tuple, established);
    let ack = tcp4_flags(&WEB, &app, ACK);
    assert!(leaves(&bench, "ACK", &ack) && leaves(&bench, "ACK", &ack));
    assert_eq!(bench.trace().fast, 1);
    let fin = with_ttl(&tcp4_flags(&WEB, &app, FIN | ACK), 1);
    let fate = bench.fate("from_endpoint", "a FIN whose time runs out", &fin, Context::default());
    assert!(matches!(fate, Fate::Answered(Reason::TtlExceeded, _)), "{fate:?}");
    assert_eq!(bench.connection(tuple).unwrap().state, State::Established as u32);
    assert!(leaves(&bench, "FIN", &tcp4_flags(&WEB, &app, FIN | ACK)));
    assert_eq!(bench.trace().fast, 1);
    assert_eq!(bench.connection(tuple).unwrap().state, State::ClosingByInitiator as u32);
}

#[test]
fn an_early_ack_does_not_hold_a_handshake_up() {
    let Some(mut bench) = Bench::new() else { return };
    rules(&mut bench, &[ALLOW], &[]);
    let tuple = key(6, &WEB, &DB, (40_001, 80));
    let ack = tcp4_flags(&WEB, &DB, ACK);
    for frame in [&tcp4_flags(&WEB, &DB, SYN), &ack, &ack] {
        assert!(leaves(&bench, "opening", frame));
        assert_eq!(bench.trace().fast, 0, "the next may mean more");
    }
    bench.fate(
        "from_underlay",
        "opened",
        &tunnelled(&tcp4_back(&DB, &WEB, SYN | ACK)),
        Context::default(),
    );
    for fast in [0, 1] {
        assert!(leaves(&bench, "the handshake's end", &ack));
        assert_eq!(bench.trace().fast, fast);
        assert_eq!(bench.connection(tuple).unwrap().state, State::Established as u32);
    }
}

#[test]
fn answers_that_nobody_asked_for() {
    let Some(bench) = Bench::on_devices() else { return };
    let unrelated = dropped(Reason::Unrelated);
    bench.table(
        "from_endpoint",
        vec![
            ("a reset", tcp4_flags(&WEB, &API, RST), unrelated.clone()),
            ("a reset with ACK", tcp4_flags(&WEB, &API, RST | ACK), unrelated.clone()),
            ("an echo reply", echo4(&WEB, &API, 0, 7), unrelated.clone()),
            ("an echo reply over IPv6", echo6(&WEB, &API, 129, 7), unrelated.clone()),
        ],
    );
    let asked = echo4(&WEB, &API, 8, 7);
    bench.remembered(
        "from_endpoint",
        vec![("a request", asked.clone(), to_namespace(&asked))],
    );
    bench.table(
        "from_endpoint",
        vec![
            (
                "a reply to one's own request",
                echo4(&WEB, &API, 0, 7),
                unrelated.clone(),
            ),
            ("a reply of another identifier", echo4(&WEB, &API, 0, 8), unrelated),
        ],
    );
}

#[test]
fn who_is_pinged_may_answer_but_not_ping_back() {
    let Some(mut bench) = Bench::new() else { return };
    rules(&mut bench, &[ALLOW], &[]);
    assert!(leaves(&bench, "a ping", &echo4(&WEB, &DB, 8, 7)));
    let reply = echo4(&DB, &WEB, 0, 7);
    bench.remembered(
        "from_underlay",
        vec![("its reply", tunnelled(&reply), to_namespace(&reply))],
    );
    bench.table(
        "from_underlay",
        vec![("a ping back", tunnelled(&echo4(&DB, &WEB, 8, 7)), refused())],
    );
    assert!(leaves(&bench, "the next ping", &echo4(&WEB, &DB, 8, 7)));
    assert_eq!(bench.trace().fast, 1);
}

#[test]
fn errors_about_what_is_open_pass_without_a_rule() {
    let Some(mut bench) = Bench::new() else { return };
    rules(&mut bench, &[ALLOW], &[]);
    let sent = udp4(&WEB, &DB);
    let error = icmp_error(&sent, None, (3, 3), 0);
    let unrelated = Fate::Dropped(Reason::Unrelated, RED_DOMAIN, WEB.endpoint);
    bench.table(
        "from_underlay",
        vec![("before it is open", tunnelled(&error), unrelated.clone())],
    );
    assert!(leaves(&bench, "what it is about", &sent));
    let mut elsewhere = icmp_error(&udp4_ports(&WEB, &DB, (1, 2), b""), None, (3, 3), 0);
    elsewhere[26..30].copy_from_slice(&DB.v4);
    let kind = |kind: u8| {
        let mut frame = error.clone();
        frame[34] = kind;
        frame
    };
    let answer = udp4_ports(&DB, &WEB, (53, 40_000), b"");
    let reversed = icmp_error(&answer, None, (3, 3), 0);
    bench.table(
        "from_underlay",
        vec![
            ("port unreachable", tunnelled(&error), to_namespace(&error)),
            ("time exceeded", tunnelled(&kind(11)), to_namespace(&kind(11))),
            ("parameter problem", tunnelled(&kind(12)), to_namespace(&kind(12))),
            ("about something else", tunnelled(&elsewhere), unrelated.clone()),
            ("a source quench is none", tunnelled(&kind(4)), refused()),
            (
                "cut short",
                tunnelled(&icmp_error(&sent, None, (3, 3), 0)[..14 + 20 + 8 + 20]),
                Fate::Dropped(Reason::Truncated, RED_DOMAIN, 0),
            ),
        ],
    );
    let fate = bench.fate(
        "from_endpoint",
        "about the answers, to who sends them",
        &reversed,
        Context::default(),
    );
    assert!(matches!(fate, Fate::Redirected(..)), "{fate:?}");
    let six = udp6(&WEB, &DB);
    assert!(leaves(&bench, "IPv6", &six));
    let error6 = icmp_error(&six, None, (1, 4), 0);
    let inward = Tunnel::inbound(RED).by_b6(&error6);
    bench.table(
        "from_underlay",
        vec![("port unreachable over IPv6", inward, to_namespace(&error6))],
    );
    assert_eq!(bench.flows(), 2, "errors are not remembered");
}
