//! Membership: who belongs to the cluster, who is alive, and what all of them agree on.
//!
//! x

pub mod claim;
mod counter;
mod gossip;
pub mod hlc;
mod home;
pub mod id;
pub mod identity;
mod join;
mod liveness;
mod mesh;
pub mod node;
pub mod pki;
pub mod record;
pub mod replica;
pub mod service;
pub mod token;
mod wallclock;
