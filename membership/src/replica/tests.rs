//! Merging in any order, any grouping, any number of times.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::author::{self, Write};
use crate::batch::IntentBatch;
use crate::fixture::{Host, domain, stamp, write};
use crate::signed::Signer;

/// Each history is of 3 to 7 replicas.
const HOSTS: std::ops::RangeInclusive<u8> = 3..=7;
const CASES: u32 = 2_000;

/// What one host does next.
#[derive(Debug, Clone)]
enum Step {
    /// Says or withdraws facts.
    Say(u8, Vec<(u8, bool)>),
    /// Writes or deletes objects.
    Want(u8, Vec<(u8, bool)>),
    /// Takes all that another one holds.
    Take(u8, u8),
    /// Loses its last fact batch, as a restored disk does.
    Forget(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let host = || 0..*HOSTS.end();
    let writes =
        || proptest::collection::btree_map(0u8..4, any::<bool>(), 1..4).prop_map(|map| map.into_iter().collect());
    prop_oneof![
        4 => (host(), writes()).prop_map(|(host, writes)| Step::Say(host, writes)),
        4 => (host(), writes()).prop_map(|(host, writes)| Step::Want(host, writes)),
        3 => (host(), host()).prop_map(|(to, from)| Step::Take(to, from)),
        1 => host().prop_map(Step::Forget),
    ]
}

fn writes(names: &[(u8, bool)], text: usize) -> Vec<Write> {
    let text = text.to_string();
    names
        .iter()
        .map(|(name, kept)| write(&format!("n{name}"), kept.then_some(text.as_str())))
        .collect()
}

/// All that a replica holds, as batches that can be merged into any other.
fn everything(replica: &Replica) -> Vec<Batch> {
    let mut batches = Vec::new();
    for scope in replica.scopes() {
        for held in replica.heads(scope) {
            batches.push(Batch::Facts(FactBatch::new(held.head.clone(), held.after(0)).unwrap()));
        }
        let versions = replica
            .intents(scope)
            .flat_map(|(_, siblings)| siblings.versions())
            .cloned()
            .collect();
        batches.push(Batch::Intents(IntentBatch::new(scope.clone(), versions).unwrap()));
    }
    batches
}

/// Plays a history of so many hosts and tells all batches that were written and all states that there were.
fn play(count: u8, steps: &[Step]) -> (Vec<Batch>, Vec<Vec<Batch>>) {
    let scope = domain("red");
    let hosts: Vec<Host> = (1..=count).map(Host::new).collect();
    let mut replicas: Vec<Replica> = hosts.iter().map(|_| Replica::default()).collect();
    let mut before: Vec<Vec<Batch>> = hosts.iter().map(|_| Vec::new()).collect();
    let (mut written, mut states) = (Vec::new(), Vec::new());
    let index_of = |host: u8| usize::from(host % count);
    for (number, step) in steps.iter().enumerate() {
        let at = number as u64 + 1;
        match step {
            Step::Say(host, names) => {
                let index = index_of(*host);
                before[index] = everything(&replicas[index]);
                written.push(
                    hosts[index]
                        .says(&mut replicas[index], &scope, at, writes(names, number))
                        .batch,
                );
            }
            Step::Want(host, names) => {
                let index = index_of(*host);
                written.push(
                    hosts[index]
                        .wants(&mut replicas[index], &scope, at, writes(names, number))
                        .batch,
                );
            }
            Step::Take(to, from) => {
                for batch in everything(&replicas[index_of(*from)]) {
                    replicas[index_of(*to)].merge(&batch).unwrap();
                }
            }
            Step::Forget(host) => {
                let index = index_of(*host);
                replicas[index] = Replica::default();
                for batch in &before[index] {
                    replicas[index].merge(batch).unwrap();
                }
            }
        }
        states.extend(replicas.iter().map(everything));
    }
    (written, states)
}

fn merge_all<'a>(batches: impl IntoIterator<Item = &'a Batch>) -> Replica {
    let mut replica = Replica::default();
    for batch in batches {
        replica.merge(batch).unwrap();
    }
    replica
}

