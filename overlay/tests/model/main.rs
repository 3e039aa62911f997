//! The reference model, row by row of its tables: frames of workloads in `port` and `neighbours`, packets of the underlay
//! in `underlay` and `geneve`, the router in `routing`, what hosts remember in `connections`, `fragments` and `errors`, rules
//! in `policy`, who gets what everybody gets in `floods`, whose groups count and table D in `identity`. Every row says what becomes of one packet.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod campus;
mod connections;
mod errors;
mod fabric;
mod floods;
mod fragments;
mod frames;
mod geneve;
mod identity;
#[path = "../lab/mod.rs"]
mod lab;
mod neighbours;
mod policy;
mod port;
mod routing;
mod talk;
mod underlay;
