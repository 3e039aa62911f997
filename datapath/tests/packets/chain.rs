//! Third-party functions: whom they are asked about, in which order, and that nothing they answer skips anything.

use aya::maps::{Array, HashMap, Map, MapData, ProgramArray};
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader, Pod};
use datapath::object::{self, FUNCTIONS};
use datapath_common::{Domain, FUNCTION_OPEN, Function, Reason, mapped, slot};

use crate::bench::{Bench, Context, domain_without_rules};
use crate::book::{
    self, API, BLUE, BLUE_DOMAIN, BROADCAST, DB, DENIED, DENIED_DOMAIN, MTU, RED, RED_DOMAIN, VM, WEB, Workload,
};
use crate::fate::{Fate, dropped, other_family, to_host_side, to_namespace, too_big};
use crate::frames::{Tunnel, echo4, ethernet, icmp_error, tcp4, tcp4_flags, udp4, udp4_ports, udp6};

const IN: fn(u32) -> Tunnel = Tunnel::inbound;
/// Words of the context, as datapath/sdk/README.md has them.
pub(crate) const VERSION: u32 = 1 << 24;
const FLOW: u32 = 1 << 16;
pub(crate) const PACKET: u32 = 2 << 16;
pub(crate) const EGRESS: u32 = 1 << 8;
pub(crate) const INGRESS: u32 = 2 << 8;
const LOCAL: u32 = 3 << 8;

/// What the function `count` keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Seen {
    pub(crate) packets: u64,
    pub(crate) words: [u32; 5],
    to: [u8; 4],
}

// SAFETY: repr(C) of integers without padding.
unsafe impl Pod for Seen {}

/// A loaded function.
pub(crate) struct Loaded(Ebpf);

impl Loaded {
    pub(crate) fn new(name: &str) -> Self {
        let (_, bytes) = FUNCTIONS.iter().find(|(known, _)| *known == name).unwrap();
        let mut ebpf = EbpfLoader::new().load(bytes).unwrap();
        let (_, program) = ebpf.programs_mut().next().unwrap();
        let program: &mut SchedClassifier = program.try_into().unwrap();
        object::load(program).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        Self(ebpf)
    }

    fn map<T: Pod>(&mut self, name: &str) -> Array<&mut MapData, T> {
        self.0.map_mut(name).unwrap().try_into().unwrap()
    }

    pub(crate) fn seen(&mut self) -> Seen {
        self.map("SEEN").get(&0, 0).unwrap()
    }

    fn answers(&mut self, answer: u64) {
        self.map("ANSWER").set(0, answer, 0).unwrap();
    }
}

/// The chain of a hook of a domain, from a slot on.
pub(crate) fn stand(bench: &mut Bench, first: u32, functions: &[(&Loaded, u32)]) -> u32 {
    for (slot, (function, flags)) in (first..).zip(functions) {
        let (_, program) = function.0.programs().next().unwrap();
        let program: &SchedClassifier = program.try_into().unwrap();
        let mut chain = ProgramArray::<&mut MapData>::try_from(bench.map("CHAIN")).unwrap();
        chain.set(slot, program.fd().unwrap(), 0).unwrap();
        let entry = Function {
            domain: RED_DOMAIN,
            flags: *flags,
            failures: 0,
            digest: [0; 16],
            name: [0; 64],
        };
        bench.put("FUNCTIONS", slot, entry);
    }
    first << 8 | u32::try_from(functions.len()).unwrap()
}

/// Gives a domain its chains.
pub(crate) fn chains(bench: &mut Bench, number: u32, flags: u32, flow: u32, packet: u32) {
    let domain = Domain {
        flags,
        chain_flow: flow,
        chain_packet: packet,
        ..domain_without_rules(number)
    };
    bench.domain(number, domain);
    bench.bump(slot::domain(number));
}

fn failures(bench: &mut Bench, slot: u32) -> u64 {
    let map: &mut Map = bench.map("FUNCTIONS");
    let map = HashMap::<&mut MapData, u32, Function>::try_from(map).unwrap();
    map.get(&slot, 0).unwrap().failures
}

