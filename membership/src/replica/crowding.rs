//! More versions of one object by one writer than are kept: the join is still one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::fixture::{Host, domain, stamp};
use crate::signed::Signer as _;

/// A version as a writer may sign it, whatever it saw.
fn version(writer: &Host, counter: u64, saw: &[(&Host, u64)]) -> Batch {
    let context = VersionVector(saw.iter().map(|(host, counter)| (host.id(), *counter)).collect());
    let intent = Intent {
        scope: domain("red"),
        key: Key::new("K", "x"),
        dot: Dot {
            writer: writer.id(),
            counter,
        },
        context,
        stamp: stamp(counter * 7 % 5),
        author: "x".into(),
        body: None,
    };
    let signed = Signed::sign(intent, writer).unwrap();
    Batch::Intents(IntentBatch::new(domain("red"), vec![signed]).unwrap())
}

fn merge_all<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Replica {
    let mut replica = Replica::default();
    for batch in batches {
        replica.merge(batch).unwrap();
    }
    replica
}

fn held(replica: &Replica) -> Vec<Signed<Intent>> {
    let held = replica.intent(&domain("red"), &Key::new("K", "x"));
    held.into_iter().flat_map(Siblings::versions).cloned().collect()
}

/// All that a replica holds, as one batch.
fn all_of(replica: &Replica) -> Batch {
    Batch::Intents(IntentBatch::new(domain("red"), held(replica)).unwrap())
}

fn counters(replica: &Replica, writer: &Host) -> BTreeSet<u64> {
    let dots = held(replica).into_iter().map(|version| version.value().dot);
    dots.filter(|dot| dot.writer == writer.id())
        .map(|dot| dot.counter)
        .collect()
}

/// What a version saw of the three writers, itself included.
type Saw = [u64; 3];

/// Versions of each of three writers. If `rising`, what each saw includes what its writer's versions before saw.
fn signed(saw: &[Vec<Saw>; 3], rising: [bool; 3]) -> Vec<Batch> {
    let hosts = [1, 2, 3].map(Host::new);
    let mut made = Vec::new();
    for (writer, versions) in saw.iter().enumerate() {
        let mut before: BTreeMap<usize, u64> = BTreeMap::new();
        for (counter, saw) in (1..).zip(versions) {
            let mut seen = if rising[writer] {
                std::mem::take(&mut before)
            } else {
                BTreeMap::new()
            };
            for (of, upto) in saw.iter().enumerate() {
                let upto = if of == writer { (*upto).min(counter - 1) } else { *upto };
                let known = seen.entry(of).or_default();
                *known = upto.max(*known);
            }
            let context: Vec<(&Host, u64)> = seen.iter().map(|(&of, &upto)| (&hosts[of], upto)).collect();
            made.push(version(&hosts[writer], counter, &context));
            before = seen;
        }
    }
    made
}

/// Mostly nothing, so that most versions stand side by side.
fn saw() -> impl Strategy<Value = Saw> {
    let upto = || prop_oneof![6 => Just(0u64), 1 => 0u64..24];
    [upto(), upto(), upto()]
}

