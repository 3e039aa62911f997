//! Which paths are asked in a round. The core of the probes: no sockets, no maps, no clock.
//!
//! A round is due every 300 ms and asks at most 256 paths. Where there are more, up to 192 of those that carry live flows
//! come first, and the others in turn: so none is forgotten, and a path that carries much is asked in every round.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use datapath_common::probe::{ECHOES, PROBES_MAX};

use super::path::{Echoes, Path};
use super::{PathState, Refusal, Request, Target};

/// Between two rounds.
pub(crate) const INTERVAL: Duration = Duration::from_millis(300);
/// Paths asked in a round.
const PER_ROUND: usize = 256;
/// Of these, paths that are asked because they carry live flows.
pub(crate) const BUSY_PER_ROUND: usize = 192;
/// Paths at all.
const PATHS_MAX: usize = PROBES_MAX as usize;
/// Where this much time passes between two looks, this host was asleep: what was not answered then is let off.
const ASLEEP: Duration = Duration::from_secs(1);

/// What [`Rounds::want`] changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Far ends that are asked from here on, each with its nonce. Nothing may be noted of them yet.
    pub(crate) fresh: Vec<(IpAddr, u64)>,
    /// Far ends that are not asked any more.
    pub(crate) gone: Vec<IpAddr>,
}

/// All paths, by their far end.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    paths: BTreeMap<IpAddr, Path>,
    /// Far ends that carry live flows.
    busy: BTreeSet<IpAddr>,
    looked: Duration,
    next: Duration,
}

impl Rounds {
    /// Asks these paths, and no others. What is known of one stays as long as both its ends do. `nonce` makes random
    /// numbers; more paths than there is room for are left out.
    pub(crate) fn want(&mut self, targets: &[Target], mut nonce: impl FnMut() -> u64) -> Changes {
        let wanted: BTreeMap<IpAddr, Target> = targets
            .iter()
            .take(PATHS_MAX)
            .map(|target| (target.ends.1, *target))
            .collect();
        let mut changes = Changes::default();
        self.paths.retain(|remote, path| {
            let stays = wanted
                .get(remote)
                .is_some_and(|target| target.ends == path.target().ends);
            if !stays {
                changes.gone.push(*remote);
            }
            stays
        });
        for (remote, target) in wanted {
            if let Some(path) = self.paths.get_mut(&remote) {
                path.retarget(target);
            } else {
                let nonce = nonce().max(1);
                self.paths.insert(remote, Path::new(target, nonce));
                changes.fresh.push((remote, nonce));
            }
        }
        changes
    }

    /// Far ends from which an answer may have come, each with its nonce.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = (IpAddr, u64)> {
        self.paths
            .iter()
            .filter(|(_, path)| path.awaits())
            .map(|(remote, path)| (*remote, path.nonce()))
    }

    /// Judges by what came back (what is not in `echoes` did not answer), and says what to send, if a round is due.
    /// `now` is a clock that should not jump; where it does, nothing is judged by it.
    pub(crate) fn handle(&mut self, now: Duration, echoes: &BTreeMap<IpAddr, Echoes>) -> Vec<Request> {
        let asleep = now < self.looked || now - self.looked > ASLEEP;
        self.looked = now;
        for (remote, path) in &mut self.paths {
            path.look(now, echoes.get(remote).unwrap_or(&[0; ECHOES]), asleep);
        }
        if now < self.next && self.next - now <= INTERVAL {
            return Vec::new();
        }
        self.next = now + INTERVAL;
        self.ask(now)
    }

    /// Whether a round has not room for all.
    pub(crate) fn are_crowded(&self) -> bool {
        self.paths.len() > PER_ROUND
    }

    /// Says which far ends carry live flows.
    pub(crate) fn prefer(&mut self, busy: BTreeSet<IpAddr>) {
        self.busy = busy;
    }

    fn ask(&mut self, now: Duration) -> Vec<Request> {
        // Where the clock went back, nobody is left out until it has caught up.
        let last = |path: &Path| path.last().filter(|last| *last <= now);
        let mut order: Vec<(Option<Duration>, IpAddr)> =
            self.paths.iter().map(|(remote, path)| (last(path), *remote)).collect();
        order.sort_unstable();
        let is_busy = |(_, remote): &&(Option<Duration>, IpAddr)| self.busy.contains(remote);
        let mut asked: BTreeSet<IpAddr> = order
            .iter()
            .filter(is_busy)
            .take(BUSY_PER_ROUND)
            .map(|(_, remote)| *remote)
            .collect();
        for (_, remote) in order {
            if asked.len() == PER_ROUND {
                break;
            }
            asked.insert(remote);
        }
        let paths = self.paths.iter_mut().filter(|(remote, _)| asked.contains(*remote));
        paths.flat_map(|(_, path)| path.ask(now)).collect()
    }

    /// A request could not be sent.
    pub(crate) fn refused(&mut self, request: &Request, why: Refusal) {
        let now = self.looked;
        if let Some(path) = self.paths.get_mut(&request.ends.1) {
            path.refused(request.sequence, why, now);
        }
    }

    /// What is known of each path, by its far end.
    pub(crate) fn states(&self) -> BTreeMap<IpAddr, PathState> {
        self.paths
            .iter()
            .map(|(remote, path)| (*remote, path.state()))
            .collect()
    }
}