/// Takes all functions away, for whoever gets the bench next.
pub(crate) fn end(mut bench: Bench) {
    bench.empty::<u32, Function>("FUNCTIONS");
    let mut chain = ProgramArray::<&mut MapData>::try_from(bench.map("CHAIN")).unwrap();
    for slot in 0..72 {
        // An empty slot is an error, and what is wanted.
        let _ = chain.clear_index(&slot);
    }
}

fn fate(bench: &Bench, program: &str, frame: &[u8]) -> Fate {
    bench.fate(program, "a packet", frame, Context::default())
}

/// As [`fate`], told by the trace alone: a machine that is emulated takes long to compare all counters.
fn reason(bench: &Bench, program: &str, frame: &[u8]) -> (Option<Reason>, u32, u32) {
    bench.forget_trace();
    let (verdict, ..) = bench.run(program, frame, Context::default()).unwrap();
    let trace = bench.trace();
    assert_eq!(trace.verdict, verdict);
    assert_eq!(verdict == 7, trace.reason == 0, "redirected, or dropped for a reason");
    (Reason::from_number(trace.reason), trace.domain, trace.endpoint)
}

#[test]
fn functions_see_what_they_are_asked_about_in_their_order() {
    let Some(mut bench) = Bench::new() else { return };
    // In Rust and in C: the interface is the same.
    let names = ["count", "count.o", "count", "count.o"];
    let mut counts = names.map(Loaded::new);
    let pass = ["pass", "pass.o"].map(Loaded::new);
    let flow = stand(&mut bench, 0, &[(&pass[0], 0), (&counts[0], 0), (&counts[1], 0)]);
    let packet = stand(&mut bench, 8, &[(&counts[2], 0), (&pass[1], 0), (&counts[3], 0)]);
    chains(&mut bench, RED_DOMAIN, datapath_common::DOMAIN_ALLOW, flow, packet);
    let (mut flows, mut packets) = (0, 0);
    for (program, frame, inner, expected, direction, endpoint, at) in [
        (
            "from_endpoint",
            udp4(&WEB, &API),
            udp4(&WEB, &API),
            Some(to_namespace(&udp4(&WEB, &API))),
            LOCAL,
            WEB.endpoint,
            0,
        ),
        (
            "from_endpoint",
            udp4(&WEB, &DB),
            udp4(&WEB, &DB),
            None,
            EGRESS,
            WEB.endpoint,
            0,
        ),
        (
            "from_underlay",
            IN(RED).by_b(&udp4(&DB, &VM)),
            udp4(&DB, &VM),
            Some(to_host_side(&udp4(&DB, &VM))),
            INGRESS,
            VM.endpoint,
            50,
        ),
        (
            "from_underlay",
            IN(RED).by_b(&udp6(&DB, &API)),
            udp6(&DB, &API),
            Some(other_family(&udp6(&DB, &API))),
            INGRESS,
            API.endpoint,
            50,
        ),
    ] {
        flows += 1;
        for fast in [0, 1, 1] {
            packets += 1;
            let fate = fate(&bench, program, &frame);
            match &expected {
                Some(expected) => assert_eq!(fate, *expected),
                None => assert!(matches!(fate, Fate::Redirected(_, 0)), "{fate:?}"),
            }
            assert_eq!(bench.trace().fast, fast, "{program}");
            let seen = counts.each_mut().map(Loaded::seen);
            let hash = seen[0].words[3];
            assert_ne!(hash, 0);
            let asked = |hook: u32, position: u32, packets: u64| Seen {
                packets,
                words: [VERSION | hook | direction | position, RED_DOMAIN, endpoint, hash, at],
                to: inner[..4].try_into().unwrap(),
            };
            let expected = [
                asked(FLOW, 1, flows),
                asked(FLOW, 2, flows),
                asked(PACKET, 0, packets),
                asked(PACKET, 2, packets),
            ];
            assert_eq!(seen, expected, "{program}, {fast}");
        }
    }
    end(bench);
}

