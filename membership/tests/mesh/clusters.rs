//! Two clusters on one wire: members of one find those of the other where they look for their own. Nothing crosses, what is
//! refused is counted and shown, and both go on.

use std::net::SocketAddr;
use std::time::Duration;

use crate::lab::{Host, counter, label, red, say, sees, shown, until, write};
use crate::restoring::{again, stop};
use membership::id::{NodeId, Scope};
use membership::record::Key;
use membership::service::{IntentWrite, Liveness, Membership, Outcome, join};

fn address(peer: &Membership, of: NodeId) -> Option<SocketAddr> {
    let members = peer.members();
    let found = members.iter().find(|member| member.id == of);
    found.and_then(|member| member.record.addresses.first().copied())
}

fn own_address(peer: &Membership) -> SocketAddr {
    address(peer, peer.id()).unwrap()
}

/// All connections that were refused, by either side.
fn refused(peer: &Membership) -> u64 {
    let all = peer.counters();
    let refused = all.into_iter().filter(|(name, _)| name.starts_with("refused_"));
    refused.map(|(_, n)| n).sum()
}

/// Whether a peer shows that it refused, or was refused by, who is at an address.
fn names(peer: &Membership, place: SocketAddr) -> bool {
    let alarms = peer.alarms();
    let mut named = alarms.iter().filter(|alarm| alarm.name == "peer-refused");
    named.any(|alarm| alarm.message.contains(&place.to_string()))
}

/// Everybody who signed anything that a peer holds.
fn signers(peer: &Membership) -> Vec<NodeId> {
    peer.read(|replica| {
        let scopes: Vec<&Scope> = replica.scopes().collect();
        let facts = scopes
            .iter()
            .flat_map(|scope| replica.facts(scope).map(|fact| fact.origin));
        let objects = scopes.iter().flat_map(|scope| replica.intents(scope));
        let writers = objects.flat_map(|(_, siblings)| siblings.all().map(|version| version.dot.writer));
        let mut signers: Vec<NodeId> = facts.chain(writers).collect();
        signers.sort();
        signers.dedup();
        signers
    })
}

/// A node of this name whose daemon listens where somebody else's did.
async fn join_at(place: SocketAddr, name: &str, anchor: &Membership) -> (Host, Membership) {
    let mut host = Host::new();
    host.config.listen = place;
    let token = anchor.create_token(1, Duration::from_secs(60)).await.unwrap();
    let outcome = join(&host.config, label(name), &token).await.unwrap();
    assert!(matches!(outcome, Outcome::Made { .. }));
    let peer = again(&host).await;
    (host, peer)
}

/// Each writes, and all of this cluster have it.
async fn goes_on(peers: &[&Membership], text: &str) {
    for (n, peer) in peers.iter().enumerate() {
        let name = format!("{text}-{n}");
        let marks = [write(peer, &name, text).await, say(peer, &name, text).await];
        for other in peers {
            until("it arrives", || marks.iter().all(|mark| other.holds(mark))).await;
        }
    }
    let root = |peer: &Membership| peer.read(membership::replica::Replica::root_of_roots);
    until("they hold the same", || {
        peers.iter().all(|peer| root(peer) == root(peers[0]))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_that_meet_stay_two() {
    let live = Liveness::Live;
    let (_h1, a1) = Host::found("one").await;
    let (mut h2, a2) = Host::join("two", &a1).await;
    let (mut h3, a3) = Host::join("three", &a1).await;
    let (_g1, b1) = Host::found("one").await;
    let (mut g2, b2) = Host::join("two", &b1).await;
    sees(&a1, &[(&a2, live), (&a3, live)]).await;
    sees(&b1, &[(&b2, live)]).await;
    // The same object in both, so that it shows whose it is.
    for (peer, text) in [(&a1, "a"), (&b1, "b")] {
        write(peer, "lan", text).await;
    }
    let of_a = [a1.id(), a2.id(), a3.id()];

    // A member dies, and one of the other cluster comes to be where it was: its own look for it there.
    let place = own_address(&a2);
    stop(a2).await;
    let (_g3, b3) = join_at(place, "three", &b1).await;
    until("they are refused where their own was", || {
        refused(&b3) > 0 && names(&a1, place) && names(&a3, place)
    })
    .await;
    assert!(counter(&a1, "refused_certificate") > 0, "{:?}", a1.counters());

    // Members of both say that they are where one of the other cluster is.
    let (at_a, at_b) = (own_address(&a1), own_address(&b1));
    for (host, peer, first, wrong) in [(&mut h3, a3, &a1, at_b), (&mut g2, b2, &b1, at_a)] {
        let (id, own) = (peer.id(), own_address(&peer));
        stop(peer).await;
        host.config.listen = own;
        host.config.advertise = vec![wrong, own];
        let peer = again(host).await;
        until("it is told", || address(first, id) == Some(wrong)).await;
        stop(peer).await;
        until("it is looked for there", || names(first, wrong)).await;
    }
    until("both refuse", || refused(&a1) > 1 && refused(&b1) > 1).await;
    let (a3, b2) = (again(&h3).await, again(&g2).await);

    // Both go on, each with its own.
    let blue: [&Membership; 3] = [&b1, &b2, &b3];
    goes_on(&[&a1, &a3], "amid").await;
    goes_on(&blue, "amid").await;
    sees(&b1, &[(&b2, live), (&b3, live)]).await;
    h2.config.listen = "127.0.0.1:0".parse().unwrap();
    let a2 = h2.start().await;
    let crimson = [&a1, &a2, &a3];
    for peer in crimson {
        let others: Vec<_> = crimson
            .iter()
            .filter(|other| other.id() != peer.id())
            .map(|other| (*other, live))
            .collect();
        sees(peer, &others).await;
    }
    goes_on(&crimson, "after").await;
    goes_on(&blue, "after").await;

    let of_b = [b1.id(), b2.id(), b3.id()];
    for (peers, own, other, text) in [(&crimson, of_a, of_b, "a"), (&blue, of_b, of_a, "b")] {
        for peer in peers {
            let mut wanted = own.to_vec();
            wanted.sort();
            let members: Vec<NodeId> = peer.members().iter().map(|member| member.id).collect();
            assert_eq!((members, signers(peer)), (wanted.clone(), wanted));
            assert!(
                other
                    .iter()
                    .all(|id| peer.read(|replica| replica.keyring().key(*id).is_none()))
            );
            assert_eq!(shown(peer, "lan").as_deref(), Some(text));
            assert_eq!(peer.cluster().id, peers[0].cluster().id);
            let seen = ["bad_frames", "gossip_invalid"].map(|name| counter(peer, name));
            assert_eq!(seen, [0; 2], "nothing came that far");
        }
    }
    assert_ne!(a1.cluster().roots, b1.cluster().roots);
    // What one deletes the other keeps.
    let delete = IntentWrite {
        key: Key::new("Network", "lan"),
        body: None,
    };
    let mark = a2.write_intent(red(), "tester", vec![delete]).await.unwrap();
    until("it is gone there", || crimson.iter().all(|peer| peer.holds(&mark))).await;
    assert!(shown(&a1, "lan").is_none() && blue.iter().all(|peer| shown(peer, "lan").as_deref() == Some("b")));
}
