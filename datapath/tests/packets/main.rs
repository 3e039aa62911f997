//! Packet tests: the programs run in the kernel by `BPF_PROG_TEST_RUN`, on frames built by etherparse. Each is a table of
//! what the packet is, the frame, and what becomes of it; after every packet the verdict, the frame, the mark and all drop
//! counters are compared.
//!
//! What this cannot show, because the facility hides the target of a redirect and has neither fragments of memory nor
//! super-packets, the wire tests show. They need root: without it they say SKIPPED, or fail where `CI` or
//! `FABRIC_REQUIRE_PRIVILEGED` is set.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

mod bench;
mod book;
mod differential;
mod ear;
mod frames;
mod state;

mod chain;
mod connections;
mod documents;
mod encapsulation;
mod floods;
mod flows;
mod from_endpoint;
mod from_underlay;
mod geneve;
mod hooks;
mod neighbours;
mod oddities;
mod probes;
mod punts;
mod quotas;
mod router;
mod routes;
mod rules;
mod sources;
mod truncation;
