//! `fabricctl`: arguments ([`args`]), the way to a daemon (`client` over `stream`, as an `identity`), one function
//! per command (`run`), and how answers look (`show`, `tables`, `changes`, `specs`,
//! `problem`); `usage` is for who did not say what to do. It holds no state and decides nothing: the daemon does.

mod anchor;
pub mod args;
mod backup;
mod ca;
mod changes;
mod client;
mod cluster;
mod files;
mod identity;
mod left;
mod pages;
mod place;
mod problem;
mod quarantine;
mod run;
mod show;
mod specs;
mod stream;
mod tables;
pub mod usage;
mod user;
mod watch;

pub use problem::Problem;
pub use run::{leave, node_behind, run};
