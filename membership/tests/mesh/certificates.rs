//! Certificates that end: renewed in time under traffic, renewed at the door by members who were away, and by nobody else.

use std::time::Duration;

use membership::id::NodeId;
use membership::pki::Leaf;
use membership::service::{Liveness, Membership, init, join};

use crate::lab::{DEADLINE, Host, counter, label, sees, until, write};
use crate::strangers::now;

/// Of the certificates that are renewed while a test looks on.
const SHORT: Duration = Duration::from_secs(6);

/// A host whose node makes certificates of this life.
pub(crate) fn host(life: Duration) -> Host {
    let mut host = Host::new();
    host.config.certificate_life = life;
    host
}

/// The first node of a cluster.
pub(crate) async fn found(name: &str, life: Duration) -> (Host, Membership) {
    let host = host(life);
    init(&host.config, label(name), label("lab")).await.unwrap();
    let peer = host.start().await;
    (host, peer)
}

/// A further node.
pub(crate) async fn joined(name: &str, anchor: &Membership, life: Duration) -> (Host, Membership) {
    let host = host(life);
    let token = anchor.create_token(1, DEADLINE).await.unwrap();
    join(&host.config, label(name), &token).await.unwrap();
    let peer = host.start().await;
    (host, peer)
}

/// The certificate that a peer knows of a node.
pub(crate) fn leaf(peer: &Membership, of: NodeId) -> Leaf {
    let member = peer.members().into_iter().find(|member| member.id == of).unwrap();
    Leaf::parse(&member.record.certificate).unwrap()
}

pub(crate) fn connected(peer: &Membership) -> usize {
    peer.members().iter().filter(|member| member.rtt.is_some()).count()
}

fn alarm(peer: &Membership, name: &str) -> Option<String> {
    let alarms = peer.alarms().into_iter();
    alarms
        .filter(|alarm| alarm.name == name)
        .map(|alarm| alarm.message)
        .next()
}

/// Keeps where it listens, so that others find it after a restart.
fn pin(host: &mut Host, peer: &Membership) {
    let own = peer.members().into_iter().find(|member| member.id == peer.id());
    host.config.listen = own.unwrap().record.addresses[0];
}

