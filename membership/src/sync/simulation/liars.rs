//! A relay that leaves records out, puts them out of order, and tells what was true once. Nobody else takes any state for a
//! host's that this host did not sign, no other node is suspected, and all agree over the paths that are honest. Of a batch
//! of objects a part may be seen until then.

use rand::Rng;
use rand::seq::SliceRandom;

use super::seeds::{times, weather};
use super::*;
use crate::facts::sum;
use crate::fixture::{domain, write};
use crate::record::{Digest, Fact};
use crate::signed::{Raw, Signed};
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
    /// It only leaves out the first of what this node says.
    keeps_back: Option<NodeId>,
}

impl Liar {
    fn keeping_back(node: usize, of: NodeId) -> Self {
        Self {
            node,
            former: Vec::new(),
            lies: 0,
            keeps_back: Some(of),
        }
    }

    /// What it sends instead of a frame.
    pub(super) fn twist(&mut self, to: NodeId, frame: &Bytes, rng: &mut StdRng) -> Vec<Bytes> {
        if let Some(of) = self.keeps_back {
            return vec![without_first_of(frame, of)];
        }
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

/// The same frame without the first fact of this node, but with its head.
fn without_first_of(frame: &Bytes, of: NodeId) -> Bytes {
    let Ok(mut message) = wire::decode(frame) else {
        return frame.clone();
    };
    let is_of = |raw: &Raw| Signed::<Fact>::trust(raw.clone()).is_ok_and(|fact| fact.value().origin == of);
    match &mut message {
        Message::Part(Part { items, .. }) => {
            let first = items
                .iter()
                .position(|item| matches!(item, Item::Fact(raw) if is_of(raw)));
            first.map(|first| items.remove(first));
        }
        Message::Push(RawBatch::Facts(raw)) if raw.facts.first().is_some_and(is_of) => drop(raw.facts.remove(0)),
        _ => {}
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
            keeps_back: None,
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
        let is_it = |trouble: &Trouble| match trouble {
            Trouble::BadFrame { from: by, .. } | Trouble::Withheld { from: by, .. } => *by == from,
            _ => false,
        };
        assert!(world.troubles.iter().all(is_it), "seed {seed}: {:?}", world.troubles);
        lies += world.liar.map_or(0, |liar| liar.lies);
    }
    assert!(lies > 1_000, "{lies} lies");
}

/// The only path between two nodes keeps back the first of what one of them says, as long as it is the only one: the other one
/// shows what that node once signed and no part of anything later, names the relay, and has all as soon as there is
/// another path.
#[test]
fn what_the_only_path_keeps_back_is_seen_and_comes_over_another_one() {
    let weather = Weather {
        nodes: 4,
        cuts: false,
        rough: Duration::from_secs(3_600),
        loss: 0.0,
        ..weather(0)
    };
    let mut world = World::new(0, weather);
    world.quiet = true;
    let (far, relay, near) = (3, 0, 1);
    let ids: Vec<NodeId> = world.nodes.iter().map(|node| node.host.id()).collect();
    let (red, key) = (domain("red"), |name: &str| Key::new("K", name));
    let shown = |world: &World, name: &str| {
        let replica = world.nodes[near].sync.replica();
        Some(replica.fact(&red, ids[far], &key(name))?.body.clone()?.bytes)
    };
    world.say_these(far, red.clone(), vec![write("a", Some("1")), write("b", Some("1"))]);
    world.until("still different", |world| world.agree() && shown(world, "b").is_some());

    for other in [1, 2] {
        world.cut.extend([(far, other), (other, far)]);
    }
    world.liar = Some(Liar::keeping_back(relay, ids[far]));
    for text in ["2", "3"] {
        world.say_these(
            far,
            red.clone(),
            vec![write("a", Some(text)), write("b", Some(text)), write("c", Some(text))],
        );
        world.go_on(Duration::from_secs(20));
        world.check_facts_are_whole();
    }
    let of = |name| shown(&world, name);
    assert_eq!(
        (of("a").as_deref(), of("c")),
        (Some(&b"1"[..]), None),
        "what it signed once"
    );
    let withheld = Trouble::Withheld {
        from: ids[relay],
        origin: ids[far],
        scope: red.clone(),
    };
    assert!(world.troubles.contains(&withheld), "{:?}", world.troubles);
    assert!(
        world.troubles.iter().all(|trouble| *trouble == withheld),
        "{:?}",
        world.troubles
    );

    world.cut.remove(&(far, near));
    world.cut.remove(&(near, far));
    // Also the third one, which hears the relay and the honest one.
    let has_all = |world: &World| {
        let texts = [shown(world, "a"), shown(world, "c")];
        let roots = [2, near].map(|node| world.nodes[node].sync.replica().root(&red));
        texts.iter().all(|text| text.as_deref() == Some(&b"3"[..])) && roots[0] == roots[1]
    };
    world.until("the honest path does not bring it", has_all);
}
