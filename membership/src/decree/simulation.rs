//! Anchors that propose at once over a wire that loses, repeats and reorders, and whose chains fall back when they crash
//! (ledgers do not: they are synced). After each step: one decree per version, whoever learned it. At the end: all is
//! done that can be, and all agree.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::tests::{founded, key_of};
use super::*;
use crate::fixture::Host;

#[derive(Debug, Clone)]
enum Message {
    Ask(Request),
    Say(Answer),
}

struct Anchor {
    host: Host,
    chain: Chain,
    /// What of the chain is on disk.
    kept: Kept,
    ledger: Ledger,
    wants: Vec<Act>,
    trying: Option<Proposal>,
    heard: Option<Ballot>,
}

impl Anchor {
    fn id(&self) -> NodeId {
        self.host.id()
    }

    /// Whether a want is over: done, or impossible from here on.
    fn prune(&mut self) {
        let now = self.chain.now();
        self.wants.retain(|act| now.after(&now.next(act.clone())).is_ok());
        if now.seat(self.host.id()).is_none() {
            self.wants.clear();
        }
    }
}

struct World {
    anchors: Vec<Anchor>,
    wire: Vec<(NodeId, NodeId, Message)>,
    decided: BTreeMap<u64, Decree>,
    rng: StdRng,
    /// Messages of 100 that are lost; as many are repeated.
    trouble: u32,
}

impl World {
    fn new(seed: u64, count: u8) -> Self {
        let hosts: Vec<Host> = (1..=count).map(Host::new).collect();
        let standing = founded(&hosts.iter().collect::<Vec<_>>());
        let anchor = |host: &Host| {
            let chain = Chain::new(standing.clone());
            Anchor {
                host: host.clone(),
                kept: chain.keep(),
                chain,
                ledger: Ledger::default(),
                wants: Vec::new(),
                trying: None,
                heard: None,
            }
        };
        Self {
            anchors: hosts.iter().map(anchor).collect(),
            wire: Vec::new(),
            decided: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            trouble: 20,
        }
    }

    fn place(&self, node: NodeId) -> Option<usize> {
        self.anchors.iter().position(|anchor| anchor.id() == node)
    }

    fn step(&mut self) {
        let at = self.rng.random_range(0..self.anchors.len());
        match self.rng.random_range(0..100) {
            0..3 if self.trouble > 0 => self.crash(at),
            0..20 => self.tick(at),
            _ => self.deliver(),
        }
    }

    /// The process ends: what was not on disk is gone, the ledger was.
    fn crash(&mut self, at: usize) {
        let anchor = &mut self.anchors[at];
        anchor.chain = Chain::restore(anchor.kept.clone());
        (anchor.trying, anchor.heard) = (None, None);
    }

    fn tick(&mut self, at: usize) {
        let anchor = &mut self.anchors[at];
        if self.rng.random_bool(0.5) {
            anchor.kept = anchor.chain.keep();
        }
        anchor.prune();
        let Some(act) = anchor.wants.first().cloned() else {
            return;
        };
        // A try has its time; what is still on the wire then counts for nothing.
        if anchor.trying.is_some() && self.rng.random_bool(0.95) && !self.wire.is_empty() {
            return;
        }
        let (now, id) = (anchor.chain.now().clone(), anchor.id());
        // A round that no crash repeats: the world's randomness, far above what was heard.
        let round = anchor.heard.map_or(0, |ballot| ballot.round) + self.rng.random_range(1..1_000_000);
        let ballot = Ballot { round, by: id };
        let (proposal, request) = Proposal::new(now.clone(), now.next(act), ballot);
        anchor.trying = Some(proposal);
        self.ask_all(&now, id, &request);
    }

    fn ask_all(&mut self, standing: &Standing, from: NodeId, request: &Request) {
        for seat in standing.seats() {
            self.wire.push((from, seat.node, Message::Ask(request.clone())));
        }
    }

    fn deliver(&mut self) {
        if self.wire.is_empty() {
            return;
        }
        let place = self.rng.random_range(0..self.wire.len());
        let lost = self.rng.random_range(0..100) < self.trouble;
        let again = self.rng.random_range(0..100) < self.trouble;
        let (from, to, message) = if again {
            self.wire[place].clone()
        } else {
            self.wire.swap_remove(place)
        };
        let Some(at) = self.place(to).filter(|_| !lost) else {
            return;
        };
        match message {
            Message::Ask(request) => {
                let anchor = &mut self.anchors[at];
                if let Request::Learn(steps) = &request {
                    anchor.chain.take(steps);
                }
                let answer = anchor.ledger.answer(&anchor.chain, &anchor.host, from, &request);
                self.wire.push((to, from, Message::Say(answer)));
            }
            Message::Say(answer) => self.hear(at, from, answer),
        }
    }

