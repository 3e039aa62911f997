//! The power goes at any moment, also in the midst of a commit. Of what was written since the last sync, any part may have
//! reached the disk. What was acknowledged is there, and what is there fits together.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redb::{Database, StorageBackend};

use super::{Durable, Store};
use crate::author;
use crate::batch::Batch;
use crate::fixture::{Host, domain, stamp, write};
use crate::id::Scope;
use crate::record::{Dot, Head, Key};
use crate::replica::{Change, Replica};
use crate::signed::Signer;

/// A write that is not synced.
type Pending = (usize, Vec<u8>);

#[derive(Debug)]
struct Platter {
    live: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<Pending>,
    rng: StdRng,
    /// What a crash at some moments would leave, and how much was acknowledged before.
    crashes: Vec<(usize, Vec<u8>)>,
    /// One of so many operations is such a moment.
    one_of: u32,
}

/// A disk that remembers what it would hold if the power had gone.
#[derive(Debug, Clone)]
struct Disk {
    platter: Arc<Mutex<Platter>>,
    acknowledged: Arc<AtomicUsize>,
}

impl Disk {
    fn new(seed: u64, one_of: u32) -> Self {
        Self {
            platter: Arc::new(Mutex::new(Platter {
                live: Vec::new(),
                synced: Vec::new(),
                pending: Vec::new(),
                rng: StdRng::seed_from_u64(seed),
                crashes: Vec::new(),
                one_of,
            })),
            acknowledged: Arc::default(),
        }
    }

    fn holding(image: Vec<u8>) -> Self {
        let disk = Self::new(0, u32::MAX);
        disk.platter.lock().unwrap().live.clone_from(&image);
        disk.platter.lock().unwrap().synced = image;
        disk
    }

    fn open(&self) -> Store {
        let mut builder = Database::builder();
        Store::with(
            builder
                .set_cache_size(1 << 20)
                .create_with_backend(self.clone())
                .unwrap(),
        )
        .unwrap()
    }

    /// Before each operation.
    fn may_crash(&self, platter: &mut Platter) {
        // Before anything was acknowledged there is nothing to lose.
        let acknowledged = self.acknowledged.load(Ordering::Relaxed);
        if acknowledged == 0 || !platter.rng.random_ratio(1, platter.one_of) {
            return;
        }
        let mut image = platter.synced.clone();
        let share = platter.rng.random_range(0.0..=1.0);
        for (offset, data) in &platter.pending {
            if platter.rng.random_bool(share) {
                let end = offset + data.len();
                image.resize(image.len().max(end), 0);
                image[*offset..end].copy_from_slice(data);
            }
        }
        // The length is of the file system's, which keeps it in order.
        image.resize(platter.live.len().max(image.len()), 0);
        platter.crashes.push((acknowledged, image));
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.platter.lock().unwrap().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.platter.lock().unwrap().live[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.platter
            .lock()
            .unwrap()
            .live
            .resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let mut platter = self.platter.lock().unwrap();
        self.may_crash(&mut platter);
        platter.pending.clear();
        let Platter { live, synced, .. } = &mut *platter;
        synced.clone_from(live);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut platter = self.platter.lock().unwrap();
        self.may_crash(&mut platter);
        let start = usize::try_from(offset).unwrap();
        platter.live[start..start + data.len()].copy_from_slice(data);
        platter.pending.push((start, data.to_vec()));
        Ok(())
    }
}

/// What was acknowledged.
enum Mark {
    Facts { epoch: u64, seq: u64 },
    Objects(Vec<(Key, Dot)>),
}

fn is_there(replica: &Replica, host: &Host, scope: &Scope, mark: &Mark) -> bool {
    match mark {
        Mark::Facts { epoch, seq } => replica.has_facts(scope, host.id(), *epoch, *seq),
        Mark::Objects(dots) => dots.iter().all(|(key, dot)| replica.has_version(scope, key, *dot)),
    }
}

/// A node writes, and hears of another one; tells what it acknowledged.
fn work(disk: &Disk, seed: u64, host: &Host) -> Vec<Mark> {
    let (other, red, store) = (Host::new(2), domain("red"), disk.open());
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut replica, mut theirs, mut marks) = (Replica::default(), Replica::default(), Vec::new());
    let mut waiting: Vec<Change> = Vec::new();
    for at in 1..60_u64 {
        let kept = rng.random_bool(0.7).then_some("x".repeat(rng.random_range(1..3_000)));
        let writes = vec![write(&rng.random_range(0..6).to_string(), kept.as_deref())];
        let stamp = stamp(at * 10);
        let mark = match rng.random_range(0..3) {
            0 => {
                let made = author::intents(&theirs, &other, &red, "x", writes, stamp).unwrap();
                theirs.merge(&made.batch).unwrap();
                if let Some(change) = replica.merge(&made.batch).unwrap().change {
                    waiting.push(change);
                    store.commit(&std::mem::take(&mut waiting), Durable::Later).unwrap();
                }
                continue;
            }
            1 => {
                let made = author::intents(&replica, host, &red, "x", writes, stamp).unwrap();
                replica.merge(&made.batch).unwrap();
                waiting.push(made.change);
                Mark::Objects(made.dots)
            }
            _ => {
                let made = author::facts(&replica, host, &red, writes, stamp).unwrap();
                replica.merge(&made.batch).unwrap();
                waiting.push(made.change);
                let Batch::Facts(batch) = made.batch else {
                    unreachable!()
                };
                let Head { epoch, seq, .. } = *batch.head().value();
                Mark::Facts { epoch, seq }
            }
        };
        store.commit(&std::mem::take(&mut waiting), Durable::Before).unwrap();
        marks.push(mark);
        disk.acknowledged.store(marks.len(), Ordering::Relaxed);
    }
    marks
}

#[test]
fn no_crash_loses_what_was_acknowledged() {
    let wanted = if std::env::var_os("FABRIC_LONG").is_some() {
        100_000
    } else {
        10_000
    };
    let (host, red) = (Host::new(1), domain("red"));
    let (mut points, mut torn) = (0, 0);
    for seed in 0.. {
        let disk = Disk::new(seed, 8);
        let marks = work(&disk, seed, &host);
        let crashes = std::mem::take(&mut disk.platter.lock().unwrap().crashes);
        for (acknowledged, image) in crashes {
            let loaded = Disk::holding(image).open().load(host.id()).unwrap();
            assert_eq!(
                loaded.forgotten, 0,
                "seed {seed}: a crash leaves whole transactions only"
            );
            let there = |mark: &&Mark| is_there(&loaded.replica, &host, &red, mark);
            let lost = marks[..acknowledged].iter().find(|mark| !there(mark));
            assert!(lost.is_none(), "seed {seed}: of {acknowledged} one is lost");
            torn += usize::from(marks.get(acknowledged).is_some_and(|mark| !there(&mark)));
            points += 1;
        }
        if points >= wanted {
            break;
        }
    }
    println!("{points} crash points, {torn} of them lost what was not acknowledged yet");
    assert!(torn > points / 10);
}
