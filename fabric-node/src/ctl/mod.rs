//! `fabricctl`: arguments ([`args`]), the way to the daemon ([`client`]), one function per command ([`run`]), and how
//! answers look ([`show`], [`tables`], [`specs`], [`problem`]). It holds no state and decides nothing: the daemon does.

pub mod args;
mod client;
mod files;
mod pages;
mod problem;
mod run;
mod show;
mod specs;
mod tables;
mod watch;

pub use problem::Problem;
pub use run::run;