#[test]
fn one_that_refuses_is_the_last_that_is_asked() {
    let Some(mut bench) = Bench::new() else { return };
    let (mut before, refuse, mut behind) = (Loaded::new("count"), Loaded::new("drop"), Loaded::new("count.o"));
    let chain = stand(&mut bench, 0, &[(&before, 0), (&refuse, FUNCTION_OPEN), (&behind, 0)]);
    let (frame, arrives) = (udp4(&WEB, &API), IN(RED).by_b(&udp4(&DB, &API)));
    let mut asked = 0;
    for (flow, packet) in [(chain, 0), (0, chain)] {
        chains(&mut bench, RED_DOMAIN, datapath_common::DOMAIN_ALLOW, flow, packet);
        for _ in 0..2 {
            assert_eq!(fate(&bench, "from_endpoint", &frame), dropped(Reason::Function));
            let refused = Fate::Dropped(Reason::Function, RED_DOMAIN, API.endpoint);
            assert_eq!(fate(&bench, "from_underlay", &arrives), refused);
            asked += 2;
        }
        assert_eq!((before.seen().packets, behind.seen().packets), (asked, 0));
        assert_eq!(bench.flows(), 0, "a no is not remembered");
    }
    // The same flow, remembered before the function stood there.
    chains(&mut bench, RED_DOMAIN, datapath_common::DOMAIN_ALLOW, 0, 0);
    bench.remembered(
        "from_endpoint",
        vec![("without it", frame.clone(), to_namespace(&frame))],
    );
    chains(&mut bench, RED_DOMAIN, datapath_common::DOMAIN_ALLOW, 0, chain);
    assert_eq!(fate(&bench, "from_endpoint", &frame), dropped(Reason::Function));
    end(bench);
}

/// Everything that a function may return, with what it means.
fn answers() -> Vec<(u64, u32)> {
    let mut all: Vec<(u64, u32)> = (0..=255).map(|answer| (answer, answer as u32)).collect();
    for negative in [-1_i64, -2, -7, -16, i64::MIN, i32::MIN.into()] {
        all.push((negative.cast_unsigned(), negative as u32));
    }
    all.extend([0x8000_0000, 0x1_0000_0000, 0x1_0000_0001, 0x7_0000_0007].map(|wide: u64| (wide, wide as u32)));
    all
}

#[test]
fn whatever_it_returns_is_next_drop_or_a_failure() {
    let Some(mut bench) = Bench::new() else { return };
    let (mut garbage, mut behind) = (Loaded::new("garbage"), Loaded::new("count"));
    // To a tap: the mark that lets it out of the host side is ours, not the one that the function set.
    let (frame, arrives) = (udp4(&WEB, &VM), IN(RED).by_b(&udp4(&DB, &VM)));
    for flags in [0, FUNCTION_OPEN] {
        let chain = stand(&mut bench, 0, &[(&garbage, flags), (&behind, 0)]);
        for (flow, packet) in [(chain, 0), (0, chain)] {
            chains(&mut bench, RED_DOMAIN, datapath_common::DOMAIN_ALLOW, flow, packet);
            for (answer, word) in answers() {
                garbage.answers(answer);
                // What was decided before the answer changed stays.
                bench.bump(slot::domain(RED_DOMAIN));
                let before = (failures(&mut bench, 0), behind.seen().packets);
                let goes = match (word, flags) {
                    (0, _) => Ok(()),
                    (1, _) => Err(Reason::Function),
                    (_, FUNCTION_OPEN) => Ok(()),
                    _ => Err(Reason::FunctionFailed),
                };
                if answer < 3 {
                    let (sent, arrived) = match goes {
                        Ok(()) => (to_host_side(&frame), to_host_side(&udp4(&DB, &VM))),
                        Err(reason) => (dropped(reason), Fate::Dropped(reason, RED_DOMAIN, VM.endpoint)),
                    };
                    assert_eq!(fate(&bench, "from_endpoint", &frame), sent, "{answer:#x}");
                    assert_eq!(fate(&bench, "from_underlay", &arrives), arrived, "{answer:#x}");
                } else {
                    let sender = if goes.is_ok() { VM.endpoint } else { WEB.endpoint };
                    let sent = (goes.err(), RED_DOMAIN, sender);
                    assert_eq!(reason(&bench, "from_endpoint", &frame), sent, "{answer:#x}");
                    let arrived = (goes.err(), RED_DOMAIN, VM.endpoint);
                    assert_eq!(reason(&bench, "from_underlay", &arrives), arrived, "{answer:#x}");
                }
                let failed = if word > 1 { 2 } else { 0 };
                let passed = if goes.is_ok() { 2 } else { 0 };
                let after = (failures(&mut bench, 0), behind.seen().packets);
                assert_eq!(after, (before.0 + failed, before.1 + passed), "{answer:#x}");
                // What it wrote into its words is nobody else's.
                let words = behind.seen().words;
                assert!(passed == 0 || (words[1], words[4]) == (RED_DOMAIN, 50), "{words:?}");
            }
        }
    }
    end(bench);
}

