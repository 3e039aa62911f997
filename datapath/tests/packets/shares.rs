//! Shares of tables that fill: connections by whom they are opened to and by domain, fragments, and what a super-packet for
//! many costs.

use datapath_common::connection::State;
use datapath_common::{
    AUDIT_CONNECTIONS_FULL, CONNECTIONS_FLOOR, CONNECTIONS_MAX, CONNECTIONS_RESERVE, ConnectionKey, ESTABLISHED_DOMAIN,
    ESTABLISHED_MAX, FragmentKey, FragmentState, LIMIT_BROADCAST, LIMIT_FRAGMENTS, LIMIT_REMOTE, LimitKey,
    RATE_BROADCAST, Reason, mapped,
};

use crate::bench::{Bench, Context};
use crate::book::{self, API, BROADCAST, DB, RED, RED_DOMAIN, WEB, Workload, member};
use crate::connections::key;
use crate::fate::{DROPPED, dropped, to_namespace};
use crate::frames::{Tunnel, tcp4_back, tcp4_flags, udp4, udp4_ports};
use crate::oddities::fragment4;
use crate::rules::leaves;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// What a table of fragments holds here, and more than that.
const FEW: u32 = 4096;
const MORE: u16 = 6000;

fn arrives(bench: &Bench, what: &str, frame: &[u8]) {
    let inside = Tunnel::inbound(RED).by_b(frame);
    bench.table("from_underlay", vec![(what, inside, to_namespace(frame))]);
}

/// A connection over UDP that another host's workload opens to `WEB`.
fn opened_to_us(bench: &Bench, port: u16) -> ConnectionKey {
    arrives(bench, "a question", &udp4_ports(&DB, &WEB, (port, 8), b"?"));
    assert!(leaves(bench, "its answer", &udp4_ports(&WEB, &DB, (8, port), b"!")));
    key(17, &DB, &WEB, (port, 8))
}

/// One that `WEB` opens.
fn opened_by_us(bench: &Bench, port: u16) -> ConnectionKey {
    assert!(leaves(bench, "a question", &udp4_ports(&WEB, &DB, (port, 53), b"?")));
    arrives(bench, "its answer", &udp4_ports(&DB, &WEB, (53, port), b"!"));
    key(17, &WEB, &DB, (port, 53))
}

fn refused(bench: &Bench) -> u64 {
    let full = (AUDIT_CONNECTIONS_FULL.set, AUDIT_CONNECTIONS_FULL.index);
    bench.audits().get(&full).copied().unwrap_or(0)
}

#[test]
fn what_others_open_counts_for_whom_they_open_it_to() {
    let Some(mut bench) = Bench::new() else { return };
    let theirs = WEB.endpoint | LIMIT_REMOTE;
    let first = opened_to_us(&bench, 1000);
    assert_eq!(bench.connection_in("CONNECTIONS", first).unwrap().endpoint, theirs);
    assert_eq!((bench.established(theirs), bench.established(WEB.endpoint)), (1, 0));

    bench.put("ESTABLISHED", theirs, u64::from(ESTABLISHED_MAX));
    let before = refused(&bench);
    let beyond = opened_to_us(&bench, 1001);
    assert_eq!(
        bench.connection_in("HALF_OPEN", beyond).unwrap().state,
        State::TwoWay as u32,
        "it goes on, apart from those that stay"
    );
    assert!(!bench.permanent(beyond) && refused(&bench) > before);
    assert!(bench.permanent(opened_by_us(&bench, 1002)), "its own share is another");

    bench.put("ESTABLISHED", theirs, u64::from(ESTABLISHED_MAX - 1));
    assert!(bench.permanent(opened_to_us(&bench, 1003)));
    assert_eq!(bench.established(theirs), u64::from(ESTABLISHED_MAX));
}

#[test]
fn what_others_opened_is_given_back_when_it_is_closed() {
    let Some(bench) = Bench::new() else { return };
    let counted = |bench: &Bench| {
        [
            WEB.endpoint | LIMIT_REMOTE,
            ESTABLISHED_DOMAIN | RED_DOMAIN,
            ESTABLISHED_DOMAIN,
        ]
        .map(|whose| bench.established(whose))
    };
    let tuple = key(6, &DB, &WEB, (40_001, 80));
    arrives(&bench, "SYN", &tcp4_flags(&DB, &WEB, SYN));
    assert!(leaves(&bench, "SYN|ACK", &tcp4_back(&WEB, &DB, SYN | ACK)));
    assert_eq!(counted(&bench), [0; 3]);
    arrives(&bench, "ACK", &tcp4_flags(&DB, &WEB, ACK));
    assert!(bench.permanent(tuple));
    assert_eq!(counted(&bench), [1; 3]);
    arrives(&bench, "FIN|ACK", &tcp4_flags(&DB, &WEB, FIN | ACK));
    assert_eq!(
        bench.connection_in("CONNECTIONS", tuple).unwrap().state,
        State::ClosingByInitiator as u32
    );
    assert_eq!(counted(&bench), [1; 3]);
    assert!(leaves(&bench, "FIN|ACK", &tcp4_back(&WEB, &DB, FIN | ACK)));
    assert!(!bench.permanent(tuple));
    assert_eq!(counted(&bench), [0; 3]);
}

