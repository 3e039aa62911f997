//! A deleted object leaves nothing behind, and an old disk does not bring it back.

use std::time::Duration;

use crate::lab::{Host, counter, red, shown, write};
use crate::restoring::{again, copy, stop};
use membership::record::Key;
use membership::service::{IntentWrite, Membership};

/// Confirmations are said every 10 to 20 s, in three turns.
const DEADLINE: Duration = Duration::from_secs(300);

async fn until(what: &str, holds: impl Fn() -> bool) {
    let met = tokio::time::timeout(DEADLINE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert!(met.await.is_ok(), "not in time: {what}");
}

fn is_forgotten(peer: &Membership, name: &str) -> bool {
    peer.read(|replica| replica.intent(&red(), &Key::new("Network", name)).is_none())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_object_is_forgotten_and_an_old_disk_does_not_bring_it_back() {
    let (_one, a) = Host::found("one").await;
    let (mut two, b) = Host::join("two", &a).await;
    write(&a, "kept", "1").await;
    let mark = write(&a, "gone", "1").await;
    until("the peer has it", || b.holds(&mark)).await;
    let own = b.members().into_iter().find(|member| member.id == b.id());
    two.config.listen = own.unwrap().record.addresses[0];
    stop(b).await;
    let backup = tempfile::tempdir().unwrap();
    copy(&two.config.data, backup.path());

    let b = again(&two).await;
    let delete = IntentWrite {
        key: Key::new("Network", "gone"),
        body: None,
    };
    a.write_intent(red(), "tester", vec![delete]).await.unwrap();
    until("it is forgotten", || {
        is_forgotten(&a, "gone") && is_forgotten(&b, "gone")
    })
    .await;
    assert_eq!(a.tombstones().count, 0);
    stop(b).await;
    copy(backup.path(), &two.config.data);

    let b = again(&two).await;
    until("it is given up", || {
        is_forgotten(&b, "gone") && counter(&b, "versions_given_up") == 1
    })
    .await;
    let same = || a.read(|replica| replica.root(&red())) == b.read(|replica| replica.root(&red()));
    until("they agree", same).await;
    assert!(is_forgotten(&a, "gone") && is_forgotten(&b, "gone"));
    assert_eq!(shown(&b, "kept").as_deref(), Some("1"));
    stop(b).await;
    stop(a).await;
}