#[test]
fn nothing_that_a_function_returns_skips_policy() {
    let Some(mut bench) = Bench::new() else { return };
    let (mut garbage, mut count) = (Loaded::new("garbage"), Loaded::new("count"));
    let chain = stand(&mut bench, 0, &[(&count, FUNCTION_OPEN), (&garbage, FUNCTION_OPEN)]);
    let (leaves, arrives) = (udp4(&WEB, &API), IN(DENIED).by_b(&udp4(&DB, &API)));
    bench.port(Some(book::port(DENIED, DENIED_DOMAIN)));
    chains(&mut bench, DENIED_DOMAIN, 0, chain, chain);
    for (answer, _) in answers() {
        garbage.answers(answer);
        for frame in [
            &leaves,
            &udp6(&WEB, &API),
            &tcp4(&WEB, &API, b"x"),
            &echo4(&WEB, &API, 8, 7),
        ] {
            let denied = (Some(Reason::Policy), DENIED_DOMAIN, WEB.endpoint);
            assert_eq!(reason(&bench, "from_endpoint", frame), denied, "{answer:#x}");
        }
        let denied = (Some(Reason::Policy), DENIED_DOMAIN, API.endpoint);
        assert_eq!(reason(&bench, "from_underlay", &arrives), denied, "{answer:#x}");
    }
    assert_eq!(count.seen().packets, 0, "a denied packet is nobody's");
    // A flow that was allowed, and is not any more.
    garbage.answers(0);
    bench.port(Some(book::port(RED, RED_DOMAIN)));
    chains(&mut bench, RED_DOMAIN, datapath_common::DOMAIN_ALLOW, chain, chain);
    bench.remembered(
        "from_endpoint",
        vec![("allowed", leaves.clone(), to_namespace(&leaves))],
    );
    chains(&mut bench, RED_DOMAIN, 0, chain, chain);
    assert_eq!(fate(&bench, "from_endpoint", &leaves), dropped(Reason::Policy));
    end(bench);
}

#[test]
fn where_a_function_is_missing_its_fail_mode_decides() {
    let Some(mut bench) = Bench::new() else { return };
    let pass = Loaded::new("pass");
    let frame = udp4(&WEB, &API);
    // The last slot with a direct call, and the first without.
    for slot in [63, 64] {
        for (flags, expected) in [
            (FUNCTION_OPEN, to_namespace(&frame)),
            (0, dropped(Reason::FunctionFailed)),
        ] {
            let chain = stand(&mut bench, slot, &[(&pass, flags)]);
            chains(&mut bench, RED_DOMAIN, datapath_common::DOMAIN_ALLOW, 0, chain);
            assert_eq!(fate(&bench, "from_endpoint", &frame), to_namespace(&frame));
            let mut programs = ProgramArray::<&mut MapData>::try_from(bench.map("CHAIN")).unwrap();
            programs.clear_index(&slot).unwrap();
            assert_eq!(fate(&bench, "from_endpoint", &frame), expected);
            assert_eq!((bench.trace().fast, failures(&mut bench, slot)), (flags, 1));
        }
    }
    // One of which nothing is known fails closed.
    bench.empty::<u32, Function>("FUNCTIONS");
    assert_eq!(fate(&bench, "from_endpoint", &frame), dropped(Reason::FunctionFailed));
    end(bench);
}

