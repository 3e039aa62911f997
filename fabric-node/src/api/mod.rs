//! The REST API: its values ([`types`], [`changes`], [`version`], [`moment`], [`error`]), what it asks of the daemon ([`backend`]), its routes and how they
//! are served ([`serve`] on the unix socket, [`https`] to other hosts). Refuses to know how anything is done.
//!
//! Start with [`types`]: these shapes are the contract with scripts.

pub mod anchors;
pub mod backend;
mod backup;
pub mod ca;
pub mod changes;
mod conflicts;
mod connections;
pub mod error;
mod functions;
mod half_open;
mod history;
pub mod https;
pub mod kinds;
pub mod moment;
pub mod nodes;
pub mod openapi;
pub mod quarantine;
pub mod refusals;
pub mod routes;
pub mod serve;
pub mod types;
pub mod upgrade;
pub mod version;

/// Largest body of a request or of an answer that the other side accepts, in bytes.
pub const BODY_MAX: usize = 8 * 1024 * 1024;
