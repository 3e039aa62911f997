//! What became of the last 64 requests to a host, and whether the path is up by them.

use super::PathVerdict;

/// So many of the last judged requests in a row must be lost for a path to go down.
const DOWN: u32 = 5;
/// So many of the last judged requests in a row must be answered for a path to come up.
const UP: u32 = 2;

/// Bit 0 is the request sent last. A request is judged when it is answered or lost; one that is lost can still be
/// answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct History {
    sent: u64,
    judged: u64,
    answered: u64,
}

impl History {
    /// A request is sent; its index.
    pub(crate) fn sent(&mut self) -> u64 {
        self.sent += 1;
        self.judged <<= 1;
        self.answered <<= 1;
        self.sent
    }

    /// The request was answered.
    pub(crate) fn answered(&mut self, index: u64) {
        if let Some(bit) = self.bit(index) {
            self.judged |= bit;
            self.answered |= bit;
        }
    }

    /// The request was not answered in time.
    pub(crate) fn lost(&mut self, index: u64) {
        if let Some(bit) = self.bit(index) {
            self.judged |= bit;
        }
    }

    /// Whether the request was answered.
    pub(crate) fn is_answered(&self, index: u64) -> bool {
        self.bit(index).is_some_and(|bit| self.answered & bit != 0)
    }

    fn bit(&self, index: u64) -> Option<u64> {
        let age = u32::try_from(self.sent.checked_sub(index)?).ok()?;
        1_u64.checked_shl(age)
    }

    /// Percent of the judged requests that were lost, rounded up: nothing lost is 0, anything lost is not.
    pub(crate) fn loss_percent(&self) -> Option<u8> {
        let judged = self.judged.count_ones();
        let lost = (self.judged & !self.answered).count_ones();
        u8::try_from((lost * 100).checked_add(judged.checked_sub(1)?)? / judged).ok()
    }

    /// What the last requests say of a path that was `before`: in the order of sending, whatever the order of answers.
    pub(crate) fn verdict(&self, before: PathVerdict) -> PathVerdict {
        if self.last(DOWN, false) {
            PathVerdict::Down
        } else if self.last(UP, true) {
            PathVerdict::Up
        } else {
            before
        }
    }

    /// Whether the last `count` judged requests all had this end.
    fn last(&self, count: u32, answered: bool) -> bool {
        let mut judged = self.judged;
        for _ in 0..count {
            if judged == 0 {
                return false;
            }
            let bit = judged & judged.wrapping_neg();
            if (self.answered & bit != 0) != answered {
                return false;
            }
            judged ^= bit;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `+` answered, `-` lost, `?` not judged; the first is the oldest.
    fn of(pattern: &str) -> History {
        let mut history = History::default();
        for end in pattern.chars() {
            let index = history.sent();
            match end {
                '+' => history.answered(index),
                '-' => history.lost(index),
                _ => {}
            }
        }
        history
    }

    #[test]
    fn up_after_two_answers_down_after_five_losses() {
        use PathVerdict::{Down, Unknown, Up};
        for (pattern, before, after) in [
            ("", Unknown, Unknown),
            ("+", Unknown, Unknown),
            ("++", Unknown, Up),
            ("+-+", Unknown, Unknown),
            ("+-+", Down, Down),
            ("+-+", Up, Up),
            ("+?+", Down, Up),
            ("+-++??", Down, Up),
            ("----", Unknown, Unknown),
            ("-----", Unknown, Down),
            ("++----", Up, Up),
            ("++-----", Up, Down),
            ("++--?---?", Up, Down),
            ("++--+---", Up, Up),
            ("-----+", Down, Down),
            ("-----++", Down, Up),
            ("????????", Up, Up),
        ] {
            assert_eq!(of(pattern).verdict(before), after, "{pattern} before {before:?}");
        }
    }

    #[test]
    fn loss_is_of_the_last_64_and_never_rounded_to_nothing() {
        for (pattern, percent) in [
            (String::new(), None),
            ("???".into(), None),
            ("+++".into(), Some(0)),
            ("-".into(), Some(100)),
            (format!("-{}", "+".repeat(63)), Some(2)),
            (format!("-{}", "+".repeat(64)), Some(0)),
            ("+-".repeat(500), Some(50)),
            ("-?+?".repeat(500), Some(50)),
        ] {
            assert_eq!(of(&pattern).loss_percent(), percent, "{pattern}");
        }
    }

    #[test]
    fn a_late_answer_corrects_a_loss() {
        let mut history = of("++-----");
        assert_eq!(history.verdict(PathVerdict::Up), PathVerdict::Down);
        history.answered(7);
        history.answered(6);
        assert_eq!(history.verdict(PathVerdict::Down), PathVerdict::Up);
        assert_eq!(history.loss_percent(), Some(43));
    }

    proptest! {
        #[test]
        fn any_indices_do_no_harm(pattern in "[-+?]{0,200}", indices in prop::collection::vec(any::<u64>(), 0..20)) {
            let mut history = of(&pattern);
            for index in indices {
                history.answered(index);
                history.lost(index);
            }
            prop_assert!(history.answered & !history.judged == 0);
            prop_assert!(history.loss_percent().is_none_or(|percent| percent <= 100));
            history.verdict(PathVerdict::Unknown);
        }
    }
}
