//! What drop counters and audit rules have to count: what the model says, packet by packet.

use std::collections::BTreeMap;

use datapath::{AuditCount, DropCount, Rehearsal};
use overlay::forwarding::Direction;
use overlay::model::{Reason, Verdict};
use overlay::name::{DomainName, EndpointName, PolicyName};

use super::flow::Sent;
use super::run::Expected;

type DropKey = (Option<DomainName>, Option<EndpointName>, &'static str);
type AuditKey = (DomainName, PolicyName, Direction, u16);
/// Packets and bytes.
type Sums<K> = BTreeMap<K, (u64, u64)>;

/// What was counted when counting began, and what has to come to it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    drops: [Sums<DropKey>; 2],
    audits: [Sums<AuditKey>; 2],
}

impl Counts {
    /// Counting begins.
    pub(crate) fn begin(&mut self, maps: &Rehearsal) {
        self.drops = [drops(maps), Sums::new()];
        self.audits = [audits(maps), Sums::new()];
    }

    /// A packet has to be counted so. Rules are not asked where a decision is remembered (`fast`); of a packet that is
    /// dropped behind its decision, nobody says whether it was, so that both are right.
    pub(crate) fn add(&mut self, maps: &Rehearsal, sent: &Sent, expected: &Expected, fast: bool) {
        let dropped = match &expected.verdict {
            Verdict::Drop { reason, .. } => Some(*reason),
            _ => None,
        };
        let owner = expected.account.owner.clone();
        if let Some(reason) = dropped {
            let (domain, endpoint) = owner.clone().unzip();
            add(
                &mut self.drops[1],
                (domain, endpoint.flatten(), reason.name()),
                sent.packet.len(),
            );
        }
        if let Some((domain, _)) = &owner {
            for (endpoint, reason) in &expected.account.copies {
                let key = (Some(domain.clone()), Some(endpoint.clone()), reason.name());
                add(&mut self.drops[1], key, sent.packet.len());
            }
        }
        let Some((domain, _)) = owner.filter(|_| !fast && !expected.account.audits.is_empty()) else {
            return;
        };
        if matches!(dropped, Some(Reason::Ecn | Reason::NoRoute)) && differences(&self.audits, &audits(maps)).is_empty()
        {
            return;
        }
        for audit in &expected.account.audits {
            let key = (domain.clone(), audit.policy.clone(), audit.direction, audit.number);
            add(&mut self.audits[1], key, expected.account.length);
        }
    }

    /// Whether all was counted as it had to be.
    pub(crate) fn settle(&self, maps: &Rehearsal) -> Result<(), String> {
        let (drops, audits) = (drops(maps), audits(maps));
        let differs = differences(&self.drops, &drops);
        if !differs.is_empty() {
            return Err(format!("drops (had, has to have, has): {differs:#?}"));
        }
        let differs = differences(&self.audits, &audits);
        if differs.is_empty() {
            Ok(())
        } else {
            Err(format!("audits (had, has to have, has): {differs:#?}"))
        }
    }
}

fn add<K: Ord>(sums: &mut Sums<K>, key: K, bytes: usize) {
    let sum = sums.entry(key).or_default();
    *sum = (sum.0 + 1, sum.1 + bytes as u64);
}

fn drops(maps: &Rehearsal) -> Sums<DropKey> {
    let counted = maps.drops().expect("counters can be read");
    let key = |of: &DropCount| (of.domain.clone(), of.endpoint.clone(), of.reason);
    // The interfaces are made up: the kernel has none to copy to.
    let real = counted.iter().filter(|of| of.reason != "kernel");
    real.map(|of| (key(of), (of.packets, of.bytes))).collect()
}

fn audits(maps: &Rehearsal) -> Sums<AuditKey> {
    let counted = maps.audits().expect("counters can be read");
    let key = |of: &AuditCount| (of.domain.clone(), of.policy.clone(), of.direction, of.number);
    counted.iter().map(|of| (key(of), (of.packets, of.bytes))).collect()
}

/// Keys with what was counted, what has to be, and what is.
fn differences<'a, K: Ord>(expected: &'a [Sums<K>; 2], is: &'a Sums<K>) -> BTreeMap<&'a K, [(u64, u64); 3]> {
    let [had, more] = expected;
    let keys = had.keys().chain(more.keys()).chain(is.keys());
    let of = |key: &K| {
        let [had, more, is] = [had, more, is].map(|sums| sums.get(key).copied().unwrap_or_default());
        [had, (had.0 + more.0, had.1 + more.1), is]
    };
    keys.map(|key| (key, of(key)))
        .filter(|(_, [_, has_to, is])| has_to != is)
        .collect()
}
