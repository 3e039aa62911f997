//! Good records without end: a gigabyte with `FABRIC_LONG`, else the beginning of one, all of which is taken.

use std::path::Path;

use super::*;
use crate::record::RECORD_MAX;
use crate::replica::{Usage, VERSION_BYTES_MAX};
use crate::store::HISTORY_BYTES_MAX;

const BODY: usize = 15_900;
/// Records of one frame.
const FRAME: u64 = 60;
const LONG: Duration = Duration::from_secs(600);

/// As many objects, none of which was ever there.
fn objects(enemy: &NodeFiles, first: u64) -> RawBatch {
    let text = "x".repeat(BODY);
    let version = |counter: u64| {
        let write = write(&counter.to_string(), Some(&text));
        let intent = Intent {
            scope: red(),
            key: write.key,
            dot: Dot {
                writer: enemy.key.id(),
                counter,
            },
            context: VersionVector::default(),
            stamp: stamp(counter),
            author: "enemy".into(),
            body: write.body,
        };
        Signed::sign(intent, &enemy.key).unwrap().raw().clone()
    };
    RawBatch::Intents {
        scope: red(),
        after: VersionVector::default(),
        versions: (first..first + FRAME).map(version).collect(),
    }
}

/// What this process has in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1_024
}

/// What lies on disk below a directory.
fn on_disk(directory: &Path) -> usize {
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            if path.is_dir() {
                on_disk(&path)
            } else {
                std::fs::metadata(path).unwrap().len() as usize
            }
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_records_without_end_are_bounded_and_named_and_others_go_on() {
    let mut stage = Stage::new().await;
    stage.introduce().await;
    let wanted = match std::env::var_os("FABRIC_LONG") {
        Some(_) => 1 << 30,
        None => 24 << 20,
    };
    let before = resident();
    let (mut pushed, mut next, mut others) = (0, 1, 0);
    while pushed < wanted {
        let frame = wire::encode(&Message::Push(objects(&stage.enemy, next))).unwrap();
        pushed += frame.len();
        next += FRAME;
        until("its own queue has room", || {
            stage.mesh.send(stage.a.id(), frame.clone())
        })
        .await;
        // Now and then the others write, in the same scope, and hear each other.
        if (next / FRAME).is_multiple_of(8) {
            others += 1;
            for (by, at) in [(&stage.a, &stage.b), (&stage.b, &stage.a)] {
                let name = format!("net-{}-{others}", by.id());
                let ours = IntentWrite {
                    key: Key::new("Network", &name),
                    body: write(&name, Some("ours")).body,
                };
                let mark = by.write_intent(red(), "tester", vec![ours]).await.unwrap();
                until("it arrives", || at.holds(&mark)).await;
            }
        }
    }
    let usage = |peer: &Membership| peer.read(|replica| replica.usage(stage.enemy.key.id()));
    let named =
        || counter(&stage.a, "batches_over_quota") > 0 && shows(&stage.a, "origin-over-quota", &[&stage.name()]);
    // All of it is there, or it is said what is not: too fast, or too much. What was sent last is on its way still.
    let accounted = || named() || usage(&stage.a).version_bytes > pushed / 10 * 9;
    within(LONG, "all of it is there, or named", accounted).await;
    let equal = || stage.a.read(Replica::root_of_roots) == stage.b.read(Replica::root_of_roots);
    within(LONG, "the two hold the same", || {
        equal() && usage(&stage.a) == usage(&stage.b)
    })
    .await;

    let Usage { version_bytes, .. } = usage(&stage.a);
    assert!(
        version_bytes < VERSION_BYTES_MAX + RECORD_MAX,
        "{version_bytes} of {pushed}"
    );
    assert!(named() || pushed < VERSION_BYTES_MAX, "{pushed}");
    let history = usize::try_from(HISTORY_BYTES_MAX).unwrap();
    for host in &stage.hosts[..2] {
        let bytes = on_disk(&host.config.data);
        // Pages that are free for the next commits are in the file too.
        assert!(bytes < 3 * (version_bytes + history) + (64 << 20), "{bytes} on disk");
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 2 * version_bytes + (1 << 30), "{grown} more in memory");
    assert!(others >= 3 && liveness(&stage.a, stage.b.id()) == Some(Liveness::Live));
    assert!(stage.a.alarms().len() < 64 && stage.b.alarms().len() < 64);
    stage.settled().await;
}
