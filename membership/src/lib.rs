//! Membership: who belongs to the cluster, who is alive, and what all of them agree on.
//!
//! x

pub mod claim;
pub mod hlc;
pub mod id;
pub mod identity;
pub mod node;
pub mod pki;
pub mod record;
pub mod replica;
pub mod service;
mod wallclock;
