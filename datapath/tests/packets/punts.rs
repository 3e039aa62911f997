//! What user space gets, and what it has delivered.

use std::thread;
use std::time::Duration;

use aya::maps::{MapData, RingBuf};
use datapath::{Punted, Punts, Receiver};
use datapath_common::connection::State;
use datapath_common::punt::{PUNT_BYTES, PUNT_COPY, PUNT_TAKE, PuntHeader, PuntKey, PuntRule};
use datapath_common::{LIMIT_CONNECTIONS, LIMIT_PUNT, LimitKey, Port, Reason};

use crate::bench::{Bench, Context};
use crate::book::{self, ALL_NODES, API, BLUE, BLUE_DOMAIN, BROADCAST, DB, RED, RED_DOMAIN, VM, WEB, Workload};
use crate::connections::key;
use crate::ear::Ear;
use crate::fate::{Fate, dropped, to_host_side, to_namespace};
use crate::frames::{ethernet, ip4, udp4, udp4_ports, udp6_ports};
use crate::rules::{ALLOW, DENY, rules};

const KIND: u32 = 77;
const UDP: u32 = 17;

fn bench(action: u32) -> Option<Bench> {
    let mut bench = Bench::new()?;
    for port in [53, 67] {
        let key = PuntKey {
            vni: RED,
            protocol: UDP,
            port,
        };
        bench.put("PUNT_RULES", key, PuntRule { kind: KIND, action });
    }
    // What tests before this one left.
    punted(&mut bench);
    Some(bench)
}

/// All that user space has not seen: words of the header, and the frame.
fn punted(bench: &mut Bench) -> Vec<([u32; 6], Vec<u8>)> {
    let mut ring = RingBuf::<&mut MapData>::try_from(bench.map("PUNTS")).expect("a ring buffer");
    let mut all = Vec::new();
    while let Some(record) = ring.next() {
        let (header, frame) = record.split_at(size_of::<PuntHeader>());
        let word = |index: usize| u32::from_ne_bytes(header[4 * index..][..4].try_into().expect("four bytes"));
        all.push((std::array::from_fn(word), frame.to_vec()));
    }
    all
}

pub(crate) fn header(endpoint: u32, frame: &[u8]) -> [u32; 6] {
    let length = u32::try_from(frame.len()).expect("short");
    [RED_DOMAIN, endpoint, RED, KIND, length, length]
}

/// As user space writes it.
pub(crate) fn injected(header: [u32; 6], frame: &[u8]) -> Vec<u8> {
    let header: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).collect();
    ethernet([0; 6], [0; 6], 0x0800, &[&header, frame].concat())
}

/// Whether a packet is taken: it goes nowhere, and is no drop.
fn taken(bench: &Bench, frame: &[u8]) -> bool {
    let before = bench.drops();
    let (verdict, ..) = bench.run("from_endpoint", frame, Context::default()).unwrap();
    verdict == 2 && bench.drops() == before
}

#[test]
fn user_space_gets_what_it_asks_for() {
    let Some(mut bench) = bench(PUNT_TAKE) else { return };
    let other = udp4_ports(&WEB, &API, (1, 54), b"");
    bench.table(
        "from_endpoint",
        vec![("another port", other.clone(), to_namespace(&other))],
    );
    assert_eq!(punted(&mut bench), vec![]);

    let six = udp6_ports(&WEB, &DB, (5000, 53), b"?");
    let nobody = Workload { v4: [0; 4], ..WEB };
    let everybody = Workload {
        mac: BROADCAST,
        v4: [255; 4],
        v6: ALL_NODES,
        ..API
    };
    let discover = udp4_ports(&nobody, &everybody, (68, 67), b"discover");
    for frame in [udp4(&WEB, &API), six, discover] {
        assert!(taken(&bench, &frame));
        assert_eq!(punted(&mut bench), vec![(header(WEB.endpoint, &frame), frame)]);
    }
    assert_eq!(bench.flows(), 1, "only of what it does not ask for");

    let spoofed = udp4(&Workload { v4: DB.v4, ..WEB }, &API);
    bench.table(
        "from_endpoint",
        vec![("of another's address", spoofed, dropped(Reason::SourceAddress))],
    );
    let long = udp4_ports(&WEB, &API, (1, 53), &[8; 2500]);
    assert!(taken(&bench, &long));
    let [(header, frame)]: [_; 1] = punted(&mut bench).try_into().unwrap();
    assert_eq!((header[4], header[5]), (2542, PUNT_BYTES as u32));
    assert_eq!(frame[..], long[..PUNT_BYTES], "as much as there is room for");

    rules(&mut bench, &[DENY], &[ALLOW]);
    bench.table(
        "from_endpoint",
        vec![("denied", udp4(&WEB, &API), dropped(Reason::Policy))],
    );
    rules(&mut bench, &[ALLOW], &[ALLOW]);
    bench.exhaust(WEB.endpoint, LIMIT_PUNT);
    bench.table(
        "from_endpoint",
        vec![("too many", udp4(&WEB, &API), dropped(Reason::RateLimit))],
    );
    assert_eq!(punted(&mut bench), vec![]);
}

