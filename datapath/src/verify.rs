//! Whether the kernel's tables are what was written: somebody with the same rights may have changed them. What differs is
//! read back, all decisions that were made from it end, and every domain is applied again.

use tracing::warn;

use crate::datapath::Datapath;
use crate::error::Error;
use crate::tables::Tables;

/// Between two looks at all tables, in looks at what else runs.
const EVERY: u32 = 60;

/// When to look next.
#[derive(Debug, Default)]
pub(crate) struct Verify {
    looks: u32,
}

impl Datapath {
    /// Names of the tables in which something else is than was written; none is as it should be. Where there are some,
    /// `changed` resolves, and applying every domain mends them.
    pub fn verify(&mut self) -> Result<Vec<&'static str>, Error> {
        if self.unknown {
            return Ok(Vec::new());
        }
        let differing = differing(&self.maps.read()?, self.installed.tables());
        if !differing.is_empty() {
            self.unknown = true;
            self.changed = true;
        }
        Ok(differing)
    }

    /// One of many looks; every so often it costs a reading of all tables.
    pub(crate) fn verify_sometimes(&mut self) {
        self.verify.looks += 1;
        if self.verify.looks < EVERY {
            return;
        }
        self.verify.looks = 0;
        match self.verify() {
            Ok(differing) if differing.is_empty() => {}
            Ok(differing) => warn!(tables = ?differing, "somebody else wrote into them: applying all again"),
            Err(error) => warn!(error = error.words(), "cannot read the tables back"),
        }
    }
}

fn differing(found: &Tables, written: &Tables) -> Vec<&'static str> {
    let same = [
        ("PORTS", found.ports == written.ports),
        ("STATIONS", found.stations == written.stations),
        ("NEIGHBOURS", found.neighbours == written.neighbours),
        ("PREFIXES", found.prefixes == written.prefixes),
        ("SEGMENTS", found.segments == written.segments),
        ("DOMAINS", found.domains == written.domains),
        ("RULES", found.rules == written.rules),
        ("ROUTES", found.routes == written.routes),
        ("HOPS", found.hops == written.hops),
        ("FLOODS", found.floods == written.floods),
        ("PEERS", found.peers == written.peers),
        ("VTEPS", found.vteps == written.vteps),
    ];
    same.into_iter()
        .filter(|(_, same)| !same)
        .map(|(name, _)| name)
        .collect()
}
