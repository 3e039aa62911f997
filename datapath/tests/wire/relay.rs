//! A bad wire: what it carries it loses, delays so that others overtake it, and doubles, as often as it is told. The
//! same frames meet the same fate each time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::capture::Capture;
use crate::namespace::Namespace;

/// How many frames of a thousand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) late: u64,
    pub(crate) doubled: u64,
}

/// How many frames overtake a late one.
const OVERTAKEN_BY: usize = 4;
/// After so long without another frame, a late one is late enough.
const PATIENCE: Duration = Duration::from_millis(5);

/// What a wire did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) carried: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) late: AtomicU64,
}

/// Carries frames between two interfaces of a namespace while `work` runs.
pub(crate) fn while_relayed<T>(
    namespace: &Namespace,
    interfaces: [&str; 2],
    faults: Faults,
    done: &Done,
    work: impl FnOnce() -> T,
) -> T {
    let ends = || interfaces.map(|name| namespace.run(|| Capture::start(name).expect("root may listen")));
    let ([left, right], [from_left, from_right]) = (ends(), ends());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| carry(&from_left, &right, faults, 1, done, &over));
        scope.spawn(|| carry(&from_right, &left, faults, 2, done, &over));
        let _ends = Ends(&over);
        work()
    })
}

/// Ends the relay, also if its user panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn carry(from: &Capture, to: &Capture, faults: Faults, seed: u64, done: &Done, over: &AtomicBool) {
    let mut dice = seed;
    let mut late: Option<(Vec<u8>, usize)> = None;
    // A full queue loses a frame, as a switch's does.
    let send = |frame: &[u8]| drop(to.send(frame));
    while !over.load(Ordering::Relaxed) {
        let Some(frame) = from.next(PATIENCE, |_| true) else {
            late.take().iter().for_each(|(frame, _)| send(frame));
            continue;
        };
        done.carried.fetch_add(1, Ordering::Relaxed);
        let roll = rolled(&mut dice);
        if roll < faults.lost {
            done.lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        if roll < faults.lost + faults.late && late.is_none() {
            done.late.fetch_add(1, Ordering::Relaxed);
            late = Some((frame, OVERTAKEN_BY));
            continue;
        }
        send(&frame);
        if roll >= 1000 - faults.doubled {
            send(&frame);
        }
        if let Some((frame, overtaken_by)) = &mut late {
            *overtaken_by -= 1;
            if *overtaken_by == 0 {
                send(frame);
                late = None;
            }
        }
    }
}

/// A number below 1000 (xorshift).
fn rolled(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % 1000
}
