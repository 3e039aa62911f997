//! Nodes of two versions beside each other: what they say to each other, and what one hands on that it cannot read.

use std::collections::BTreeSet;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::author::{self, Write};
use crate::fixture::{Host, Trusting, domain, stamp, write};
use crate::record::Key;
use crate::signed::Signer as _;
use crate::wire::Versions;
use crate::wire::versions::FIRST;

/// A line of nodes: each hears its neighbours only.
struct Line {
    hosts: Vec<Host>,
    speak: Vec<Versions>,
    syncs: Vec<Sync>,
    /// Version of each frame with the ends between which it went.
    labels: BTreeSet<(usize, usize, u8)>,
    troubles: Vec<(usize, Trouble)>,
    queue: Vec<(usize, usize, Bytes)>,
    now: Duration,
    rng: StdRng,
}

impl Line {
    fn new(newest: &[u16]) -> Self {
        let hosts: Vec<Host> = (1..).take(newest.len()).map(Host::new).collect();
        let speak: Vec<Versions> = newest.iter().map(|max| Versions::up_to(*max).unwrap()).collect();
        let sync = |(host, speak): (&Host, &Versions)| {
            Sync::new(&host.public(), Replica::default(), Box::new(Trusting)).speaking(*speak)
        };
        let mut line = Self {
            syncs: hosts.iter().zip(&speak).map(sync).collect(),
            hosts,
            speak,
            labels: BTreeSet::new(),
            troubles: Vec::new(),
            queue: Vec::new(),
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(1),
        };
        for node in 0..line.syncs.len() {
            let write = line.hosts[node].record();
            line.say(node, &Scope::System, vec![write]);
        }
        line
    }

    fn connect(&mut self) {
        for left in 0..self.syncs.len() - 1 {
            let right = left + 1;
            let spoken = self.speak[left].common(self.speak[right], FIRST).unwrap();
            for (node, other) in [(left, right), (right, left)] {
                let other = self.hosts[other].id();
                self.syncs[node].speaks(other, spoken);
                self.event(node, Event::PeerUp(other));
            }
        }
        self.settle();
    }

    fn say(&mut self, node: usize, scope: &Scope, writes: Vec<Write>) {
        let made = author::facts(self.syncs[node].replica(), &self.hosts[node], scope, writes, stamp(1)).unwrap();
        self.event(node, Event::LocalBatch(made.batch));
    }

    fn want(&mut self, node: usize, scope: &Scope, writes: Vec<Write>) {
        let (replica, host) = (self.syncs[node].replica(), &self.hosts[node]);
        let made = author::intents(replica, host, scope, "test", writes, stamp(1)).unwrap();
        self.event(node, Event::LocalBatch(made.batch));
    }

    fn event(&mut self, node: usize, event: Event) {
        for effect in self.syncs[node].handle(event, self.now, &mut self.rng) {
            match effect {
                Effect::Send { to, frame } => {
                    let to = self.hosts.iter().position(|host| host.id() == to).unwrap();
                    self.labels.insert((node, to, frame[0]));
                    self.queue.push((node, to, frame));
                }
                Effect::Alarm(trouble) => self.troubles.push((node, trouble)),
                _ => {}
            }
        }
    }

    fn settle(&mut self) {
        let mut rounds = 0;
        while !self.queue.is_empty() {
            rounds += 1;
            assert!(rounds < 1_000, "they do not stop talking");
            for (from, to, frame) in std::mem::take(&mut self.queue) {
                let from = self.hosts[from].id();
                self.event(to, Event::Frame(from, frame));
            }
        }
    }

    /// Repair brings what no push does in so short a line.
    fn repair(&mut self) {
        for _ in 0..40 {
            self.now += TICK;
            for node in 0..self.syncs.len() {
                self.event(node, Event::Tick);
            }
            self.settle();
        }
    }

    /// All records of a scope as they lie there, each read and its signature checked.
    fn holds(&self, node: usize, scope: &Scope) -> BTreeSet<Vec<u8>> {
        let replica = self.syncs[node].replica();
        let facts = self.hosts.iter().filter_map(|host| replica.origin(scope, host.id()));
        let facts = facts.flat_map(|held| held.current.values().map(|fact| fact.raw().as_bytes().to_vec()));
        let objects = replica.intents(scope).flat_map(|(_, held)| held.versions());
        let objects = objects.map(|version| version.raw().as_bytes().to_vec());
        facts.chain(objects).collect()
    }
}

