//! Nodes of two wire versions in one cluster, and leaving the older one behind.

use std::time::Duration;

use crate::anchors::three;
use crate::lab::{DEADLINE, Host, label, red, say, sees, shown, until, write};
use membership::service::{DecreeError, Liveness, Membership, SetupError, join};
use membership::wire::Versions;

fn alarm(peer: &Membership, name: &str, words: &[&str]) -> bool {
    let mut alarms = peer.alarms().into_iter();
    alarms.any(|alarm| alarm.name == name && words.iter().all(|word| alarm.message.contains(word)))
}

fn agreed(peer: &Membership) -> u16 {
    peer.upgrade().agreed
}

async fn restarted(host: &mut Host, peer: Membership, newest: u16) -> Membership {
    peer.shutdown().await;
    drop(peer);
    host.config.wire = Versions::up_to(newest).unwrap();
    host.start().await
}

/// Decides on an anchor until it is decided, as a person would: what one anchor sees of the others may be older than what
/// the test waited for, an anchor that was just made one copies what those before it gave out first, and on a busy machine
/// a member is suspected for a moment.
async fn decided<T>(mut decide: impl AsyncFnMut() -> Result<T, DecreeError>) -> T {
    let mut last = None;
    let tries = async {
        loop {
            match decide().await {
                Ok(what) => return what,
                Err(
                    why @ (DecreeError::NoMajority { .. } | DecreeError::Refused(_) | DecreeError::Unspoken { .. }),
                ) => {
                    last = Some(why);
                }
                Err(why) => panic!("{why}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let done = tokio::time::timeout(DEADLINE, tries).await;
    done.unwrap_or_else(|_| panic!("not decided in time: {last:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_mix_until_all_speak_the_newer_one_and_then_the_older_is_refused() {
    let (_hosts, [a, b, c]) = three().await;
    let mut old = Host::new();
    old.config.wire = Versions::up_to(1).unwrap();
    let token = a.create_token(1, DEADLINE).await.unwrap();
    join(&old.config, label("old"), &token).await.unwrap();
    let d = old.start().await;
    let all = [(&a, Liveness::Live), (&b, Liveness::Live), (&c, Liveness::Live)];
    sees(&d, &all).await;
    until("it is seen by all", || {
        let seen = |peer: &Membership| {
            let it = peer.members().into_iter().find(|member| member.id == d.id());
            it.is_some_and(|it| it.liveness == Liveness::Live && it.record.wire == (1, 1))
        };
        [&a, &b, &c].into_iter().all(seen)
    })
    .await;
    // What one side writes the other one has, whichever is older.
    let (down, up) = (write(&a, "net", "from 2").await, say(&d, "port", "from 1").await);
    until("both have both", || {
        d.holds(&down) && [&a, &b, &c].iter().all(|peer| peer.holds(&up))
    })
    .await;

    let state = a.upgrade();
    assert_eq!((state.agreed, state.next, state.nodes.len()), (1, Some(2), 4));
    let obstacles: Vec<_> = state
        .nodes
        .iter()
        .filter_map(|node| Some((node.id, node.obstacle.clone()?)))
        .collect();
    assert_eq!(obstacles, [(d.id(), "speaks 1".to_owned())]);
    assert_eq!(d.upgrade().next, None, "it speaks nothing newer");
    let refused = a.finish_upgrade().await.unwrap_err();
    assert!(matches!(refused, DecreeError::Unspoken { version: 2, .. }), "{refused}");
    let words = refused.to_string();
    assert!(words.contains(&format!("old ({}) speaks 1", d.id())), "{words}");
    assert!(matches!(d.finish_upgrade().await, Err(DecreeError::NotAnchor(_))));

    // Upgraded, but away at the moment.
    let d = restarted(&mut old, d, 2).await;
    until("it says what it speaks", || {
        a.members()
            .iter()
            .any(|member| member.id == d.id() && member.record.wire == (1, 2))
    })
    .await;
    d.shutdown().await;
    drop(d);
    until("it is missed", || {
        a.upgrade().nodes.iter().any(|node| node.obstacle.is_some())
    })
    .await;
    let away = a.finish_upgrade().await.unwrap_err().to_string();
    assert!(away.contains("is not there"), "{away}");

    let d = old.start().await;
    until("nothing stands against it", || {
        a.upgrade().nodes.iter().all(|node| node.obstacle.is_none())
    })
    .await;
    assert_eq!(decided(|| a.finish_upgrade()).await, 2);
    until("all know", || [&a, &b, &c, &d].iter().all(|peer| agreed(peer) == 2)).await;
    assert!(matches!(a.finish_upgrade().await, Err(DecreeError::Newest(2))));
    let after = write(&d, "net", "agreed").await;
    until("they hear each other", || {
        [&a, &b, &c].iter().all(|peer| peer.holds(&after))
    })
    .await;

    // Who speaks nothing else does not come in.
    let mut late = Host::new();
    late.config.wire = Versions::up_to(1).unwrap();
    let token = a.create_token(1, DEADLINE).await.unwrap();
    let joined = join(&late.config, label("late"), &token).await;
    assert!(
        matches!(&joined, Err(SetupError::NotLetIn(why)) if why.contains("speaks wire version 2")),
        "{joined:?}"
    );

    // Back to what was left behind.
    let d = restarted(&mut old, d, 1).await;
    assert_eq!(agreed(&d), 2, "it is kept");
    let (own, other) = (d.id().to_string(), a.id().to_string());
    let upgrade = format!("upgrade node {own}");
    until("both say who is too old, and what to do", || {
        let there = alarm(&a, "peer-refused", &["refused_wire_version", &own, &upgrade]);
        let here = alarm(&d, "peer-refused", &["refused_wire_version", &other, &upgrade]);
        there && here && alarm(&d, "wire-version-too-old", &["version 2", "[wire]"])
    })
    .await;
    assert!(
        d.members().iter().all(|member| member.rtt.is_none()),
        "nobody is connected to it"
    );
    let missed = write(&a, "net", "unheard").await;
    assert!(!d.holds(&missed));

    let d = restarted(&mut old, d, 2).await;
    until("upgraded it is heard again", || d.holds(&missed)).await;
    assert_eq!(shown(&d, "net").as_deref(), Some("unheard"));
    assert_eq!(agreed(&d), 2);
    assert!(d.read(|replica| replica.facts_from(&red(), d.id()).count()) == 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_gone_for_good_is_removed_and_holds_nothing_up() {
    let (_hosts, [a, b, c]) = three().await;
    until("all are there", || {
        a.upgrade().nodes.iter().all(|node| node.obstacle.is_none())
    })
    .await;
    let gone = c.id();
    c.shutdown().await;
    drop(c);
    until("it is missed", || {
        a.upgrade().nodes.iter().any(|node| node.obstacle.is_some())
    })
    .await;
    assert!(matches!(a.finish_upgrade().await, Err(DecreeError::Unspoken { .. })));
    assert_eq!(decided(|| a.remove_node("three")).await, gone);
    until("it is no member", || a.upgrade().nodes.len() == 2).await;
    assert_eq!(decided(|| a.finish_upgrade()).await, 2);
    until("the other knows", || agreed(&b) == 2).await;
}
