//! The daemon `fabric-node` and its command line `fabricctl`: the only crate that knows all others, and nothing but
//! the wiring between them.
//!
//! | module | what |
//! |---|---|
//! | [`config`] | what an operator may set; the file, flags over it, addresses derived from it |
//! | [`node_args`] | the command line of `fabric-node` |
//! | [`api`] | **start here**: the JSON shapes, the routes, the socket and TLS |
//! | [`backup`] | backups as files, pure |
//! | [`daemon`] | the running node behind the API, and its one-time commands |
//! | [`ctl`] | `fabricctl` |
//! | [`exit`] | exit codes of both programs |
//! | `fuzzing` | what reads bytes from outside, for fuzzers |
//! | `wallclock` | the clock, for shells only |

pub mod api;
pub mod backup;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod exit;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod node_args;
mod wallclock;
