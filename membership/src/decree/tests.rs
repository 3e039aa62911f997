//! The rules of single decrees and of chains, and what hostile anchors and relays cannot do.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::chain::WINDOW;
use super::*;
use crate::fixture::Host;
use crate::node::{Anchors, Cluster};

pub(super) fn founded(hosts: &[&Host]) -> Standing {
    let keys: BTreeMap<NodeId, [u8; 32]> = hosts.iter().map(|host| (host.id(), host.public())).collect();
    let cluster = Cluster {
        id: ClusterId::from_random([1; 16]),
        name: "lab".parse().unwrap(),
        roots: vec![Bytes::from_static(b"root")],
        anchors: Anchors::of(1, keys.keys().copied().collect()),
    };
    Standing::founding(&cluster, &keys).unwrap()
}

/// The removal of a host.
pub(super) fn key_of(host: &Host, cut: u64) -> Removal {
    Removal {
        node: host.id(),
        key: host.public(),
        name: "host".parse().unwrap(),
        cut,
    }
}

fn ballot(round: u64, by: &Host) -> Ballot {
    Ballot { round, by: by.id() }
}

fn sealed(decree: Decree, ballot: Ballot, by: &[&Host]) -> Sealed {
    Sealed {
        seals: by.iter().map(|host| Seal::sign(*host, ballot, &decree)).collect(),
        decree,
        ballot,
    }
}

fn hosts(count: u8) -> Vec<Host> {
    (1..=count).map(Host::new).collect()
}

#[test]
fn a_decree_needs_the_seals_of_a_majority_under_one_ballot() {
    let hosts = hosts(5);
    let [a, b, c, d, new] = &hosts[..] else { panic!() };
    let standing = founded(&[a, b, c]);
    let decree = standing.next(Act::AddAnchor(new.public()));
    let one = ballot(1, a);
    let after = standing.accept(&sealed(decree.clone(), one, &[a, c])).unwrap();
    assert_eq!((after.version(), after.seats().len(), after.majority()), (2, 4, 3));
    assert_eq!(after.cluster().anchors.earlier.len(), 1);
    let few = |seals: Vec<Seal>| {
        standing
            .accept(&Sealed {
                decree: decree.clone(),
                ballot: one,
                seals,
            })
            .unwrap_err()
    };
    let seal = |host: &Host, ballot: Ballot| Seal::sign(host, ballot, &decree);
    for (seals, why) in [
        (vec![seal(a, one)], "one of three"),
        (vec![seal(a, one), seal(a, one)], "the same twice"),
        (vec![seal(a, one), seal(b, ballot(2, a))], "another ballot's"),
        (vec![seal(a, one), seal(d, one)], "not an anchor's"),
        (
            vec![
                seal(a, one),
                Seal {
                    anchor: b.id(),
                    ..seal(c, one)
                },
            ],
            "another one's name over it",
        ),
    ] {
        assert_eq!(few(seals), Illegal::Seals(1, 2), "{why}");
    }
    let other = standing.next(Act::AddAnchor(d.public()));
    let moved = Sealed {
        decree: other,
        ..sealed(decree.clone(), one, &[a, b, c])
    };
    assert_eq!(
        standing.accept(&moved),
        Err(Illegal::Seals(0, 2)),
        "seals of another decree"
    );
    let stranger = Decree {
        cluster: ClusterId::from_random([2; 16]),
        ..decree
    };
    assert_eq!(
        standing.accept(&sealed(stranger, one, &[a, b, c])),
        Err(Illegal::NotNext)
    );
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let hosts = hosts(9);
    let alone = founded(&[&hosts[0]]);
    let after = |standing: &Standing, act: Act| standing.after(&standing.next(act));
    let id = |n: usize| hosts[n].id();
    assert_eq!(after(&alone, Act::DropAnchor(id(0))), Err(Illegal::LastAnchor(id(0))));
    assert_eq!(
        after(&alone, Act::Remove(key_of(&hosts[0], 1))),
        Err(Illegal::LastAnchor(id(0)))
    );
    assert_eq!(after(&alone, Act::DropAnchor(id(1))), Err(Illegal::NoAnchor(id(1))));
    assert_eq!(
        after(&alone, Act::AddAnchor(hosts[0].public())),
        Err(Illegal::AnchorAlready(id(0)))
    );
    let without = after(&alone, Act::Remove(key_of(&hosts[1], 5))).unwrap();
    assert_eq!(without.removed()[&id(1)].cut, 5);
    assert_eq!(
        after(&without, Act::Remove(key_of(&hosts[1], 9))),
        Err(Illegal::Removed(id(1))),
        "the cut stays"
    );
    assert_eq!(
        after(&without, Act::AddAnchor(hosts[1].public())),
        Err(Illegal::Removed(id(1)))
    );
    let foreign = Removal {
        key: hosts[3].public(),
        ..key_of(&hosts[2], 1)
    };
    assert_eq!(after(&alone, Act::Remove(foreign)), Err(Illegal::Key));
    let seven = founded(&hosts[..7].iter().collect::<Vec<_>>());
    assert_eq!(
        after(&seven, Act::AddAnchor(hosts[7].public())),
        Err(Illegal::TooManyAnchors)
    );

    let root = |text: &'static str| Bytes::from_static(text.as_bytes());
    let two = after(&alone, Act::AddRoot(root("second"))).unwrap();
    assert_eq!(two.roots().len(), 2);
    assert_eq!(after(&two, Act::AddRoot(root("third"))), Err(Illegal::Roots));
    assert_eq!(
        after(&alone, Act::AddRoot(root("root"))),
        Err(Illegal::Roots),
        "twice the same"
    );
    assert_eq!(
        after(&alone, Act::AddRoot(Bytes::from(vec![0; ROOT_BYTES_MAX + 1]))),
        Err(Illegal::Roots)
    );
    assert_eq!(
        after(&alone, Act::DropRoot(Digest::of(&[b"root"]))),
        Err(Illegal::Roots),
        "none is left"
    );
    let one = after(&two, Act::DropRoot(Digest::of(&[b"root"]))).unwrap();
    assert_eq!(one.roots(), [root("second")]);
    assert_eq!(
        after(&one, Act::DropRoot(Digest::of(&[b"root"]))),
        Err(Illegal::Roots),
        "it is gone already"
    );
}

