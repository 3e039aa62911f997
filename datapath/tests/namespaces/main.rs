//! The datapath in network namespaces: two hosts with a veth as underlay, workloads as further namespaces, real
//! packets. Needs root; without it each test says SKIPPED, and fails where `CI` or `FABRIC_REQUIRE_PRIVILEGED` is set.

mod bench;
mod carried;
mod device;
mod functions;
mod interface;
mod interference;
mod kills;
mod lab;
mod lifecycle;
mod load;
mod namespace;
mod probes;
mod qemu;
mod reach;
mod ready;
mod routing;
mod scale;
mod succession;
mod survival;
mod tap;
mod uplinks;
mod verify;
mod wanted;
