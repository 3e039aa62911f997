//! What the kernel dropped on our interfaces, behind the programs: read from the interfaces' own counters.

use std::collections::BTreeMap;

use datapath_common::{Count, DropKey, Reason};
use tracing::warn;

use crate::datapath::Datapath;

/// Looks between two readings for each thousand interfaces.
const PER_LOOK: usize = 1000;

/// Packets that the kernel dropped on an interface since it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Statistics {
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

/// What was lost since the start of the process, or since an interface was made if that is longer ago.
#[derive(Debug, Default)]
pub(crate) struct Lost {
    seen: BTreeMap<u32, Statistics>,
    counts: BTreeMap<DropKey, Count>,
    /// Looks until the next reading.
    rest: usize,
}

/// Whose an interface is: the domain's and the endpoint's number.
pub(crate) type Whose = (u32, u32);

impl Lost {
    /// Adds what `statistics` say beyond what they said before. An interface that counts less than before is another one.
    fn note(&mut self, owners: &BTreeMap<u32, Whose>, statistics: &BTreeMap<u32, Statistics>) {
        self.seen.retain(|ifindex, _| owners.contains_key(ifindex));
        for (ifindex, (domain, endpoint)) in owners {
            let Some(now) = statistics.get(ifindex).copied() else {
                continue;
            };
            let before = self.seen.insert(*ifindex, now).unwrap_or_default();
            let more = |now: u64, before: u64| now.checked_sub(before).unwrap_or(now);
            for (reason, packets) in [
                (Reason::DeviceReceive, more(now.received, before.received)),
                (Reason::DeviceTransmit, more(now.sent, before.sent)),
            ] {
                if packets > 0 {
                    let key = DropKey {
                        domain: *domain,
                        endpoint: *endpoint,
                        reason: reason as u32,
                    };
                    self.counts.entry(key).or_insert(Count { packets: 0, bytes: 0 }).packets += packets;
                }
            }
        }
    }

    /// The counters. The kernel does not count bytes.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (DropKey, Count)> {
        self.counts.iter().map(|(key, count)| (*key, *count))
    }

    /// Forgets the counters of numbers that are given up.
    pub(crate) fn forget(&mut self, is_spare: impl Fn(u32) -> bool) {
        self.counts
            .retain(|key, _| !is_spare(key.domain) && !is_spare(key.endpoint));
    }
}

impl Datapath {
    /// To be called at every look. Reads all counters at once, and seldom where there are many interfaces.
    pub(crate) async fn look_at_losses(&mut self) {
        self.lost.rest = self.lost.rest.saturating_sub(1);
        if self.lost.rest > 0 {
            return;
        }
        self.lost.rest = 1 + self.links.len() / PER_LOOK;
        let ports = self.installed.tables().ports.iter();
        let mut owners: BTreeMap<u32, Whose> = ports
            .map(|(ifindex, port)| (*ifindex, (port.domain, port.endpoint)))
            .collect();
        owners.extend(self.devices.indices().map(|ifindex| (ifindex, (0, 0))));
        if owners.is_empty() {
            return;
        }
        match self.netlink.statistics().await {
            Ok(statistics) => self.lost.note(&owners, &statistics),
            Err(error) => warn!(error = error.words(), "cannot read the interfaces' counters"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_added_up_over_interfaces_that_come_and_go() {
        let mut lost = Lost::default();
        let owners = BTreeMap::from([(5, (1, 2)), (6, (0, 0))]);
        let said = |received, sent| BTreeMap::from([(5, Statistics { received, sent }), (7, Statistics::default())]);
        let counted = |lost: &Lost| -> Vec<_> {
            lost.counts()
                .map(|(key, count)| (key.endpoint, key.reason, count.packets))
                .collect()
        };
        lost.note(&owners, &said(0, 3));
        assert_eq!(counted(&lost), [(2, 45, 3)]);
        lost.note(&owners, &said(1, 3));
        assert_eq!(counted(&lost), [(2, 44, 1), (2, 45, 3)]);
        // Another interface with the index of one that is gone.
        lost.note(&owners, &said(0, 2));
        assert_eq!(counted(&lost), [(2, 44, 1), (2, 45, 5)]);
        lost.note(&BTreeMap::new(), &said(9, 9));
        lost.note(&owners, &said(1, 0));
        assert_eq!(counted(&lost), [(2, 44, 2), (2, 45, 5)]);
        lost.forget(|number| number == 2);
        assert_eq!(counted(&lost), []);
    }
}
