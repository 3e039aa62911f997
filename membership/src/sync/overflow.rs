//! A member that writes more than a node may in all, and tells each honest node others of it first: they come to hold the
//! same part of it, it is named, and what they write themselves goes on.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::ring::{HONEST, Ring};
use super::*;
use crate::author::{self, AuthorError};
use crate::batch::IntentBatch;
use crate::fixture::{Host, Trusting, domain, stamp, write};
use crate::record::{Dot, Key, VersionVector};
use crate::replica::{Limits, Usage};
use crate::signed::Signer as _;

const SCOPES: [&str; 3] = ["blue", "green", "red"];

/// An object of its own for each counter, in one scope or another; without a text it deletes it.
fn object(writer: &Host, counter: u64, text: Option<&str>, saw: VersionVector) -> Batch {
    let scope = domain(SCOPES[counter as usize % SCOPES.len()]);
    version(writer, scope, &format!("o{counter}"), counter, text, saw)
}

fn version(writer: &Host, scope: Scope, name: &str, counter: u64, text: Option<&str>, saw: VersionVector) -> Batch {
    let author::Write { key, body } = write(name, text);
    let intent = Intent {
        scope: scope.clone(),
        key,
        dot: Dot {
            writer: writer.id(),
            counter,
        },
        context: saw,
        stamp: stamp(counter),
        author: "x".into(),
        body,
    };
    let signed = Signed::sign(intent, writer).unwrap();
    Batch::Intents(IntentBatch::new(scope, vec![signed]).unwrap())
}

fn shuffled(counters: std::ops::RangeInclusive<u64>, seed: u64) -> Vec<u64> {
    let mut counters: Vec<u64> = counters.collect();
    counters.shuffle(&mut StdRng::seed_from_u64(seed));
    counters
}

/// The counters of the writer's versions that a node holds.
fn held(sync: &Sync, writer: NodeId) -> BTreeSet<u64> {
    let replica = sync.replica();
    let siblings = replica.scopes().flat_map(|scope| replica.intents(scope));
    let dots = siblings.flat_map(|(_, siblings)| siblings.all().map(|version| version.dot));
    dots.filter(|dot| dot.writer == writer).map(|dot| dot.counter).collect()
}

impl Ring {
    /// All hold of the enemy what these counters say, agree, and name it and nobody else.
    fn has_only(&self, counters: std::ops::RangeInclusive<u64>) {
        for sync in &self.syncs {
            assert_eq!(held(sync, self.enemy.id()), counters.clone().collect());
        }
        assert!(self.agree());
        assert_eq!(self.named, (0..HONEST).map(|node| (node, self.enemy.id())).collect());
        assert_eq!(self.counts.get("scopes_in_doubt"), None);
    }
}

#[test]
fn of_too_many_objects_all_nodes_keep_the_last_ones() {
    let limits = Limits {
        versions: 50,
        ..Limits::default()
    };
    for seed in 0..3 {
        let mut ring = Ring::allowing(limits);
        let enemy = ring.enemy.clone();
        let before = ring.wants(0, "before", "mine");
        // Before any of them can tell the others, each has heard more than it keeps, and none all.
        for counter in shuffled(1..=240, seed) {
            let batch = object(&enemy, counter, Some("x"), VersionVector::default());
            ring.hears(counter as usize % HONEST, &batch);
        }
        ring.pass(40);
        ring.has_only(191..=240);
        let after = ring.wants(1, "after", "mine");
        ring.pass(5);
        for node in 0..HONEST {
            assert_eq!(
                (ring.held(node, "before"), ring.held(node, "after")),
                (vec![before], vec![after])
            );
        }

        // While it deletes, what it deletes goes on all of them, and nothing that was left out returns.
        for counter in shuffled(221..=240, seed) {
            let saw = VersionVector([(enemy.id(), counter)].into());
            let scope = domain(SCOPES[counter as usize % SCOPES.len()]);
            let batch = version(&enemy, scope, &format!("o{counter}"), 100 + counter, None, saw);
            ring.hears(counter as usize % HONEST, &batch);
        }
        ring.pass(40);
        assert!(ring.agree());
        let expected: BTreeSet<u64> = (191..=220).chain(321..=340).collect();
        assert_eq!(held(&ring.syncs[0], enemy.id()), expected);
    }
}