#[test]
fn without_its_domain_nothing_is_passed_by_functions() {
    let Some(mut bench) = Bench::new() else { return };
    let about = udp4(&DB, &WEB);
    bench.table(
        "from_underlay",
        vec![("a connection", IN(RED).by_b(&about), to_namespace(&about))],
    );
    let mut error = icmp_error(&about, Some(mapped(WEB.v4)), (3, 1), 0);
    error[6..12].copy_from_slice(&WEB.mac);
    let goes = bench.fate("from_endpoint", "an error about it", &error, Context::default());
    assert!(matches!(goes, Fate::Redirected(..)), "{goes:?}");
    bench.empty::<u32, Domain>("DOMAINS");
    let fate = bench.fate("from_endpoint", "an error about it", &error, Context::default());
    assert_eq!(fate, dropped(Reason::FunctionFailed));
    end(bench);
}

#[test]
fn another_domain_and_what_is_no_packet_of_a_flow_are_not_asked_about() {
    let Some(mut bench) = Bench::new() else { return };
    let mut count = Loaded::new("count");
    let chain = stand(&mut bench, 0, &[(&count, 0)]);
    chains(&mut bench, RED_DOMAIN, datapath_common::DOMAIN_ALLOW, chain, chain);
    let frame = udp4(&WEB, &API);
    bench.station(BLUE, WEB);
    bench.port(Some(book::port(BLUE, BLUE_DOMAIN)));
    assert!(matches!(fate(&bench, "from_endpoint", &frame), Fate::Redirected(..)));
    assert_eq!(
        fate(&bench, "from_endpoint", &udp4(&API, &WEB)),
        Fate::Dropped(Reason::SourceMac, BLUE_DOMAIN, WEB.endpoint)
    );
    assert_eq!(count.seen().packets, 0);
    end(bench);
}

#[test]
fn frames_for_many_are_asked_about_once() {
    let Some(mut bench) = Bench::new() else { return };
    let members = [&WEB, &API, &VM].map(book::member);
    bench.members(RED, book::segment(RED_DOMAIN), &members);
    let (mut count, refuse) = (Loaded::new("count"), Loaded::new("drop"));
    let counts = stand(&mut bench, 0, &[(&count, 0)]);
    let refuses = stand(&mut bench, 8, &[(&refuse, 0)]);
    let everybody = Workload {
        mac: BROADCAST,
        v4: [255; 4],
        ..API
    };
    for (what, program, frame, direction, endpoint, at) in [
        ("sent", "from_endpoint", udp4(&WEB, &everybody), EGRESS, WEB.endpoint, 0),
        (
            "sent, and not IP",
            "from_endpoint",
            ethernet(WEB.mac, BROADCAST, 0x8863, &[9; 46]),
            EGRESS,
            WEB.endpoint,
            0,
        ),
        (
            "received",
            "from_underlay",
            IN(RED).by_b(&udp4(&DB, &everybody)),
            INGRESS,
            0,
            50,
        ),
    ] {
        chains(&mut bench, RED_DOMAIN, datapath_common::DOMAIN_ALLOW, counts, counts);
        let before = count.seen().packets;
        bench.forget_trace();
        bench.run(program, &frame, Context::default()).unwrap();
        assert_eq!(bench.trace().copies & 0b110, 0b110, "{what}");
        let seen = count.seen();
        assert_eq!(seen.packets, before + 2, "{what}: at each hook");
        let words = [VERSION | PACKET | direction, RED_DOMAIN, endpoint, seen.words[3], at];
        assert_eq!((seen.words, seen.to), (words, [0xff; 4]), "{what}");
        for (flow, packet) in [(refuses, 0), (0, refuses)] {
            chains(&mut bench, RED_DOMAIN, datapath_common::DOMAIN_ALLOW, flow, packet);
            let fate = bench.fate(program, what, &frame, Context::default());
            assert_eq!(fate, Fate::Dropped(Reason::Function, RED_DOMAIN, endpoint), "{what}");
        }
    }
    end(bench);
}

