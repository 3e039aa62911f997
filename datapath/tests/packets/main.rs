//! Packet tests: the programs run in the kernel by `BPF_PROG_TEST_RUN`, on frames built by etherparse. Each is a table of
//! what the packet is, the frame, and what becomes of it; after every packet the verdict, the frame, the mark and all drop
//! counters are compared.
//!
//! The facility hides the target of a redirect and has neither fragments of memory nor super-packets. So the tables of
//! `from_endpoint`, `from_underlay`, `geneve` and `encapsulation` run over real interfaces as well (`devices.rs`), and the
//! wire tests show the rest. They need root: without it they say SKIPPED, or fail where `CI` or
//! `FABRIC_REQUIRE_PRIVILEGED` is set.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "../wire/capture.rs"]
#[expect(dead_code, reason = "the wire tests use all of it")]
mod capture;
#[path = "../wire/namespace.rs"]
#[expect(dead_code, reason = "the wire tests use all of it")]
mod namespace;
#[path = "../wire/tap.rs"]
mod tap;

mod bench;
mod book;
mod clock;
mod devices;
mod differential;
mod ear;
mod fate;
mod frames;
mod linear;
mod state;

mod chain;
mod connections;
mod documents;
mod encapsulation;
mod errors;
mod flood_bounds;
mod floods;
mod flows;
mod from_endpoint;
mod from_underlay;
mod geneve;
mod hooks;
mod hour;
mod neighbours;
mod oddities;
mod outer;
mod probes;
mod punts;
mod quotas;
mod recycled;
mod router;
mod routes;
mod rules;
mod senders;
mod share_of_flows;
mod shares;
mod sources;
mod truncation;
mod unknown;
