//! x
pub mod address;
pub mod fact;
pub mod forwarding;
mod hash;
pub mod name;
pub mod object;
pub mod subnet;
pub mod view;
pub mod vni;
