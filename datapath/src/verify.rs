//! Whether the kernel's maps are what was written: somebody with the same rights may have changed them. Where tables of
//! domains differ they are read back, all decisions that were made from them end, and every domain is applied again; all
//! else is written again at once, but for a function whose program is gone. What programs write themselves is theirs.

use tracing::warn;

use crate::datapath::Datapath;
use crate::error::Error;
use crate::load;
use crate::tables::Tables;

/// Between two looks at all tables, in looks at what else runs.
const EVERY: u32 = 60;

/// When to look next.
#[derive(Debug, Default)]
pub(crate) struct Verify {
    looks: u32,
}

impl Datapath {
    /// Names of the maps in which something else was than was written; none is as it should be. Where tables of domains are
    /// among them, `changed` resolves, and applying every domain mends them; the others are mended.
    pub fn verify(&mut self) -> Result<Vec<&'static str>, Error> {
        if self.unknown {
            return Ok(Vec::new());
        }
        let mut found = differing(&self.maps.read()?, self.installed.tables());
        if !found.is_empty() {
            self.unknown = true;
            self.changed = true;
        }
        let (bank, is_in_force) = (self.succession.bank(), !self.succession.is_pending());
        found.extend(self.maps.mend(&self.numbers, is_in_force.then_some(bank))?);
        if load::mend(&self.stubs.ebpf, &mut self.maps, bank, is_in_force)? {
            found.push("PROGRAMS");
        }
        found.extend(self.mend_functions()?);
        Ok(found)
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
            Ok(differing) => warn!(tables = ?differing, "somebody else wrote into them: writing again"),
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
