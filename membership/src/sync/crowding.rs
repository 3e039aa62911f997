//! A member that signs more versions of one object side by side than it may, and tells each node others first: the honest
//! ones come to hold the same of it, it is named, and what they write themselves goes on.

use super::ring::{HONEST, Ring};
use super::*;
use crate::batch::IntentBatch;
use crate::fixture::{Host, domain, stamp};
use crate::record::{Dot, Intent, Key, VersionVector};
use crate::signed::Signer as _;

/// One version of an object that saw nothing but this.
fn version(writer: &Host, name: &str, counter: u64, saw: VersionVector) -> Batch {
    let intent = Intent {
        scope: domain("red"),
        key: Key::new("K", name),
        dot: Dot {
            writer: writer.id(),
            counter,
        },
        context: saw,
        stamp: stamp(1_000 - counter),
        author: "x".into(),
        body: None,
    };
    let signed = Signed::sign(intent, writer).unwrap();
    Batch::Intents(IntentBatch::new(domain("red"), vec![signed]).unwrap())
}

#[test]
fn different_versions_for_each_node_do_not_keep_them_apart() {
    let mut ring = Ring::new();
    let honest = ring.wants(0, "a", "mine");
    ring.settle();
    // Before any of them can tell the others, each has heard more than it keeps.
    for counter in 1..=30 {
        let batch = version(&ring.enemy.clone(), "a", counter, VersionVector::default());
        ring.hears(counter as usize % HONEST, &batch);
    }
    ring.pass(60);
    assert!(
        ring.agree(),
        "{:?}",
        (0..HONEST).map(|node| ring.held(node, "a")).collect::<Vec<_>>()
    );
    let mut kept: Vec<u64> = ring
        .held(0, "a")
        .into_iter()
        .filter(|dot| dot.writer == ring.enemy.id())
        .map(|dot| dot.counter)
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, (23..=30).collect::<Vec<u64>>(), "the last ones");
    assert!(ring.held(0, "a").contains(&honest), "nobody crowds out another one's");
    assert_eq!(ring.counts.get("scopes_in_doubt"), None);
    assert_eq!(ring.named, (0..HONEST).map(|node| (node, ring.enemy.id())).collect());

    // In whatever order they come, and while they come, what is written goes on and resolves them.
    for counter in (31..=90).rev() {
        let batch = version(&ring.enemy.clone(), "a", counter, VersionVector::default());
        ring.hears(counter as usize % HONEST, &batch);
    }
    let other = ring.wants(1, "b", "meanwhile");
    ring.pass(5);
    assert!(ring.agree());
    assert!((0..HONEST).all(|node| ring.held(node, "b") == [other]));
    let last = ring.wants(2, "a", "resolved");
    ring.pass(5);
    assert!((0..HONEST).all(|node| ring.held(node, "a") == [last]));
    assert!(ring.agree());
}
