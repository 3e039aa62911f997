//! Several gossip tasks in one process, joined by queues in place of a mesh.

use std::collections::BTreeMap;

use tokio::time::timeout;

use super::sieve::Poison;
use super::sieve::tests::syn;
use super::*;
use crate::mesh::queue::Bounds;

const DEADLINE: Duration = Duration::from_secs(20);
const BOUNDS: Bounds = Bounds {
    items: 256,
    bytes: 1 << 22,
};

type Inboxes = BTreeMap<NodeId, Arc<Queue<(NodeId, Bytes)>>>;

struct Lab {
    cluster: ClusterId,
    nodes: BTreeMap<NodeId, (Gossip, CancellationToken, tempfile::TempDir)>,
    inboxes: Arc<Inboxes>,
}

fn ids(n: u8) -> Vec<NodeId> {
    (0..n).map(|n| NodeId::of_key(&[n; 32])).collect()
}

impl Lab {
    fn start(n: u8) -> Self {
        let mut lab = Self::of(1, &ids(n));
        ids(n).into_iter().for_each(|id| lab.add(id));
        lab
    }

    /// A cluster of these, none of which runs yet.
    fn of(cluster: u8, ids: &[NodeId]) -> Self {
        let inboxes: Inboxes = ids.iter().map(|id| (*id, Arc::new(Queue::new(BOUNDS)))).collect();
        Self {
            cluster: ClusterId::from_random([cluster; 16]),
            nodes: BTreeMap::new(),
            inboxes: Arc::new(inboxes),
        }
    }

    fn add(&mut self, own: NodeId) {
        let inboxes = self.inboxes.clone();
        self.add_sending(own, move |to, bytes| {
            inboxes[&to].push_newest((own, bytes));
        });
    }