#[test]
fn a_removed_anchor_is_no_anchor_and_its_word_on_old_claims_does_not_count() {
    let hosts = hosts(3);
    let standing = founded(&hosts.iter().collect::<Vec<_>>());
    let after = standing
        .after(&standing.next(Act::Remove(key_of(&hosts[1], 1))))
        .unwrap();
    let anchors = after.cluster().anchors;
    assert!(!anchors.nodes.contains(&hosts[1].id()));
    assert_eq!((anchors.earlier[0].nodes.len(), anchors.earlier[0].majority), (2, 2));
    assert_eq!(after.majority(), 2);
}

#[test]
fn a_cluster_grows_to_three_once() {
    let hosts = hosts(4);
    let mut standing = founded(&[&hosts[0]]);
    for host in &hosts[1..3] {
        assert!(standing.grows());
        standing = standing.after(&standing.next(Act::AddAnchor(host.public()))).unwrap();
    }
    assert!(!standing.grows());
    let fewer = standing
        .after(&standing.next(Act::Remove(key_of(&hosts[1], 1))))
        .unwrap();
    assert!(!fewer.grows(), "who was there once is the operator's affair");
    let two = founded(&[&hosts[0], &hosts[1]]);
    let dropped = two.after(&two.next(Act::DropAnchor(hosts[1].id()))).unwrap();
    assert!(!dropped.grows(), "somebody wants one");
}

/// A chain of decrees with one anchor.
fn chain_of(host: &Host, length: usize) -> (Standing, Vec<Sealed>) {
    let first = founded(&[host]);
    let (mut now, mut steps) = (first.clone(), Vec::new());
    for number in 0..length {
        let act = if number % 2 == 0 {
            Act::AddRoot(Bytes::from(format!("root {number}")))
        } else {
            Act::DropRoot(Digest::of(&[format!("root {}", number - 1).as_bytes()]))
        };
        let step = sealed(now.next(act), ballot(1, host), &[host]);
        now = now.accept(&step).unwrap();
        steps.push(step);
    }
    (first, steps)
}

