//! The reference model, row by row of its tables: frames of workloads in `port` and `neighbours`, packets of the underlay
//! in `underlay`. Every row says what becomes of one packet.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fabric;
mod frames;
#[path = "../lab/mod.rs"]
mod lab;
mod neighbours;
mod port;
mod underlay;
