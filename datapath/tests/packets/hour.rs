//! An hour without a daemon, at 1,000 new connections a second (simulated time, `clock.rs`). Nobody sweeps, nobody but the
//! programs touches a map, and so `CONNECTIONS` fills up: of ten connections, one is never closed. Shown is that
//!
//! * no packet of any connection is refused, before the tables are full and after that: every one of 21 million is
//!   redirected, and no counter of drops moves;
//! * a connection whose ends speak once a minute stays, whenever it began, also where there was no room left for it;
//! * one that is silent stays if it began while there was room, since an established one lives for 7,440 s;
//! * the tuple of one that was closed opens another one;
//! * what nobody asked for is refused all the time, and a half-open connection is over after a minute: the policy is in
//!   force, and the time does pass.
//!
//! The rules let workloads open connections and let nothing in: an answer that passes proves that its connection is known.
//!
//! The whole of it runs with `FABRIC_LONG` (`tests/run.sh --long`). Else it is the same hour on a host with a 32nd of the
//! room in its tables and a 32nd of the connections a second, so that all lasts as long as it would.

use std::collections::BTreeSet;

use aya::programs::{TestRun as _, TestRunOptions};
use datapath_common::connection::State;
use datapath_common::{AUDIT_CONNECTIONS_FULL, Port, Reason, slot};

use crate::bench::Bench;
use crate::book::{self, DB, RED, RED_DOMAIN, WEB, Workload};
use crate::clock::Clock;
use crate::connections::key;
use crate::fate::REDIRECTED;
use crate::frames::{Tunnel, tcp4_back, tcp4_flags};
use crate::rules::{ALLOW, rules};

/// New connections in a second, of a whole host.
const RATE: u32 = 1000;
const HOUR: u32 = 3600;
/// Seconds that pass at once.
const STEP: u32 = 4;
/// A host's share of the rate and of the tables, unless it is a whole one.
const SHARE: u32 = 32;
/// The tables that fill, with the entries that they have.
const TABLES: [(&str, u32); 4] = [
    ("CONNECTIONS", 262_144),
    ("HALF_OPEN", 131_072),
    ("CROWDED", 65_536),
    ("FLOWS", 131_072),
];
/// Workloads that open connections: more than one, since each may hold 65,536.
const OPENERS: u32 = 8;
/// Steps between two packets of a connection that lives on.
const MINUTE: u32 = 60 / STEP;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// Where the ports of TCP over IPv4 stand in a frame, and its flags behind them.
const PORTS: usize = 14 + 20;
const FLAGS: usize = PORTS + 13;
/// Bytes before a tunnelled frame.
const TUNNEL: usize = 14 + 20 + 8 + 8;

/// A workload that opens connections.
fn opener(number: u32) -> Workload {
    let number = u8::try_from(number).unwrap();
    let mut v6 = WEB.v6;
    v6[15] = 0x50 + number;
    Workload {
        endpoint: 50 + u32::from(number),
        mac: [0x02, 0xaa, 0, 0, 2, number],
        v4: [10, 0, 0, 50 + number],
        v6,
        ..WEB
    }
}

/// A connection.
#[derive(Debug, Clone, Copy)]
struct Line {
    opener: u32,
    ports: (u16, u16),
}

impl Line {
    /// The one with this number. No two have the same ports.
    fn new(opener: u32, number: u32) -> Self {
        let source = 0x8000 | (number & 0x7fff) as u16;
        let destination = 1000 + (number >> 15) as u16;
        Self {
            opener,
            ports: (source, destination),
        }
    }
}

/// The host.
struct Host {
    bench: Bench,
    clock: Clock,
    /// A packet of each opener's, and one to it in a tunnel.
    out: Vec<Vec<u8>>,
    back: Vec<Vec<u8>>,
    /// Whose the interface of the facility is.
    port: Option<u32>,
    /// Connections that each opener began.
    begun: [u32; OPENERS as usize],
    packets: u64,
}

