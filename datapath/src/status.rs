//! What runs, for an operator to see.

use std::collections::BTreeMap;

use crate::bpffs::{Pins, entries, parse_hook};
use crate::error::Error;
use crate::netlink::Link;

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
}

/// A program on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The interface.
    pub interface: String,
    /// `from_endpoint`, `to_endpoint` or `from_underlay`.
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
