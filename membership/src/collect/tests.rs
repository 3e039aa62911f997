//! Who may conclude what from what was said.

use super::*;
use crate::batch::{Batch, FactBatch, IntentBatch};
use crate::fixture::{Host, domain, write};
use crate::record::Dot;
use crate::replica::Change;
use crate::signed::Signer;

/// Members that hear of each other when told to.
struct Cluster {
    hosts: Vec<Host>,
    replicas: Vec<Replica>,
    at: u64,
}

impl Cluster {
    fn new(nodes: u8) -> Self {
        let mut cluster = Self {
            hosts: (1..=nodes).map(Host::new).collect(),
            replicas: (0..nodes).map(|_| Replica::default()).collect(),
            at: 1,
        };
        for node in 0..cluster.hosts.len() {
            let record = cluster.hosts[node].record();
            let host = cluster.hosts[node].clone();
            host.says(&mut cluster.replicas[node], &Scope::System, 1, vec![record]);
        }
        cluster.all_hear();
        cluster
    }

    fn id(&self, node: usize) -> NodeId {
        self.hosts[node].id()
    }

    fn want(&mut self, node: usize, name: &str, text: Option<&str>) -> Dot {
        self.at += 1;
        let host = self.hosts[node].clone();
        host.wants(
            &mut self.replicas[node],
            &domain("red"),
            self.at,
            vec![write(name, text)],
        )
        .dots[0]
            .1
    }

    fn hear(&mut self, to: usize, from: usize) {
        let theirs = &self.replicas[from];
        let mut batches = Vec::new();
        for scope in theirs.scopes() {
            let heads = theirs.heads(scope);
            batches.extend(heads.map(|held| Batch::Facts(FactBatch::new(held.head.clone(), held.after(0)).unwrap())));
            let versions = theirs.intents(scope).flat_map(|(_, siblings)| siblings.versions());
            let alive = versions.filter(|version| !self.replicas[to].is_dead(scope, version.value()));
            batches.push(Batch::Intents(
                IntentBatch::new(scope.clone(), alive.cloned().collect()).unwrap(),
            ));
        }
        for batch in batches {
            self.replicas[to].merge(&batch).unwrap();
        }
    }

    fn all_hear(&mut self) {
        let nodes = self.hosts.len();
        for (to, from) in (0..nodes).flat_map(|to| (0..nodes).map(move |from| (to, from))) {
            self.hear(to, from);
        }
    }

    /// One node says what it should, if anything.
    fn confirm(&mut self, node: usize) {
        let members = members(&self.replicas[node]);
        let observer = Observer {
            replica: &self.replicas[node],
            scope: &domain("red"),
            me: self.id(node),
            members: &members,
            gathered: true,
        };
        if let Some(seen) = observer.next().say {
            self.say(node, &seen);
        }
    }

    fn say(&mut self, node: usize, seen: &Seen) {
        self.at += 1;
        let (host, red) = (self.hosts[node].clone(), domain("red"));
        let write = author::Write {
            key: key(),
            body: seen.body(),
        };
        host.says(&mut self.replicas[node], &red, self.at, vec![write]);
        let replica = &mut self.replicas[node];
        replica.set_floor(&red, seen.floor());
        if let Some(change) = replica.collectable(&red) {
            replica.apply(&Change::Intents(change));
        }
    }

    fn round(&mut self, nodes: &[usize]) {
        for &node in nodes {
            self.confirm(node);
        }
        self.all_hear();
    }

    fn left(&self) -> Vec<usize> {
        let left = |replica: &Replica| replica.tombstones(&domain("red"));
        self.replicas.iter().map(left).collect()
    }
}

#[test]
fn a_tombstone_goes_once_all_have_confirmed_it() {
    let mut cluster = Cluster::new(3);
    cluster.want(0, "a", Some("1"));
    cluster.want(0, "kept", Some("1"));
    cluster.all_hear();
    cluster.want(1, "a", None);
    cluster.all_hear();
    for _ in 0..5 {
        cluster.round(&[0, 1]);
        assert_eq!(cluster.left(), [1, 1, 1], "the third has said nothing");
    }
    let members = members(&cluster.replicas[0]);
    let observer = Observer {
        replica: &cluster.replicas[0],
        scope: &domain("red"),
        me: cluster.id(0),
        members: &members,
        gathered: true,
    };
    assert_eq!(observer.missing(), [cluster.id(2)].into());
    for _ in 0..4 {
        cluster.round(&[0, 1, 2]);
    }
    assert_eq!(cluster.left(), [0, 0, 0]);
    let roots: BTreeSet<_> = cluster.replicas.iter().map(|it| it.root(&domain("red"))).collect();
    assert_eq!(roots.len(), 1);
    let before: Vec<_> = cluster.replicas.iter().map(Replica::root_of_roots).collect();
    cluster.round(&[0, 1, 2]);
    cluster.round(&[0, 1, 2]);
    let after: Vec<_> = cluster.replicas.iter().map(Replica::root_of_roots).collect();
    assert_eq!(before, after, "then nobody says any more");
}

