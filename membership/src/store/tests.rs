//! The store against real files and against a disk that loses power.

use redb::Database;

use super::crash_disk::CrashDisk;
use super::*;
use crate::author;
use crate::fixture::{Host, domain, stamp, write};
use crate::replica::Replica;
use crate::signed::Signer;

fn roots(replica: &Replica) -> Vec<(Scope, crate::record::Digest)> {
    replica
        .scopes()
        .map(|scope| (scope.clone(), replica.root(scope)))
        .collect()
}

#[test]
fn what_was_committed_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let host = Host::new(1);
    let mut replica = Replica::default();
    {
        let store = Store::open(&path).unwrap();
        for made in [
            host.says(&mut replica, &Scope::System, 1, vec![host.record()]),
            host.says(
                &mut replica,
                &domain("red"),
                2,
                vec![write("a", Some("1")), write("b", Some("2"))],
            ),
            host.says(&mut replica, &domain("red"), 3, vec![write("a", None)]),
            host.wants(
                &mut replica,
                &domain("red"),
                4,
                vec![write("n", Some("x")), write("m", Some("y"))],
            ),
            host.wants(&mut replica, &domain("red"), 5, vec![write("n", None)]),
        ] {
            store.commit(&[made.change], Durable::Before).unwrap();
        }
        assert!(matches!(Store::open(&path), Err(StoreError::InUse(found)) if found == path));
    }
    let loaded = Store::open(&path).unwrap().load(host.id()).unwrap();
    assert_eq!(loaded.forgotten, 0);
    assert_eq!(roots(&loaded.replica), roots(&replica));
    assert_eq!(loaded.replica.facts(&domain("red")).count(), 1);
}

#[test]
fn a_store_of_another_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(Store::open(&path).unwrap());
    let database = Database::open(&path).unwrap();
    let change = database.begin_write().unwrap();
    change.open_table(rows::FORMAT).unwrap().insert("format", 7).unwrap();
    change.commit().unwrap();
    drop(database);
    assert!(matches!(Store::open(&path), Err(StoreError::Format { found: 7 })));
}

#[test]
fn damage_to_own_rows_is_an_error_and_to_others_is_forgotten() {
    let (mine, other) = (Host::new(1), Host::new(2));
    let mut disk = CrashDisk::default();
    let store = disk.open();
    let mut replica = Replica::default();
    for host in [&mine, &other] {
        let made = host.says(
            &mut replica,
            &domain("red"),
            1,
            vec![write("a", Some("1")), write("b", Some("2"))],
        );
        store.commit(&[made.change], Durable::Before).unwrap();
    }
    let damage = |host: &Host| {
        let change = store.begin(Durable::Before).unwrap();
        change
            .open_table(rows::FACTS)
            .unwrap()
            .remove(("red", host.id().as_str(), "K", "a"))
            .unwrap();
        change.commit().unwrap();
    };
    damage(&other);
    let loaded = store.load(mine.id()).unwrap();
    assert_eq!(loaded.forgotten, 1);
    assert_eq!(loaded.replica.head(&domain("red"), other.id()), None);
    assert_eq!(
        store.load(mine.id()).unwrap().forgotten,
        0,
        "its rows are gone, nothing is left to forget"
    );
    damage(&mine);
    assert!(matches!(store.load(mine.id()), Err(StoreError::Damaged(_))));
}

#[test]
fn after_a_crash_all_that_was_durable_is_there() {
    let host = Host::new(1);
    let mut disk = CrashDisk::default();
    let mut store = disk.open();
    let mut replica = Replica::default();
    let first = host.wants(&mut replica, &domain("red"), 1, vec![write("a", Some("1"))]);
    store.commit(&[first.change], Durable::Later).unwrap();
    let mut own = Replica::default();
    let second = host.says(&mut own, &domain("red"), 2, vec![write("b", Some("2"))]);
    store.commit(&[second.change], Durable::Before).unwrap();
    let third = host.wants(&mut replica, &domain("red"), 3, vec![write("a", Some("3"))]);
    store.commit(&[third.change], Durable::Later).unwrap();
    store = disk.open();
    let loaded = store.load(host.id()).unwrap().replica;
    assert_eq!(loaded.facts(&domain("red")).count(), 1);
    let texts: Vec<_> = loaded
        .intents(&domain("red"))
        .map(|(_, siblings)| siblings.shown().stamp)
        .collect();
    assert_eq!(
        texts,
        [stamp(1)],
        "the durable commit took the one before with it, the one after is lost"
    );
}

#[test]
fn two_commits_on_one_object_pass_in_any_order() {
    let (mine, other) = (Host::new(1), Host::new(2));
    let scope = domain("red");
    let own = author::intents(
        &Replica::default(),
        &mine,
        &scope,
        "me",
        vec![write("a", Some("1"))],
        stamp(1),
    )
    .unwrap();
    let foreign = author::intents(
        &Replica::default(),
        &other,
        &scope,
        "it",
        vec![write("a", Some("2"))],
        stamp(2),
    )
    .unwrap();
    let mut disk = CrashDisk::default();
    let store = disk.open();
    store.commit(&[own.change], Durable::Before).unwrap();
    store.commit(&[foreign.change], Durable::Before).unwrap();
    let loaded = store.load(mine.id()).unwrap().replica;
    assert_eq!(
        loaded
            .intent(&scope, &own.dots[0].0)
            .map(|siblings| siblings.all().count()),
        Some(2)
    );
}

#[test]
fn a_key_is_granted_once_and_that_survives_a_crash() {
    let [a, b] = [Host::new(1).id(), Host::new(2).id()];
    let scope = domain("red");
    let mut disk = CrashDisk::default();
    let store = disk.open();
    assert_eq!(store.grant(&scope, "10.0.0.1", a).unwrap(), Granted::First);
    let store = { disk.open() };
    assert_eq!(store.grant(&scope, "10.0.0.1", a).unwrap(), Granted::Again);
    assert_eq!(store.grant(&scope, "10.0.0.1", b).unwrap(), Granted::Held(a));
    assert_eq!(store.grant(&domain("blue"), "10.0.0.1", b).unwrap(), Granted::First);
    store.release(&scope, "10.0.0.1", b).unwrap();
    assert_eq!(store.grant(&scope, "10.0.0.1", b).unwrap(), Granted::Held(a));
    store.release(&scope, "10.0.0.1", a).unwrap();
    assert_eq!(store.grant(&scope, "10.0.0.1", b).unwrap(), Granted::First);
}

#[test]
fn opaque_tables_do_not_see_each_other() {
    let mut disk = CrashDisk::default();
    let store = disk.open();
    store.put("a", b"2", b"two").unwrap();
    store.put("a", b"1", b"one").unwrap();
    store.put("b", b"1", b"other").unwrap();
    assert_eq!(store.get("a", b"1").unwrap().as_deref(), Some(b"one".as_slice()));
    assert_eq!(
        store.entries("a").unwrap(),
        [(b"1".to_vec(), b"one".to_vec()), (b"2".to_vec(), b"two".to_vec())]
    );
    store.delete("a", b"1").unwrap();
    assert_eq!(store.get("a", b"1").unwrap(), None);
    assert_eq!(store.get("b", b"1").unwrap().as_deref(), Some(b"other".as_slice()));
    let before = store
        .update("b", b"1", |held| (None, held.map(<[u8]>::to_vec)))
        .unwrap();
    assert_eq!(before.as_deref(), Some(b"other".as_slice()));
    assert_eq!(disk.open().entries("b").unwrap(), []);
}

#[test]
fn others_may_not_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(Store::open(&path).unwrap());
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
