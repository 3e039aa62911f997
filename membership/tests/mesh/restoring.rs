//! A node whose disk is older than what it told others.

use std::path::Path;
use std::time::Duration;

use crate::lab::{DEADLINE, Host, body, counter, label, red, say, shown, until, write};
use membership::claim::ClaimError;
use membership::hlc::Stamp;
use membership::record::Key;
use membership::service::{FactWrite, Membership, Outcome, Restored, SetupError, StartError, WriteError, init_from};

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn alarms(peer: &Membership) -> Vec<String> {
    peer.alarms().into_iter().map(|alarm| alarm.name).collect()
}

/// Starts at the address of a handle that was just dropped, which takes a moment to be free.
pub(crate) async fn again(host: &Host) -> Membership {
    let started = tokio::time::timeout(DEADLINE, async {
        loop {
            match host.try_start().await {
                Err(StartError::Other(why)) if why.contains("cannot be bound") => tokio::task::yield_now().await,
                other => return other.unwrap(),
            }
        }
    });
    started.await.unwrap()
}

pub(crate) async fn stop(peer: Membership) {
    peer.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_disk_does_not_contradict_what_its_peers_have() {
    let (_one, a) = Host::found("one").await;
    let (mut two, b) = Host::join("two", &a).await;
    say(&b, "early", "1").await;
    // Another address each time would be something else to say each time.
    let own = b.members().into_iter().find(|member| member.id == b.id());
    two.config.listen = own.unwrap().record.addresses[0];
    stop(b).await;
    let backup = tempfile::tempdir().unwrap();
    copy(&two.config.data, backup.path());

    let b = again(&two).await;
    let late = say(&b, "late", "2").await;
    until("the peer has it", || a.holds(&late)).await;
    stop(b).await;
    copy(backup.path(), &two.config.data);

    // It writes at once, as a daemon that starts does.
    let b = again(&two).await;
    assert!(!b.holds(&late), "the copy is older");
    let after = say(&b, "after", "3").await;
    until("the peer has all of it", || a.holds(&late) && a.holds(&after)).await;
    until("they agree", || {
        a.read(|r| r.root(&red())) == b.read(|r| r.root(&red()))
    })
    .await;
    assert_eq!(b.read(|r| r.facts(&red()).count()), 3, "nothing was lost");
    assert_eq!(
        (alarms(&a), alarms(&b)),
        (Vec::new(), vec!["store-restored".to_owned()])
    );
    assert_eq!(counter(&a, "bad_frames"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_disk_does_not_free_what_was_claimed_again() {
    let (_one, a) = Host::found("one").await;
    let (mut two, b) = Host::join("two", &a).await;
    let (scope, key, other) = (red(), "10.0.0.1", "10.0.0.2");
    say(&b, "early", "1").await;
    b.claim(scope.clone(), key).await.unwrap();
    b.claim(scope.clone(), other).await.unwrap();
    b.give_up(&scope, key).await.unwrap();
    let own = b.members().into_iter().find(|member| member.id == b.id());
    two.config.listen = own.unwrap().record.addresses[0];
    stop(b).await;
    let backup = tempfile::tempdir().unwrap();
    copy(&two.config.data, backup.path());

    // One is free, and claimed again; the other is free, and somebody else's.
    let b = again(&two).await;
    assert!(b.free(&scope, key).await.unwrap());
    b.claim(scope.clone(), key).await.unwrap();
    b.give_up(&scope, other).await.unwrap();
    assert!(b.free(&scope, other).await.unwrap());
    a.claim(scope.clone(), other).await.unwrap();
    let late = say(&b, "late", "2").await;
    until("the peer has it", || a.holds(&late)).await;
    stop(b).await;
    copy(backup.path(), &two.config.data);

    let b = again(&two).await;
    assert!(b.free(&scope, key).await.unwrap(), "there is nothing to free");
    let held = |holder: &Membership, key: &str| {
        let (key, holder) = (key.into(), holder.id());
        Err(ClaimError::Held { key, holder })
    };
    assert_eq!(a.claim(scope.clone(), key).await, held(&b, key), "it is in use");
    let keys = [key, other].map(|key| (scope.clone(), key.to_owned()));
    assert_eq!(b.keys_held().await.unwrap(), keys, "what nobody uses can be given up");
    assert_eq!(
        b.claim(scope.clone(), other).await,
        held(&a, other),
        "the old proof is forgotten"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_after_a_start_waits_for_nobody_who_is_not_there() {
    let (one, a) = Host::found("one").await;
    let short = Duration::from_secs(2);
    tokio::time::timeout(short, say(&a, "alone", "1"))
        .await
        .expect("a lone node does not wait");
    let (two, b) = Host::join("two", &a).await;
    b.shutdown().await;
    let b = two.start().await;
    tokio::time::timeout(short, say(&b, "met", "1"))
        .await
        .expect("a healthy restart does not wait long");
    a.shutdown().await;
    b.shutdown().await;
    // Its only peer is gone for good: it waits as long as it must, and writes.
    let a = one.start().await;
    let mark = say(&a, "alone", "2").await;
    assert!(a.holds(&mark));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_while_it_stopped_is_there_and_nothing_else() {
    let (one, a) = Host::found("one").await;
    let writer = a.clone();
    let writes = tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for n in 0.. {
            let write = FactWrite {
                key: Key::new("Attachment", &n.to_string()),
                body: body("x"),
            };
            match writer.write_facts(red(), vec![write]).await {
                Ok(mark) => acknowledged.push(mark),
                Err(WriteError::Closed) => break,
                Err(other) => panic!("{other}"),
            }
        }
        acknowledged
    });
    until("it writes", || a.read(|r| r.facts(&red()).count()) > 20).await;
    a.shutdown().await;
    let acknowledged = writes.await.unwrap();
    drop(a);
    let a = one.start().await;
    assert!(acknowledged.iter().all(|mark| a.holds(mark)));
    assert_eq!(a.read(|r| r.facts(&red()).count()), acknowledged.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_made_from_a_backup_has_its_objects() {
    let host = Host::new();
    let stamp = |millis| Stamp { millis, logical: 7 };
    let restored = |name: &str, millis, text: Option<&str>| Restored {
        scope: red(),
        key: Key::new("Network", name),
        stamp: stamp(millis),
        author: "alice@old".to_owned(),
        body: text.and_then(body),
    };
    let objects = vec![
        restored("net", 10, Some("1")),
        restored("torn", 12, None),
        restored("torn", 11, Some("2")),
    ];
    let made = init_from(&host.config, label("one"), label("lab"), objects.clone()).await;
    assert!(matches!(made, Ok(Outcome::Made { .. })), "{made:?}");
    let again = init_from(&host.config, label("one"), label("lab"), objects).await;
    assert!(matches!(again, Err(SetupError::NotRestored(_))), "{again:?}");

    let a = host.start().await;
    assert_eq!(shown(&a, "net").as_deref(), Some("1"));
    let torn = Key::new("Network", "torn");
    let versions = a.read(|replica| {
        let all = replica.intent(&red(), &torn).unwrap().all();
        all.map(|version| (version.stamp, version.author.clone(), version.body.is_some()))
            .collect::<Vec<_>>()
    });
    let alice = || "alice@old".into();
    assert_eq!(
        versions,
        [(stamp(12), alice(), false), (stamp(11), alice(), true)],
        "they disagree as before"
    );
    let (_two, b) = Host::join("two", &a).await;
    let mark = write(&b, "torn", "3").await;
    until("what is written over it counts everywhere", || a.holds(&mark)).await;
    until("both have all of it", || shown(&b, "net").is_some()).await;
    assert!([&a, &b].iter().all(|peer| shown(peer, "torn").as_deref() == Some("3")));
    assert_eq!(alarms(&a), Vec::<String>::new());
}