impl Host {
    /// With this share of the usual tables.
    fn new(share: u32) -> Option<Self> {
        let sizes = TABLES.map(|(name, entries)| (name, entries / share));
        let mut bench = Bench::sized(&sizes)?;
        rules(&mut bench, &[ALLOW], &[]);
        let openers: Vec<Workload> = (0..OPENERS).map(opener).collect();
        for opener in &openers {
            bench.station(RED, *opener);
        }
        let inward = |opener| Tunnel::inbound(RED).by_b(&tcp4_back(&DB, opener, ACK));
        Some(Self {
            clock: Clock::of(&bench),
            bench,
            out: openers.iter().map(|opener| tcp4_flags(opener, &DB, ACK)).collect(),
            back: openers.iter().map(inward).collect(),
            port: None,
            begun: [0; OPENERS as usize],
            packets: 0,
        })
    }

    /// The next connection of an opener; nothing of it was sent.
    fn line(&mut self, opener: u32) -> Line {
        let begun = &mut self.begun[opener as usize];
        *begun += 1;
        Line::new(opener, *begun)
    }

    /// Whether a packet of the opener's gets through.
    fn sends(&mut self, line: Line, flags: u8) -> bool {
        if self.port.replace(line.opener) != Some(line.opener) {
            self.bench.port(Some(port(&opener(line.opener))));
        }
        let frame = &mut self.out[line.opener as usize];
        fill(frame, line.ports, flags);
        self.packets += 1;
        redirects(&self.bench, "from_endpoint", frame)
    }

    /// Whether a packet of the other end gets through.
    fn hears(&mut self, line: Line, flags: u8) -> bool {
        let frame = &mut self.back[line.opener as usize];
        fill(&mut frame[TUNNEL..], (line.ports.1, line.ports.0), flags);
        self.packets += 1;
        redirects(&self.bench, "from_underlay", frame)
    }

    /// Opens it; whether every packet got through.
    fn opens(&mut self, line: Line) -> bool {
        self.sends(line, SYN) && self.hears(line, SYN | ACK) && self.sends(line, ACK)
    }

    fn closes(&mut self, line: Line) -> bool {
        self.sends(line, FIN | ACK) && self.hears(line, FIN | ACK) && self.sends(line, ACK)
    }

    fn speaks(&mut self, line: Line) -> bool {
        self.hears(line, ACK) && self.sends(line, ACK)
    }

    /// Of what is known of it, whether that is over or not.
    fn state(&self, line: Line) -> Option<u32> {
        let tuple = key(6, &opener(line.opener), &DB, line.ports);
        self.bench.connection(tuple).map(|connection| connection.state)
    }

    /// Whether it stands where there is only so much room.
    fn is_permanent(&self, line: Line) -> bool {
        self.bench.permanent(key(6, &opener(line.opener), &DB, line.ports))
    }
}

fn port(workload: &Workload) -> Port {
    Port {
        endpoint: workload.endpoint,
        slot: slot::station(RED, workload.mac),
        mac: workload.mac,
        ..book::port(RED, RED_DOMAIN)
    }
}

fn fill(frame: &mut [u8], ports: (u16, u16), flags: u8) {
    frame[PORTS..PORTS + 2].copy_from_slice(&ports.0.to_be_bytes());
    frame[PORTS + 2..PORTS + 4].copy_from_slice(&ports.1.to_be_bytes());
    frame[FLAGS] = flags;
}

/// Whether a program sends a frame on.
fn redirects(bench: &Bench, program: &str, frame: &[u8]) -> bool {
    let options = TestRunOptions {
        data_in: Some(frame),
        ..TestRunOptions::default()
    };
    let result = bench.program(program).test_run(options).expect("it runs");
    result.return_value == REDIRECTED
}

/// What goes on in the hour.
#[derive(Default)]
struct Story {
    /// Begun in the step before, to be closed.
    open: Vec<Line>,
    /// Never closed, and silent.
    silent: Vec<Line>,
    /// Never closed, and heard of every minute.
    lively: Vec<Line>,
    /// The first that was closed.
    closed: Option<Line>,
}

