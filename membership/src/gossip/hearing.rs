//! Whom gossip is heard of, and what of it is believed. Members only; and while a connection to a node stands, nobody but
//! that node says which of its starts is the current one, nor that it lives ahead of its own count. So a member that makes
//! things up can at most make others look lost, or lost ones look alive, to gossip alone, which decides nothing alone.
//! Sans-I/O: time comes as an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::pace::Pace;
use super::sieve::{Beat, Poison};
use crate::id::NodeId;

/// What heartbeats may be ahead of what the node itself said last, and how much more with each second since: they are
/// counted with each round and each message.
const AHEAD: u64 = 1_000;
const AHEAD_PER_SECOND: u64 = 200;
/// How long an offence is shown.
const SHOWN: Duration = Duration::from_secs(600);
/// Most offences that are kept.
const OFFENCES_MAX: usize = 32;

/// What a peer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum Offence {
    /// A message that was refused.
    #[error("sent gossip that was refused: {0}")]
    Poison(Poison),
    /// It says of another node what that one does not say of itself. It may pass on another's word.
    #[error("gossips of node {0} what that one does not say of itself")]
    Forged(NodeId),
}

/// What a node said of itself.
#[derive(Debug, Clone, Copy)]
struct Own {
    said: Beat,
    at: Instant,
    /// Over the connection that stands.
    current: bool,
}

/// Who is heard, and what they said. At first nobody.
#[derive(Debug, Default)]
pub(crate) struct Hearing {
    members: BTreeSet<NodeId>,
    connected: BTreeSet<NodeId>,
    muted: BTreeMap<NodeId, Instant>,
    selves: BTreeMap<NodeId, Own>,
    /// The boldest claim about a node that its own word does not cover, and who made it.
    claims: BTreeMap<NodeId, (Beat, NodeId)>,
    offences: BTreeMap<(NodeId, Offence), Instant>,
    /// Whose bytes chitchat read last.
    last: Option<NodeId>,
    pace: Pace,
    poked: BTreeSet<NodeId>,
}

impl Hearing {
    /// Takes the members, this node left out.
    pub(crate) fn members(&mut self, members: BTreeSet<NodeId>) {
        self.selves.retain(|node, _| members.contains(node));
        self.claims.retain(|node, _| members.contains(node));
        self.poked.retain(|node| members.contains(node));
        self.members = members;
    }

    /// Members that are not among these.
    pub(crate) fn missing(&self, live: &BTreeSet<NodeId>) -> Vec<NodeId> {
        self.members.difference(live).copied().collect()
    }

    /// A connection to a node came up or was lost: what it said before may be of an earlier start.
    pub(crate) fn connection(&mut self, node: NodeId, stands: bool) {
        if stands {
            self.connected.insert(node);
        } else {
            self.connected.remove(&node);
        }
        if let Some(own) = self.selves.get_mut(&node) {
            own.current = false;
        }
    }

    /// Does not hear a node until then.
    pub(crate) fn mute(&mut self, node: NodeId, until: Instant) {
        self.muted.insert(node, until);
    }

    /// Those who are not heard.
    pub(crate) fn muted(&mut self, now: Instant) -> BTreeSet<NodeId> {
        self.muted.retain(|_, until| *until > now);
        self.muted.keys().copied().collect()
    }

    /// chitchat reads this node's bytes, or nobody's.
    pub(crate) fn reads(&mut self, from: Option<NodeId>) {
        self.last = from;
    }

    /// Whose bytes chitchat read last, forgotten by asking.
    pub(crate) fn take_last(&mut self) -> Option<NodeId> {
        self.last.take()
    }

    /// Whether a node's messages are read at all.
    pub(crate) fn hears(&mut self, node: NodeId, now: Instant) -> bool {
        self.members.contains(&node) && !self.muted(now).contains(&node)
    }

    /// The next exchange with a node is to be opened in any case.
    pub(crate) fn poked(&mut self, node: NodeId) {
        if self.members.contains(&node) {
            self.poked.insert(node);
        }
    }

    /// Whether to open an exchange with a node.
    pub(crate) fn opens(&mut self, node: NodeId) -> bool {
        self.poked.remove(&node) || self.pace.opens(self.members.len() + 1)
    }

