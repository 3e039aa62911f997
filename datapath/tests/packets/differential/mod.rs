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
//!
//! `FABRIC_DIFFERENTIAL_PACKETS` and `FABRIC_DIFFERENTIAL_SEED` say how many packets, and from which seed on; with fewer
//! than usual, counters are compared after each packet.

mod change;
mod counts;
mod dice;
mod draft;
mod flow;
mod hosts;
mod neighbours;
mod odd;
mod plan;
mod programs;
mod routes;
mod rules;
mod run;
mod seen;
mod statistics;
mod tunnel;
mod world;

/// Packets, unless it is said otherwise.
const PACKETS: usize = 50_000;
/// The first seed, unless it is said otherwise.
const SEED: u64 = 1;
/// How often everything has to happen in so many packets.
const LEAST: usize = 100;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}

fn packets() -> usize {
    number("FABRIC_DIFFERENTIAL_PACKETS", PACKETS as u64) as usize
}

/// Runs the packets that the environment asks for.
fn compare(programs: &mut dyn run::Programs) -> statistics::Statistics {
    let seed = number("FABRIC_DIFFERENTIAL_SEED", SEED);
    let packets = packets();
    let statistics = run::run(seed, packets, programs);
    eprintln!("seed {seed}: {statistics}");
    // Fewer are for looking at one world.
    let rare = if packets < PACKETS {
        vec![]
    } else {
        statistics.rare(LEAST)
    };
    assert!(rare.is_empty(), "too rare: {rare:?}");
    statistics
}

#[test]
fn everything_happens_in_the_model() {
    compare(&mut run::Alone);
}

#[test]
fn the_programs_do_as_the_model() {
    let Some(mut kernel) = programs::Kernel::new(packets() < PACKETS) else {
        return;
    };
    let statistics = compare(&mut kernel);
    let (fast, packets) = (statistics.fast, statistics.packets);
    assert!(
        packets < PACKETS || fast * 2 >= packets,
        "only {fast} of {packets} by the fast path"
    );
}
