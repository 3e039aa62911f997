//! Which paths are asked in a round. The core of the probes: no sockets, no maps, no clock.
//!
//! A round is due every 300 ms and asks at most 256 paths: those that carry live flows first, then those that were not
//! asked for longest; one that was not asked for 3 s counts as if it carried flows, so that none is forgotten.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use datapath_common::probe::{ECHOES, PROBES_MAX};

use super::path::{Echoes, Path};
use super::{PathState, Refusal, Request, Target};

/// Between two rounds.
pub(crate) const INTERVAL: Duration = Duration::from_millis(300);
/// Paths asked in a round.
const PER_ROUND: usize = 256;
/// Paths at all.
const PATHS_MAX: usize = PROBES_MAX as usize;
/// A path that was not asked for this long goes first.
const FORGOTTEN: Duration = Duration::from_secs(3);
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

    fn ask(&mut self, now: Duration) -> Vec<Request> {
        let mut order: Vec<(bool, Option<Duration>, IpAddr)> = self
            .paths
            .iter()
            .map(|(remote, path)| {
                let waited = path.last().map_or(Duration::MAX, |last| now.abs_diff(last));
                let first = path.target().busy || waited >= FORGOTTEN;
                (!first, path.last(), *remote)
            })
            .collect();
        order.sort_unstable();
        let mut requests = Vec::new();
        for (_, _, remote) in order.into_iter().take(PER_ROUND) {
            if let Some(path) = self.paths.get_mut(&remote) {
                requests.extend(path.ask(now));
            }
        }
        requests
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
