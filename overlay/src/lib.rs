//! x
pub mod address;
pub mod admission;
pub mod catalogue;
mod claims;
pub mod cluster;
pub mod compile;
pub mod condition;
pub mod fact;
pub mod forwarding;
mod hash;
pub mod manifest;
pub mod name;
pub mod object;
pub mod subnet;
pub mod view;
pub mod vni;