/// A record of whatever kind and form; nothing in a release knows what it is.
fn anything() -> impl Strategy<Value = Write> {
    let body = (any::<u16>(), proptest::collection::vec(any::<u8>(), 0..300));
    let key = ("[A-Z][a-z]{0,9}", "[a-z0-9]{1,9}");
    (key, body).prop_map(|((kind, name), (version, bytes))| Write {
        key: Key::new(&kind, &name),
        body: Some(Body {
            version,
            bytes: bytes.into(),
        }),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn an_older_node_hands_on_bit_for_bit_what_it_cannot_read(
        facts in proptest::collection::vec(anything(), 1..8),
        objects in proptest::collection::vec(anything(), 1..8),
        before in any::<bool>(),
    ) {
        let (mut line, red) = (Line::new(&[2, 1, 2]), domain("red"));
        let one_each = |writes: Vec<Write>| -> Vec<Write> {
            let by_key: BTreeMap<Key, Write> = writes.into_iter().map(|write| (write.key.clone(), write)).collect();
            by_key.into_values().collect()
        };
        let (facts, objects) = (one_each(facts), one_each(objects));
        if before {
            line.connect();
        }
        line.say(0, &red, facts.clone());
        line.want(0, &red, objects.clone());
        line.settle();
        line.connect();
        line.repair();
        let written = line.holds(0, &red);
        prop_assert_eq!(written.len(), facts.len() + objects.len());
        for node in [1, 2] {
            prop_assert_eq!(&line.holds(node, &red), &written);
            prop_assert_eq!(line.syncs[node].replica().root(&red), line.syncs[0].replica().root(&red));
        }
        prop_assert!(line.troubles.is_empty(), "{:?}", line.troubles);
        prop_assert!(line.labels.iter().all(|(_, _, label)| *label == 1), "one end of each speaks 1 only");
    }
}

#[test]
fn each_pair_speaks_its_newest_and_a_push_is_handed_on_in_anothers_version() {
    let (mut line, red) = (Line::new(&[2, 2, 1]), domain("red"));
    line.connect();
    line.labels.clear();
    line.want(0, &red, vec![write("a", Some("1"))]);
    line.settle();
    line.repair();
    assert_eq!(line.holds(2, &red), line.holds(0, &red));
    let between = |a, b| -> BTreeSet<u8> {
        let ends = line
            .labels
            .iter()
            .filter(|(from, to, _)| (*from, *to) == (a, b) || (*from, *to) == (b, a));
        ends.map(|(_, _, label)| *label).collect()
    };
    assert_eq!(between(0, 1), [2].into());
    assert_eq!(between(1, 2), [1].into());
}

/// Writes more versions of one object side by side than any node may.
fn crowd(line: &mut Line, node: usize) {
    let red = domain("red");
    let host = line.hosts[node].clone();
    for n in 0..=SIBLINGS_MAX {
        // Each from a disk that knows of no other.
        let writes = vec![write("a", Some(&n.to_string()))];
        let made = author::intents(&Replica::default(), &host, &red, "test", writes, stamp(n as u64 + 1)).unwrap();
        let Batch::Intents(batch) = made.batch else { panic!() };
        let push = Message::Push(wire::RawBatch::Intents {
            scope: red.clone(),
            after: Default::default(),
            versions: batch.to_raw(),
        });
        line.queue.push((node, 1 - node, wire::encode(&push).unwrap()));
        line.settle();
    }
}

#[test]
fn who_is_over_its_quota_is_told_once_the_cluster_agreed_on_version_2() {
    for (newest, agreed, told) in [([2, 2], 2, true), ([2, 2], 1, false), ([2, 1], 2, false)] {
        let mut line = Line::new(&newest);
        line.connect();
        line.syncs.iter_mut().for_each(|sync| sync.agree(agreed));
        crowd(&mut line, 0);
        let over = line
            .troubles
            .iter()
            .filter(|(node, it)| *node == 1 && matches!(it, Trouble::OverQuota { .. }));
        assert_eq!(over.count(), 1);
        let heard: Vec<String> = line
            .troubles
            .iter()
            .filter(|(node, it)| *node == 0 && matches!(it, Trouble::NotTaken { .. }))
            .map(|(_, it)| it.to_string())
            .collect();
        let why = "it has written too many versions of one object side by side";
        let by = line.hosts[1].id();
        let wanted = format!("node {by} does not take in what this node writes: {why}");
        assert_eq!(
            heard,
            told.then_some(wanted).into_iter().collect::<Vec<_>>(),
            "{newest:?} {agreed}"
        );
        assert!(
            !line
                .troubles
                .iter()
                .any(|(_, it)| matches!(it, Trouble::BadFrame { .. }))
        );
        crowd(&mut line, 0);
        let again = line
            .troubles
            .iter()
            .filter(|(_, it)| matches!(it, Trouble::NotTaken { .. }));
        assert_eq!(again.count(), usize::from(told), "not again within a minute");
    }
}
