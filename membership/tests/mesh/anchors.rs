//! Several anchors: how they come about, what goes on without them and what does not, and who holds the cluster's key.

use std::time::Duration;

use crate::lab::{DEADLINE, Host, label, red, say, sees, until, write};
use membership::claim::ClaimError;
use membership::id::NodeId;
use membership::service::{DecreeError, Liveness, Membership, Outcome, SetupError, TokenError, join};

pub(crate) fn anchors(peer: &Membership) -> Vec<NodeId> {
    peer.cluster().anchors.nodes
}

fn sorted(peers: &[&Membership]) -> Vec<NodeId> {
    let mut ids: Vec<_> = peers.iter().map(|peer| peer.id()).collect();
    ids.sort();
    ids
}

/// Three nodes that became anchors by themselves, each with the cluster's key.
pub(crate) async fn three() -> ([Host; 3], [Membership; 3]) {
    let (one, a) = Host::found("one").await;
    let (two, b) = Host::join("two", &a).await;
    let (three, c) = Host::join("three", &a).await;
    for (peer, others) in [(&a, [&b, &c]), (&b, [&a, &c]), (&c, [&a, &b])] {
        sees(peer, &others.map(|other| (other, Liveness::Live))).await;
    }
    let all = sorted(&[&a, &b, &c]);
    until("all three are anchors on all three", || {
        [&a, &b, &c].iter().all(|peer| anchors(peer) == all)
    })
    .await;
    let hosts = [one, two, three];
    until("all three hold the key", || {
        hosts.iter().all(|host| host.file("authority.key").exists())
    })
    .await;
    (hosts, [a, b, c])
}

/// A node joins with a token of this anchor.
async fn tries_to_join(name: &str, anchor: &Membership) -> Result<Outcome, SetupError> {
    let token = anchor.create_token(1, DEADLINE).await.unwrap();
    join(&Host::new().config, label(name), &token).await
}

