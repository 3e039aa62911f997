//! The programs attached for real: two hosts as network namespaces on one wire, workloads behind them, packets of the
//! kernel's own stacks. This shows what `BPF_PROG_TEST_RUN` cannot: redirects that arrive, super-packets, frames whose bytes
//! are not linear, frames that it refuses to make. It also runs on the old kernels of `tests/kernels`.
//!
//! Needs root and iproute2: without, it says SKIPPED, or fails where `CI` or `FABRIC_REQUIRE_PRIVILEGED` is set.

#![expect(clippy::print_stdout, reason = "a test says what it does")]

mod host;
mod namespace;
mod tap;
mod topology;

mod carriers;
mod forwarding;
mod odd_frames;