#[test]
fn a_domain_leaves_as_much_as_it_takes() {
    let Some(mut bench) = Bench::new() else { return };
    let (domain, all) = (ESTABLISHED_DOMAIN | RED_DOMAIN, ESTABLISHED_DOMAIN);
    let held = |bench: &mut Bench, of_domain: u32, free: u32| {
        bench.put("ESTABLISHED", domain, u64::from(of_domain));
        bench.put("ESTABLISHED", all, u64::from(CONNECTIONS_MAX - free));
    };
    let open = 5000 + CONNECTIONS_RESERVE;
    held(&mut bench, 5000, open);
    let before = refused(&bench);
    assert!(!bench.permanent(opened_by_us(&bench, 1000)));
    assert!(!bench.permanent(opened_to_us(&bench, 1001)));
    assert!(refused(&bench) > before);
    held(&mut bench, 4999, open);
    assert!(bench.permanent(opened_by_us(&bench, 1002)));
    assert_eq!(
        (bench.established(domain), bench.established(all)),
        (5000, u64::from(CONNECTIONS_MAX - open + 1))
    );
    assert!(!bench.permanent(opened_by_us(&bench, 1003)));
}

#[test]
fn a_domain_with_few_has_room_whatever_others_take() {
    let Some(mut bench) = Bench::new() else { return };
    let (domain, all) = (ESTABLISHED_DOMAIN | RED_DOMAIN, ESTABLISHED_DOMAIN);
    for (port, of_domain, free, fits) in [
        (1000, 0, 1, true),
        (1001, CONNECTIONS_FLOOR - 1, 1, true),
        (1002, CONNECTIONS_FLOOR, 1, false),
        (1003, CONNECTIONS_FLOOR, CONNECTIONS_RESERVE, false),
        (1004, 0, 0, false),
    ] {
        bench.put("ESTABLISHED", domain, u64::from(of_domain));
        bench.put("ESTABLISHED", all, u64::from(CONNECTIONS_MAX - free));
        let opened = opened_by_us(&bench, port);
        assert_eq!(bench.permanent(opened), fits, "{of_domain} of it, {free} free");
    }
}

/// Domains that take one by one in turn, until nobody gets any more; what each has, and what one has that comes then.
fn taken(domains: usize) -> (Vec<u64>, u64) {
    let most = u64::from(CONNECTIONS_MAX);
    let mut held = vec![0_u64; domains + 1];
    let mut takes = |those: std::ops::Range<usize>| loop {
        let before: u64 = held.iter().sum();
        for one in those.clone() {
            let free = most - held.iter().sum::<u64>();
            held[one] += u64::from(datapath_common::shares(held[one], free));
        }
        if held.iter().sum::<u64>() == before {
            return held.clone();
        }
    };
    takes(0..domains);
    let mut all = takes(domains..domains + 1);
    let late = all.pop().unwrap_or_default();
    (all, late)
}

#[test]
fn shares_are_as_documented() {
    assert_eq!(taken(1).0, [98_304], "three eighths");
    assert_eq!(taken(2).0, [65_536, 65_536], "a quarter each");
    for domains in [3, 16, 64] {
        let (held, late) = taken(domains);
        assert!(late >= CONNECTIONS_FLOOR.into(), "{domains}: {late} beside {held:?}");
    }
}

/// What the first fragment of a packet between two is remembered as.
fn named(ingress: u32, from: &Workload, to: &Workload, identification: u16) -> FragmentKey {
    FragmentKey {
        domain: RED_DOMAIN,
        ingress,
        identification: identification.into(),
        protocol: 17,
        source: mapped(from.v4),
        destination: mapped(to.v4),
    }
}

fn identified(mut frame: Vec<u8>, identification: u16) -> Vec<u8> {
    frame[18..20].copy_from_slice(&identification.to_be_bytes());
    // The header's sum is nobody's business here.
    frame
}

