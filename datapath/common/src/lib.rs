//! What the eBPF programs and user space share: the layouts of the maps' keys and values, drop reasons, flags; and what
//! needs no kernel, kept here so that its tests run on the host: the arithmetic of headers ([`checksum`], [`ecn`],
//! [`entropy`]), the states of connections ([`connection`]), the places of generations ([`slot`]), quotas ([`limit`]), what a
//! decision is sealed with ([`seal`]).
//! Layouts are `repr(C)` without padding; numbers are in host byte order, addresses in network order.
//! An IPv4 address stands as its IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2).
//!
//! ```text
//!  ifindex ─► PORTS ─► Port{domain, endpoint, vni, mac}        who sends
//!  vni,mac ─► STATIONS ─► Station{local port | peer}           where a frame goes, and may come from
//!  vni,ip  ─► NEIGHBOURS ─► Neighbour{mac}                     ARP/ND answers, and whose address it is
//!  peer    ─► PEERS ─► Peer{outer addresses, next hop}         how to get there
//!  outer source ─► VTEPS ─► peer                               who may send tunnels to us
//!  vni     ─► SEGMENTS ─► Segment{domain, mtu, router}         what a VNI is
//!  vni,prefix ─► PREFIXES ─► Neighbour{mac}                    whose else an address is
//!  router,prefix ─► ROUTES ─► Route ─► HOPS ─► Hop             where a router sends it
//!  domain  ─► DOMAINS ─► Domain ─► RULES ─► Rule               who may open a connection to whom
//!  slot    ─► CHAIN (a program), FUNCTIONS ─► Function         what a domain's functions say
//!  set     ─► FLOODS ─► FloodTarget                            who gets a segment's group frames
//!  tuple   ─► CONNECTIONS, HALF_OPEN, CROWDED ─► Connection    what is open
//!  packet  ─► FLOWS ─► Flow{where to, slots of GENERATIONS}    the decision, made once
//!  remote  ─► PROBES ─► Probed{answers}                        how the path to a host is
//!  vni,protocol,port ─► PUNT_RULES ─► PuntRule ─► PUNTS        what user space gets
//!  domain,endpoint,reason ─► DROPS ─► Count (per CPU)
//! ```

#![no_std]

#[macro_use]
mod layout;

pub mod checksum;
pub mod connection;
pub mod drop;
pub mod ecn;
pub mod entropy;
pub mod limit;
pub mod probe;
pub mod program;
pub mod punt;
pub mod seal;
pub mod slot;
pub mod table;

pub use drop::Reason;
pub use limit::*;
pub use program::*;
pub use seal::*;
pub use table::*;