impl Story {
    /// What happens in `STEP` seconds.
    fn step(&mut self, host: &mut Host, step: u32, connections: u32) {
        for line in std::mem::take(&mut self.open) {
            assert!(host.closes(line), "step {step}: {line:?} cannot be closed");
            self.closed.get_or_insert(line);
        }
        for opener in 0..OPENERS {
            let share = connections / OPENERS + u32::from(opener < connections % OPENERS);
            for _ in 0..share {
                self.begin(host, step, opener);
            }
        }
        if step.is_multiple_of(MINUTE) {
            for opener in 0..OPENERS {
                let line = host.line(opener);
                assert!(host.opens(line), "step {step}: {line:?}");
                self.lively.push(line);
            }
            for line in &self.lively {
                assert!(host.speaks(*line), "step {step}: {line:?} is not known any more");
            }
        }
    }

    fn begin(&mut self, host: &mut Host, step: u32, opener: u32) {
        let line = host.line(opener);
        let number = host.begun[opener as usize];
        if number % 100 == 7 {
            assert!(host.sends(line, SYN), "step {step}: {line:?} is refused");
            return;
        }
        assert!(host.opens(line), "step {step}: {line:?} is refused");
        if number % 10 == 3 {
            self.silent.push(line);
        } else {
            self.open.push(line);
        }
    }
}

#[test]
fn an_hour_without_a_daemon() {
    let share = if std::env::var_os("FABRIC_LONG").is_some() {
        1
    } else {
        SHARE
    };
    let Some(mut host) = Host::new(share) else { return };
    let mut story = Story::default();
    let mut owed = 0;
    for step in 0..HOUR / STEP {
        owed += RATE * STEP;
        story.step(&mut host, step, owed / share);
        owed %= share;
        host.clock.pass(STEP);
    }
    let begun: u32 = host.begun.iter().sum();
    println!(
        "{begun} connections, {} packets, {} silent",
        host.packets,
        story.silent.len()
    );
    assert!(begun >= HOUR * RATE / share, "{begun}");
    assert_eq!(host.bench.drops().len(), 0, "{:?}", host.bench.drops());
    let full = (AUDIT_CONNECTIONS_FULL.set, AUDIT_CONNECTIONS_FULL.index);
    assert!(host.bench.audits().get(&full) > Some(&0), "the table was full");
    ends(&mut host, &story);
}

/// What is there at the end of the hour, and what is not.
fn ends(host: &mut Host, story: &Story) {
    let (first, last) = (story.lively[0], story.lively[story.lively.len() - 1]);
    assert!(host.is_permanent(first), "there was room");
    assert!(!host.is_permanent(last), "there was none, and yet it is known");
    // A domain's share of the whole table is less than half of it.
    let early = &story.silent[..story.silent.len() / 5];
    for line in early {
        assert!(host.is_permanent(*line) && host.hears(*line, ACK), "{line:?}");
    }
    let reused = story.closed.expect("most are");
    assert!(host.opens(reused) && host.closes(reused), "{reused:?}");
    assert_eq!(host.bench.drops().len(), 0, "{:?}", host.bench.drops());

    let unasked = host.line(0);
    assert!(!host.hears(unasked, SYN), "nothing may come in");
    let (known, late) = (host.line(0), host.line(0));
    assert!(host.sends(known, SYN) && host.sends(late, SYN));
    host.clock.pass(50);
    assert!(host.hears(known, SYN | ACK), "it waits for an answer");
    host.clock.pass(10);
    assert_eq!(host.state(late), Some(State::Opening as u32), "it is in the table");
    assert!(!host.hears(late, SYN | ACK), "and over after a minute");
    let refused: BTreeSet<u32> = host.bench.drops().keys().map(|(.., reason)| *reason).collect();
    assert_eq!(refused, [Reason::Policy as u32].into());
}