fn joined(a: &[Batch], b: &[Batch]) -> Replica {
    merge_all(a.iter().chain(b))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn merging_states_is_commutative_associative_and_idempotent(
        hosts in HOSTS,
        steps in proptest::collection::vec(step(), 1..16),
        [a, b, c] in [any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()],
    ) {
        let (_, states) = play(hosts, &steps);
        let [a, b, c] = [a, b, c].map(|index| index.get(&states));
        let root = |replica: &Replica| replica.root_of_roots();
        prop_assert_eq!(root(&joined(a, b)), root(&joined(b, a)));
        prop_assert_eq!(root(&joined(a, a)), root(&merge_all(a)));
        let left = joined(&everything(&joined(a, b)), c);
        let right = joined(a, &everything(&joined(b, c)));
        prop_assert_eq!(root(&left), root(&right));
        prop_assert_eq!(everything(&left), everything(&right), "equal roots mean equal contents");
    }

    #[test]
    fn batches_in_any_order_until_nothing_changes_give_one_root(
        hosts in HOSTS,
        steps in proptest::collection::vec(step(), 1..16),
        order in any::<[u64; 2]>(),
    ) {
        // Without restored disks: what contradicts itself converges by whole sets, which the test above has.
        let steps: Vec<_> = steps.into_iter().filter(|step| !matches!(step, Step::Forget(_))).collect();
        let (written, _) = play(hosts, &steps);
        let roots = order.map(|seed| {
            let mut shuffled: Vec<_> = written.iter().enumerate().collect();
            shuffled.sort_by_key(|(index, _)| Digest::of(&[&seed.to_le_bytes(), &index.to_le_bytes()]));
            let mut replica = Replica::default();
            // Each round brings each origin on by at least one batch.
            let round = |replica: &mut Replica| {
                let changes = |(_, batch): &&(usize, &Batch)| replica.merge(batch).is_ok_and(|merged| merged.change.is_some());
                shuffled.iter().filter(changes).count()
            };
            while round(&mut replica) > 0 {}
            for batch in &written {
                assert!(replica.merge(batch).is_ok_and(|merged| merged.change.is_none()), "all is there");
            }
            replica.root_of_roots()
        });
        prop_assert_eq!(roots[0], roots[1]);
    }
}

#[test]
fn a_gap_waits_and_is_closed_by_what_is_current() {
    let (host, scope) = (Host::new(1), domain("red"));
    let mut origin = Replica::default();
    let first = host.says(
        &mut origin,
        &scope,
        1,
        vec![write("a", Some("1")), write("b", Some("1"))],
    );
    host.says(&mut origin, &scope, 2, vec![write("a", Some("2"))]);
    let third = host.says(&mut origin, &scope, 3, vec![write("a", Some("3"))]);
    let mut other = merge_all([&first.batch]);
    assert_eq!(
        other.merge(&third.batch).map(|merged| merged.change.is_some()),
        Ok(true),
        "the second is superseded"
    );
    let fourth = host.says(&mut origin, &scope, 4, vec![write("b", Some("4"))]);
    let mut empty = Replica::default();
    assert_eq!(
        empty.merge(&fourth.batch),
        Err(Gap {
            origin: host.id(),
            forked: false
        })
    );
    assert_eq!(
        empty.root_of_roots(),
        Replica::default().root_of_roots(),
        "nothing of it is visible"
    );
    let held = origin.origin(&scope, host.id()).unwrap();
    let rest = FactBatch::new(held.head.clone(), held.after(3)).unwrap();
    other.merge(&Batch::Facts(rest)).unwrap();
    assert_eq!(other.root(&scope), origin.root(&scope));
}

#[test]
fn a_withdrawn_fact_is_gone_and_its_trace_is_dropped_in_time() {
    let (host, scope) = (Host::new(1), domain("red"));
    let mut origin = Replica::default();
    let mut follower = Replica::default();
    let mut late = Replica::default();
    for number in 0..100 {
        let name = format!("n{number}");
        let made = host.says(&mut origin, &scope, number, vec![write(&name, Some("x"))]);
        follower.merge(&made.batch).unwrap();
        if number == 0 {
            late.merge(&made.batch).unwrap();
        }
        let made = host.says(&mut origin, &scope, number, vec![write(&name, None)]);
        follower.merge(&made.batch).unwrap();
    }
    let head = origin.head(&scope, host.id()).unwrap().clone();
    assert!(head.floor > 0 && head.count < 70, "{head:?}");
    assert_eq!(follower.root(&scope), origin.root(&scope), "who follows needs no reset");
    assert_eq!(follower.facts(&scope).count(), 0);
    let held = origin.origin(&scope, host.id()).unwrap();
    let rest = FactBatch::new(held.head.clone(), held.after(1)).unwrap();
    late.merge(&Batch::Facts(rest)).unwrap();
    assert_eq!(
        late.root(&scope),
        origin.root(&scope),
        "the whole set replaces what is below the floor"
    );
    assert_eq!(late.facts(&scope).count(), 0);
}