/// It takes a moment until a new anchor witnesses claims.
async fn claims(peer: &Membership, key: &str) {
    let claimed = peer.claim(red(), key).await;
    assert!(claimed.is_ok(), "{key}: {claimed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_have_one_anchor_and_the_third_makes_three() {
    let (one, a) = Host::found("one").await;
    let (two, b) = Host::join("two", &a).await;
    sees(&a, &[(&b, Liveness::Live)]).await;
    // What one anchor alone witnessed must hold when there are three.
    let held = b.claim(red(), "10.0.0.1").await.unwrap();
    assert_eq!((anchors(&a), a.anchors().majority), (vec![a.id()], 1));
    assert!(matches!(b.create_token(1, DEADLINE).await, Err(TokenError::NotAnchor(of)) if of == [a.id()]));
    assert!(matches!(b.add_anchor("two").await, Err(DecreeError::NotAnchor(of)) if of == [a.id()]));
    assert!(!two.file("authority.key").exists());

    let (three, c) = Host::join("three", &a).await;
    let all = sorted(&[&a, &b, &c]);
    until("all are anchors on all", || {
        [&a, &b, &c].iter().all(|peer| anchors(peer) == all)
    })
    .await;
    assert_eq!(c.anchors().majority, 2);
    until("all hold the key", || {
        [&one, &two, &three]
            .iter()
            .all(|host| host.file("authority.key").exists())
    })
    .await;
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(three.file("authority.key"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(b.claim(red(), "10.0.0.1").await, Ok(held), "it stays what it is");
    let taken = ClaimError::Held {
        key: "10.0.0.1".into(),
        holder: b.id(),
    };
    // The two later ones alone are a majority, and know what the first one gave away.
    claims(&c, "10.0.0.2").await;
    a.shutdown().await;
    sees(&c, &[(&a, Liveness::Dead), (&b, Liveness::Live)]).await;
    assert_eq!(c.claim(red(), "10.0.0.1").await, Err(taken));
    let joined = tries_to_join("four", &c).await;
    assert!(matches!(joined, Ok(Outcome::Made { .. })), "{joined:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nobody_joins_and_all_else_goes_on() {
    let (hosts, [a, b, c]) = three().await;
    claims(&c, "10.0.0.1").await;
    let early = a.create_token(1, DEADLINE).await.unwrap();
    b.shutdown().await;
    c.shutdown().await;
    sees(&a, &[(&b, Liveness::Dead), (&c, Liveness::Dead)]).await;
    let fourth = Host::new();
    let refused = join(&fourth.config, label("four"), &early).await;
    assert!(
        matches!(&refused, Err(SetupError::NoMajority(why)) if why.contains("1 of 3 anchors agreed, 2 are needed")),
        "{refused:?}"
    );
    assert!(matches!(
        a.claim(red(), "10.0.0.2").await,
        Err(ClaimError::NoMajority { answered: 1, .. })
    ));
    let alone = a.drop_anchor(c.id().as_str()).await;
    assert!(
        matches!(alone, Err(DecreeError::NoMajority { agreed: 1, .. })),
        "{alone:?}"
    );
    let intent = write(&a, "net", "1").await;
    let fact = say(&a, "port", "here").await;
    assert!(a.holds(&intent) && a.holds(&fact), "writing needs no anchor");

    let c = hosts[2].start().await;
    sees(&c, &[(&a, Liveness::Live), (&b, Liveness::Dead)]).await;
    sees(&a, &[(&c, Liveness::Live), (&b, Liveness::Dead)]).await;
    until("what was written arrives", || c.holds(&intent) && c.holds(&fact)).await;
    // The token was not spent by the refusal.
    let joined = join(&fourth.config, label("four"), &early).await;
    assert!(matches!(joined, Ok(Outcome::Made { .. })), "{joined:?}");
    // The key goes with the place.
    a.drop_anchor("two").await.unwrap();
    assert_eq!((anchors(&a), a.anchors().majority), (sorted(&[&a, &c]), 2));
    let b = hosts[1].start().await;
    until("it hears that it is no anchor", || anchors(&b) == sorted(&[&a, &c])).await;
    until("it deletes the key", || !hosts[1].file("authority.key").exists()).await;
    assert!(matches!(
        b.create_token(1, DEADLINE).await,
        Err(TokenError::NotAnchor(_))
    ));
    a.add_anchor("two").await.unwrap();
    until("it gets the key again", || hosts[1].file("authority.key").exists()).await;
    let again = a.add_anchor("two").await;
    assert!(matches!(again, Err(DecreeError::Illegal(_))), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_cluster_goes_on_without_any_anchor() {
    let (hosts, [a, b, c]) = three().await;
    let (four, d) = Host::join("four", &b).await;
    let (_five, e) = Host::join("five", &c).await;
    sees(
        &d,
        &[
            (&a, Liveness::Live),
            (&b, Liveness::Live),
            (&c, Liveness::Live),
            (&e, Liveness::Live),
        ],
    )
    .await;
    assert_eq!(anchors(&e).len(), 3, "it grows no further by itself");
    until("the list is known", || anchors(&d).len() == 3).await;
    claims(&d, "10.0.0.1").await;
    for peer in [&a, &b, &c] {
        peer.shutdown().await;
    }
    sees(
        &d,
        &[
            (&a, Liveness::Dead),
            (&b, Liveness::Dead),
            (&c, Liveness::Dead),
            (&e, Liveness::Live),
        ],
    )
    .await;
    let mark = write(&d, "net", "1").await;
    until("writes spread", || e.holds(&mark)).await;
    let held = d.claim(red(), "10.0.0.1").await;
    assert!(held.is_ok(), "what it has needs no anchor: {held:?}");
    d.shutdown().await;
    let d = four.start().await;
    assert_eq!(anchors(&d).len(), 3, "the cluster record is on its disk");
    until("it finds the others without an anchor", || {
        d.members()
            .iter()
            .any(|member| member.id == e.id() && member.rtt.is_some())
    })
    .await;
    assert!(matches!(
        d.claim(red(), "10.0.0.9").await,
        Err(ClaimError::NoMajority { answered: 0, .. })
    ));
    drop(hosts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_anchors_that_decide_at_once_both_get_what_can_be() {
    let (_hosts, [a, b, c]) = three().await;
    let (_four, _d) = Host::join("four", &a).await;
    let (_five, _e) = Host::join("five", &b).await;
    until("all know all", || {
        [&a, &b]
            .iter()
            .all(|peer| peer.members().iter().filter(|m| m.rtt.is_some()).count() == 4)
    })
    .await;
    let (first, second) = tokio::join!(a.add_anchor("four"), b.add_anchor("five"));
    assert!(first.is_ok() && second.is_ok(), "{first:?} {second:?}");
    until("all have both", || {
        [&a, &b, &c].iter().all(|peer| anchors(peer).len() == 5)
    })
    .await;
    let versions: Vec<_> = [&a, &b, &c].iter().map(|peer| peer.anchors().version).collect();
    assert_eq!(versions, [5, 5, 5]);
    let (first, second) = tokio::join!(a.drop_anchor("three"), b.drop_anchor("three"));
    assert!(first.is_ok() || second.is_ok(), "{first:?} {second:?}");
    until("it is gone on all", || {
        [&a, &b, &c].iter().all(|peer| anchors(peer).len() == 4)
    })
    .await;
}

/// Two anchors must not let in two nodes under one name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_is_given_once_whichever_anchor_is_asked() {
    let (_hosts, [a, b, _c]) = three().await;
    let tokens = [
        a.create_token(1, DEADLINE).await.unwrap(),
        b.create_token(1, DEADLINE).await.unwrap(),
    ];
    let (left, right) = (Host::new(), Host::new());
    let first = join(&left.config, label("four"), &tokens[0]).await;
    assert!(matches!(first, Ok(Outcome::Made { .. })), "{first:?}");
    let second = join(&right.config, label("four"), &tokens[1]).await;
    assert!(
        matches!(&second, Err(SetupError::NotLetIn(why)) if why.contains("four")),
        "{second:?}"
    );
    let other = tokio::time::timeout(Duration::from_secs(30), join(&right.config, label("five"), &tokens[1])).await;
    assert!(matches!(other, Ok(Ok(Outcome::Made { .. }))), "{other:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_said_where_no_majority_can_be_reached() {
    let (_hosts, [a, b, c]) = three().await;
    let alarm = || a.alarms().into_iter().find(|alarm| alarm.name == "anchors-unreachable");
    c.shutdown().await;
    sees(&a, &[(&b, Liveness::Live), (&c, Liveness::Dead)]).await;
    assert_eq!(alarm(), None, "two of three are enough");
    b.shutdown().await;
    until("it is said", || alarm().is_some()).await;
    let words = alarm().map(|alarm| alarm.message).unwrap_or_default();
    assert!(
        words.contains(&b.id().to_string()) && words.contains("2 of 3"),
        "{words}"
    );
}