#[test]
fn each_packet_counts_once_whatever_way_it_takes() {
    let Some(mut bench) = Bench::new() else { return };
    let (mut flows, mut packets) = (Loaded::new("count"), Loaded::new("count"));
    let chain = (
        stand(&mut bench, 0, &[(&flows, 0)]),
        stand(&mut bench, 8, &[(&packets, 0)]),
    );
    chains(&mut bench, RED_DOMAIN, datapath_common::DOMAIN_ALLOW, chain.0, chain.1);
    let sized = |length: u32| udp4_ports(&WEB, &API, (1, 2), &vec![7; length as usize - 28]);
    let mut counts = || (flows.seen().packets, packets.seen().packets);
    for (what, frame, expected, counted) in [
        ("the first", sized(MTU), to_namespace(&sized(MTU)), (1, 1)),
        ("the second", sized(MTU), to_namespace(&sized(MTU)), (1, 2)),
        (
            "too large for the flow",
            sized(MTU + 1),
            too_big(&sized(MTU + 1), MTU),
            (2, 3),
        ),
        (
            "a SYN",
            tcp4_flags(&WEB, &API, 2),
            to_namespace(&tcp4_flags(&WEB, &API, 2)),
            (3, 4),
        ),
        (
            "it again",
            tcp4_flags(&WEB, &API, 2),
            to_namespace(&tcp4_flags(&WEB, &API, 2)),
            (4, 5),
        ),
    ] {
        let fate = bench.fate("from_endpoint", what, &frame, Context::default());
        assert_eq!((fate, counts()), (expected, counted), "{what}");
    }
    // A tunnel that got narrower: the fast path leaves it to the slow one, which asks.
    let long = udp4_ports(&WEB, &DB, (1, 2), &[7; 1000]);
    for _ in 0..2 {
        assert!(matches!(fate(&bench, "from_endpoint", &long), Fate::Redirected(..)));
    }
    assert_eq!(counts(), (5, 7));
    let narrow = datapath_common::Peer {
        mtu: 1000,
        ..crate::bench::peer_b4()
    };
    bench.peer(book::HOST_B, narrow);
    assert!(matches!(
        fate(&bench, "from_endpoint", &long),
        Fate::Answered(Reason::Mtu, _)
    ));
    assert_eq!(counts(), (6, 8));
    end(bench);
}

#[test]
fn each_slot_calls_its_own_function() {
    let Some(mut bench) = Bench::new() else { return };
    let frame = udp4(&WEB, &API);
    let (pass, refuse) = (Loaded::new("pass"), Loaded::new("drop"));
    for run in (0..72).step_by(8) {
        for refusing in 0..8 {
            let functions: Vec<_> = (0..8)
                .map(|slot| (if slot == refusing { &refuse } else { &pass }, 0))
                .collect();
            let chain = stand(&mut bench, run, &functions);
            for count in [refusing, refusing + 1].into_iter().filter(|count| *count != 0) {
                chains(
                    &mut bench,
                    RED_DOMAIN,
                    datapath_common::DOMAIN_ALLOW,
                    0,
                    chain & !0xff | count,
                );
                let (said, ..) = reason(&bench, "from_endpoint", &frame);
                let expected = (count > refusing).then_some(Reason::Function);
                assert_eq!(said, expected, "slot {} of {count}", run + refusing);
            }
        }
    }
    end(bench);
}