#[test]
fn of_too_large_objects_all_nodes_keep_the_last_ones() {
    let limits = Limits {
        version_bytes: 20_000,
        ..Limits::default()
    };
    let mut ring = Ring::allowing(limits);
    let enemy = ring.enemy.clone();
    // Sizes that leave gaps into which earlier ones would fit.
    let text = |counter: u64| "x".repeat((counter as usize * 977) % 3_000);
    let (mut first, mut bytes) = (90, 0);
    for counter in (1..=90).rev() {
        let batch = object(&enemy, counter, Some(&text(counter)), VersionVector::default());
        let Batch::Intents(batch) = batch else { unreachable!() };
        if bytes < limits.version_bytes {
            first = counter;
        }
        bytes += batch.versions()[0].raw().len();
    }
    for counter in shuffled(1..=90, 7) {
        let batch = object(&enemy, counter, Some(&text(counter)), VersionVector::default());
        ring.hears(counter as usize % HONEST, &batch);
    }
    ring.pass(40);
    ring.has_only(first..=90);
}

#[test]
fn of_too_many_facts_all_nodes_keep_those_of_the_first_scopes() {
    let limits = Limits {
        facts: 35,
        ..Limits::default()
    };
    let mut ring = Ring::allowing(limits);
    let enemy = ring.enemy.clone();
    let mut book = Replica::default();
    enemy.says(&mut book, &Scope::System, 1, vec![enemy.record()]);
    let facts = |book: &mut Replica, scope: &Scope, names: std::ops::Range<u8>| {
        let writes = names.map(|name| write(&name.to_string(), Some("x"))).collect();
        enemy.says(book, scope, 1, writes).batch
    };
    let scopes: Vec<Scope> = (0..9).map(|n| domain(&format!("s{n}"))).collect();
    for (at, scope) in scopes.iter().enumerate().rev() {
        let batch = facts(&mut book, scope, 0..10);
        ring.hears(at % HONEST, &batch);
    }
    ring.pass(60);
    let kept = |ring: &Ring, node: usize| -> Vec<usize> {
        let replica = ring.syncs[node].replica();
        let of = |scope| replica.facts_from(scope, enemy.id()).count();
        scopes.iter().map(of).collect()
    };
    // Its own record is one, so the first four fill it.
    for node in 0..HONEST {
        assert_eq!(kept(&ring, node), [10, 10, 10, 10, 0, 0, 0, 0, 0]);
    }
    assert!(ring.agree());
    assert_eq!(ring.named, (0..HONEST).map(|node| (node, enemy.id())).collect());

    // More in an early scope takes the place of the last one.
    let batch = facts(&mut book, &scopes[1], 10..16);
    ring.hears(1, &batch);
    let own = ring.wants(2, "own", "x");
    ring.pass(60);
    for node in 0..HONEST {
        assert_eq!(kept(&ring, node), [10, 16, 10, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ring.held(node, "own"), [own]);
    }
    assert!(ring.agree());
}

/// What a crash brought back goes at the start, from memory and from disk.
#[test]
fn what_was_let_go_of_does_not_come_back_with_a_restart() {
    let (own, enemy) = (Host::new(1), Host::new(9));
    let mut replica = Replica::default();
    for counter in 1..=20 {
        let batch = object(&enemy, counter, Some("x"), VersionVector::default());
        replica.merge(&batch).unwrap();
    }
    enemy.says(
        &mut replica,
        &domain("s0"),
        1,
        vec![write("a", Some("1")), write("b", Some("1"))],
    );
    enemy.says(&mut replica, &domain("s1"), 1, vec![write("a", Some("1"))]);
    let limits = Limits {
        versions: 5,
        facts: 2,
        ..Limits::default()
    };
    let mut sync = Sync::new(&own.public(), replica.allowing(limits), Box::new(Trusting));
    assert_eq!(held(&sync, enemy.id()), (16..=20).collect());
    let Usage { versions, facts, .. } = sync.replica().usage(enemy.id());
    assert_eq!((versions, facts), (5, 2));
    let effects = sync.handle(Event::Tick, Duration::ZERO, &mut StdRng::seed_from_u64(1));
    let removed = effects.iter().map(|effect| match effect {
        Effect::Persist(Change::Intents(change)) => change.removed.len(),
        Effect::Persist(Change::Forgotten(scope, node)) => {
            assert_eq!((scope, *node), (&domain("s1"), enemy.id()));
            100
        }
        _ => 0,
    });
    assert_eq!(removed.sum::<usize>(), 115);
}

/// An honest node says no to who asks it to write what others would not keep, but lets him delete.
#[test]
fn a_node_does_not_write_more_than_others_keep() {
    let (host, red) = (Host::new(1), domain("red"));
    let limits = Limits {
        versions: 32,
        facts: 3,
        ..Limits::default()
    };
    let mut replica = Replica::default().allowing(limits);
    for n in 0..30 {
        host.wants(&mut replica, &red, n, vec![write(&n.to_string(), Some("x"))]);
    }
    let wants = |replica: &Replica, text| {
        author::intents(replica, &host, &red, "me", vec![write("more", text)], stamp(99)).map(drop)
    };
    assert_eq!(wants(&replica, Some("x")), Err(AuthorError::FullOfObjects));
    assert_eq!(wants(&replica, None), Ok(()));

    host.says(
        &mut replica,
        &red,
        1,
        vec![write("a", Some("1")), write("b", Some("1"))],
    );
    let says = |scope: &str, names: &[&str]| {
        let writes = names.iter().map(|name| write(name, Some("2"))).collect();
        author::facts(&replica, &host, &domain(scope), writes, stamp(99)).map(drop)
    };
    assert_eq!(says("red", &["a", "b", "c"]), Ok(()), "in place of what it has");
    assert_eq!(says("blue", &["a"]), Ok(()));
    assert_eq!(says("blue", &["a", "b"]), Err(AuthorError::FullOfFacts));
}

/// In whatever order the versions of one writer come, also such that replace others: once all were offered again, all hold
/// the same.
#[test]
fn what_is_kept_depends_on_what_was_written_and_not_on_what_came_first() {
    let enemy = Host::new(9);
    let limits = Limits {
        versions: 12,
        version_bytes: 9_000,
        ..Limits::default()
    };
    for seed in 0..60 {
        let batches: Vec<Batch> = (1..=40)
            .map(|counter| {
                let name = format!("o{}", counter * 7 % 23);
                // A later one of the same name replaces it, or stands beside it.
                let saw = match counter % 4 {
                    0 => VersionVector::default(),
                    _ => VersionVector([(enemy.id(), counter - 1)].into()),
                };
                let text = "x".repeat((counter as usize * (seed as usize + 131)) % 1_500);
                let scope = domain(SCOPES[(counter * 7 % 23) as usize % SCOPES.len()]);
                version(
                    &enemy,
                    scope,
                    &name,
                    counter,
                    (counter % 5 != 0).then_some(text.as_str()),
                    saw,
                )
            })
            .collect();
        let run = |seed: u64| {
            let mut replica = Replica::default().allowing(limits);
            for round in 0..3 {
                for at in shuffled(0..=39, seed * 3 + round) {
                    let Batch::Intents(batch) = &batches[at as usize] else {
                        unreachable!()
                    };
                    if !replica.is_crowded_out(&batch.versions()[0]) {
                        replica.merge(&batches[at as usize]).unwrap();
                        replica.trim(enemy.id());
                    }
                }
            }
            let usage = replica.usage(enemy.id());
            assert!(usage.versions <= 12 && usage.version_bytes < 9_000 + 2_000, "{usage:?}");
            replica.root_of_roots()
        };
        let roots: BTreeSet<_> = (0..6).map(|order| run(seed * 100 + order)).collect();
        assert_eq!(roots.len(), 1, "seed {seed}");
    }
}

/// All that a node's facts in a scope leave on disk goes with them.
#[test]
fn facts_that_are_let_go_of_leave_the_disk() {
    let mut disk = crate::store::crash_disk::CrashDisk::default();
    let store = disk.open();
    let (host, other, mut replica) = (Host::new(1), Host::new(2), Replica::default());
    let (red, blue) = (domain("red"), domain("blue"));
    let made = [
        host.says(
            &mut replica,
            &red,
            1,
            vec![write("a", Some("1")), write("b", Some("1"))],
        ),
        host.says(&mut replica, &blue, 1, vec![write("a", Some("1"))]),
        other.says(&mut replica, &red, 1, vec![write("a", Some("1"))]),
    ];
    let changes: Vec<Change> = made.into_iter().map(|made| made.change).collect();
    store.commit(&changes, crate::store::Durable::Before).unwrap();
    let gone = Change::Forgotten(red.clone(), host.id());
    store.commit(&[gone], crate::store::Durable::Before).unwrap();
    let loaded = store.load(Host::new(3).id()).unwrap();
    assert_eq!(loaded.forgotten, 0);
    let count = |scope: &Scope, host: &Host| loaded.replica.facts_from(scope, host.id()).count();
    assert_eq!(
        [count(&red, &host), count(&blue, &host), count(&red, &other)],
        [0, 1, 1]
    );
    assert_eq!(loaded.replica.fact(&red, host.id(), &Key::new("K", "b")), None);
}