#[test]
fn an_origin_that_contradicts_itself_is_reported_and_the_higher_head_wins() {
    let (host, scope) = (Host::new(1), domain("red"));
    let mut one = Replica::default();
    host.says(&mut one, &scope, 1, vec![write("a", Some("1"))]);
    let mut two = merge_all(&everything(&one));
    host.says(&mut one, &scope, 2, vec![write("a", Some("left"))]);
    host.says(&mut two, &scope, 2, vec![write("a", Some("right"))]);
    let states = [everything(&one), everything(&two)];
    let mut forked = Vec::new();
    for (replica, state) in [(&mut one, &states[1]), (&mut two, &states[0])] {
        for batch in state {
            forked.extend(replica.merge(batch).unwrap().forked);
        }
    }
    assert_eq!(forked, [host.id(); 2]);
    assert_eq!(one.root(&scope), two.root(&scope));
    // A continuation of the branch that lost does not apply, and says why.
    let lost = if everything(&one) == states[0] {
        &states[1]
    } else {
        &states[0]
    };
    let mut loser = merge_all(lost);
    let next = host.says(&mut loser, &scope, 3, vec![write("b", Some("3"))]);
    assert_eq!(
        one.merge(&next.batch),
        Err(Gap {
            origin: host.id(),
            forked: true
        })
    );
}

#[test]
fn reclaiming_does_not_say_again_what_was_withdrawn_and_forgotten() {
    let (host, scope) = (Host::new(1), domain("red"));
    let mut before = Replica::default();
    host.says(
        &mut before,
        &scope,
        1,
        vec![write("kept", Some("1")), write("gone", Some("1"))],
    );
    let mut peers = merge_all(&everything(&before));
    host.says(&mut peers, &scope, 2, vec![write("gone", None)]);
    let many = |body| (0..200).map(|n| write(&format!("many-{n}"), body)).collect::<Vec<_>>();
    host.says(&mut peers, &scope, 3, many(Some("1")));
    host.says(&mut peers, &scope, 4, many(None));
    host.says(&mut before, &scope, 9, vec![write("beside", Some("9"))]);
    let all = everything(&peers);
    let Some(Batch::Facts(theirs)) = all.first() else {
        unreachable!()
    };
    assert!(
        theirs.facts().iter().all(|fact| &*fact.value().key.name != "gone"),
        "it is forgotten"
    );
    let made = author::reclaim(&before, &host, theirs).unwrap().unwrap();
    assert!(before.merge(&made.batch).unwrap().change.is_some());
    let names: Vec<_> = before.facts(&scope).map(|fact| &*fact.key.name).collect();
    assert_eq!(names, ["beside", "kept"]);
}

/// A disk is put back, and later one that is older still.
#[test]
fn reclaiming_twice_does_not_say_again_what_was_withdrawn_before_the_first_time() {
    let (host, scope) = (Host::new(1), domain("red"));
    let mut first = Replica::default();
    host.says(
        &mut first,
        &scope,
        1,
        vec![write("kept", Some("1")), write("gone", Some("1"))],
    );
    let (mut peers, mut second) = (merge_all(&everything(&first)), merge_all(&everything(&first)));
    host.says(&mut peers, &scope, 2, vec![write("gone", None)]);
    for old in [&mut first, &mut second] {
        let all = everything(&peers);
        let Some(Batch::Facts(theirs)) = all.first() else {
            unreachable!()
        };
        let made = author::reclaim(old, &host, theirs).unwrap().unwrap();
        for replica in [&mut *old, &mut peers] {
            assert!(replica.merge(&made.batch).unwrap().change.is_some());
            let names: Vec<_> = replica.facts(&scope).map(|fact| &*fact.key.name).collect();
            assert_eq!(names, ["kept"]);
        }
    }
}

