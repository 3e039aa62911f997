//! Two and three peers: what is written on one is seen on the others, survives their disks, and what is exclusive has
//! one owner.

use std::time::Duration;

use crate::lab::{DEADLINE, Host, body, label, red, say, sees, shown, until, write};
use membership::claim::ClaimError;
use membership::history::Timeline;
use membership::id::Scope;
use membership::record::Key;
use membership::replica::Siblings;
use membership::service::{CallError, IntentWrite, Liveness, Saw, SetupError, StartError, WriteError, init, join};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_peers_share_what_is_written_and_keep_it() {
    let (_one, a) = Host::found("one").await;
    let early = write(&a, "early", "1").await;
    let (two, b) = Host::join("two", &a).await;
    sees(&a, &[(&b, Liveness::Live)]).await;
    sees(&b, &[(&a, Liveness::Live)]).await;
    assert_eq!((a.cluster(), a.cluster().anchors.nodes), (b.cluster(), vec![a.id()]));

    until("what was written before the join arrives", || b.holds(&early)).await;
    let intent = write(&b, "net", "1").await;
    let fact = say(&b, "port", "here").await;
    until("an object and a fact arrive", || a.holds(&intent) && a.holds(&fact)).await;
    assert_eq!(shown(&a, "net").as_deref(), Some("1"));
    until("roots are equal", || {
        a.read(|r| r.root(&red())) == b.read(|r| r.root(&red()))
    })
    .await;

    b.shutdown().await;
    let missed = write(&a, "net", "2").await;
    let b = two.start().await;
    assert!(b.holds(&intent) && b.holds(&fact), "it is on its disk");
    until("what it missed arrives", || b.holds(&missed)).await;
    assert_eq!(shown(&b, "net").as_deref(), Some("2"));
    let after = say(&b, "port", "there").await;
    until("it goes on where it was", || a.holds(&after)).await;
    assert_eq!(
        (a.alarms(), b.alarms()),
        (Vec::new(), Vec::new()),
        "nothing was wrong at any time"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_peers_notice_who_dies_and_who_returns() {
    let (_one, a) = Host::found("one").await;
    let (_two, b) = Host::join("two", &a).await;
    let (three, c) = Host::join("three", &a).await;
    for (peer, others) in [(&a, [&b, &c]), (&b, [&a, &c]), (&c, [&a, &b])] {
        sees(peer, &others.map(|other| (other, Liveness::Live))).await;
    }
    let connected = |peer: &membership::service::Membership| peer.members().iter().filter(|m| m.rtt.is_some()).count();
    assert_eq!([connected(&a), connected(&b), connected(&c)], [2, 2, 2]);
    let mark = write(&c, "net", "1").await;
    until("all have it", || a.holds(&mark) && b.holds(&mark)).await;

    c.shutdown().await;
    for (peer, other) in [(&a, &b), (&b, &a)] {
        sees(peer, &[(other, Liveness::Live), (&c, Liveness::Dead)]).await;
    }
    let mark = write(&a, "net", "2").await;
    until("the rest goes on", || b.holds(&mark)).await;
    let c = three.start().await;
    for (peer, others) in [(&a, [&b, &c]), (&b, [&a, &c]), (&c, [&a, &b])] {
        sees(peer, &others.map(|other| (other, Liveness::Live))).await;
    }
    until("it catches up", || c.holds(&mark)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_given_up_is_nobodys_until_every_anchor_freed_it() {
    let (one, a) = Host::found("one").await;
    let (two, b) = Host::join("two", &a).await;
    sees(&b, &[(&a, Liveness::Live)]).await;
    until("the anchor knows it", || a.members().len() == 2).await;
    let (scope, key) = (red(), "10.0.0.1");
    let held = |holder: &membership::service::Membership| {
        let (key, holder) = (key.into(), holder.id());
        Err(ClaimError::Held { key, holder })
    };
    b.claim(scope.clone(), key).await.unwrap();
    assert_eq!(b.keys_held().await.unwrap(), [(scope.clone(), key.to_owned())]);

    b.give_up(&scope, key).await.unwrap();
    assert_eq!(b.keys_held().await.unwrap(), []);
    assert_eq!(b.claim(scope.clone(), key).await, held(&b), "it is not taken up again");
    assert_eq!(a.claim(scope.clone(), key).await, held(&b), "nobody else can have it");

    // Neither the end of the daemon nor that of the anchor changes that.
    b.shutdown().await;
    let b = two.start().await;
    sees(&b, &[(&a, Liveness::Live)]).await;
    a.shutdown().await;
    assert!(!b.free(&scope, key).await.unwrap(), "the anchor is not there");
    assert_eq!(b.keys_given_up().await.unwrap(), [(scope.clone(), key.to_owned())]);
    assert_eq!(b.claim(scope.clone(), key).await, held(&b));
    // What it asks for and nobody answers may be held for it all the same.
    assert!(b.claim(scope.clone(), "10.0.0.2").await.is_err());
    assert_eq!(b.keys_held().await.unwrap(), [(scope.clone(), "10.0.0.2".to_owned())]);
    b.give_up(&scope, "10.0.0.2").await.unwrap();

    let a = one.start().await;
    sees(&b, &[(&a, Liveness::Live)]).await;
    for key in [key, "10.0.0.2"] {
        assert!(b.free(&scope, key).await.unwrap());
        assert!(
            a.free(&scope, key).await.unwrap(),
            "what it asked for itself goes back the same way"
        );
        assert_eq!(a.claim(scope.clone(), key).await.unwrap().holder, a.id());
    }
    assert_eq!(b.keys_given_up().await.unwrap(), []);
    assert_eq!(b.claim(scope.clone(), key).await, held(&a));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_has_one_owner() {
    let (one, a) = Host::found("one").await;
    let (_two, b) = Host::join("two", &a).await;
    sees(&b, &[(&a, Liveness::Live)]).await;
    until("the anchor knows it", || a.members().len() == 2).await;

    let (first, second) = tokio::join!(a.claim(red(), "10.0.0.1"), b.claim(red(), "10.0.0.1"));
    let (held, other) = match (&first, &second) {
        (Ok(claim), Err(error)) => ((a.id(), claim), error),
        (Err(error), Ok(claim)) => ((b.id(), claim), error),
        both => panic!("exactly one has it: {both:?}"),
    };
    assert_eq!(held.1.holder, held.0);
    assert_eq!(
        *other,
        ClaimError::Held {
            key: "10.0.0.1".into(),
            holder: held.0
        }
    );
    let given_up = [(red(), "10.0.0.1".to_owned())];
    let (winner, loser) = if held.0 == a.id() { (&a, &b) } else { (&b, &a) };
    assert_eq!(
        loser.keys_given_up().await.unwrap(),
        given_up,
        "what it got of it goes back"
    );
    assert_eq!(winner.keys_given_up().await.unwrap(), []);
    for no_key in [String::new(), "x".repeat(201)] {
        assert_eq!(b.claim(red(), &no_key).await, Err(ClaimError::Key(no_key.len())));
    }
    let own = b.claim(red(), "10.0.0.2").await.unwrap();
    assert_eq!(b.claim(red(), "10.0.0.2").await, Ok(own.clone()));
    assert!(
        b.claim(Scope::Domain(label("blue")), "10.0.0.1").await.is_ok(),
        "scopes are apart"
    );

    a.shutdown().await;
    assert_eq!(b.claim(red(), "10.0.0.2").await, Ok(own), "what it has needs no anchor");
    assert!(matches!(
        b.claim(red(), "10.0.0.3").await,
        Err(ClaimError::NoMajority { answered: 0, .. })
    ));
    let a = one.start().await;
    sees(&a, &[(&b, Liveness::Live)]).await;
    assert!(
        matches!(a.claim(red(), "10.0.0.2").await, Err(ClaimError::Held { .. })),
        "the ledger is on disk"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_answered_refused_and_bounded() {
    let (_one, a) = Host::found("one").await;
    let (_two, b) = Host::join("two", &a).await;
    sees(&a, &[(&b, Liveness::Live)]).await;
    assert_eq!(a.call(b.id(), "hello".into(), DEADLINE).await.unwrap(), "hello");
    assert_eq!(a.call(a.id(), "self".into(), DEADLINE).await.unwrap(), "self");
    let refused = a.call(b.id(), "fail".into(), DEADLINE).await;
    assert!(matches!(refused, Err(CallError::Refused(node, why)) if node == b.id() && why == "as asked"));
    let large = vec![7; 1024 * 1024];
    assert_eq!(a.call(b.id(), large.clone().into(), DEADLINE).await.unwrap(), large);
    let larger = a.call(b.id(), vec![7; 1024 * 1024 + 1].into(), DEADLINE).await;
    assert!(matches!(larger, Err(CallError::Refused(..))));
    let nobody = "aaaaaaaaaaaa".parse().unwrap();
    assert!(matches!(
        a.call(nobody, "x".into(), DEADLINE).await,
        Err(CallError::NotConnected(_))
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_are_guarded() {
    let (one, a) = Host::found("one").await;
    let echo = std::sync::Arc::new(|_, request| -> futures::future::BoxFuture<'static, _> {
        Box::pin(std::future::ready(Ok(request)))
    });
    let second = membership::service::Membership::start(one.config.clone(), echo.clone()).await;
    assert!(matches!(second, Err(StartError::InUse(path)) if path == one.config.data));
    let none = membership::service::Membership::start(Host::new().config.clone(), echo.clone()).await;
    assert!(matches!(none, Err(StartError::NoNode(_))));

    assert!(
        matches!(init(&one.config, label("one"), label("lab")).await, Ok(o) if matches!(o, membership::service::Outcome::Already { .. }))
    );
    let other = init(&one.config, label("one"), label("other")).await;
    assert!(matches!(other, Err(SetupError::OtherCluster { name, .. }) if name == label("lab")));
    let token = a.create_token(1, Duration::from_secs(60)).await.unwrap();
    let again = join(&one.config, label("one"), &token).await;
    assert!(matches!(again, Ok(membership::service::Outcome::Already { node, .. }) if node == a.id()));
    let (two, b) = Host::found("two").await;
    let foreign = join(&two.config, label("two"), &token).await;
    assert!(matches!(foreign, Err(SetupError::OtherCluster { .. })));
    assert_ne!(a.cluster().id, b.cluster().id);

    a.shutdown().await;
    let manifest = std::fs::read_to_string(one.file("node.json")).unwrap();
    let copied = manifest.replace("\"machine\": \"", "\"machine\": \"0");
    assert_ne!(copied, manifest, "this machine has an id");
    std::fs::write(one.file("node.json"), copied).unwrap();
    let clone = membership::service::Membership::start(one.config.clone(), echo).await;
    assert!(matches!(clone, Err(StartError::Cloned(_))));
}

/// The runtime of a peer ends without a word to anybody, as when its process is killed.
#[test]
fn a_killed_peer_is_noticed_and_comes_back_at_once() {
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    };
    let (ours, theirs) = (runtime(), runtime());
    let (_one, a) = ours.block_on(Host::found("one"));
    let mut two = Host::new();
    // A port that stays: what is sent to the dead peer must reach the one that takes its place.
    two.config.listen = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let token = ours.block_on(a.create_token(1, DEADLINE)).unwrap();
    ours.block_on(join(&two.config, label("two"), &token)).unwrap();
    let b = theirs.block_on(two.start());
    let mark = ours.block_on(async {
        sees(&a, &[(&b, Liveness::Live)]).await;
        let mark = write(&a, "net", "1").await;
        until("it arrives", || b.holds(&mark)).await;
        mark
    });
    theirs.shutdown_background();
    ours.block_on(sees(&a, &[(&b, Liveness::Dead)]));
    drop(b);
    ours.block_on(async {
        let mut started = two.try_start().await;
        let opened = tokio::time::timeout(DEADLINE, async {
            // The dead runtime lets go of store and port when its threads end.
            while started.is_err() {
                started = two.try_start().await;
            }
        });
        opened.await.unwrap();
        let b = started.unwrap();
        assert!(b.holds(&mark), "what was merged is on disk");
        sees(&a, &[(&b, Liveness::Live)]).await;
        let mark = write(&b, "net", "2").await;
        until("it arrives", || a.holds(&mark)).await;
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_refused_if_its_caller_saw_something_else() {
    let (_one, a) = Host::found("one").await;
    let key = Key::new("Network", "net");
    let saw = || Saw {
        key: key.clone(),
        versions: a.read(|replica| replica.intent(&red(), &key).map(Siblings::digest)),
    };
    let wants = |text: &str, saw: Saw| {
        let write = IntentWrite {
            key: key.clone(),
            body: body(text),
        };
        let a = a.clone();
        async move { a.write_intent_if(red(), "tester", vec![write], vec![saw]).await }
    };
    let nothing = saw();
    wants("1", nothing.clone()).await.unwrap();
    let first = saw();
    wants("2", first.clone()).await.unwrap();
    for stale in [nothing, first] {
        assert!(matches!(wants("3", stale).await, Err(WriteError::Changed(of)) if of == key));
    }
    assert_eq!(shown(&a, "net").as_deref(), Some("2"));
    wants("3", saw()).await.unwrap();
    let texts: Vec<_> = Timeline::of(a.history(&red()).await.unwrap())
        .entries()
        .iter()
        .filter_map(|entry| Some(entry.version.value().body.clone()?.bytes))
        .collect();
    assert_eq!(texts, ["3", "2", "1"], "and all of it is remembered");
}
