//! Which keys of a scope changed of late, so that whoever made something of the scope need not make all of it again.
//! Bounded: who comes too late is told so.

use std::collections::{BTreeSet, VecDeque};

use crate::record::Key;

/// Changes that are remembered.
const REMEMBERED: usize = 4096;

/// The last changes of a scope.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// Changes ever.
    moment: u64,
    /// The last of them, oldest first.
    keys: VecDeque<Key>,
}

impl Touched {
    /// How many changes there were.
    pub(crate) fn moment(&self) -> u64 {
        self.moment
    }

    /// These keys changed.
    pub(crate) fn note<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        for key in keys {
            if self.keys.len() == REMEMBERED {
                self.keys.pop_front();
            }
            self.keys.push_back(key.clone());
            self.moment += 1;
        }
    }

    /// What changed after a moment; `None` if not all of it is remembered, or the moment never was.
    pub(crate) fn since(&self, moment: u64) -> Option<BTreeSet<Key>> {
        let ago = usize::try_from(self.moment.checked_sub(moment)?).ok()?;
        let known = self.keys.len().checked_sub(ago)?;
        Some(self.keys.iter().skip(known).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_since_is_told_as_long_as_it_is_remembered() {
        let key = |n: usize| Key::new("Endpoint", &format!("e{n}"));
        let mut touched = Touched::default();
        assert_eq!(touched.since(0), Some(BTreeSet::new()));
        touched.note([key(1), key(2), key(1)].iter());
        assert_eq!(touched.moment(), 3);
        assert_eq!(touched.since(0), Some([key(1), key(2)].into()));
        assert_eq!(touched.since(2), Some([key(1)].into()));
        assert_eq!(touched.since(3), Some(BTreeSet::new()));
        assert_eq!(touched.since(4), None, "it never was");
        let many: Vec<Key> = (0..REMEMBERED).map(key).collect();
        touched.note(many.iter());
        assert_eq!(touched.since(2), None, "one is forgotten");
        assert_eq!(touched.since(3).map(|keys| keys.len()), Some(REMEMBERED));
        assert_eq!(touched.keys.len(), REMEMBERED);
    }
}
