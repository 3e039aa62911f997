//! Replacing the cluster's CA: with everybody there, with members absent, with anchors lost, and given up.

use membership::id::NodeId;
use membership::service::{DecreeError, Liveness, Membership, RotateError, SetupError, join};

use crate::anchors::three;
use crate::certificates::{connected, restart};
use crate::lab::{DEADLINE, Host, label, sees, shown, until, write};

fn roots(peer: &Membership) -> usize {
    peer.ca().roots.len()
}

/// Waits until exactly these have no certificate of the root that issues, as all these see it.
async fn pending(peers: &[&Membership], wanted: &[NodeId]) {
    let mut wanted = wanted.to_vec();
    wanted.sort();
    until("the others have a certificate of the other root", || {
        peers.iter().all(|peer| peer.ca().pending == wanted)
    })
    .await;
}

/// How many keys of authorities lie there.
fn keys(host: &Host) -> usize {
    let names = ["authority.key", "authority-2.key"];
    names.iter().filter(|name| host.file(name).exists()).count()
}

fn rotating(peer: &Membership) -> Option<String> {
    let alarms = peer.alarms().into_iter();
    alarms
        .filter(|alarm| alarm.name == "ca-rotating")
        .map(|alarm| alarm.message)
        .next()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_is_replaced_while_a_member_is_away_and_an_anchor_is_lost() {
    let ([one, two, _three], [a, b, c]) = three().await;
    let (four, d) = Host::join("four", &a).await;
    let (five, e) = Host::join("five", &a).await;
    sees(
        &e,
        &[
            (&a, Liveness::Live),
            (&b, Liveness::Live),
            (&c, Liveness::Live),
            (&d, Liveness::Live),
        ],
    )
    .await;
    let early = a.create_token(1, DEADLINE).await.unwrap();
    let former = a.ca().roots.remove(0).certificate;
    for peer in [&c, &e] {
        peer.shutdown().await;
    }
    sees(
        &a,
        &[
            (&b, Liveness::Live),
            (&c, Liveness::Dead),
            (&d, Liveness::Live),
            (&e, Liveness::Dead),
        ],
    )
    .await;
    assert!(matches!(
        d.rotate_ca().await,
        Err(RotateError::Decree(DecreeError::NotAnchor(_)))
    ));
    assert!(matches!(
        a.finish_ca_rotation(true).await,
        Err(RotateError::NotUnderWay)
    ));

    a.rotate_ca().await.unwrap();
    assert!(matches!(a.rotate_ca().await, Err(RotateError::UnderWay)));
    pending(&[&a, &b, &d], &[c.id(), e.id()]).await;
    let ca = a.ca();
    let leaves: Vec<usize> = ca.roots.iter().map(|root| root.leaves).collect();
    assert_eq!((ca.members, leaves), (5, vec![2, 3]));
    let told: Vec<_> = ca.roots.iter().map(|root| (root.issues, root.held)).collect();
    assert_eq!(told, [(false, true), (true, true)]);
    assert!(ca.roots[0].certificate == former && ca.roots[1].not_before > former_validity(&former));
    let words = rotating(&a).unwrap();
    assert!(words.contains("3 of 5") && words.contains(c.id().as_str()), "{words}");
    let refused = b.finish_ca_rotation(false).await;
    assert!(
        matches!(&refused, Err(RotateError::Pending(of)) if of.len() == 2),
        "{refused:?}"
    );

    // Joining goes on; a token from before does not know who answers, and says what to do.
    let late = join(&Host::new().config, label("late"), &early).await;
    assert!(
        matches!(&late, Err(error @ SetupError::Stranger(_)) if error.to_string().contains("CA was replaced")),
        "{late:?}"
    );
    let (_six, f) = Host::join("six", &b).await;
    until("it is in", || connected(&f) == 3).await;
    assert!(!f.ca().pending.contains(&f.id()));

    // Who was away trusts nobody whom it meets, and is helped at the door.
    let mark = write(&a, "net", "meanwhile").await;
    let e = five.start().await;
    until("it is back", || connected(&e) == 4 && e.holds(&mark)).await;
    pending(&[&a, &b, &d, &e, &f], &[c.id()]).await;

    // The lost anchor is taken out, and nothing is in the way any more.
    a.remove_node("three").await.unwrap();
    pending(&[&b], &[]).await;
    assert_eq!(b.finish_ca_rotation(false).await.unwrap(), []);
    let all = [&a, &b, &d, &e, &f];
    until("one root is left", || all.iter().all(|peer| roots(peer) == 1)).await;
    assert!(a.ca().roots[0].certificate != former && rotating(&a).is_none());
    until("the key of the former one is gone", || {
        keys(&one) == 1 && keys(&two) == 1
    })
    .await;
    d.shutdown().await;
    let d = restart(&four).await;
    until("certificates of the other root connect", || connected(&d) == 4).await;
    let (_seven, g) = Host::join("seven", &a).await;
    until("who joins is one of them", || connected(&g) == 5).await;
}

fn former_validity(root: &[u8]) -> std::time::Duration {
    membership::pki::root_validity(root).unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_slept_through_a_forced_rotation_comes_back_by_itself() {
    let (_one, a) = Host::found("one").await;
    let (two, b) = Host::join("two", &a).await;
    let net = write(&b, "net", "of two").await;
    until("it is known", || a.holds(&net) && connected(&b) == 1).await;
    b.shutdown().await;
    until("it is away", || connected(&a) == 0).await;
    a.rotate_ca().await.unwrap();
    pending(&[&a], &[b.id()]).await;
    assert!(matches!(a.finish_ca_rotation(false).await, Err(RotateError::Pending(of)) if of == [b.id()]));
    assert_eq!(a.finish_ca_rotation(true).await.unwrap(), [b.id()]);
    // Who joins then takes what was written under the root that is gone.
    let (_three, c) = Host::join("three", &a).await;
    until("it has what the absent one wrote", || c.holds(&net)).await;
    assert_eq!((roots(&a), roots(&c)), (1, 1));

    let b = two.start().await;
    until("it is back", || connected(&b) == 2 && roots(&b) == 1).await;
    pending(&[&a, &b, &c], &[]).await;
    let again = write(&b, "net", "again").await;
    until("it is heard", || a.holds(&again) && c.holds(&again)).await;
    assert_eq!(shown(&c, "net").as_deref(), Some("again"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_anchor_that_began_a_rotation_may_be_lost_in_the_middle() {
    let (hosts, [a, b, c]) = three().await;
    let (_four, d) = Host::join("four", &b).await;
    until("it is in", || connected(&d) == 3).await;
    a.rotate_ca().await.unwrap();
    a.shutdown().await;
    // It told the others, or it did not: then they go on with what it began.
    let again = c.rotate_ca().await;
    assert!(matches!(again, Ok(()) | Err(RotateError::UnderWay)), "{again:?}");
    // Whether it got its own certificate before, or not.
    until("the others have a certificate of the other root", || {
        [&b, &c, &d].iter().all(|peer| {
            let pending = peer.ca().pending;
            roots(peer) == 2 && pending.iter().all(|node| *node == a.id())
        })
    })
    .await;
    let lost = hosts[0].start().await;
    until("it goes on where it was", || connected(&lost) == 3).await;
    pending(&[&b, &c, &d, &lost], &[]).await;
    assert_eq!(c.finish_ca_rotation(false).await.unwrap(), []);
    until("one root is left", || {
        [&b, &c, &d, &lost].iter().all(|peer| roots(peer) == 1)
    })
    .await;
    until("one key is left", || hosts.iter().all(|host| keys(host) == 1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_needs_a_majority_and_can_be_given_up() {
    let (hosts, [a, b, c]) = three().await;
    for peer in [&b, &c] {
        peer.shutdown().await;
    }
    until("it is alone", || connected(&a) == 0).await;
    let alone = a.rotate_ca().await;
    assert!(
        matches!(
            &alone,
            Err(RotateError::NotKept {
                kept: 1,
                anchors: 3,
                ..
            })
        ),
        "{alone:?}"
    );
    assert_eq!((roots(&a), a.ca().pending), (1, vec![]));
    let (b, c) = (restart(&hosts[1]).await, restart(&hosts[2]).await);
    let all = [&a, &b, &c];
    until("they are back", || all.iter().all(|peer| connected(peer) == 2)).await;
    let former = a.ca().roots.remove(0).certificate;
    a.rotate_ca().await.unwrap();
    pending(&all, &[]).await;
    b.cancel_ca_rotation().await.unwrap();
    until("the former root is the only one", || {
        all.iter().all(|peer| {
            let ca = peer.ca();
            ca.roots.len() == 1 && ca.roots[0].certificate == former && ca.pending.is_empty()
        })
    })
    .await;
    until("one key is left", || hosts.iter().all(|host| keys(host) == 1)).await;
    c.shutdown().await;
    let c = restart(&hosts[2]).await;
    until("it connects with it", || connected(&c) == 2).await;
}