/// A peer lets go of its port when its last task ends.
pub(crate) async fn restart(host: &Host) -> Membership {
    let started = tokio::time::timeout(DEADLINE, async {
        loop {
            if let Ok(peer) = host.try_start().await {
                return peer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    started.await.unwrap()
}

async fn ended(leaf: &Leaf) {
    until("the certificate has ended", || {
        now() > leaf.not_after + Duration::from_secs(1)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_under_traffic_and_no_connection_is_lost() {
    let (_one, a) = found("one", SHORT).await;
    let (_two, b) = joined("two", &a, SHORT).await;
    let (three, c) = joined("three", &a, SHORT).await;
    let all = [&a, &b, &c];
    until("all are connected", || all.iter().all(|peer| connected(peer) == 2)).await;
    let first = all.map(|peer| leaf(peer, peer.id()));
    let mut lost = all.map(|peer| counter(peer, "links_down"));
    let mut changed = c.credentials_changed();
    let mut n = 0;
    let renewed = |of: usize| leaf(all[of], all[of].id()) != first[of];
    let renewed_twice = |of: usize| {
        let peer: &Membership = all[of];
        leaf(all[(of + 1) % 3], peer.id()).not_after > first[of].not_after + SHORT
    };
    let limit = now() + DEADLINE;
    while !(0..3).all(renewed_twice) {
        assert!(now() < limit, "not renewed in time: {:?}", a.alarms());
        n += 1;
        if !(0..3).any(renewed) {
            // Of two dials that cross one ends; that is over long before the first renewal.
            lost = all.map(|peer| counter(peer, "links_down"));
        }
        let mark = write(all[n % 3], "net", &n.to_string()).await;
        until("a write arrives", || all.iter().all(|peer| peer.holds(&mark))).await;
    }
    assert_eq!(all.map(|peer| counter(peer, "links_down")), lost, "after {n} writes");
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();
    // Who comes anew meets certificates that are good: the first ones ended long ago.
    assert!(first.iter().all(|leaf| leaf.not_after < now()));
    let (_four, d) = joined("four", &a, SHORT).await;
    until("all know the fourth", || connected(&d) == 3).await;
    c.shutdown().await;
    let c = restart(&three).await;
    until("its certificate is the later one after a restart", || {
        connected(&c) == 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_certificate_has_ended_gets_another_one_at_the_door() {
    // The anchor's own certificate lives long.
    let (mut one, a) = Host::found("one").await;
    a.shutdown().await;
    one.config.certificate_life = Duration::from_secs(3);
    let a = restart(&one).await;
    let (two, b) = joined("two", &a, SHORT).await;
    sees(&a, &[(&b, Liveness::Live)]).await;
    // A host that was let in, and never came.
    let (never, token) = (Host::new(), a.create_token(1, DEADLINE).await.unwrap());
    join(&never.config, label("never"), &token).await.unwrap();
    // One that will be removed while it is away.
    let (three, c) = joined("three", &a, SHORT).await;
    sees(&c, &[(&a, Liveness::Live), (&b, Liveness::Live)]).await;
    let gone = c.id();
    c.shutdown().await;
    b.shutdown().await;
    until("they are away", || connected(&a) == 0).await;
    a.remove_node("three").await.unwrap();
    let last = [
        leaf(&a, b.id()),
        Leaf::parse(&std::fs::read(three.file("node.der")).unwrap()).unwrap(),
    ];
    let last = last.into_iter().max_by_key(|leaf| leaf.not_after).unwrap();
    ended(&last).await;

    let b = two.start().await;
    until("it is back", || connected(&a) == 1 && connected(&b) == 1).await;
    until("all know its certificate", || leaf(&a, b.id()).not_after > now()).await;

    let (stranger, c) = (never.start().await, three.start().await);
    for (peer, why) in [(&stranger, "not known here as a member"), (&c, "was removed")] {
        until("it is told why not", || {
            alarm(peer, "certificate-expired").is_some_and(|words| words.contains(why))
        })
        .await;
    }
    until("its other connections are refused", || {
        counter(&a, "refused_certificate") > 0
    })
    .await;
    assert_eq!((connected(&stranger), connected(&c)), (0, 0));
    let known: Vec<NodeId> = a.members().into_iter().map(|member| member.id).collect();
    assert!(!known.contains(&gone) && !known.contains(&stranger.id()));
    let leaf = Leaf::parse(&std::fs::read(three.file("node.der")).unwrap()).unwrap();
    assert!(leaf.not_after < now(), "it got none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_of_which_half_the_certificates_have_ended_heals_itself() {
    let (_one, a) = found("one", SHORT).await;
    let (_two, b) = joined("two", &a, SHORT).await;
    let (three, c) = joined("three", &a, SHORT).await;
    until("they are anchors", || {
        [&a, &b, &c].iter().all(|peer| peer.cluster().anchors.nodes.len() == 3)
    })
    .await;
    let (four, d) = joined("four", &a, SHORT).await;
    let (five, e) = joined("five", &a, SHORT).await;
    let (_six, f) = joined("six", &a, SHORT).await;
    until("three are anchors, and all are connected", || {
        [&a, &b, &c, &d, &e, &f]
            .iter()
            .all(|peer| connected(peer) == 5 && peer.cluster().anchors.nodes.len() == 3)
    })
    .await;
    until("the third holds the key", || three.file("authority.key").exists()).await;
    let ends = [&c, &d, &e].map(|peer| leaf(peer, peer.id()));
    for peer in [&c, &d, &e] {
        peer.shutdown().await;
    }
    let last = ends.into_iter().max_by_key(|leaf| leaf.not_after).unwrap();
    ended(&last).await;
    let mark = write(&a, "net", "while they were away").await;
    let (c, d, e) = (restart(&three).await, restart(&four).await, restart(&five).await);
    let all = [&a, &b, &c, &d, &e, &f];
    until("all are connected again", || {
        all.iter().all(|peer| connected(peer) == 5)
    })
    .await;
    until("all hold the same", || {
        let root = a.read(|replica| replica.root_of_roots());
        all.iter()
            .all(|peer| peer.holds(&mark) && peer.read(|replica| replica.root_of_roots()) == root)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_was_off_until_all_certificates_had_ended_starts() {
    let (mut one, a) = found("one", SHORT).await;
    let (mut two, b) = joined("two", &a, SHORT).await;
    until("both are connected", || connected(&a) == 1 && connected(&b) == 1).await;
    for (host, peer) in [(&mut one, &a), (&mut two, &b)] {
        pin(host, peer);
    }
    let ends = [leaf(&a, a.id()), leaf(&b, b.id())];
    for peer in [a, b] {
        peer.shutdown().await;
    }
    let last = ends.into_iter().max_by_key(|leaf| leaf.not_after).unwrap();
    ended(&last).await;
    let b = restart(&two).await;
    until("it says what is wrong", || alarm(&b, "certificate-expired").is_some()).await;
    let a = restart(&one).await;
    until("both are connected again", || connected(&a) == 1 && connected(&b) == 1).await;
    until("nothing is wrong", || {
        alarm(&a, "certificate-expired").is_none() && alarm(&b, "certificate-expired").is_none()
    })
    .await;
}