    /// What to believe of what `from` says of `node`.
    pub(crate) fn believes(&mut self, from: NodeId, node: NodeId, said: Beat, now: Instant) -> Option<Beat> {
        if !self.members.contains(&node) {
            return None;
        }
        if from == node {
            return self.itself(node, said, now);
        }
        let own = match self.selves.get(&node) {
            None => return Some(said),
            Some(own) => *own,
        };
        if said.generation < own.said.generation {
            return None;
        }
        if said.generation > own.said.generation {
            if own.current {
                self.claim(from, node, said);
            }
            return (!own.current).then_some(said);
        }
        let seconds = now.saturating_duration_since(own.at).as_secs();
        let most = own
            .said
            .heartbeat
            .saturating_add(AHEAD)
            .saturating_add(AHEAD_PER_SECOND.saturating_mul(seconds));
        if said.heartbeat > most {
            self.claim(from, node, said);
        }
        Some(Beat {
            heartbeat: said.heartbeat.min(most),
            ..said
        })
    }

    fn claim(&mut self, from: NodeId, node: NodeId, said: Beat) {
        let boldest = self.claims.entry(node).or_insert((said, from));
        if said > boldest.0 {
            *boldest = (said, from);
        }
    }

    /// A node's own word. What others claimed before and it does not bear out was made up: its count only rises.
    fn itself(&mut self, node: NodeId, said: Beat, now: Instant) -> Option<Beat> {
        let before = self.selves.get(&node);
        if before.is_some_and(|before| before.current && said < before.said) {
            // Overtaken on the way.
            return None;
        }
        let current = self.connected.contains(&node);
        self.selves.insert(node, Own { said, at: now, current });
        if let Some((claimed, by)) = self.claims.remove(&node) {
            let ahead = claimed.heartbeat > said.heartbeat.saturating_add(AHEAD);
            if claimed.generation > said.generation || (claimed.generation == said.generation && ahead) {
                self.report(by, Offence::Forged(node), now);
            }
        }
        Some(said)
    }

    /// Which start of a node is the current one, where it said so itself over the connection that stands.
    pub(crate) fn generation(&self, node: NodeId) -> Option<u64> {
        let own = self.selves.get(&node).filter(|own| own.current)?;
        Some(own.said.generation)
    }

    /// Notes what a peer did. Says whether it was not shown already.
    pub(crate) fn report(&mut self, node: NodeId, offence: Offence, now: Instant) -> bool {
        self.offences.retain(|_, at| now.saturating_duration_since(*at) < SHOWN);
        let key = (node, offence);
        if self.offences.len() >= OFFENCES_MAX && !self.offences.contains_key(&key) {
            return false;
        }
        let first = self.offences.insert(key, now).is_none();
        if first {
            tracing::warn!(peer = %node, "a peer {offence}");
        }
        first
    }

