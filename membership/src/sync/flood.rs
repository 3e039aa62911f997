//! A member that writes and writes: it is bounded, it is named, and nobody else notices.

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::ring::pushed;
use super::*;
use crate::author;
use crate::fixture::{Host, Trusting, domain, stamp, write};
use crate::record::{Dot, Intent, Key, RECORD_MAX, VersionVector};
use crate::signed::{Signed, Signer as _};
use crate::wire::{Item, Pull};

struct Stage {
    honest: Sync,
    now: Duration,
    rng: StdRng,
}

impl Stage {
    /// A node that knows, and is connected to, these.
    fn new(others: &[&Host]) -> Self {
        let own = Host::new(1);
        let mut stage = Self {
            honest: Sync::new(&own.public(), Replica::default(), Box::new(Trusting)),
            now: Duration::ZERO,
            rng: StdRng::seed_from_u64(1),
        };
        for host in others {
            stage.event(Event::PeerUp(host.id()));
            let made = author::facts(
                &Replica::default(),
                *host,
                &Scope::System,
                vec![host.record()],
                stamp(1),
            );
            stage.push(host, &made.unwrap().batch);
        }
        stage
    }

    fn event(&mut self, event: Event) -> Vec<Effect> {
        self.honest.handle(event, self.now, &mut self.rng)
    }

    /// Why it was not taken, if it was not.
    fn push(&mut self, host: &Host, batch: &Batch) -> Option<&'static str> {
        let effects = self.event(Event::Frame(host.id(), pushed(batch)));
        effects.into_iter().find_map(|effect| match effect {
            Effect::Alarm(Trouble::OverQuota { origin, why }) if origin == host.id() => Some(why),
            _ => None,
        })
    }
}

fn versions(host: &Host, scope: &Scope, at: u64, names: std::ops::Range<usize>, text: &str) -> Batch {
    let writes = names.map(|name| write(&name.to_string(), Some(text))).collect();
    author::intents(&Replica::default(), host, scope, "x", writes, stamp(at))
        .unwrap()
        .batch
}

#[test]
fn a_flood_is_slowed_down_and_bounded_and_others_are_heard() {
    let (enemy, friend) = (Host::new(2), Host::new(3));
    let mut stage = Stage::new(&[&enemy, &friend]);
    let red = domain("red");
    let large = "x".repeat(15_000);
    let (mut book, mut taken, mut reasons) = (Replica::default(), 0, BTreeSet::new());
    // It says the same again and again, as fast as it can for a while, and then for a second.
    for round in 0..160 {
        let writes = (0..60).map(|name| write(&name.to_string(), Some(&large))).collect();
        let batch = enemy.says(&mut book, &red, round, writes).batch;
        let refused = stage.push(&enemy, &batch);
        taken += usize::from(refused.is_none());
        reasons.extend(refused);
        if round >= 120 {
            stage.now += Duration::from_millis(25);
        }
    }
    assert_eq!(reasons, ["it writes faster than others take it in"].into());
    let bytes = taken * 60 * 15_000;
    let most = (PUSHED_BYTES_PER_SECOND as usize) * 11;
    assert!(bytes <= most && bytes > most / 10 * 8, "{bytes} of {most}");
    assert!(stage.honest.replica().usage(enemy.id()).fact_bytes < 1 << 20);
    assert_eq!(stage.push(&friend, &versions(&friend, &red, 1, 0..60, &large)), None);
    let facts = author::facts(
        &Replica::default(),
        &friend,
        &red,
        vec![write("a", Some("1"))],
        stamp(1),
    )
    .unwrap();
    assert_eq!(stage.push(&friend, &facts.batch), None);
    assert_eq!(stage.honest.replica().facts_from(&red, friend.id()).count(), 1);
}

#[test]
fn what_one_node_may_have_in_all_is_bounded() {
    if std::env::var_os("FABRIC_LONG").is_none() {
        return println!("only with FABRIC_LONG: it signs and checks a gigabyte");
    }
    let (enemy, friend) = (Host::new(2), Host::new(3));
    let mut stage = Stage::new(&[&enemy, &friend]);
    let (red, large) = (domain("red"), "x".repeat(16_000));
    let (mut reasons, mut pushed) = (BTreeSet::new(), 0);
    for round in 0.. {
        stage.now += Duration::from_secs(1);
        let names = 60 * round..60 * (round + 1);
        let batch = versions(&enemy, &red, 1_000 * (round as u64 + 1), names, &large);
        pushed += 60 * large.len();
        reasons.extend(stage.push(&enemy, &batch));
        if pushed > 1 << 30 {
            break;
        }
    }
    assert_eq!(
        reasons,
        ["it has written more objects than a node may, the first ones are left out"].into()
    );
    let usage = stage.honest.replica().usage(enemy.id());
    assert!(usage.version_bytes < VERSION_BYTES_MAX + RECORD_MAX && usage.version_bytes > VERSION_BYTES_MAX / 10 * 9);
    assert_eq!(stage.push(&friend, &versions(&friend, &red, 1, 0..60, &large)), None);
    assert_eq!(stage.honest.replica().usage(friend.id()).versions, 60);
}

#[test]
fn one_writer_has_few_versions_of_an_object_side_by_side() {
    let enemy = Host::new(2);
    let mut stage = Stage::new(&[&enemy]);
    let red = domain("red");
    let mut refused = 0;
    for counter in 1..100 {
        let intent = Intent {
            scope: red.clone(),
            key: Key::new("K", "a"),
            dot: Dot {
                writer: enemy.id(),
                counter,
            },
            context: VersionVector::default(),
            stamp: stamp(1),
            author: "x".into(),
            body: None,
        };
        let versions = vec![Signed::sign(intent, &enemy).unwrap()];
        let batch = crate::batch::IntentBatch::new(red.clone(), versions).unwrap();
        refused += usize::from(stage.push(&enemy, &Batch::Intents(batch)).is_some());
    }
    let held = stage.honest.replica().intent(&red, &Key::new("K", "a")).unwrap();
    assert_eq!((held.all().count(), refused), (SIBLINGS_MAX, 99 - SIBLINGS_MAX));
}

#[test]
fn who_writes_little_comes_first_in_an_answer() {
    let (enemy, friend) = (Host::new(2), Host::new(3));
    let mut stage = Stage::new(&[&enemy, &friend]);
    let (red, large) = (domain("red"), "x".repeat(15_000));
    for round in 0..5_usize {
        let at = 1_000 * (round as u64 + 1);
        assert_eq!(
            stage.push(
                &enemy,
                &versions(&enemy, &red, at, 60 * round..60 * (round + 1), &large)
            ),
            None
        );
    }
    let made = author::intents(
        &Replica::default(),
        &friend,
        &red,
        "x",
        vec![write("zz", Some("1"))],
        stamp(1),
    );
    assert_eq!(stage.push(&friend, &made.unwrap().batch), None);
    let pull = Message::Pull(Pull {
        id: 1,
        scope: red,
        vector: Vec::new(),
        sums: Vec::new(),
        listed: Vec::new(),
        partial: false,
        back: false,
    });
    let effects = stage.event(Event::Frame(friend.id(), wire::encode(&pull).unwrap()));
    let Some(Effect::Send { frame, .. }) = effects.first() else {
        panic!("{effects:?}")
    };
    let Ok(Message::Part(part)) = wire::decode(frame) else {
        panic!("not a part")
    };
    let Some(Item::Intent(raw)) = part.items.first() else {
        panic!("no object")
    };
    assert_eq!(
        Signed::<Intent>::trust(raw.clone()).unwrap().value().dot.writer,
        friend.id()
    );
}