fn written(most: [usize; 3]) -> impl Strategy<Value = [Vec<Saw>; 3]> {
    most.map(|most| proptest::collection::vec(saw(), 0..most))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn joining_crowded_states_is_commutative_associative_and_idempotent(
        saw in written([24, 24, 6]),
        masks in [any::<u64>(), any::<u64>(), any::<u64>()],
        order in any::<u64>(),
    ) {
        let made = signed(&saw, [true; 3]);
        let part = |mask: u64| {
            let some = made.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
            merge_all(some.map(|(_, batch)| batch))
        };
        let [a, b, c] = masks.map(|mask| all_of(&part(mask)));
        let left = merge_all([&all_of(&merge_all([&a, &b])), &c]);
        let right = merge_all([&a, &all_of(&merge_all([&b, &c]))]);
        prop_assert_eq!(held(&left), held(&right));
        prop_assert_eq!(held(&merge_all([&a, &b])), held(&merge_all([&b, &a])));
        prop_assert_eq!(held(&merge_all([&a, &a])), held(&merge_all([&a])));
        // One by one in whatever order, or all at once.
        let mut shuffled = made.clone();
        shuffled.sort_by_key(|batch| Digest::of(&[&order.to_le_bytes(), format!("{batch:?}").as_bytes()]));
        let one_by_one = merge_all(&shuffled);
        prop_assert_eq!(held(&one_by_one), held(&merge_all(&made)));
        for host in [1, 2, 3].map(Host::new) {
            prop_assert!(counters(&one_by_one, &host).len() <= SIBLINGS_MAX);
        }
    }

    /// A member may sign any contexts. Then what is kept may depend on who heard what, but those who talk agree on it.
    #[test]
    fn whatever_a_member_claims_to_have_seen_those_who_talk_end_equal(
        saw in written([32, 4, 4]),
        heard in proptest::collection::vec(any::<[u64; 2]>(), 2..6),
        talks in proptest::collection::vec(any::<[prop::sample::Index; 2]>(), 0..12),
    ) {
        let made = signed(&saw, [false, true, true]);
        let mut nodes: Vec<Replica> = heard.iter().map(|[mask, order]| {
            let some = made.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
            let mut some: Vec<&Batch> = some.map(|(_, batch)| batch).collect();
            some.sort_by_key(|batch| Digest::of(&[&order.to_le_bytes(), format!("{batch:?}").as_bytes()]));
            merge_all(some)
        }).collect();
        let take = |nodes: &mut Vec<Replica>, to: usize, from: usize| {
            let all = all_of(&nodes[from]);
            nodes[to].merge(&all).unwrap();
        };
        for [to, from] in &talks {
            let (to, from) = (to.index(nodes.len()), from.index(nodes.len()));
            take(&mut nodes, to, from);
        }
        for _ in 0..40 {
            for to in 0..nodes.len() {
                for from in 0..nodes.len() {
                    take(&mut nodes, to, from);
                }
            }
        }
        for node in &nodes {
            prop_assert_eq!(held(node), held(&nodes[0]));
            prop_assert!(counters(node, &Host::new(1)).len() <= SIBLINGS_MAX);
        }
        // Nobody crowds out another one's: what honest ones wrote is held, or something that saw it was written.
        let all: Vec<Signed<Intent>> = made.iter().flat_map(|batch| held(&merge_all([batch]))).collect();
        let heard_of = heard.iter().fold(0, |all, [mask, _]| all | mask);
        for (at, version) in all.iter().enumerate().filter(|(at, _)| heard_of >> at & 1 == 1) {
            let replaced = all.iter().any(|other| other.value().dominates(version.value()));
            let honest = version.value().dot.writer != Host::new(1).id();
            prop_assert!(!honest || replaced || held(&nodes[0]).contains(version), "{at}");
        }
    }

    #[test]
    fn of_versions_that_saw_nothing_the_latest_stay(heard in subsequence((1..=40u64).collect::<Vec<_>>(), 9..40).prop_shuffle()) {
        let host = Host::new(1);
        let batches: Vec<Batch> = heard.iter().map(|counter| version(&host, *counter, &[])).collect();
        let mut wanted = heard.clone();
        wanted.sort_unstable();
        let wanted: BTreeSet<u64> = wanted.into_iter().rev().take(SIBLINGS_MAX).collect();
        prop_assert_eq!(counters(&merge_all(&batches), &host), wanted);
    }
}

#[test]
fn what_is_crowded_out_takes_nothing_with_it_and_its_writer_is_named() {
    let (enemy, honest) = (Host::new(1), Host::new(2));
    let mine = version(&honest, 5, &[]);
    let over_it = version(&enemy, 1, &[(&honest, 5)]);
    let crowd: Vec<Batch> = (2..10).map(|counter| version(&enemy, counter, &[])).collect();
    let mut replica = merge_all(crowd.iter().chain([&mine]));
    let merged = replica.merge(&over_it).unwrap();
    assert_eq!(merged.change, None, "it is not kept, so it replaces nothing");
    assert_eq!(merged.crowded, [enemy.id()].into());
    assert_eq!(counters(&replica, &honest), [5].into());
    // One batch brings all of it as well.
    let all: Vec<_> = crowd
        .iter()
        .chain([&over_it, &mine])
        .flat_map(|batch| held(&merge_all([batch])))
        .collect();
    let at_once = Batch::Intents(IntentBatch::new(domain("red"), all).unwrap());
    assert_eq!(held(&merge_all([&at_once])), held(&replica));
    // A later one of its own that saw them replaces them, and is not crowded out.
    let after = version(&enemy, 10, &[(&enemy, 9), (&honest, 5)]);
    assert!(replica.merge(&after).unwrap().crowded.is_empty());
    assert_eq!(
        (counters(&replica, &enemy), counters(&replica, &honest)),
        ([10].into(), [].into())
    );
}
