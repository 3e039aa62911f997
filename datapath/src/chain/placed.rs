//! What was put into the slots of functions, to know it from what others put there.

use std::collections::BTreeMap;

use datapath_common::Function;
use tracing::warn;

use super::verifier;
use crate::datapath::Datapath;
use crate::error::Error;
use crate::maps::Maps;

/// What stands in each slot, by itself and by the id of its program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Placed {
    functions: BTreeMap<u32, Function>,
    programs: BTreeMap<u32, u32>,
}

impl Placed {
    fn read(maps: &Maps) -> Result<Self, Error> {
        let mut functions = maps.functions.read()?;
        // Programs count in it.
        functions.values_mut().for_each(|function| function.failures = 0);
        Ok(Self {
            functions,
            programs: maps.chain.read()?,
        })
    }
}

impl Datapath {
    /// Keeps in mind what was placed.
    pub(crate) fn note_functions(&mut self) -> Result<(), Error> {
        self.placed = Placed::read(&self.maps)?;
        Ok(())
    }

    /// Writes again what somebody else changed; names of those maps. A program that is gone from the kernel does not come
    /// back: packets fail at its slot, and the function has to be loaded again.
    pub(crate) fn mend_functions(&mut self) -> Result<Vec<&'static str>, Error> {
        let found = Placed::read(&self.maps)?;
        let mut mended = Vec::new();
        if found.functions != self.placed.functions {
            let (wrong, strange) = difference(&found.functions, &self.placed.functions);
            self.maps.functions.put(&wrong).map_err(|stopped| stopped.error)?;
            self.maps.functions.remove(&strange).map_err(|stopped| stopped.error)?;
            mended.push("FUNCTIONS");
        }
        if found.programs != self.placed.programs {
            let (wrong, strange) = difference(&found.programs, &self.placed.programs);
            self.maps.chain.remove(&strange).map_err(|stopped| stopped.error)?;
            for (slot, id) in wrong {
                self.put_back(slot, id);
            }
            mended.push("CHAIN");
        }
        Ok(mended)
    }

    fn put_back(&self, slot: u32, id: u32) {
        let put = verifier::program_with(id).and_then(|program| {
            let put = self.maps.chain.put(&[(slot, program.number())]);
            put.map_err(|stopped| stopped.error)
        });
        if let Err(error) = put {
            let error = error.words();
            warn!(
                slot,
                error, "somebody took a function's program: load the function again"
            );
        }
    }
}

/// What has to be written, and what has to go, so that what was found is what was placed.
fn difference<V: Copy + PartialEq>(found: &BTreeMap<u32, V>, placed: &BTreeMap<u32, V>) -> (Vec<(u32, V)>, Vec<u32>) {
    let wrong = placed.iter().filter(|(slot, value)| found.get(slot) != Some(value));
    let strange = found.keys().filter(|slot| !placed.contains_key(slot));
    (
        wrong.map(|(slot, value)| (*slot, *value)).collect(),
        strange.copied().collect(),
    )
}
