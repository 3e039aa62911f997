//! Numbers of sets of rules, of sets of next hops and of routers: one that stands for something installed is never given
//! to anything else, so that a packet that read it meets what it stood for, or nothing.

/// Gives out numbers in ascending order, so that one that was given up is not soon met again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fresh {
    last: u32,
}

impl Fresh {
    /// Above the highest number that is installed.
    pub(crate) fn above(highest: u32) -> Self {
        Self { last: highest }
    }

    /// A number that is not zero, not [`u32::MAX`] (which stands for a counter of `AUDITS`), and not in use.
    pub(crate) fn number(&mut self, is_used: impl Fn(u32) -> bool) -> u32 {
        loop {
            self.last = match self.last {
                0..=0xffff_fffd => self.last + 1,
                _ => 1,
            };
            if !is_used(self.last) {
                return self.last;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_start_over_and_pass_by_what_is_used() {
        let mut fresh = Fresh::above(u32::MAX - 2);
        let numbers = [(); 3].map(|()| fresh.number(|number| number == 2));
        assert_eq!(numbers, [u32::MAX - 1, 1, 3]);
    }
}
