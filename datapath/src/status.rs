//! What runs, for an operator to see.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use datapath_common::{AUDIT_CONNECTIONS_FULL, AUDIT_VXLAN_RESERVED, Connection, MemberKey};
use tokio::time::Instant;

use crate::bpffs::{Pins, entries, parse_hook};
use crate::error::Error;
use crate::maps::Maps;
use crate::netlink::Link;
use crate::sweep;
use crate::{Device, SelfTest};

/// What runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Kernel release.
    pub kernel: String,
    /// Every program on every interface.
    pub hooks: Vec<Hook>,
    /// What the kernel lacks and what is done instead; empty on a current kernel.
    pub fallbacks: Vec<String>,
    /// Underlay interfaces with their MTU.
    pub underlay: Vec<(String, u32)>,
    /// The kernel's own tunnel devices: one for each encapsulation in use.
    pub devices: Vec<Device>,
    /// Whether what goes through them arrives.
    pub self_test: SelfTest,
    /// How full the tables of traffic are.
    pub counts: Counts,
    /// How long this build has waited to take over from one with other tables, whose tables are in force; nothing if this
    /// one's are.
    pub waits: Option<Duration>,
}

/// How full the tables of traffic are; up to [`COUNTED_FOR`] old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections in which both ends were heard.
    pub connections: usize,
    /// All other connections.
    pub half_open: usize,
    /// Decisions that are remembered.
    pub flows: usize,
    /// Connections since the maps were made that found the table of connections full and went on among the half-open.
    pub connections_full: u64,
    /// VXLAN packets since the maps were made whose reserved bits were set and ignored.
    pub vxlan_reserved: u64,
}

/// Counting copies whole tables, so it is not done more often.
pub const COUNTED_FOR: Duration = Duration::from_secs(10);

/// What was counted last, and when.
#[derive(Debug, Default)]
pub(crate) struct Counted(Mutex<Option<(Instant, Counts)>>);

impl Counted {
    /// What was counted last if it is young enough, or else what is counted at `now`.
    pub(crate) fn counts(&self, maps: &Maps, now: Instant) -> Result<Counts, Error> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, counts)) = *last
            && now.duration_since(at) < COUNTED_FOR
        {
            return Ok(counts);
        }
        let counts = maps.count_traffic(sweep::seconds())?;
        *last = Some((now, counts));
        Ok(counts)
    }
}

impl Maps {
    fn count_traffic(&self, now: u32) -> Result<Counts, Error> {
        let is_live = |connection: &Connection| !sweep::is_over(*connection, now);
        let audits = self.audits()?;
        let counted = |key: &MemberKey| audits.get(key).map_or(0, |count| count.packets);
        Ok(Counts {
            connections: self.connections.count(is_live)?,
            half_open: self.half_open.count(is_live)?,
            flows: self.flows.count(|_| true)?,
            connections_full: counted(&AUDIT_CONNECTIONS_FULL),
            vxlan_reserved: counted(&AUDIT_VXLAN_RESERVED),
        })
    }
}

/// A program on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The interface.
    pub interface: String,
    /// `from_endpoint`, `to_endpoint`, `from_underlay` or `from_device`.
    pub program: &'static str,
    /// `tcx` or `clsact`.
    pub mechanism: &'static str,
}

/// The hooks that are pinned, on interfaces that are there.
pub(crate) fn hooks(pins: &Pins, links: &BTreeMap<u32, Link>) -> Result<Vec<Hook>, Error> {
    let pinned = entries(&pins.hooks())?;
    Ok(pinned
        .iter()
        .filter_map(|pin| {
            let (ifindex, hook, mechanism) = parse_hook(pin)?;
            let interface = links.get(&ifindex)?.name.clone();
            Some(Hook {
                interface,
                program: hook.program(),
                mechanism: mechanism.name(),
            })
        })
        .collect())
}
