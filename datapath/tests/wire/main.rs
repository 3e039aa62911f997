//! The programs attached for real: two hosts as network namespaces on one wire, workloads behind them, packets of the
//! kernel's own stacks. This shows what `BPF_PROG_TEST_RUN` cannot: redirects that arrive, super-packets, frames whose bytes
//! are not linear, frames that it refuses to make. It also runs on the old kernels of `tests/kernels`.
//!
//! Needs root and iproute2: without, it says SKIPPED, or fails where `CI` or `FABRIC_REQUIRE_PRIVILEGED` is set.

#![expect(clippy::print_stdout, reason = "a test says what it does")]

mod capture;
mod counter;
mod device;
mod host;
mod identity;
mod linux_vtep;
mod namespace;
mod open_vswitch;
mod relay;
mod tables;
mod tap;
mod topology;
mod traffic;
mod tshark;
mod underlay;
mod workload;

mod bad_wire;
mod carriers;
mod container_router;
mod dissection;
mod forwarding;
mod interoperation;
mod multicast;
mod neighbours_on_hooks;
mod odd_frames;
mod other_kernels;
mod routed;
mod scale;
mod sizes;
mod super_packets;

/// Whether this kernel is of this series or a later one.
fn kernel_is_at_least(series: (u32, u32)) -> bool {
    let name = nix::sys::utsname::uname().expect("uname cannot fail");
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= series
}