#[test]
fn what_is_old_is_folded_and_what_is_missing_is_seen() {
    let host = Host::new(1);
    let (first, steps) = chain_of(&host, WINDOW + 10);
    let mut chain = Chain::new(first.clone());
    assert!(chain.take(&steps).changed);
    assert_eq!(chain.steps().len(), WINDOW);
    assert_eq!(chain.now().version(), u64::try_from(WINDOW + 11).unwrap());
    let back = Chain::restore(chain.keep());
    assert_eq!((back.now(), back.steps()), (chain.now(), chain.steps()));
    assert_eq!(chain.take(&steps), Taken::default(), "nothing of it is fresh");
    let mut late = Chain::new(first);
    let taken = late.take(&steps[5..]);
    assert_eq!((taken.changed, taken.missing), (false, Some(chain.now().version())));
    assert!(late.take(&steps).changed);
    assert_eq!(late.now(), chain.now());
}

#[test]
fn two_decrees_of_one_version_are_seen_and_all_settle_on_one() {
    let host = Host::new(1);
    let first = founded(&[&host]);
    let fork = |root: &'static str| {
        let act = Act::AddRoot(Bytes::from_static(root.as_bytes()));
        sealed(first.next(act), ballot(1, &host), &[&host])
    };
    let (left, right) = (fork("left"), fork("right"));
    let mut chains = [Chain::new(first.clone()), Chain::new(first.clone())];
    chains[0].take([&left]);
    assert_eq!(chains[0].take([&right]).forked, Some(2));
    chains[1].take([&right]);
    assert_eq!(chains[1].take([&left]).forked, Some(2));
    assert_eq!(chains[0].now(), chains[1].now());
    // The longer one counts, whichever it is.
    for (short, long) in [(&left, &right), (&right, &left)] {
        let standing = first.accept(long).unwrap();
        let further = sealed(
            standing.next(Act::DropRoot(Digest::of(&[b"root"]))),
            ballot(1, &host),
            &[&host],
        );
        for order in [
            [short, long, &further],
            [&further, long, short],
            [long, &further, short],
        ] {
            let mut chain = Chain::new(first.clone());
            for step in order.into_iter().chain([&further]) {
                chain.take([short, long, step]);
            }
            assert_eq!(chain.now().version(), 3);
            assert_eq!(chain.now().digest(), further.decree.digest());
        }
    }
}

#[test]
fn an_anchor_keeps_its_word() {
    let hosts = hosts(4);
    let [a, b, c, stranger] = &hosts[..] else { panic!() };
    let chain = Chain::new(founded(&[a, b, c]));
    let mut ledger = Ledger::default();
    let prepare = |round, by: &Host| Request::Prepare {
        version: 2,
        ballot: ballot(round, by),
    };
    let decree = chain.now().next(Act::AddAnchor(stranger.public()));
    let accept = |round, by: &Host, decree: &Decree| Request::Accept {
        ballot: ballot(round, by),
        decree: decree.clone(),
    };
    let promised = |round, by: &Host, accepted: Option<(Ballot, Decree)>| Answer::Promised {
        ballot: ballot(round, by),
        accepted,
    };
    assert_eq!(ledger.answer(&chain, a, b.id(), &prepare(5, b)), promised(5, b, None));
    assert_eq!(
        ledger.answer(&chain, a, c.id(), &prepare(4, c)),
        Answer::Outbid(ballot(5, b))
    );
    assert_eq!(
        ledger.answer(&chain, a, c.id(), &accept(4, c, &decree)),
        Answer::Outbid(ballot(5, b))
    );
    let first = ledger.answer(&chain, a, b.id(), &accept(5, b, &decree));
    assert!(matches!(first, Answer::Sealed { .. }));
    assert_eq!(
        ledger.answer(&chain, a, b.id(), &accept(5, b, &decree)),
        first,
        "the reply was lost"
    );
    let other = chain.now().next(Act::DropAnchor(c.id()));
    assert_eq!(
        ledger.answer(&chain, a, b.id(), &accept(5, b, &other)),
        Answer::Outbid(ballot(5, b)),
        "one ballot, one decree"
    );
    assert_eq!(
        ledger.answer(&chain, a, c.id(), &prepare(6, c)),
        promised(6, c, Some((ballot(5, b), decree.clone())))
    );
    for (asker, request, why) in [
        (stranger, prepare(9, stranger), "not an anchor"),
        (b, prepare(9, c), "another one's ballot"),
        (
            c,
            accept(
                6,
                c,
                &Decree {
                    previous: Digest::default(),
                    ..other.clone()
                },
            ),
            "not the next",
        ),
    ] {
        let before = ledger.clone();
        let answer = ledger.answer(&chain, a, asker.id(), &request);
        assert!(matches!(answer, Answer::Refused(_)), "{why}: {answer:?}");
        assert_eq!(ledger, before, "{why}");
    }
    assert!(matches!(
        ledger.answer(&chain, stranger, b.id(), &prepare(9, b)),
        Answer::Refused(_)
    ));
    let ahead = Request::Prepare {
        version: 3,
        ballot: ballot(1, b),
    };
    assert_eq!(ledger.answer(&chain, a, b.id(), &ahead), Answer::Behind(1));
    let mut moved = chain.clone();
    moved.take([&sealed(decree, ballot(5, b), &[a, b])]);
    assert_eq!(
        ledger.answer(&moved, a, c.id(), &prepare(7, c)),
        Answer::Further(moved.since(1))
    );
}

