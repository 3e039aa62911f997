//! Whether what only this side writes, and every load knows, is as it was written; what is not is written again.

use std::collections::BTreeSet;

use super::{BANK, MARK, Maps};
use crate::error::Error;
use crate::numbers::{Name, Numbers};

impl Maps {
    /// Mends settings, generations, names and what a load leaves to the next; names of those maps that somebody else wrote
    /// into. `bank`: that of the programs in force, if they are this load's.
    pub(crate) fn mend(&mut self, numbers: &Numbers, bank: Option<u32>) -> Result<Vec<&'static str>, Error> {
        let mut mended = Vec::new();
        if let Some(told) = self.told
            && self.settings.get(&0)? != Some(told)
        {
            self.set_settings(told)?;
            mended.push("SETTINGS");
        }
        if self.generations.read()?.into_values().ne(self.counted.iter().copied()) {
            // What was decided by the wrong ones ends with all else.
            self.bump_all()?;
            mended.push("GENERATIONS");
        }
        if self.mend_numbers(numbers)? {
            mended.push("NUMBERS");
        }
        let mark = self.told.map(|told| (MARK, told.mark));
        let known: Vec<(u32, u32)> = mark.into_iter().chain(bank.map(|bank| (BANK, bank))).collect();
        let found = self.loads.read()?;
        if known.iter().any(|(key, value)| found.get(key) != Some(value)) {
            self.loads.put(&known).map_err(|stopped| stopped.error)?;
            mended.push("LOADS");
        }
        Ok(mended)
    }

    fn mend_numbers(&mut self, numbers: &Numbers) -> Result<bool, Error> {
        let found = self.numbers.read()?;
        let written: Vec<(u32, Name)> = numbers.all().map(|(number, name)| (number, name.clone())).collect();
        let wrong = |(number, name): &&(u32, Name)| found.get(number) != Some(&name.encode());
        let wrong: Vec<_> = written.iter().filter(wrong).cloned().collect();
        let known: BTreeSet<u32> = written.iter().map(|(number, _)| *number).collect();
        // What cannot be read is nobody's name, and keeps its number from being given out.
        let strange = found
            .iter()
            .filter(|(number, bytes)| !known.contains(number) && Name::decode(bytes).is_some());
        let strange: Vec<u32> = strange.map(|(number, _)| *number).collect();
        self.put_numbers(&wrong).map_err(|stopped| stopped.error)?;
        self.remove_numbers(&strange)?;
        Ok(!wrong.is_empty() || !strange.is_empty())
    }
}
