//! x
pub mod fact;
pub mod forwarding;
pub mod name;
pub mod object;
pub mod view;
