//! The differential test: random domains, and random flows through them with one thing changed in between, through the
//! reference model (`overlay::model`) and through the programs. Generation knows neither: it makes worlds, packets, changes.
//!
//! | module | makes |
//! |---|---|
//! | `dice` | chance that a seed repeats |
//! | `hosts`, `plan`, `routes`, `rules`, `world` | objects of domains, compiled as this host has to do them |
//! | `change` | what changes in them |
//! | `draft`, `tunnel` | packets, field by field |
//! | `odd` | what is changed in a packet |
//! | `flow`, `neighbours` | sequences of packets |
//! | `run` | the loop (**start here**) |
//! | `programs` | the programs, and their maps as the datapath fills them |
//! | `seen`, `counts` | whether the programs did what the model says, and counted it |
//! | `statistics` | what has to happen often enough |
//! | `elsewhere` | why some reasons cannot happen here, and which tests show them |
//! | `cases`, `owners`, `scene` | sequences that are no chance: aimed at what is remembered, at whose an address is, and every difference found |
//!
//! `FABRIC_DIFFERENTIAL_PACKETS` and `FABRIC_DIFFERENTIAL_SEED` say how many packets, and from which seed on; with
//! `FABRIC_LONG` it is ten million, on all cores. With a few hundred packets, counters are compared after each.

mod cases;
mod change;
mod counts;
mod dice;
mod draft;
mod elsewhere;
mod flow;
mod hosts;
mod neighbours;
mod odd;
mod owners;
mod plan;
mod programs;
mod routes;
mod rules;
mod run;
mod scene;
mod seen;
mod statistics;
mod tunnel;
mod world;

use std::num::NonZero;
use std::sync::atomic::AtomicU64;
use std::thread;

/// Packets, unless it is said otherwise.
const PACKETS: usize = 50_000;
/// The same with `FABRIC_LONG`.
const LONG: usize = 10_000_000;
/// Up to so many are for looking at a world.
const FEW: usize = 1000;
/// The first seed, unless it is said otherwise.
const SEED: u64 = 1;
/// How often everything has to happen in `PACKETS`.
const LEAST: usize = 100;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn packets() -> usize {
    let usual = if std::env::var_os("FABRIC_LONG").is_some() {
        LONG
    } else {
        PACKETS
    };
    number("FABRIC_DIFFERENTIAL_PACKETS").map_or(usual, |packets| packets as usize)
}

fn seed() -> AtomicU64 {
    number("FABRIC_DIFFERENTIAL_SEED").unwrap_or(SEED).into()
}

/// Fewer than usual do not have to have everything in them.
fn assert_all_happened(statistics: &statistics::Statistics) {
    eprintln!("{statistics}");
    if statistics.packets >= PACKETS {
        let rare = statistics.rare(LEAST);
        assert!(rare.is_empty(), "too rare: {rare:?}");
    }
}

#[test]
fn everything_happens_in_the_model() {
    let packets = packets().min(PACKETS);
    assert_all_happened(&run::run(&seed(), packets, &mut run::Alone));
}

#[test]
fn the_programs_do_as_the_model() {
    let packets = packets();
    if !crate::bench::privileged() {
        return;
    }
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    // Loading takes as long as some ten thousand packets.
    let threads = if packets > PACKETS { cores } else { 1 };
    let seed = seed();
    let part = || {
        let mut kernel = programs::Kernel::new(packets <= FEW).expect("privileged");
        let statistics = run::run(&seed, packets.div_ceil(threads), &mut kernel);
        kernel.leave();
        statistics
    };
    let statistics = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|_| scope.spawn(part)).collect();
        let parts = parts.into_iter().map(|part| part.join().expect("its panic says why"));
        parts.reduce(|all, part| all.with(&part)).expect("one part")
    });
    assert_all_happened(&statistics);
    let (fast, packets) = (statistics.fast, statistics.packets);
    assert!(
        packets < PACKETS || fast * 2 >= packets,
        "only {fast} of {packets} by the fast path"
    );
}