#[test]
fn a_copy_goes_its_way_as_well() {
    let Some(mut bench) = bench(PUNT_COPY) else { return };
    let frame = udp4(&WEB, &API);
    bench.table("from_endpoint", vec![("copied", frame.clone(), to_namespace(&frame))]);
    let record = (header(WEB.endpoint, &frame), frame.clone());
    assert_eq!(punted(&mut bench), vec![record.clone(), record], "each of them");
    bench.exhaust(WEB.endpoint, LIMIT_PUNT);
    bench.table("from_endpoint", vec![("too many", frame.clone(), to_namespace(&frame))]);
    assert_eq!(punted(&mut bench), vec![]);
}

#[test]
fn what_user_space_has_delivered() {
    let Some(bench) = bench(PUNT_TAKE) else { return };
    let answer = udp4_ports(&API, &WEB, (53, 40_000), b"the answer");
    let to_web = |frame: &[u8]| injected(header(WEB.endpoint, frame), frame);
    let to_vm = udp4_ports(&API, &VM, (53, 40_000), b"the answer");
    let for_web = |reason| Fate::Dropped(reason, RED_DOMAIN, WEB.endpoint);
    bench.table(
        "from_punt",
        vec![
            ("IPv4", to_web(&answer), to_host_side(&answer)),
            (
                "to a tap",
                injected(header(VM.endpoint, &to_vm), &to_vm),
                to_host_side(&to_vm),
            ),
            (
                "of another domain",
                injected([9, WEB.endpoint, RED, 0, 0, 0], &answer),
                Fate::Dropped(Reason::UnknownVni, 0, 0),
            ),
            (
                "for another endpoint",
                injected(header(VM.endpoint, &answer), &answer),
                Fate::Dropped(Reason::NotHere, RED_DOMAIN, VM.endpoint),
            ),
            (
                "to nobody",
                to_web(&udp4(&API, &book::NOBODY)),
                for_web(Reason::UnknownDestination),
            ),
            ("not here", to_web(&udp4(&API, &DB)), for_web(Reason::NotHere)),
            (
                "not IP",
                to_web(&ethernet(API.mac, WEB.mac, 0x8863, &[0; 46])),
                for_web(Reason::EtherType),
            ),
            (
                "too long",
                to_web(&ip4(&API, &WEB, 17, 0, &[0; 1431])),
                for_web(Reason::Mtu),
            ),
            (
                "cut off",
                ethernet([0; 6], [0; 6], 0x0800, &[0; 37]),
                Fate::Dropped(Reason::Truncated, 0, 0),
            ),
        ],
    );
    let six = udp6_ports(&API, &WEB, (53, 40_000), b"the answer");
    bench.table("from_punt", vec![("IPv6", to_web(&six), to_host_side(&six))]);
}