#[test]
fn fragments_beyond_the_fair_rate_leave_others_alone() {
    let Some(mut bench) = Bench::sized(&[("FRAGMENTS", FEW), ("CROWDED_FRAGMENTS", FEW)]) else {
        return;
    };
    let whole = udp4_ports(&DB, &WEB, (53, 4000), &[7; 64]);
    let first = identified(fragment4(&DB, &WEB, 17, true, 0, &whole[34..34 + 40]), 7);
    let later = identified(fragment4(&DB, &WEB, 17, false, 40, &whole[34 + 40..]), 7);
    arrives(&bench, "their first", &first);

    bench.exhaust(WEB.endpoint, LIMIT_FRAGMENTS);
    let many = udp4_ports(&WEB, &API, (1, 2), &[7; 64]);
    let fragment = fragment4(&WEB, &API, 17, true, 0, &many[34..34 + 40]);
    for number in 0..MORE {
        let frame = identified(fragment.clone(), number);
        let (verdict, ..) = bench.run("from_endpoint", &frame, Context::default()).unwrap();
        assert_eq!(verdict, 7, "nobody is refused: {number}");
    }
    arrives(&bench, "their later one", &later);
    let rest = fragment4(&WEB, &API, 17, false, 40, &many[34 + 40..]);
    let last = identified(rest, MORE - 1);
    bench.table(
        "from_endpoint",
        vec![("the last of many", last.clone(), to_namespace(&last))],
    );
}

#[test]
fn the_newer_of_two_first_fragments_speaks() {
    let Some(mut bench) = Bench::new() else { return };
    let name = named(WEB.endpoint, &WEB, &API, 0);
    let ports = |bench: &Bench| {
        ["FRAGMENTS", "CROWDED_FRAGMENTS"]
            .map(|map| bench.value::<_, FragmentState>(map, &name).map(|state| state.ports))
    };
    let first = |ports| {
        let whole = udp4_ports(&WEB, &API, ports, &[7; 64]);
        fragment4(&WEB, &API, 17, true, 0, &whole[34..34 + 40])
    };
    assert!(leaves(&bench, "a fair one", &first((1, 2))));
    assert_eq!(ports(&bench), [Some(1 << 16 | 2), None]);
    let limit = LimitKey {
        endpoint: WEB.endpoint,
        kind: LIMIT_FRAGMENTS,
    };
    let bucket = bench.limit(limit).expect("it was counted");
    bench.exhaust(WEB.endpoint, LIMIT_FRAGMENTS);
    assert!(leaves(&bench, "one beyond", &first((3, 4))));
    assert_eq!(ports(&bench), [None, Some(3 << 16 | 4)]);
    bench.put("LIMITS", limit, bucket);
    assert!(leaves(&bench, "a fair one again", &first((5, 6))));
    assert_eq!(ports(&bench), [Some(5 << 16 | 6), None]);
}

#[test]
fn a_super_packet_for_many_costs_what_its_segments_would() {
    let Some(mut bench) = Bench::new() else { return };
    bench.members(RED, book::segment(RED_DOMAIN), &[member(&WEB), member(&API)]);
    let everybody = Workload {
        mac: BROADCAST,
        v4: [10, 0, 0, 255],
        ..API
    };
    let limit = LimitKey {
        endpoint: WEB.endpoint,
        kind: LIMIT_BROADCAST,
    };
    let left = |bench: &Bench| bench.limit(limit).expect("it was counted").tokens / 1000;
    let frame = udp4_ports(&WEB, &everybody, (1, 2), &[7; 1200]);
    let sent = |bench: &Bench, segment| {
        let context = Context {
            segment,
            ..Context::default()
        };
        bench.run("from_endpoint", &frame, context).unwrap().0
    };
    // Copies go; the frame itself ends.
    assert_eq!(sent(&bench, 100), DROPPED);
    let length = u64::try_from(frame.len()).unwrap();
    assert_eq!(left(&bench), RATE_BROADCAST.burst - length.div_ceil(100));
    let cut = (RED_DOMAIN, WEB.endpoint, Reason::RateLimit as u32);
    assert_eq!(bench.drops().get(&cut), None);

    bench.exhaust(WEB.endpoint, LIMIT_BROADCAST);
    let mut bucket = bench.limit(limit).unwrap();
    bucket.tokens = 12_000;
    bench.put("LIMITS", limit, bucket);
    assert_eq!(sent(&bench, 100), DROPPED);
    assert_eq!(bench.drops()[&cut].0, 1, "thirteen are more than twelve");
    assert_eq!(left(&bench), 12, "what does not go costs nothing");
    bench.table(
        "from_endpoint",
        vec![("to one", udp4(&WEB, &API), to_namespace(&udp4(&WEB, &API)))],
    );
    assert_eq!(left(&bench), 12);
    bench.exhaust(WEB.endpoint, LIMIT_BROADCAST);
    bench.table(
        "from_endpoint",
        vec![("one frame", udp4(&WEB, &everybody), dropped(Reason::RateLimit))],
    );
}
