//! Whether the paths to other hosts are up, how long they take and how large a packet they carry, by echoes in the
//! tunnels' own format (`datapath_common::probe`). The programs of the other host answer, not its daemon: this alone
//! decides that a path is down. It observes and changes nothing of the forwarding.
//!
//! ```text
//!  Forwarding.hosts ─► want ─► Rounds ─► requests ─► sockets ─► underlay ─► the other host's from_underlay
//!                               ▲ judges                                      │ answers in place
//!                    paths ◄────┴── PROBES ◄── our from_underlay ◄────────────┘
//! ```
//!
//! | file | noun |
//! |---|---|
//! | `prober` | the shell: clock, map, sockets |
//! | `rounds` | the core: which paths are asked when |
//! | `busy` | which of them carry this host's live flows |
//! | `path` | one path: what was asked, what came back |
//! | `history` | the last 64 requests: up, down, loss. Up after 2 answers in a row, down after 5 losses in a row |
//! | `rtt` | round-trip time, and how long an answer is waited for |
//! | `search` | path MTU |
//! | `sockets` | how requests leave |

mod busy;
mod history;
mod path;
mod prober;
mod rounds;
mod rtt;
mod search;
mod sockets;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::nexthop::Ends;

pub use prober::Prober;

/// Between two rounds: call [`Prober::round`] that often.
pub const PROBE_INTERVAL: Duration = rounds::INTERVAL;

/// Whether a path is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum PathVerdict {
    /// The last two requests were answered.
    Up,
    /// The last five requests were lost.
    Down,
    /// Not asked, or not long enough.
    #[default]
    Unknown,
}

/// What is known of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathState {
    /// Whether it is up.
    pub verdict: PathVerdict,
    /// Smoothed round-trip time; while it is up.
    pub rtt: Option<Duration>,
    /// Of the last 64 requests, rounded up; `None` before one was judged.
    pub loss_percent: Option<u8>,
    /// Bytes of the largest IP packet that comes back; while it is up, as soon as it is found.
    pub mtu: Option<u16>,
}

/// A path to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    /// Our tunnel address and theirs.
    pub(crate) ends: Ends,
    /// Bytes of the largest IP packet that both ends declare.
    pub(crate) mtu: u16,
}

/// A request to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) ends: Ends,
    pub(crate) sequence: u32,
    pub(crate) nonce: u64,
    /// Bytes of the whole IP packet.
    pub(crate) size: u16,
    /// Requests of one lane leave by one port.
    pub(crate) lane: u64,
}

/// Why a request could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Larger than the interface takes.
    TooLarge,
    /// There is no way to the other host: as good as lost.
    NoWay,
    /// For a reason of this host's own, which says nothing of the path.
    Here,
}
