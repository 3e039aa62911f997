//! Members with good keys and bad intentions against honest replicas: what they say is refused where it would do
//! lasting harm to others, and nothing that they say ends a task or grows without bound.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::*;
use crate::author::{self, SET_BYTES_MAX, Write};
use crate::fixture::{Host, Trusting, domain, stamp, write};
use crate::keyring::NODE_NAME;
use crate::node::NODE_KIND;
use crate::record::{Dot, Intent, Key, VersionVector};
use crate::signed::{Signed, Signer as _};
use crate::wire::{Listed, Pull, RawBatch};

/// An honest node and one that is not, which it knows and is connected to.
struct Stage {
    honest: Sync,
    enemy: Host,
    /// What the enemy holds of its own.
    book: Replica,
    rng: StdRng,
}

impl Stage {
    fn new() -> Self {
        let (own, enemy) = (Host::new(1), Host::new(2));
        let mut stage = Self {
            honest: Sync::new(&own.public(), Replica::default(), Box::new(Trusting)),
            book: Replica::default(),
            rng: StdRng::seed_from_u64(1),
            enemy,
        };
        stage.event(Event::PeerUp(stage.enemy.id()));
        let record = stage.enemy.record();
        assert_eq!(stage.says(&Scope::System, vec![record]), None);
        stage
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        self.honest.handle(event, Duration::ZERO, &mut self.rng)
    }

    fn hears(&mut self, message: &Message) -> Vec<Effect> {
        self.event(Event::Frame(self.enemy.id(), wire::encode(message).unwrap()))
    }

    /// The enemy says it of itself. Why it was refused, if it was.
    fn says(&mut self, scope: &Scope, writes: Vec<Write>) -> Option<String> {
        let Batch::Facts(batch) = self.enemy.says(&mut self.book, scope, 1, writes).batch else {
            unreachable!()
        };
        refusal(self.hears(&Message::Push(RawBatch::Facts(batch.to_raw()))))
    }
}

fn refusal(effects: Vec<Effect>) -> Option<String> {
    effects.into_iter().find_map(|effect| match effect {
        Effect::Alarm(Trouble::BadFrame { reason, .. }) => Some(reason),
        _ => None,
    })
}

#[test]
fn what_certifies_a_node_cannot_be_taken_back() {
    let withdrawn = Write {
        key: Key::new(NODE_KIND, NODE_NAME),
        body: None,
    };
    let mut spoiled = Host::new(2).record();
    spoiled.body.as_mut().unwrap().bytes = Bytes::from_static(b"spoiled");
    for bad in [withdrawn, spoiled] {
        let mut stage = Stage::new();
        let root = stage.honest.replica().root(&Scope::System);
        assert!(stage.says(&Scope::System, vec![bad]).is_some());
        assert_eq!(stage.honest.replica().root(&Scope::System), root);
    }
}

#[test]
fn a_set_that_could_not_be_handed_on_is_refused() {
    let (mut stage, red) = (Stage::new(), domain("red"));
    let large = "x".repeat(15_000);
    let mut held = 0;
    for round in 0.. {
        let writes = (0..60).map(|n| write(&format!("{round}-{n}"), Some(&large))).collect();
        let size = |signed: &Signed<_>| signed.raw().len();
        // The author refuses it too, so the enemy signs without asking.
        let Ok(made) = author::facts(&stage.book, &stage.enemy, &red, writes, stamp(1)) else {
            break;
        };
        stage.book.merge(&made.batch).unwrap();
        let Batch::Facts(batch) = made.batch else {
            unreachable!()
        };
        held += batch.facts().iter().map(size).sum::<usize>();
        assert_eq!(
            refusal(stage.hears(&Message::Push(RawBatch::Facts(batch.to_raw())))),
            None
        );
    }
    assert!(held <= SET_BYTES_MAX && held > SET_BYTES_MAX / 2);
    let last = stage.honest.replica().head(&red, stage.enemy.id()).unwrap().clone();
    let batch = unbounded(
        &stage,
        last,
        (0..60).map(|n| write(&format!("more-{n}"), Some(&large))).collect(),
    );
    assert!(refusal(stage.hears(&Message::Push(RawBatch::Facts(batch)))).is_some());
}