#[test]
fn a_proposer_takes_up_what_may_be_decided() {
    let hosts = hosts(4);
    let [a, b, c, new] = &hosts[..] else { panic!() };
    let standing = founded(&[a, b, c]);
    let (mine, theirs) = (
        standing.next(Act::DropAnchor(c.id())),
        standing.next(Act::AddAnchor(new.public())),
    );
    let (mut proposal, _) = Proposal::new(standing.clone(), mine, ballot(7, a));
    let promise = |accepted| Answer::Promised {
        ballot: ballot(7, a),
        accepted,
    };
    assert_eq!(proposal.hear(a.id(), promise(None)), Step::Wait);
    assert_eq!(proposal.hear(a.id(), promise(None)), Step::Wait, "the same one twice");
    assert_eq!(proposal.hear(new.id(), promise(None)), Step::Wait, "no anchor");
    let asked = proposal.hear(b.id(), promise(Some((ballot(3, b), theirs.clone()))));
    assert_eq!(
        asked,
        Step::Ask(Request::Accept {
            ballot: ballot(7, a),
            decree: theirs.clone()
        })
    );
    let seal = |host: &Host, round| Answer::Sealed {
        ballot: ballot(round, a),
        seal: Seal::sign(host, ballot(round, a), &theirs),
    };
    assert_eq!(proposal.hear(a.id(), seal(a, 6)), Step::Wait, "of another try");
    assert_eq!(proposal.hear(b.id(), seal(a, 7)), Step::Wait, "another one's seal");
    assert_eq!(proposal.hear(a.id(), seal(a, 7)), Step::Wait);
    let Step::Decided(decided) = proposal.hear(b.id(), seal(b, 7)) else {
        panic!()
    };
    assert_eq!(standing.accept(&decided).unwrap().seats().len(), 4);
    let (mut proposal, _) = Proposal::new(standing.clone(), theirs.clone(), ballot(8, a));
    assert_eq!(proposal.hear(b.id(), Answer::Refused("no".to_owned())), Step::Wait);
    assert_eq!(
        proposal.hear(c.id(), Answer::Refused("no".to_owned())),
        Step::Refused("no".to_owned())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the order, repeats and forgeries among them: the same chain.
    #[test]
    fn any_order_gives_the_same_chain(
        length in 1usize..8,
        order in proptest::collection::vec((0usize..8, 0u8..4), 0..24),
    ) {
        let host = Host::new(1);
        let (first, steps) = chain_of(&host, length);
        let mut chain = Chain::new(first.clone());
        for (at, kind) in order {
            let step = steps[at % length].clone();
            let step = match kind {
                0 => sealed(step.decree.clone(), ballot(9, &Host::new(9)), &[&Host::new(9)]),
                1 => Sealed { decree: Decree { act: Act::DropAnchor(host.id()), ..step.decree.clone() }, ..step },
                _ => step,
            };
            let taken = chain.take([&step]);
            prop_assert_eq!(taken.forked, None);
        }
        chain.take(&steps);
        let mut straight = Chain::new(first);
        straight.take(&steps);
        prop_assert_eq!(chain.now(), straight.now());
        prop_assert_eq!(chain.steps(), straight.steps());
    }

    #[test]
    fn any_bytes_are_a_request_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let host = Host::new(1);
        let chain = Chain::new(founded(&[&host]));
        if let Ok(request) = postcard::from_bytes::<Request>(&bytes) {
            Ledger::default().answer(&chain, &host, host.id(), &request);
        }
        if let Ok(sealed) = postcard::from_bytes::<Sealed>(&bytes) {
            prop_assert!(!chain.clone().take([&sealed]).changed);
        }
    }
}
