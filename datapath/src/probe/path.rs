//! One path: what was asked, what came back, and what that says.

use std::collections::VecDeque;
use std::time::Duration;

use datapath_common::probe::{ECHOES, echoed, follows};

use super::history::History;
use super::rtt::Rtt;
use super::search::Search;
use super::{PathState, PathVerdict, Refusal, Request, Target};

/// Bytes of the shortest request as an IP packet: IP, UDP, then what is always there.
pub(crate) fn least(target: &Target) -> u16 {
    let ip = if target.ends.1.is_ipv4() { 20 } else { 40 };
    ip + 8 + datapath_common::probe::PROBE_PAYLOAD as u16
}

/// Answers as the programs noted them, by sequence number modulo their count.
pub(crate) type Echoes = [u64; ECHOES];

/// A request whose answer may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    sequence: u32,
    at: Duration,
    /// Whether it was judged lost.
    lost: bool,
    /// Of the round's short request.
    index: u64,
    /// Of a request that tries a size.
    size: Option<u16>,
}

/// One path.
#[derive(Debug)]
pub(crate) struct Path {
    target: Target,
    nonce: u64,
    sequence: u32,
    /// The last [`ECHOES`] requests at most: answers to others cannot be told apart.
    asked: VecDeque<Asked>,
    history: History,
    verdict: PathVerdict,
    rtt: Rtt,
    search: Search,
    /// When it was asked last; `None` if never.
    last: Option<Duration>,
}

impl Path {
    /// Nothing is known yet.
    pub(crate) fn new(target: Target, nonce: u64) -> Self {
        Self {
            target,
            nonce,
            sequence: 0,
            asked: VecDeque::with_capacity(ECHOES),
            history: History::default(),
            verdict: PathVerdict::Unknown,
            rtt: Rtt::default(),
            search: Search::new(least(&target), target.mtu),
            last: None,
        }
    }

    /// Where it leads and what is declared of it.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The target with the same ends changed in something else.
    pub(crate) fn retarget(&mut self, target: Target) {
        self.target = target;
        if self.search.declared() != Search::new(least(&target), target.mtu).declared() {
            self.search = Search::new(least(&target), target.mtu);
        }
    }

    /// What answers must carry.
    pub(crate) fn nonce(&self) -> u64 {
        self.nonce
    }

    /// When it was asked last.
    pub(crate) fn last(&self) -> Option<Duration> {
        self.last
    }

    /// Whether an answer may come.
    pub(crate) fn awaits(&self) -> bool {
        !self.asked.is_empty()
    }

    /// What is known of it.
    pub(crate) fn state(&self) -> PathState {
        let up = self.verdict == PathVerdict::Up;
        PathState {
            verdict: self.verdict,
            rtt: self.rtt.smoothed().filter(|_| up),
            loss_percent: self.history.loss_percent(),
            mtu: self.search.mtu().filter(|_| up),
        }
    }

    /// The requests of a round: a short one, and beside it one of a size that is to be tried, if none is on its way.
    pub(crate) fn ask(&mut self, now: Duration) -> impl Iterator<Item = Request> {
        self.last = Some(now);
        let index = self.history.sent();
        let trying = self.asked.iter().any(|asked| asked.size.is_some() && !asked.lost);
        let size = match self.verdict {
            PathVerdict::Up if !trying => self.search.candidate(now),
            _ => None,
        };
        let short = self.request(now, index, None);
        let sized = size.map(|size| self.request(now, index, Some(size)));
        [Some(short), sized].into_iter().flatten()
    }

    fn request(&mut self, now: Duration, index: u64, size: Option<u16>) -> Request {
        // Zero is what stands where no answer came yet.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        while self
            .asked
            .front()
            .is_some_and(|asked| self.sequence.wrapping_sub(asked.sequence) >= ECHOES as u32)
        {
            self.asked.pop_front();
        }
        self.asked.push_back(Asked {
            sequence: self.sequence,
            at: now,
            lost: false,
            index,
            size,
        });
        Request {
            ends: self.target.ends,
            sequence: self.sequence,
            nonce: self.nonce,
            size: size.unwrap_or_else(|| least(&self.target)),
            lane: index,
        }
    }

    /// Judges what was asked by what came back. `late`: this look came so late that a silence says nothing of the path.
    pub(crate) fn look(&mut self, now: Duration, echoes: &Echoes, late: bool) {
        for asked in std::mem::take(&mut self.asked) {
            let (sequence, rtt) = echoed(echoes[asked.sequence as usize % ECHOES]);
            if sequence == asked.sequence {
                self.answered(asked, Duration::from_nanos(rtt.into()), now);
            } else if follows(sequence, asked.sequence) || late {
                // Its place is taken by a later answer, or it is let off.
            } else {
                self.asked.push_back(asked);
            }
        }
        self.expire(now);
        let before = self.verdict;
        self.verdict = self.history.verdict(before);
        if before != self.verdict && self.verdict == PathVerdict::Up {
            self.search.restart();
        }
    }

    fn answered(&mut self, asked: Asked, rtt: Duration, now: Duration) {
        match asked.size {
            None => {
                self.history.answered(asked.index);
                self.rtt.sample(rtt);
            }
            Some(size) => self.search.works(size, now),
        }
    }

    fn expire(&mut self, now: Duration) {
        let timeout = self.rtt.timeout();
        for place in 0..self.asked.len() {
            let asked = self.asked[place];
            if asked.lost || now.saturating_sub(asked.at) < timeout {
                continue;
            }
            self.asked[place].lost = true;
            match asked.size {
                None => self.history.lost(asked.index),
                // Where the short one beside it was lost, too, the size is not to blame (RFC 8899 section 4.3).
                Some(size) if self.history.is_answered(asked.index) => self.search.fails(size, false, now),
                Some(_) => {}
            }
        }
    }

    /// A request of this round could not be sent.
    pub(crate) fn refused(&mut self, sequence: u32, why: Refusal, now: Duration) {
        let Some(place) = self.asked.iter().position(|asked| asked.sequence == sequence) else {
            return;
        };
        let Some(asked) = self.asked.remove(place) else {
            return;
        };
        match (why, asked.size) {
            (Refusal::TooLarge, Some(size)) => self.search.fails(size, true, now),
            (Refusal::NoWay, None) => self.history.lost(asked.index),
            (Refusal::TooLarge | Refusal::Here, None) | (Refusal::NoWay | Refusal::Here, Some(_)) => {}
        }
    }
}
