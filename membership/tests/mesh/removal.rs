//! Nodes that are removed, that leave, and what becomes of what they said and wrote.

use crate::anchors::{anchors, three};
use crate::lab::{DEADLINE, Host, counter, label, red, say, sees, shown, until, write};
use membership::claim::ClaimError;
use membership::id::NodeId;
use membership::service::{DecreeError, Liveness, Membership, SetupError, Void, join};

fn ids(peer: &Membership) -> Vec<NodeId> {
    peer.members().into_iter().map(|member| member.id).collect()
}

fn says(peer: &Membership, node: NodeId) -> usize {
    peer.read(|replica| replica.facts_from(&red(), node).count())
}

fn alarmed(peer: &Membership, name: &str) -> bool {
    peer.alarms().iter().any(|alarm| alarm.name == name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_cut_off_and_its_facts_and_claims_go() {
    let (_hosts, [a, b, c]) = three().await;
    let (four, d) = Host::join("four", &a).await;
    sees(&d, &[(&a, Liveness::Live), (&b, Liveness::Live), (&c, Liveness::Live)]).await;
    let wrote = write(&d, "net", "of four").await;
    let said = say(&d, "port", "on four").await;
    let claimed = d.claim(red(), "10.0.0.1").await;
    assert!(claimed.is_ok(), "{claimed:?}");
    until("all have it", || {
        [&a, &b, &c].iter().all(|peer| peer.holds(&wrote) && peer.holds(&said))
    })
    .await;
    assert!(
        matches!(d.remove_node("one").await, Err(DecreeError::NotAnchor(_))),
        "only anchors decide"
    );
    assert!(matches!(a.remove_node("none").await, Err(DecreeError::Unknown(_))));
    let blocked = b.claim(red(), "10.0.0.1").await;
    assert!(
        matches!(blocked, Err(ClaimError::Held { holder, .. }) if holder == d.id()),
        "{blocked:?}"
    );

    assert_eq!(a.remove_node("four").await.ok(), Some(d.id()));
    for peer in [&a, &b, &c] {
        until("it is no member", || !ids(peer).contains(&d.id())).await;
        until("its facts are gone", || says(peer, d.id()) == 0).await;
        assert_eq!(
            shown(peer, "net").as_deref(),
            Some("of four"),
            "what it wrote before stays"
        );
    }
    until("it learns why nobody answers", || {
        counter(&d, "refused_as_removed") > 0 || alarmed(&d, "node-removed")
    })
    .await;
    until("nobody is connected to it", || {
        d.members().iter().all(|member| member.rtt.is_none())
    })
    .await;
    let again = a.remove_node(d.id().as_str()).await;
    assert!(matches!(again, Err(DecreeError::Unknown(_))), "{again:?}");
    free_again(&b).await;

    // Its key does not come back, under whatever name and token.
    d.shutdown().await;
    let back = four.start().await;
    let mark = write(&back, "net", "from outside").await;
    let again = say(&back, "port", "from outside").await;
    until("it knows by then", || {
        counter(&back, "refused_as_removed") > 0 || alarmed(&back, "node-removed")
    })
    .await;
    assert!(
        ![&a, &b, &c].iter().any(|peer| peer.holds(&mark) || peer.holds(&again)),
        "nobody hears it"
    );
    assert!(!ids(&a).contains(&back.id()));
    std::fs::remove_file(four.file("node.json")).unwrap();
    std::fs::remove_file(four.file("setup.lock")).unwrap();
    back.shutdown().await;
    std::fs::remove_file(four.file("store.redb")).unwrap();
    let token = b.create_token(1, DEADLINE).await.unwrap();
    let joined = join(&four.config, label("again"), &token).await;
    assert!(
        matches!(&joined, Err(SetupError::NotLetIn(why)) if why.contains("was removed")),
        "{joined:?}"
    );
}

/// The anchors free what removed nodes held, each when it hears of it. Who asked for it in vain frees its own try first.
async fn free_again(peer: &Membership) {
    let freed = tokio::time::timeout(DEADLINE, async {
        while !matches!(peer.free(&red(), "10.0.0.1").await, Ok(true)) || peer.claim(red(), "10.0.0.1").await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    assert!(freed.await.is_ok(), "the address of the removed node is not free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_removed_node_wrote_in_a_minority_is_void_everywhere() {
    let (mut hosts, [a, b, c]) = three().await;
    for (host, peer) in hosts.iter_mut().zip([&a, &b, &c]) {
        // All three are down at once: they must be found where they were.
        let own = peer.members().into_iter().find(|member| member.id == peer.id());
        host.config.listen = own.unwrap().record.addresses[0];
    }
    let (four, d) = Host::join("four", &a).await;
    let (five, e) = Host::join("five", &a).await;
    let (six, f) = Host::join("six", &a).await;
    sees(
        &d,
        &[
            (&a, Liveness::Live),
            (&b, Liveness::Live),
            (&c, Liveness::Live),
            (&e, Liveness::Live),
            (&f, Liveness::Live),
        ],
    )
    .await;
    let before = write(&d, "net", "1").await;
    until("all have it", || {
        [&a, &b, &c, &e].iter().all(|peer| peer.holds(&before))
    })
    .await;
    for peer in [a, b, c] {
        peer.shutdown().await;
    }
    f.shutdown().await;
    let alone = write(&d, "net", "2").await;
    let fresh = write(&d, "other", "1").await;
    until("one in its part has it", || e.holds(&alone) && e.holds(&fresh)).await;
    e.shutdown().await;
    d.shutdown().await;

    let (a, b, c) = (
        restart(&hosts[0]).await,
        restart(&hosts[1]).await,
        restart(&hosts[2]).await,
    );
    let connected = |peer: &Membership| peer.members().iter().filter(|member| member.rtt.is_some()).count();
    until("the anchors are back", || {
        [&a, &b, &c].iter().all(|peer| connected(peer) == 2)
    })
    .await;
    a.remove_node("four").await.unwrap();
    let e = five.start().await;
    until("who had it gives it up", || !ids(&e).contains(&d.id())).await;
    until("it is there to be looked at", || e.read(|r| r.is_out(d.id()))).await;
    let void = kept_void(&e, 2).await;
    let names: Vec<&str> = void.iter().map(|it| it.record.value().key.name.as_ref()).collect();
    assert_eq!(names, ["net", "other"]);
    for it in &void {
        assert_eq!(it.record.value().dot.writer, d.id());
        assert_eq!(it.writer.as_ref().map(|name| name.as_str()), Some("four"));
        assert!(it.record.value().body.is_some(), "what was written is kept");
    }
    until("all hold the same", || {
        let root = a.read(|r| r.root(&red()));
        [&b, &c, &e].iter().all(|peer| peer.read(|r| r.root(&red())) == root)
    })
    .await;
    assert_eq!((shown(&e, "net").as_deref(), shown(&e, "other")), (Some("1"), None));
    // One that slept hears of it first and of the rest then.
    let f = six.start().await;
    until("it catches up", || {
        f.read(|r| r.root(&red())) == a.read(|r| r.root(&red())) && f.read(|r| r.is_out(d.id()))
    })
    .await;
    drop(four);
}

/// A peer lets go of its port when its last task ends.
async fn restart(host: &Host) -> Membership {
    let started = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Ok(peer) = host.try_start().await {
                return peer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    });
    started.await.unwrap()
}

async fn kept_void(peer: &Membership, wanted: usize) -> Vec<Void> {
    let mut void = Vec::new();
    let kept = tokio::time::timeout(DEADLINE, async {
        while void.len() < wanted {
            void = peer.void_records().await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    assert!(kept.await.is_ok(), "{void:?}");
    void
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_remove_each_other_one_goes() {
    let (_hosts, [a, b, c]) = three().await;
    let (first, second) = tokio::join!(a.remove_node("two"), b.remove_node("one"));
    let (stays, goes) = match (&first, &second) {
        (Ok(_), Err(_)) => (&a, &b),
        (Err(_), Ok(_)) => (&b, &a),
        both => panic!("exactly one is done: {both:?}"),
    };
    until("the third knows who is out", || !ids(&c).contains(&goes.id())).await;
    assert!(ids(&c).contains(&stays.id()));
    until("two anchors are left", || {
        anchors(&c).len() == 2 && anchors(stays).len() == 2
    })
    .await;
    until("it knows that it is out", || {
        alarmed(goes, "node-removed") || counter(goes, "refused_as_removed") > 0
    })
    .await;
    let mark = write(stays, "net", "1").await;
    until("the rest goes on", || c.holds(&mark)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_leaves_whether_it_is_an_anchor_or_not() {
    let (_hosts, [a, b, c]) = three().await;
    let (_four, d) = Host::join("four", &a).await;
    sees(&d, &[(&a, Liveness::Live), (&b, Liveness::Live), (&c, Liveness::Live)]).await;
    d.leave().await.unwrap();
    until("it is gone", || {
        ![&a, &b, &c].iter().any(|peer| ids(peer).contains(&d.id()))
    })
    .await;
    b.leave().await.unwrap();
    until("the anchor is gone", || {
        ![&a, &c].iter().any(|peer| ids(peer).contains(&b.id()))
    })
    .await;
    assert_eq!(anchors(&a).len(), 2);
    c.leave().await.unwrap();
    let last = a.leave().await;
    assert!(matches!(last, Err(DecreeError::Illegal(_))), "{last:?}");
}