    fn add_sending(&mut self, own: NodeId, send: impl Fn(NodeId, Bytes) + Send + Sync + 'static) {
        let (dir, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        let settings = Settings {
            own,
            cluster: self.cluster,
            home: Home::at(dir.path()),
            inbox: self.inboxes[&own].clone(),
            send: Arc::new(send),
            counters: Arc::default(),
        };
        let gossip = Gossip::start(settings, stop.clone());
        gossip.members(self.inboxes.keys().copied().collect());
        self.nodes.insert(own, (gossip, stop, dir));
    }

    async fn sees(&self, who: NodeId, live: &[NodeId]) {
        let mut receiver = self.nodes[&who].0.live();
        let wanted: BTreeSet<_> = live.iter().copied().collect();
        let seen = timeout(DEADLINE, receiver.wait_for(|live| *live == wanted))
            .await
            .map(|seen| seen.unwrap().clone());
        assert_eq!(seen, Ok(wanted), "{who} sees {:?}", self.nodes[&who].0.live().borrow());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_see_all_and_notice_who_leaves_and_who_returns() {
    let mut lab = Lab::start(3);
    let ids = ids(3);
    for id in &ids {
        lab.sees(
            *id,
            &ids.iter().copied().filter(|other| other != id).collect::<Vec<_>>(),
        )
        .await;
    }
    let of = |id| &lab.nodes[&id].0.wire.counters;
    let unbelieved = ids
        .iter()
        .map(|id| of(*id).value(Counter::GossipUnbelieved))
        .sum::<u64>();
    assert_eq!(unbelieved, 0, "nobody lied");
    lab.nodes.remove(&ids[2]).unwrap().1.cancel();
    lab.sees(ids[0], &[ids[1]]).await;
    lab.sees(ids[1], &[ids[0]]).await;
    lab.add(ids[2]);
    lab.sees(ids[0], &[ids[1], ids[2]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_and_strangers_change_nothing() {
    let lab = Lab::start(2);
    let (ids, stranger) = (ids(2), NodeId::of_key(&[99; 32]));
    lab.sees(ids[0], &[ids[1]]).await;
    let wire = &lab.nodes[&ids[0]].0.wire;
    for message in [&b"junk"[..], &[0; 60_000]] {
        wire.inbox.push_newest((ids[1], Bytes::copy_from_slice(message)));
        wire.inbox.push_newest((stranger, Bytes::copy_from_slice(message)));
    }
    let counted = async {
        while wire.counters.value(Counter::GossipInvalid) < 2 || wire.counters.value(Counter::GossipRefused) < 2 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, counted).await.unwrap();
    lab.sees(ids[0], &[ids[1]]).await;
    assert_eq!(wire.counters.value(Counter::GossipRestarts), 0);
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waits = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(DEADLINE, waits).await.is_ok(), "not in time: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_refused_and_named_and_changes_nothing() {
    let (lab, ids) = (Lab::start(3), ids(3));
    let (victim, enemy) = (&lab.nodes[&ids[0]].0, ids[2]);
    ids[1..].iter().for_each(|id| victim.connected(*id));
    lab.sees(ids[0], &ids[1..]).await;
    until("the others spoke for themselves", || {
        ids[1..]
            .iter()
            .all(|id| victim.wire.hearing().generation(*id).is_some())
    })
    .await;

    let invented: Vec<_> = (10..210)
        .map(|n| (NodeId::of_key(&[n; 32]), u64::MAX, u64::MAX))
        .collect();
    let keys = [&[0x53, 0xb0, 1, 2, 2, 4, 0][..], b"keys", &[0]].concat();
    let bad = [
        syn(&invented),
        syn(&[(ids[1], u64::MAX, 1)]),
        syn(&[(ids[0], u64::MAX, 1)]),
        keys.into(),
    ];
    for message in bad {
        victim.wire.inbox.push_newest((enemy, message));
    }
    let named = |offence| victim.offences().contains(&(enemy, offence));
    until("both are named", || {
        named(Offence::Poison(Poison::Keys)) && named(Offence::Forged(ids[1]))
    })
    .await;
    let unbelieved = victim.wire.counters.value(Counter::GossipUnbelieved);
    assert!(
        unbelieved >= 201,
        "{unbelieved}: what is said of the one who hears it does not count"
    );
    assert_eq!(victim.wire.counters.value(Counter::GossipRestarts), 0);
    lab.sees(ids[0], &ids[1..]).await;
    lab.sees(ids[1], &[ids[0], enemy]).await;
}

/// Of two clusters whose gossip all comes to the other one as well: as it is, and as if a member had said it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_of_another_cluster_is_refused_and_counted_and_changes_nothing() {
    let members = [ids(3), (50..53).map(|n| NodeId::of_key(&[n; 32])).collect()];
    let mut labs = [Lab::of(1, &members[0]), Lab::of(2, &members[1])];
    let all = [labs[0].inboxes.clone(), labs[1].inboxes.clone()];
    for (at, lab) in labs.iter_mut().enumerate() {
        for (own, carrier) in members[at].iter().copied().zip(members[1 - at].clone()) {
            let (here, there) = (all[at].clone(), all[1 - at].clone());
            lab.add_sending(own, move |to, bytes| {
                here[&to].push_newest((own, bytes.clone()));
                for (id, inbox) in there.iter() {
                    inbox.push_newest((own, bytes.clone()));
                    if *id != carrier {
                        inbox.push_newest((carrier, bytes.clone()));
                    }
                }
            });
        }
    }
    let counted = |lab: &Lab, counter| {
        let mut nodes = lab.nodes.values();
        nodes.all(|(gossip, ..)| gossip.wire.counters.value(counter) > 20)
    };
    until("it comes to all, and is refused and named", || {
        labs.iter().zip(&members).all(|(lab, members)| {
            let offence = Offence::Poison(Poison::OtherCluster);
            let named = |gossip: &Gossip| {
                gossip
                    .offences()
                    .iter()
                    .any(|(by, what)| *what == offence && members.contains(by))
            };
            let mut nodes = lab.nodes.values();
            counted(lab, Counter::GossipRefused)
                && counted(lab, Counter::GossipInvalid)
                && nodes.all(|(it, ..)| named(it))
        })
    })
    .await;
    for (lab, members) in labs.iter().zip(&members) {
        for id in members {
            let others: Vec<NodeId> = members.iter().copied().filter(|other| other != id).collect();
            lab.sees(*id, &others).await;
            assert_eq!(lab.nodes[id].0.wire.counters.value(Counter::GossipRestarts), 0);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_not_there_is_tried_again_and_again() {
    let mut lab = Lab::start(1);
    let (own, absent) = (ids(1)[0], NodeId::of_key(&[7; 32]));
    lab.nodes.remove(&own).unwrap().1.cancel();
    let tried = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = tried.clone();
    lab.add_sending(own, move |to, _bytes| {
        assert_eq!(to, absent);
        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    });
    lab.nodes[&own].0.members(BTreeSet::from([absent]));
    // Nobody else makes chitchat speak to a node that it has not heard of.
    until("it was tried three times", || {
        tried.load(std::sync::atomic::Ordering::Relaxed) >= 3
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_dies_is_started_again_and_its_last_peer_is_muted() {
    let (mut lab, ids) = (Lab::start(3), ids(3));
    lab.nodes.remove(&ids[0]).unwrap().1.cancel();
    // chitchat's task runs this, so that it panics as it would on a message that contradicts itself.
    let (inboxes, own, heard) = (lab.inboxes.clone(), ids[0], std::sync::atomic::AtomicUsize::new(0));
    lab.add_sending(own, move |to, bytes| {
        assert_ne!(
            heard.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
            20,
            "the task dies once"
        );
        inboxes[&to].push_newest((own, bytes));
    });
    let gossip = lab.nodes[&own].0.clone();
    let died = async {
        while gossip.ended().is_none() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, died).await.unwrap();
    assert_eq!(gossip.muted().len(), 1);
    assert_eq!(gossip.wire.counters.value(Counter::GossipRestarts), 1);
    lab.sees(own, &ids[1..]).await;
    assert_eq!(gossip.ended(), None);
    lab.sees(ids[1], &[own, ids[2]]).await;
    lab.sees(ids[2], &[own, ids[1]]).await;
}
