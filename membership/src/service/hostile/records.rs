//! Records that are forged, replayed or stamped far ahead.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_says_in_the_name_of_others_is_refused() {
    let mut stage = Stage::new().await;
    stage.introduce().await;
    let root = stage.a.read(|replica| replica.root(&red()));
    let good = stage.says(&red(), vec![write("a", Some("1"))]);
    // Facts and a head that claim to be the other peer's.
    let fact = Signed::<Fact>::trust(good.facts[0].clone()).unwrap().value().clone();
    let head = Signed::<crate::record::Head>::trust(good.head.clone())
        .unwrap()
        .value()
        .clone();
    let (own, other) = (stage.enemy.key.id(), stage.b.id());
    let forged = |origin_of_fact, origin_of_head| {
        let fact = Fact {
            origin: origin_of_fact,
            ..fact.clone()
        };
        let fact = Signed::sign(fact, &stage.enemy.key).unwrap();
        let head = crate::record::Head {
            origin: origin_of_head,
            chain: fact.digest(),
            set: crate::record::Digest::default().plus(fact.digest()),
            ..head.clone()
        };
        RawFacts {
            head: Signed::sign(head, &stage.enemy.key).unwrap().raw().clone(),
            facts: vec![fact.raw().clone()],
        }
    };
    for (fact, head) in [(other, other), (other, own), (own, other)] {
        let before = counter(&stage.a, "bad_frames");
        stage.push(RawBatch::Facts(forged(fact, head)));
        stage.refused(before).await;
    }
    for junk in [&b""[..], b"junk", &[1; 100], &[0xff; 1_000]] {
        let before = counter(&stage.a, "bad_frames");
        stage.send(Bytes::copy_from_slice(junk));
        stage.refused(before).await;
    }
    assert_eq!(
        stage.a.read(|replica| replica.root(&red())),
        root,
        "nothing of it is there"
    );
    stage.settled().await;
    assert_eq!(counter(&stage.b, "bad_frames"), 0, "none of it was passed on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_change_nothing_and_stamps_far_ahead_rule_nothing() {
    let mut stage = Stage::new().await;
    stage.introduce().await;
    let first = stage.says(&red(), vec![write("a", Some("1"))]);
    let second = stage.says(&red(), vec![write("a", Some("2"))]);
    for batch in [&first, &second] {
        stage.push(RawBatch::Facts(batch.clone()));
    }
    let fact = |peer: &Membership| {
        let shown = |replica: &Replica| {
            Some(
                replica
                    .fact(&red(), stage.enemy.key.id(), &Key::new("K", "a"))?
                    .body
                    .clone()?
                    .bytes,
            )
        };
        peer.read(shown)
    };
    until("both have it", || {
        [&stage.a, &stage.b]
            .iter()
            .all(|peer| fact(peer).as_deref() == Some(&b"2"[..]))
    })
    .await;
    let root = stage.a.read(Replica::root_of_roots);
    for _ in 0..50 {
        stage.push(RawBatch::Facts(first.clone()));
        stage.push(RawBatch::Facts(second.clone()));
    }
    let intent = Intent {
        scope: red(),
        key: Key::new("Network", "lan"),
        dot: Dot {
            writer: stage.enemy.key.id(),
            counter: u64::MAX,
        },
        context: VersionVector::default(),
        stamp: stamp(u64::MAX),
        author: "enemy".into(),
        body: write("lan", Some("enemy")).body,
    };
    let version = Signed::sign(intent, &stage.enemy.key).unwrap().raw().clone();
    stage.push(RawBatch::Intents {
        scope: red(),
        after: VersionVector::default(),
        versions: vec![version],
    });
    let shown = |peer: &Membership| {
        peer.read(|replica| {
            let siblings = replica.intent(&red(), &Key::new("Network", "lan"))?;
            Some((siblings.all().count(), siblings.shown().body.clone()?.bytes))
        })
    };
    until("its object is there, as any member's", || shown(&stage.b).is_some()).await;
    // Frames come in order: the replays were before it, and changed nothing but by the object.
    assert_ne!(stage.a.read(Replica::root_of_roots), root);
    assert_eq!(
        fact(&stage.a).as_deref(),
        Some(&b"2"[..]),
        "a replay takes nothing back"
    );
    assert_eq!(counter(&stage.a, "bad_frames"), 0, "a replay is no offence");
    let ahead = Duration::from_millis(stage.a.stamp().millis).saturating_sub(crate::wallclock::since_epoch());
    assert!(
        ahead < Duration::from_secs(60),
        "the clock was not carried along: {ahead:?}"
    );

    let ours = IntentWrite {
        key: Key::new("Network", "lan"),
        body: write("lan", Some("ours")).body,
    };
    stage.b.write_intent(red(), "tester", vec![ours]).await.unwrap();
    let wanted = Some((1, Bytes::from_static(b"ours")));
    until("who saw it overwrites it", || {
        shown(&stage.a) == wanted && shown(&stage.b) == wanted
    })
    .await;
    stage.settled().await;
}
