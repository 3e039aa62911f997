//! What came out of a run: if something hardly happens, it is hardly tested.

use std::collections::BTreeMap;
use std::fmt;

use overlay::model::{Reason, Verdict};

/// How often what happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Statistics {
    pub(crate) packets: usize,
    /// Decided by the fast path.
    pub(crate) fast: usize,
    verdicts: BTreeMap<&'static str, usize>,
    reasons: BTreeMap<&'static str, usize>,
}

/// All verdicts, and drops that the workload is told of.
const VERDICTS: [&str; 7] = ["pass", "deliver", "encapsulate", "flood", "reply", "drop", "told"];

impl Statistics {
    pub(crate) fn count(&mut self, verdict: &Verdict, fast: bool) {
        self.packets += 1;
        self.fast += usize::from(fast);
        let name = match verdict {
            Verdict::Pass => "pass",
            Verdict::Deliver { .. } => "deliver",
            Verdict::Encapsulate { .. } => "encapsulate",
            Verdict::Flood { .. } => "flood",
            Verdict::Reply(_) => "reply",
            Verdict::Drop { error: None, .. } => "drop",
            Verdict::Drop { error: Some(_), .. } => "told",
        };
        *self.verdicts.entry(name).or_default() += 1;
        if let Verdict::Drop { reason, .. } = verdict {
            *self.reasons.entry(reason.name()).or_default() += 1;
        }
    }

    /// With what another one counted.
    pub(crate) fn with(mut self, other: &Self) -> Self {
        self.packets += other.packets;
        self.fast += other.fast;
        let maps = [
            (&mut self.verdicts, &other.verdicts),
            (&mut self.reasons, &other.reasons),
        ];
        for (map, more) in maps {
            for (name, count) in more {
                *map.entry(name).or_default() += count;
            }
        }
        self
    }

    /// What happened less often than so many times in 50,000 packets.
    pub(crate) fn rare(&self, least: usize) -> Vec<&'static str> {
        let least = least * self.packets / 50_000;
        let reasons = Reason::ALL.iter().map(|reason| reason.name());
        let often = |name: &&str| {
            let count = self.reasons.get(name).or(self.verdicts.get(name));
            count.is_some_and(|count| *count >= least)
        };
        reasons.chain(VERDICTS).filter(|name| !often(name)).collect()
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} packets, {} by the fast path", self.packets, self.fast)?;
        writeln!(f, "{:?}", self.verdicts)?;
        write!(f, "{:?}", self.reasons)
    }
}