    fn hear(&mut self, at: usize, from: NodeId, answer: Answer) {
        let anchor = &mut self.anchors[at];
        let id = anchor.id();
        let Some(proposal) = &mut anchor.trying else { return };
        let request = proposal.request();
        match proposal.hear(from, answer) {
            Step::Wait | Step::Refused(_) => {}
            Step::Ask(request) => {
                let now = anchor.chain.now().clone();
                self.ask_all(&now, id, &request);
            }
            Step::Teach(node, above) => {
                let steps = anchor.chain.since(above);
                self.wire.push((id, node, Message::Ask(Request::Learn(steps))));
                self.wire.push((id, node, Message::Ask(request)));
            }
            Step::Learned(steps) => {
                anchor.chain.take(&steps);
                anchor.trying = None;
            }
            Step::Outbid(ballot) => {
                anchor.heard = anchor.heard.max(Some(ballot));
                anchor.trying = None;
            }
            Step::Decided(sealed) => {
                anchor.trying = None;
                anchor.chain.take([&sealed]);
                let version = sealed.decree.version;
                let first = self.decided.entry(version).or_insert_with(|| sealed.decree.clone());
                assert_eq!(*first, sealed.decree, "two decrees for version {version}");
            }
        }
    }

    /// Nothing is lost any more, and what one knows it tells the others.
    fn settle(&mut self) {
        self.trouble = 0;
        for round in 0..40_000 {
            self.step();
            if round % 100 == 0 {
                let steps: Vec<Sealed> = self.anchors.iter().flat_map(|anchor| anchor.chain.since(0)).collect();
                for anchor in &mut self.anchors {
                    let taken = anchor.chain.take(&steps);
                    assert_eq!(taken.forked, None);
                    anchor.prune();
                }
                if self.anchors.iter().all(|anchor| anchor.wants.is_empty()) {
                    return;
                }
            }
        }
        panic!("it does not come to an end");
    }
}

fn agree(seed: u64, count: u8) {
    let mut world = World::new(seed, count);
    let strangers: Vec<Host> = (20..24).map(Host::new).collect();
    for (at, stranger) in strangers.iter().enumerate() {
        let at = at % world.anchors.len();
        world.anchors[at].wants.push(Act::AddAnchor(stranger.public()));
    }
    let first = world.anchors[0].id();
    let last = world.anchors.len() - 1;
    if last > 0 {
        world.anchors[last].wants.push(Act::DropAnchor(first));
        world.anchors[last / 2]
            .wants
            .push(Act::Remove(key_of(&strangers[3], 7)));
    }
    // Those who become anchors are there as well.
    for stranger in &strangers {
        let chain = Chain::new(world.anchors[0].chain.now().clone());
        world.anchors.push(Anchor {
            host: stranger.clone(),
            kept: chain.keep(),
            chain,
            ledger: Ledger::default(),
            wants: Vec::new(),
            trying: None,
            heard: None,
        });
    }
    for _ in 0..2_000 {
        world.step();
    }
    world.settle();
    let digests: std::collections::BTreeSet<_> =
        world.anchors.iter().map(|anchor| anchor.chain.now().digest()).collect();
    assert_eq!(digests.len(), 1, "seed {seed}: all hold the same");
    let now = world.anchors[0].chain.now();
    assert!(
        now.version() > 3,
        "seed {seed}: something was decided: {}",
        now.version()
    );
    // One who was away all the time checks all of it.
    let mut outsider = Chain::new(founded(
        &(1..=count)
            .map(Host::new)
            .collect::<Vec<_>>()
            .iter()
            .collect::<Vec<_>>(),
    ));
    outsider.take(&world.anchors[0].chain.since(0));
    assert_eq!(outsider.now(), now);
}

#[test]
fn proposers_at_once_agree_whatever_is_lost() {
    for seed in 0..40 {
        agree(seed, 1 + u8::try_from(seed % 5).unwrap());
    }
}
