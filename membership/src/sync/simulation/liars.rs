//! A relay that leaves records out, puts them out of order, and tells what was true once. Nobody else takes any state for a
//! host's that this host did not sign, no other node is suspected, and all agree over the paths that are honest. Of a batch
//! of objects a part may be seen until then.

use rand::Rng;
use rand::seq::SliceRandom;

use super::seeds::{times, weather};
use super::*;
use crate::facts::sum;
use crate::record::Digest;
use crate::wire::{self, Item, Message, Part, RawBatch};

/// Frames of its own that it keeps, to say them again.
const KEPT: usize = 64;

/// Who lies.
#[derive(Debug)]
pub(super) struct Liar {
    pub(super) node: usize,
    /// What it said before, to whom.
    former: Vec<(NodeId, Bytes)>,
    /// Frames that it did not send as they were.
    lies: usize,
}

impl Liar {
    /// What it sends instead of a frame.
    pub(super) fn twist(&mut self, to: NodeId, frame: &Bytes, rng: &mut StdRng) -> Vec<Bytes> {
        let at = self.former.len();
        let kept = (to, frame.clone());
        match at < KEPT {
            true => self.former.push(kept),
            false => self.former[rng.random_range(0..KEPT)] = kept,
        }
        let mut again = || self.former[rng.random_range(0..self.former.len())].1.clone();
        let old = again();
        let said = match rng.random_range(0..10) {
            0 => Vec::new(),
            1 => vec![old],
            2 => vec![old, frame.clone()],
            3..=6 => vec![without_some(frame, rng)],
            _ => vec![frame.clone()],
        };
        self.lies += usize::from(said != [frame.clone()]);
        said
    }
}

/// The same frame, with records left out or out of order.
fn without_some(frame: &Bytes, rng: &mut StdRng) -> Bytes {
    let Ok(mut message) = wire::decode(frame) else {
        return frame.clone();
    };
    match &mut message {
        Message::Hello { root } => *root = Digest::default(),
        Message::Roots(roots) => some(roots, rng),
        Message::Part(Part { items, .. }) => {
            let facts = |item: &Item| !matches!(item, Item::Intent(_));
            let (mut facts, mut objects): (Vec<Item>, Vec<Item>) = std::mem::take(items).into_iter().partition(facts);
            some(&mut facts, rng);
            some(&mut objects, rng);
            items.extend(facts.into_iter().chain(objects));
        }
        Message::Push(RawBatch::Facts(raw)) => some(&mut raw.facts, rng),
        Message::Push(RawBatch::Intents { versions, .. }) => some(versions, rng),
        Message::Pull(pull) => some(&mut pull.vector, rng),
        Message::Detail { buckets, .. } => some(buckets, rng),
        Message::NotTaken { .. } => {}
    }
    wire::encode(&message).unwrap_or_else(|_| frame.clone())
}

/// One less, or in another order.
fn some<T>(records: &mut Vec<T>, rng: &mut StdRng) {
    match records.len() {
        0 => {}
        _ if rng.random_bool(0.3) => records.shuffle(rng),
        len => drop(records.remove(rng.random_range(0..len))),
    }
}

impl World {
    /// Of each origin, each node holds what one head that this origin signed says.
    fn check_facts_are_whole(&self) {
        for node in &self.nodes {
            let replica = node.sync.replica();
            for held in replica.scopes().flat_map(|scope| replica.heads(scope)) {
                let head = held.head.value();
                let count = u64::try_from(held.current.len()).unwrap();
                assert_eq!((head.count, head.set), (count, sum(held.current.values())), "{head:?}");
            }
        }
    }
}

/// In every other world, it is for a while the only path between two halves.
#[test]
fn a_relay_that_lies_changes_nothing_that_a_host_said() {
    let mut lies = 0;
    for seed in 0..24 * times() {
        let weather = Weather {
            nodes: 4 + u8::try_from(seed % 3).unwrap(),
            cuts: false,
            crashes: seed % 4 == 3,
            ..weather(seed)
        };
        let mut world = World::new(seed, weather);
        world.liar = Some(Liar {
            node: 0,
            former: Vec::new(),
            lies: 0,
        });
        let nodes = world.nodes.len();
        if seed % 2 == 0 {
            for (from, to) in (1..nodes).flat_map(|from| (1..nodes).map(move |to| (from, to))) {
                if from % 2 != to % 2 {
                    world.cut.insert((from, to));
                }
            }
        }
        while world.now < weather.rough {
            world.go_on(Duration::from_millis(500));
            world.check_facts_are_whole();
        }
        world.run();
        world.check_facts_are_whole();
        let from = world.nodes[0].host.id();
        let is_it = |trouble: &Trouble| matches!(trouble, Trouble::BadFrame { from: by, .. } if *by == from);
        assert!(world.troubles.iter().all(is_it), "seed {seed}: {:?}", world.troubles);
        lies += world.liar.map_or(0, |liar| liar.lies);
    }
    assert!(lies > 1_000, "{lies} lies");
}
