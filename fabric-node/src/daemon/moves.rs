//! The move counter of an endpoint: only an attach raises it, and an endpoint that moves too often is refused.

use std::time::Duration;

use membership::hlc::Stamp;
use membership::id::NodeId;
use overlay::fact::{Attachment, Binding};

/// Moves that are allowed within [`WINDOW`].
const MOVES_IN_WINDOW: usize = 4;
/// See [`MOVES_IN_WINDOW`].
const WINDOW: Duration = Duration::from_secs(180);
/// Stamps that an attachment carries.
const STAMPS: usize = 5;

/// Why an endpoint cannot be attached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it moved {MOVES_IN_WINDOW} times within {} s; two hosts may be fighting for it; try again in {wait} s", WINDOW.as_secs())]
pub(super) struct TooManyMoves {
    /// Seconds until it can move again.
    wait: u64,
}

/// What an attach has to say, given who says now that the endpoint is where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: it is attached here in this way.
    Same,
    /// This.
    Say(Attachment),
}

/// The attachment that follows the one in force.
pub(super) fn next(
    current: Option<&(NodeId, Attachment)>,
    here: NodeId,
    binding: Binding,
    now: Stamp,
) -> Result<Next, TooManyMoves> {
    let Some((host, attachment)) = current else {
        return Ok(Next::Say(Attachment {
            counter: 1,
            moves: Vec::new(),
            binding,
        }));
    };
    if *host == here && attachment.binding == binding {
        return Ok(Next::Same);
    }
    let counter = attachment.counter.saturating_add(1);
    if *host == here {
        return Ok(Next::Say(Attachment {
            counter,
            moves: attachment.moves.clone(),
            binding,
        }));
    }
    let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX);
    let recent = |stamp: &&Stamp| now.millis.saturating_sub(stamp.millis) < window;
    let recent: Vec<&Stamp> = attachment.moves.iter().filter(recent).collect();
    if recent.len() >= MOVES_IN_WINDOW {
        let oldest = recent[recent.len() - MOVES_IN_WINDOW].millis;
        let wait = (oldest.min(now.millis) + window - now.millis).div_ceil(1000);
        return Err(TooManyMoves { wait });
    }
    let keep = attachment.moves.len().saturating_sub(STAMPS - 1);
    let moves = attachment.moves[keep..].iter().copied().chain([now]).collect();
    Ok(Next::Say(Attachment {
        counter,
        moves,
        binding,
    }))
}

/// What to say to have `before` again after `failed` was said in its place: the counter only rises.
pub(super) fn back(before: &Attachment, failed: &Attachment) -> Attachment {
    Attachment {
        counter: failed.counter.saturating_add(1),
        ..before.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(seed: u8) -> NodeId {
        NodeId::of_key(&[seed; 32])
    }

    fn tap(name: &str) -> Binding {
        Binding::Interface { name: name.to_owned() }
    }

    fn at(seconds: u64) -> Stamp {
        Stamp {
            millis: seconds * 1000,
            logical: 0,
        }
    }

    fn said(next: Result<Next, TooManyMoves>) -> Attachment {
        match next {
            Ok(Next::Say(attachment)) => attachment,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_attach_is_no_move() {
        let first = said(next(None, node(1), tap("t0"), at(1)));
        assert_eq!((first.counter, first.moves.len()), (1, 0));
    }

    #[test]
    fn the_same_again_says_nothing_and_another_interface_is_no_move() {
        let current = (node(1), said(next(None, node(1), tap("t0"), at(1))));
        assert_eq!(next(Some(&current), node(1), tap("t0"), at(2)), Ok(Next::Same));
        let other = said(next(Some(&current), node(1), tap("t1"), at(2)));
        assert_eq!((other.counter, other.moves.len()), (2, 0));
    }

    #[test]
    fn a_failed_change_of_the_interface_goes_back_with_a_higher_counter() {
        let before = said(next(None, node(1), tap("t0"), at(1)));
        let failed = said(next(Some(&(node(1), before.clone())), node(1), tap("lo"), at(2)));
        let again = back(&before, &failed);
        assert_eq!((again.binding, again.counter), (tap("t0"), 3));
    }

    #[test]
    fn a_fifth_move_within_the_window_is_refused_until_it_is_over() {
        let mut current = (node(0), said(next(None, node(0), tap("t0"), at(0))));
        for turn in 1..=4u8 {
            let here = node(turn % 2);
            current = (here, said(next(Some(&current), here, tap("t0"), at(u64::from(turn)))));
        }
        assert_eq!(current.1.moves, [at(1), at(2), at(3), at(4)]);
        assert_eq!(
            next(Some(&current), node(1), tap("t0"), at(10)),
            Err(TooManyMoves { wait: 171 })
        );
        let later = said(next(Some(&current), node(1), tap("t0"), at(181)));
        assert_eq!((later.counter, later.moves.len()), (6, 5));
        let much_later = said(next(Some(&(node(1), later)), node(0), tap("t0"), at(999)));
        assert_eq!(much_later.moves, [at(2), at(3), at(4), at(181), at(999)]);
    }
}