#[test]
fn reclaiming_joins_both_sides_above_both() {
    let (host, scope) = (Host::new(1), domain("red"));
    let mut before = Replica::default();
    host.says(
        &mut before,
        &scope,
        1,
        vec![write("a", Some("1")), write("b", Some("1")), write("gone", Some("1"))],
    );
    let mut peers = merge_all(&everything(&before));
    host.says(&mut peers, &scope, 5, vec![write("a", Some("5")), write("gone", None)]);
    host.says(&mut peers, &scope, 6, vec![write("c", Some("6"))]);
    host.says(&mut before, &scope, 7, vec![write("b", Some("7"))]);
    let all = everything(&peers);
    let Some(Batch::Facts(theirs)) = all.first() else {
        unreachable!()
    };
    let made = author::reclaim(&before, &host, theirs).unwrap().unwrap();
    for replica in [&mut before, &mut peers] {
        assert!(replica.merge(&made.batch).unwrap().change.is_some());
    }
    let texts: Vec<_> = before
        .facts(&scope)
        .map(|fact| (fact.key.name.to_string(), fact.body.clone().unwrap().bytes.to_vec()))
        .collect();
    assert_eq!(
        texts,
        [
            ("a".into(), b"5".to_vec()),
            ("b".into(), b"7".to_vec()),
            ("c".into(), b"6".to_vec())
        ]
    );
    assert_eq!(before.head(&scope, host.id()).map(|head| head.epoch), Some(2));
    assert_eq!(before.root(&scope), peers.root(&scope));
    assert_eq!(
        author::reclaim(&before, &host, theirs),
        Ok(None),
        "what is below is of no interest"
    );
}

#[test]
fn a_write_that_saw_the_siblings_resolves_them() {
    let (a, b, scope) = (Host::new(1), Host::new(2), domain("red"));
    let (mut left, mut right) = (Replica::default(), Replica::default());
    let one = a.wants(&mut left, &scope, 10, vec![write("x", Some("a"))]);
    let two = b.wants(&mut right, &scope, 11, vec![write("x", Some("b"))]);
    left.merge(&two.batch).unwrap();
    let key = &one.dots[0].0;
    let siblings = left.intent(&scope, key).unwrap();
    assert_eq!(siblings.all().count(), 2);
    assert_eq!(siblings.shown().stamp, stamp(11));
    let three = a.wants(&mut left, &scope, 9, vec![write("x", None)]);
    assert_eq!(left.intent(&scope, key).unwrap().all().count(), 1, "whatever its stamp");
    right.merge(&three.batch).unwrap();
    right.merge(&one.batch).unwrap();
    assert_eq!(right.root(&scope), left.root(&scope));
    assert!(right.has_version(&scope, key, one.dots[0].1) && right.has_version(&scope, key, two.dots[0].1));
}

#[test]
fn forged_contexts_do_not_keep_replicas_apart() {
    let (host, scope) = (Host::new(1), domain("red"));
    let version = |counter, saw: Option<u64>| {
        let mut context = VersionVector::default();
        saw.into_iter().for_each(|counter| {
            context.insert(Dot {
                writer: host.id(),
                counter,
            })
        });
        let key = Key::new("K", "x");
        let dot = Dot {
            writer: host.id(),
            counter,
        };
        let intent = Intent {
            scope: scope.clone(),
            key,
            dot,
            context,
            stamp: stamp(1),
            author: "x".into(),
            body: None,
        };
        let signed = Signed::sign(intent, &host).unwrap();
        IntentBatch::new(scope.clone(), vec![signed]).map(Batch::Intents)
    };
    // Each claims to have seen the next one, round in a circle.
    let batches = [version(1, Some(3)), version(2, Some(1)), version(3, Some(2))].map(|batch| batch.ok());
    let roots: BTreeSet<_> = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
        .map(|order| merge_all(order.iter().filter_map(|&index| batches[index].as_ref())).root(&scope))
        .into();
    assert_eq!(roots.len(), 1);
}