    /// What peers did in the last minutes.
    pub(crate) fn offences(&self, now: Instant) -> Vec<(NodeId, Offence)> {
        let fresh = |at: Instant| now.saturating_duration_since(at) < SHOWN;
        let shown = self.offences.iter().filter(|(_, at)| fresh(**at));
        shown.map(|(offence, _)| *offence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gossip::sieve::tests::node;

    fn beat(generation: u64, heartbeat: u64) -> Beat {
        Beat { generation, heartbeat }
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some point in time to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    /// Of node 0, with members 1 to 3, of which 1 is connected and said so much of itself.
    fn hearing(said: Beat, now: Instant) -> Hearing {
        let mut hearing = Hearing::default();
        hearing.members((1..=3).map(node).collect());
        hearing.connection(node(1), true);
        assert_eq!(hearing.believes(node(1), node(1), said, now), Some(said));
        hearing
    }

    #[test]
    fn of_strangers_and_of_itself_nothing_is_believed() {
        let now = start();
        let mut hearing = hearing(beat(1, 1), now);
        assert_eq!(hearing.believes(node(1), node(9), beat(1, 1), now), None);
        assert_eq!(hearing.believes(node(1), node(0), beat(1, 1), now), None);
        assert_eq!(
            hearing.believes(node(1), node(2), beat(5, 5), now),
            Some(beat(5, 5)),
            "not heard itself yet"
        );
    }

    #[test]
    fn a_start_that_a_connected_node_does_not_know_is_a_lie_and_named() {
        let now = start();
        let mut hearing = hearing(beat(7, 1), now);
        assert_eq!(hearing.believes(node(2), node(1), beat(8, 1), now), None);
        assert_eq!(hearing.generation(node(1)), Some(7));
        assert_eq!(hearing.offences(now), [], "it may have been restarted a moment ago");
        hearing.believes(node(1), node(1), beat(7, 2), now);
        assert_eq!(hearing.offences(now), [(node(2), Offence::Forged(node(1)))]);
        assert_eq!(hearing.offences(now + SHOWN), []);
    }

    #[test]
    fn a_restart_is_believed_of_others_once_the_connection_is_lost() {
        let now = start();
        let mut hearing = hearing(beat(7, 1), now);
        hearing.connection(node(1), false);
        assert_eq!(hearing.believes(node(2), node(1), beat(8, 1), now), Some(beat(8, 1)));
        assert_eq!(hearing.generation(node(1)), None);
        hearing.connection(node(1), true);
        assert_eq!(hearing.believes(node(2), node(1), beat(8, 2), now), Some(beat(8, 2)));
        hearing.believes(node(1), node(1), beat(8, 3), now);
        assert_eq!(hearing.generation(node(1)), Some(8));
        assert_eq!(
            hearing.believes(node(2), node(1), beat(7, 900), now),
            None,
            "the earlier start is over"
        );
        assert_eq!(hearing.offences(now), []);
    }

    #[test]
    fn a_restart_that_others_tell_first_is_no_lie() {
        let now = start();
        let mut hearing = hearing(beat(7, 1), now);
        assert_eq!(hearing.believes(node(2), node(1), beat(8, 1), now), None);
        hearing.believes(node(1), node(1), beat(8, 2), now);
        assert_eq!(hearing.offences(now), []);
    }

    #[test]
    fn heartbeats_far_ahead_are_cut_so_that_the_node_catches_up() {
        let now = start();
        let mut hearing = hearing(beat(1, 100), now);
        let fresh = beat(1, 100 + AHEAD);
        assert_eq!(hearing.believes(node(2), node(1), fresh, now), Some(fresh));
        assert_eq!(hearing.believes(node(2), node(1), beat(1, u64::MAX), now), Some(fresh));
        let later = now + Duration::from_secs(10);
        let most = beat(1, 100 + AHEAD + 10 * AHEAD_PER_SECOND);
        assert_eq!(hearing.believes(node(3), node(1), beat(1, u64::MAX), later), Some(most));
        hearing.believes(node(1), node(1), beat(1, 500), later);
        assert_eq!(
            hearing.offences(later),
            [(node(2), Offence::Forged(node(1)))],
            "the first who claimed most"
        );
    }

    #[test]
    fn words_of_a_node_that_overtook_each_other_are_no_offence() {
        let now = start();
        let mut hearing = hearing(beat(1, 100), now);
        assert_eq!(hearing.believes(node(1), node(1), beat(1, 99), now), None);
        assert_eq!(
            hearing.believes(node(1), node(1), beat(1, 101), now),
            Some(beat(1, 101))
        );
        assert_eq!(hearing.offences(now), []);
        // Its disk was full when it started: over another connection it may count from anywhere.
        hearing.connection(node(1), true);
        assert_eq!(hearing.believes(node(1), node(1), beat(0, 1), now), Some(beat(0, 1)));
        assert_eq!(hearing.generation(node(1)), Some(0));
    }

    #[test]
    fn who_ended_the_task_is_muted_for_a_while_and_others_are_heard() {
        let now = start();
        let mut hearing = hearing(beat(1, 1), now);
        let until = now + super::super::MUTED;
        hearing.reads(Some(node(1)));
        assert_eq!((hearing.take_last(), hearing.take_last()), (Some(node(1)), None));
        hearing.mute(node(1), until);
        assert!(!hearing.hears(node(1), now) && hearing.hears(node(2), now) && !hearing.hears(node(9), now));
        assert_eq!(hearing.muted(now), BTreeSet::from([node(1)]));
        assert!(hearing.hears(node(1), until));
        assert_eq!(hearing.muted(until), BTreeSet::new());
    }

    #[test]
    fn who_is_poked_is_spoken_to_in_a_full_cell_too() {
        let mut hearing = Hearing::default();
        let many: BTreeSet<_> = (0..=255).map(node).collect();
        hearing.members(many);
        assert!((0..100).all(|_| hearing.opens(node(1))));
        hearing.poked(node(2));
        assert_eq!(hearing.poked.len(), 1);
        assert!(hearing.opens(node(2)) && hearing.poked.is_empty());
        hearing.poked(NodeId::of_key(&[1u8, 2].repeat(16).try_into().unwrap()));
        assert!(hearing.poked.is_empty(), "no member");
    }

    #[test]
    fn offences_are_bounded() {
        let now = start();
        let mut hearing = hearing(beat(1, 1), now);
        for n in 0..=255 {
            hearing.report(node(n), Offence::Poison(Poison::Keys), now);
        }
        assert_eq!(hearing.offences(now).len(), OFFENCES_MAX);
    }
}