#[test]
fn who_lacks_a_version_does_not_vouch_for_its_writer() {
    let mut cluster = Cluster::new(2);
    cluster.want(0, "a", Some("1"));
    cluster.all_hear();
    // The second one hears of the tombstone, and not of what was written before it.
    cluster.want(0, "b", Some("1"));
    let hidden = cluster.want(0, "a", None);
    let red = domain("red");
    let replica = &cluster.replicas[0];
    let only = replica
        .intent(&red, &Key::new("K", "a"))
        .unwrap()
        .versions()
        .cloned()
        .collect();
    let only = Batch::Intents(IntentBatch::new(red.clone(), only).unwrap());
    cluster.replicas[1].merge(&only).unwrap();
    cluster.confirm(0);
    let all = cluster.replicas[0].origin(&red, cluster.id(0)).unwrap();
    let facts = Batch::Facts(FactBatch::new(all.head.clone(), all.after(0)).unwrap());
    cluster.replicas[1].merge(&facts).unwrap();
    cluster.confirm(1);
    let said = seen(&cluster.replicas[1], &red, cluster.id(1)).unwrap();
    assert!(!said.seen().contains(hidden), "{said:?}");
    cluster.all_hear();
    cluster.confirm(1);
    let said = seen(&cluster.replicas[1], &red, cluster.id(1)).unwrap();
    assert!(said.seen().contains(hidden), "{said:?}");
}

#[test]
fn an_open_conflict_is_kept() {
    let mut cluster = Cluster::new(2);
    cluster.want(0, "a", Some("1"));
    cluster.all_hear();
    cluster.want(0, "a", None);
    cluster.want(1, "a", Some("2"));
    cluster.all_hear();
    for _ in 0..5 {
        cluster.round(&[0, 1]);
    }
    assert_eq!(cluster.left(), [1, 1]);
    cluster.want(1, "a", None);
    cluster.all_hear();
    for _ in 0..5 {
        cluster.round(&[0, 1]);
    }
    assert_eq!(cluster.left(), [0, 0]);
}

#[test]
fn one_liar_collects_nothing() {
    let mut cluster = Cluster::new(4);
    cluster.want(0, "a", Some("1"));
    cluster.all_hear();
    let dot = cluster.want(0, "a", None);
    cluster.hear(1, 0);
    // The last one says that all have seen everything; the third one has seen nothing.
    let all = Column {
        want: 0,
        seen: u64::MAX,
        floor: u64::MAX,
    };
    let seen = Seen {
        epoch: 1,
        list: list_digest(&members(&cluster.replicas[3])),
        stated: Vec::new(),
        columns: [(cluster.id(0), all)].into(),
    };
    cluster.say(3, &seen);
    for _ in 0..5 {
        for (to, from) in [(0, 3), (1, 3), (0, 1), (1, 0)] {
            cluster.hear(to, from);
        }
        cluster.confirm(0);
        cluster.confirm(1);
    }
    for node in 0..2 {
        assert!(!cluster.replicas[node].floor(&domain("red")).unwrap().contains(dot));
    }
    assert_eq!(cluster.left()[..2], [1, 1]);
}

#[test]
fn an_open_conflict_holds_back_only_what_is_not_below_it() {
    let mut cluster = Cluster::new(3);
    let first = cluster.want(0, "a", Some("1"));
    cluster.want(0, "b", Some("1"));
    cluster.all_hear();
    cluster.want(0, "a", None);
    cluster.want(0, "b", None);
    cluster.want(1, "b", Some("2"));
    cluster.all_hear();
    for _ in 0..4 {
        cluster.round(&[0, 1, 2]);
    }
    assert_eq!(cluster.left(), [1, 1, 1]);
    for replica in &cluster.replicas {
        assert!(replica.floor(&domain("red")).unwrap().contains(first));
    }
    cluster.want(2, "b", Some("3"));
    cluster.all_hear();
    assert_eq!(cluster.left(), [0, 0, 0]);
}

#[test]
fn what_was_said_in_an_earlier_epoch_is_void() {
    let mut cluster = Cluster::new(1);
    let red = domain("red");
    let old = Seen {
        epoch: 0,
        ..Seen::default()
    };
    cluster.say(0, &old);
    assert!(is_void(&cluster.replicas[0], &red, cluster.id(0)));
    assert_eq!(seen(&cluster.replicas[0], &red, cluster.id(0)), None);
}

#[test]
fn a_tombstone_is_small() {
    let mut cluster = Cluster::new(1);
    cluster.want(0, "an-endpoint-of-usual-length", Some(&"x".repeat(2_000)));
    cluster.at = 1_800_000_000_000;
    cluster.want(0, "an-endpoint-of-usual-length", None);
    let survey = cluster.replicas[0].survey(&domain("red"));
    assert!(survey.count == 1 && survey.bytes <= 64 + 120, "{survey:?}");
}

#[test]
fn a_confirmation_fits_a_record() {
    let writer = |n: u64| NodeId::of_key(&[u8::try_from(n % 256).unwrap(); 32]);
    let column = Column {
        want: u64::MAX,
        seen: u64::MAX,
        floor: u64::MAX,
    };
    let stated = Stated {
        writer: writer(0),
        upto: u64::MAX,
        sum: Digest([255; 32]),
    };
    let seen = Seen {
        epoch: u64::MAX,
        list: Digest::default(),
        stated: vec![stated; STATED_MAX],
        columns: (0..WRITERS_MAX as u64).map(|n| (writer(n), column)).collect(),
    };
    assert_eq!(seen.columns.len(), WRITERS_MAX);
    assert!(seen.body().unwrap().bytes.len() < crate::record::RECORD_MAX - 500);
}
