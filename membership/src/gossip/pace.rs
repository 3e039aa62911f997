//! How often gossip speaks. chitchat opens three exchanges every 250 ms, each with a digest of the whole cell; in cells of
//! more than 300 members only so many of them are sent that the bytes stay those of 300. Answers always are.

/// Members up to which every exchange is opened.
pub(crate) const FULL: usize = 300;

/// Says which exchanges are opened.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// In parts of one exchange.
    credit: usize,
}

impl Pace {
    /// Whether to open the next exchange, in a cell of so many members.
    pub(crate) fn opens(&mut self, members: usize) -> bool {
        self.credit = self.credit.min(members) + FULL.min(members);
        let opens = self.credit >= members;
        if opens {
            self.credit -= members;
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_opened_up_to_three_hundred_members_and_their_share_beyond() {
        for (members, opened) in [
            (0, 800),
            (1, 800),
            (3, 800),
            (300, 800),
            (400, 600),
            (600, 400),
            (800, 300),
        ] {
            let mut pace = Pace::default();
            let count = (0..800).filter(|_| pace.opens(members)).count();
            assert_eq!(count, opened, "{members} members");
        }
    }

    #[test]
    fn a_cell_that_shrinks_is_not_owed_a_burst_nor_one_that_grows_a_silence() {
        let mut pace = Pace::default();
        assert!((0..1_000).filter(|_| pace.opens(800)).count() > 300);
        assert!((0..10).all(|_| pace.opens(2)));
        assert!((0..4).any(|_| pace.opens(800)), "at least every third");
    }
}
