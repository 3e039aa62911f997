//! A consumer that crashes on one domain, in one process and over several, with the files that stay between them.

use std::time::Duration;

use super::*;

fn red() -> DomainName {
    "red".parse().expect("a name")
}

fn root(of: &str) -> Digest {
    Digest::of(&[of.as_bytes()])
}

/// Hands a domain to a consumer that panics at what says `poison`, as the daemon does.
fn hand_over(quarantine: &Quarantine, domain: &DomainName, says: &str) -> Result<usize, String> {
    let mut under_way = quarantine.begin(domain, root(says)).map_err(|held| held.to_string())?;
    let consumed = under_way.contain(|| match says.contains("poison") {
        true => panic!("a rule without a port: {}", says.len()),
        false => says.len(),
    });
    under_way.over(consumed.is_ok());
    consumed.map_err(|panicked| panicked.to_string())
}

/// A process that ends in the midst of it.
fn dies_with(directory: &Path, domain: &DomainName, says: &str) -> Result<(), Held> {
    let under_way = Quarantine::open(directory).begin(domain, root(says))?;
    std::mem::forget(under_way);
    Ok(())
}

/// Time passes: the last ends were so much longer ago.
fn later(quarantine: &Quarantine, by: Duration) {
    let mut ledger = quarantine.0.ledger();
    for entry in ledger.entries.values_mut() {
        entry.at_ms -= u64::try_from(by.as_millis()).expect("not so long");
    }
    quarantine.0.keep(&ledger);
}

const HOUR: Duration = Duration::from_secs(60 * 60);

#[test]
fn a_change_is_tried_ever_later() {
    let mut ledger = Ledger::default();
    let start = Duration::from_secs(1_000_000_000);
    let held = |ledger: &Ledger, root: &str, after: u64| {
        ledger.held(&red(), root, start + Duration::from_secs(after)).is_some()
    };
    let mut waits = Vec::new();
    for ends in 1..40 {
        ledger.crashed(&red(), "a".to_owned(), String::new(), start);
        if ends < 2 {
            assert!(!held(&ledger, "a", 0));
            continue;
        }
        assert!(held(&ledger, "a", u64::from(u32::MAX)), "the same is not tried again");
        let wait = (0..=360)
            .map(|tens| tens * 10)
            .find(|after| !held(&ledger, "b", *after));
        waits.push(wait.expect("after an hour at most"));
    }
    assert_eq!(waits[..8], [40, 80, 160, 320, 640, 1280, 2560, 3600]);
    assert!(waits[8..].iter().all(|wait| *wait == 3600));
    let before = start - HOUR;
    assert!(ledger.held(&red(), "b", before).is_none(), "the clock went back");
}

#[test]
fn a_record_that_panics_is_held_after_two_and_the_others_go_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let quarantine = Quarantine::open(directory.path());
    let blue: DomainName = "blue".parse().expect("a name");
    let panicked = Err("handling it panicked: a rule without a port: 6".to_owned());
    assert_eq!(hand_over(&quarantine, &red(), "poison"), panicked);
    assert_eq!(quarantine.held(), [], "once may be chance");
    assert_eq!(hand_over(&quarantine, &red(), "poison"), panicked);
    let held = hand_over(&quarantine, &red(), "poison").expect_err("held");
    assert!(
        held.contains("in quarantine") && held.contains("2 times") && held.contains("without a port"),
        "{held}"
    );
    assert_eq!(hand_over(&quarantine, &blue, "fine"), Ok(4));
    // The next process knows.
    drop(quarantine);
    let quarantine = Quarantine::open(directory.path());
    assert!(hand_over(&quarantine, &red(), "poison").is_err_and(|why| why.contains("in quarantine")));
    let entries = quarantine.held();
    assert_eq!(entries.len(), 1);
    assert_eq!((&entries[0].0, entries[0].1.crashes), (&red(), 2));

    // A change is tried once, after a while, and what it comes to counts.
    assert!(hand_over(&quarantine, &red(), "still poison").is_err_and(|why| why.contains("2 times")));
    later(&quarantine, HOUR);
    assert_eq!(hand_over(&quarantine, &red(), "still poison").map_err(|_| ()), Err(()));
    assert!(hand_over(&quarantine, &red(), "still poison").is_err_and(|why| why.contains("3 times")));
    later(&quarantine, HOUR);
    assert_eq!(hand_over(&quarantine, &red(), "mended"), Ok(6));
    assert_eq!(quarantine.held(), []);
    assert_eq!(
        hand_over(&quarantine, &red(), "poison"),
        panicked,
        "and all begins again"
    );
    assert_eq!(quarantine.held(), []);
}

