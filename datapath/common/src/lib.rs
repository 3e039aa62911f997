//! What the eBPF programs and user space share: the layouts of the maps' keys and values, drop reasons, flags; and the
//! arithmetic of headers ([`checksum`], [`ecn`], [`entropy`]), kept here so that its tests run on the host.
//! Layouts are `repr(C)` without padding; numbers are in host byte order, addresses in network order.
//! An IPv4 address stands as its IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
//!
//! ```text
//!  ifindex ─► PORTS ─► Port{domain, endpoint, vni, mac}        who sends
//!  vni,mac ─► STATIONS ─► Station{local port | peer}           where a frame goes, and may come from
//!  vni,ip  ─► NEIGHBOURS ─► Neighbour{mac}                     ARP/ND answers, and whose address it is
//!  peer    ─► PEERS ─► Peer{outer addresses, next hop}         how to get there
//!  outer source ─► VTEPS ─► peer                               who may send tunnels to us
//!  vni     ─► SEGMENTS ─► Segment{domain, flags, mtu}          what a VNI is
//!  remote  ─► PROBES ─► Probed{answers}                      how the path to a host is
//!  domain,endpoint,reason ─► DROPS ─► Count (per CPU)
//! ```

#![no_std]

pub mod checksum;
pub mod drop;
pub mod ecn;
pub mod entropy;
pub mod probe;
pub mod table;

pub use drop::Reason;
pub use table::*;