/// Facts after a head, signed without a look at any bound.
fn unbounded(stage: &Stage, mut head: crate::record::Head, writes: Vec<Write>) -> crate::batch::RawFacts {
    let mut facts = Vec::new();
    for Write { key, body } in writes {
        head.seq += 1;
        let fact = crate::record::Fact {
            origin: head.origin,
            scope: head.scope.clone(),
            epoch: head.epoch,
            seq: head.seq,
            previous: head.chain,
            key,
            stamp: stamp(1),
            body,
        };
        let fact = Signed::sign(fact, &stage.enemy).unwrap();
        (head.chain, head.set, head.count) = (fact.digest(), head.set.plus(fact.digest()), head.count + 1);
        facts.push(fact.raw().clone());
    }
    let head = Signed::sign(head, &stage.enemy).unwrap().raw().clone();
    crate::batch::RawFacts { head, facts }
}

#[test]
fn scopes_are_bounded() {
    let mut stage = Stage::new();
    let mut refused = 0;
    for n in 0..10_050 {
        let made = author::facts(
            &Replica::default(),
            &stage.enemy,
            &domain(&format!("d{n}")),
            vec![write("a", None)],
            stamp(1),
        );
        let Batch::Facts(batch) = made.unwrap().batch else {
            unreachable!()
        };
        refused += usize::from(refusal(stage.hears(&Message::Push(RawBatch::Facts(batch.to_raw())))).is_some());
    }
    assert_eq!((stage.honest.replica().scopes().count(), refused), (10_000, 51));
}

#[test]
fn a_forged_context_does_not_silence_the_node_that_it_names() {
    let (mut stage, red, own) = (Stage::new(), domain("red"), Host::new(1));
    let intent = Intent {
        scope: red.clone(),
        key: Key::new("K", "a"),
        dot: Dot {
            writer: stage.enemy.id(),
            counter: u64::MAX,
        },
        context: VersionVector([(own.id(), u64::MAX)].into()),
        stamp: stamp(u64::MAX),
        author: "enemy".into(),
        body: None,
    };
    let versions = vec![Signed::sign(intent, &stage.enemy).unwrap().raw().clone()];
    let push = RawBatch::Intents {
        scope: red.clone(),
        after: VersionVector::default(),
        versions,
    };
    assert_eq!(refusal(stage.hears(&Message::Push(push))), None);
    for (name, siblings) in [("a", 2), ("b", 1)] {
        let made = author::intents(
            stage.honest.replica(),
            &own,
            &red,
            "me",
            vec![write(name, Some("x"))],
            stamp(2_000),
        )
        .unwrap();
        stage.event(Event::LocalBatch(made.batch));
        let held = stage.honest.replica().intent(&red, &Key::new("K", name)).unwrap();
        assert_eq!(held.all().count(), siblings);
        assert!(held.all().any(|version| version.dot == made.dots[0].1));
    }
}

#[test]
fn floods_of_scopes_and_buckets_are_taken_in_and_bounded() {
    let mut stage = Stage::new();
    let roots: Vec<_> = (0..20_000)
        .map(|n| (domain(&format!("d{n}")), crate::record::Digest([1; 32])))
        .collect();
    let pulls = |effects: Vec<Effect>| {
        effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Send { .. }))
            .count()
    };
    assert_eq!(pulls(stage.hears(&Message::Roots(roots))), 1, "one pull at a time");
    let listed = vec![
        Listed {
            bucket: 7,
            objects: Vec::new()
        };
        300_000
    ];
    let (scope, vector, sums) = (domain("red"), Vec::new(), vec![(9, [1; 16])]);
    let pull = Pull {
        id: 1,
        scope,
        vector,
        sums,
        listed,
        partial: false,
        back: false,
    };
    let effects = stage.hears(&Message::Pull(pull));
    let [Effect::Send { frame, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(
        wire::decode(frame),
        Ok(Message::Detail {
            id: 1,
            buckets: vec![7, 9]
        })
    );
}

#[test]
fn cut_and_bent_frames_are_refused_without_a_trace() {
    let mut stage = Stage::new();
    let made = author::facts(
        &stage.book,
        &stage.enemy,
        &domain("red"),
        vec![write("a", Some("1"))],
        stamp(1),
    )
    .unwrap();
    let Batch::Facts(batch) = made.batch else {
        unreachable!()
    };
    let frame = wire::encode(&Message::Push(RawBatch::Facts(batch.to_raw()))).unwrap();
    let root = stage.honest.replica().root_of_roots();
    let from = stage.enemy.id();
    for cut in 0..frame.len() {
        stage.event(Event::Frame(from, frame.slice(..cut)));
    }
    for at in 0..frame.len() {
        for bit in [0x01, 0x80, 0xff] {
            let mut bent = frame.to_vec();
            bent[at] ^= bit;
            stage.event(Event::Frame(from, bent.into()));
        }
    }
    assert_eq!(stage.honest.replica().root_of_roots(), root);
    stage.event(Event::Frame(from, frame));
    assert_ne!(stage.honest.replica().root_of_roots(), root);
}