#[test]
fn an_answer_is_one_and_all_else_is_asked_for() {
    let Some(mut bench) = bench(PUNT_TAKE) else { return };
    rules(&mut bench, &[ALLOW], &[DENY]);
    let answer = udp4_ports(&API, &WEB, (53, 40_000), b"the answer");
    let packet = injected(header(WEB.endpoint, &answer), &answer);
    let denied = Fate::Dropped(Reason::Policy, RED_DOMAIN, WEB.endpoint);
    bench.table("from_punt", vec![("unasked", packet.clone(), denied.clone())]);
    assert!(taken(&bench, &udp4(&WEB, &API)));
    let tuple = key(UDP, &WEB, &API, (40_000, 53));
    assert_eq!(bench.connection(tuple).unwrap().state, State::OneWay as u32);
    bench.table("from_punt", vec![("the answer", packet.clone(), to_host_side(&answer))]);
    assert_eq!(bench.connection(tuple).unwrap().state, State::TwoWay as u32);
    bench.port(Some(Port {
        endpoint: WEB.endpoint,
        ..book::port(RED, RED_DOMAIN)
    }));
    rules(&mut bench, &[DENY], &[DENY]);
    bench.table("from_punt", vec![("denied since", packet, denied)]);
}

/// Found: what was delivered counted for a station of that MAC address in the segment of the packet before it.
#[test]
fn what_is_delivered_counts_for_its_own_sender() {
    let Some(mut bench) = bench(PUNT_TAKE) else { return };
    let answer = udp4_ports(&API, &WEB, (54, 40_000), b"unasked");
    let packet = injected(header(WEB.endpoint, &answer), &answer);
    let port = |vni, domain| Port {
        endpoint: WEB.endpoint,
        ..book::port(vni, domain)
    };
    bench.port(Some(port(BLUE, BLUE_DOMAIN)));
    let _ = bench.fate(
        "from_endpoint",
        "in another segment",
        &udp4(&WEB, &API),
        Context::default(),
    );
    bench.port(Some(port(RED, RED_DOMAIN)));
    let [own, other] = [RED, BLUE].map(|vni| LimitKey {
        endpoint: bench.remote_station(vni, API.mac),
        kind: LIMIT_CONNECTIONS,
    });
    assert!(bench.limit(own).is_none() && bench.limit(other).is_none());
    bench.table("from_punt", vec![("opened", packet, to_host_side(&answer))]);
    assert!(bench.limit(own).is_some() && bench.limit(other).is_none());
}

#[test]
fn by_the_channel() {
    let Some(mut bench) = Bench::new() else { return };
    let name = format!("punt{}", std::process::id());
    let mut punts = Punts::open(bench.ebpf_mut(), &name).unwrap();
    let key = PuntKey {
        vni: RED,
        protocol: UDP,
        port: 53,
    };
    let rule = PuntRule {
        kind: KIND,
        action: PUNT_TAKE,
    };
    // What tests before this one left.
    while punts.receive().is_some() {}
    punts.ask(key, rule).unwrap();
    let frame = udp4(&WEB, &API);
    assert!(taken(&bench, &frame));
    let Punted {
        domain,
        endpoint,
        vni,
        kind,
        length,
        frame: got,
    } = punts.receive().unwrap();
    assert_eq!(
        (domain, endpoint, vni, kind, length),
        (RED_DOMAIN, WEB.endpoint, RED, KIND, 64)
    );
    assert_eq!((got, punts.receive()), (frame.clone(), None));

    let ear = Ear::new();
    let answer = udp4_ports(&API, &WEB, (53, 40_000), b"by the channel to a workload");
    let to = Receiver {
        domain: RED_DOMAIN,
        endpoint: WEB.endpoint,
        vni: RED,
    };
    punts.deliver(to, &answer).unwrap();
    let mut heard = Vec::new();
    for _ in 0..500 {
        heard.extend(ear.heard(b"by the channel to a workload"));
        if !heard.is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(heard, vec![answer.clone()]);
    assert!(punts.deliver(to, &answer[..13]).is_err(), "no frame");
    drop(punts);
    bench.remembered(
        "from_endpoint",
        vec![("nobody asks for it", frame.clone(), to_namespace(&frame))],
    );
}