#[test]
fn who_releases_it_has_it_tried_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let quarantine = Quarantine::open(directory.path());
    assert!(!quarantine.release(&red()), "it is not held");
    for _ in 0..2 {
        drop(hand_over(&quarantine, &red(), "poison"));
    }
    assert!(quarantine.release(&red()));
    assert_eq!(quarantine.held(), []);
    assert_eq!(futures::executor::block_on(quarantine.released()), [red()]);
    assert!(hand_over(&quarantine, &red(), "poison").is_err_and(|why| why.contains("panicked")));
    assert_eq!(
        Quarantine::open(directory.path()).0.ledger().entries[&red()].crashes,
        1,
        "on disk as well"
    );
}

#[test]
fn ends_of_the_process_count_and_a_good_pass_ends_the_count() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = directory.path();
    assert_eq!(dies_with(at, &red(), "a"), Ok(()));
    assert_eq!(
        hand_over(&Quarantine::open(at), &red(), "a"),
        Ok(1),
        "one kill may be chance"
    );
    for says in ["a", "b"] {
        assert_eq!(dies_with(at, &red(), says), Ok(()), "{says}");
    }
    let quarantine = Quarantine::open(at);
    let held = quarantine
        .begin(&red(), root("b"))
        .expect_err("two in a row")
        .to_string();
    assert!(
        held.contains("2 times") && held.contains("the daemon ended while it handled the domain"),
        "{held}"
    );
    assert!(
        quarantine.begin(&red(), root("c")).is_err(),
        "a change does not end the process again at once"
    );
    later(&quarantine, HOUR);
    assert_eq!(hand_over(&quarantine, &red(), "c"), Ok(1));
    assert_eq!(Quarantine::open(at).0.ledger().entries.len(), 0);
}

#[test]
fn a_panic_and_an_end_of_the_process_are_two_crashes() {
    for panics_first in [true, false] {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        let panics =
            || assert!(hand_over(&Quarantine::open(at), &red(), "poison").is_err_and(|why| why.contains("panicked")));
        let dies = || assert_eq!(dies_with(at, &red(), "poison"), Ok(()));
        if panics_first {
            panics();
            dies();
        } else {
            dies();
            panics();
        }
        let quarantine = Quarantine::open(at);
        assert_eq!(quarantine.held()[0].1.crashes, 2);
        assert!(quarantine.begin(&red(), root("poison")).is_err());
    }
}

#[tokio::test]
async fn a_task_that_panics_is_told_from_one_that_is_stopped() {
    let directory = tempfile::tempdir().expect("a directory");
    let quarantine = Quarantine::open(directory.path());
    let within = |quarantine: Quarantine, panics: bool| async move {
        let _under_way = quarantine.begin(&red(), root("a")).expect("not held");
        tokio::task::yield_now().await;
        assert!(!panics, "on purpose");
        std::future::pending::<()>().await;
    };
    let stopped = tokio::spawn(within(quarantine.clone(), false));
    tokio::task::yield_now().await;
    stopped.abort();
    assert!(stopped.await.is_err_and(|error| error.is_cancelled()));
    assert_eq!(quarantine.0.ledger().entries.len(), 0);
    for _ in 0..2 {
        let panicked = tokio::spawn(within(quarantine.clone(), true)).await;
        assert!(panicked.is_err_and(|error| error.is_panic()));
    }
    assert_eq!(quarantine.held().len(), 1);
    // What is noted is over with it: the next start does not count it once more.
    assert_eq!(Quarantine::open(directory.path()).held()[0].1.crashes, 2);
}

#[test]
fn damaged_notes_and_none_at_all_hold_nothing_up() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in [
        (HANDLING, "{\"domain\":\"red\""),
        (LEDGER, "[]"),
        (LEDGER, "{\"format\": 9, \"entries\": {}}"),
    ] {
        std::fs::write(directory.path().join(name), text).expect("written");
        assert_eq!(hand_over(&Quarantine::open(directory.path()), &red(), "fine"), Ok(4));
    }
    let nowhere = Quarantine::open(&directory.path().join("nowhere"));
    assert_eq!(hand_over(&nowhere, &red(), "fine"), Ok(4));
    for _ in 0..2 {
        drop(hand_over(&nowhere, &red(), "poison"));
    }
    assert_eq!(nowhere.held().len(), 1, "this process remembers");
    forget(directory.path()).expect("forgotten");
    assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 0);
    forget(directory.path()).expect("nothing is left to forget");
}
