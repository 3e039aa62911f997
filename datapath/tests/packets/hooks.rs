//! The stubs, and `to_endpoint`.

use datapath_common::{Reason, SLOT_FROM_ENDPOINT, SLOT_FROM_UNDERLAY, SLOT_TO_ENDPOINT, Settings};

use crate::bench::{Bench, Context};
use crate::book::{self, API, DB, MARK, RED, WEB};
use crate::fate::{Fate, dropped, to_namespace};
use crate::frames::{Tunnel, udp4};

#[test]
fn a_stub_without_its_program() {
    let Some(mut bench) = Bench::new() else { return };
    for slot in [SLOT_FROM_ENDPOINT, SLOT_TO_ENDPOINT, SLOT_FROM_UNDERLAY] {
        bench.clear_slot(slot);
    }
    let frame = udp4(&WEB, &API);
    bench.table(
        "stub_from_endpoint",
        vec![("from a workload", frame.clone(), dropped(Reason::NoProgram))],
    );
    bench.table(
        "stub_to_endpoint",
        vec![("to a workload", frame.clone(), dropped(Reason::NoProgram))],
    );
    let tunnel = Tunnel::inbound(RED).by_b(&udp4(&DB, &WEB));
    bench.table("stub_from_underlay", vec![("a tunnel packet", tunnel, Fate::Passed)]);
    bench.port(None);
    let nobody = Fate::Dropped(Reason::NoProgram, 0, 0);
    bench.table(
        "stub_from_endpoint",
        vec![("from an interface nobody knows", frame, nobody)],
    );
}

#[test]
fn a_stub_calls_its_program() {
    let Some(bench) = Bench::new() else { return };
    let frame = udp4(&WEB, &API);
    bench.table(
        "stub_from_endpoint",
        vec![("from a workload", frame.clone(), to_namespace(&frame))],
    );
    bench.table(
        "stub_to_endpoint",
        vec![("to a workload, not by us", frame, dropped(Reason::NotForwarded))],
    );
    let inner = udp4(&DB, &WEB);
    let tunnel = Tunnel::inbound(RED).by_b(&inner);
    bench.table(
        "stub_from_underlay",
        vec![("a tunnel packet", tunnel, to_namespace(&inner))],
    );
}

#[test]
fn only_what_carries_our_mark_reaches_a_workload() {
    let Some(mut bench) = Bench::new() else { return };
    let frame = udp4(&API, &WEB);
    let marked = |mark| Context {
        mark,
        ..Context::default()
    };
    let (verdict, out, mark) = bench.run("to_endpoint", &frame, marked(MARK)).unwrap();
    assert_eq!((verdict, mark), (u32::MAX, 0), "passes, without the mark");
    assert_eq!(out, frame);
    assert!(bench.drops().is_empty());

    for mark in [0, 1, MARK + 1] {
        let fate = bench.fate("to_endpoint", "another mark", &frame, marked(mark));
        assert_eq!(fate, dropped(Reason::NotForwarded), "mark {mark:#x}");
    }
    bench.settings(Settings {
        mark: 0,
        ..book::settings()
    });
    let fate = bench.fate("to_endpoint", "no mark is set", &frame, marked(0));
    assert_eq!(fate, dropped(Reason::NotForwarded), "zero is no mark");
}
