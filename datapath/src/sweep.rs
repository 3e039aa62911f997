//! Taking over connections out of their map. Programs decide at every lookup what is over; this only makes room. And
//! counting those that stay: programs count them for endpoints and domains, but do not see what is swept. They go on
//! counting while a round takes its time: a count is set right by as much as it was wrong all the while.

use std::collections::BTreeMap;

use datapath_common::connection::State;
use datapath_common::{Connection, ESTABLISHED_DOMAIN};
use nix::time::{ClockId, clock_gettime};

use crate::batch::Cursor;
use crate::error::Error;
use crate::maps::Maps;

/// Steps between the end of a round and the next one.
const REST: u32 = 30;
/// About how many connections are looked at in a step.
const STEP: usize = 16_384;

/// How far a round of looking at every connection came.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    cursor: Cursor,
    /// Steps until the next round begins.
    rest: u32,
    /// Counters of `ESTABLISHED` in this round, by key.
    tallies: BTreeMap<u32, Tally>,
    /// The counters were looked at in this round.
    begun: bool,
}

/// A counter in a round, in which programs go on counting.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    /// Connections that were seen, each at another moment.
    seen: u64,
    /// What the counter said at least.
    least: u64,
    /// What it said at most.
    most: u64,
}

impl Tally {
    /// What a counter has to say that says `count`. One that is right has said what was seen at some moment between least
    /// and most; beyond them it counts too many, or too few.
    fn right(&self, count: u64) -> u64 {
        count
            .saturating_sub(self.least.saturating_sub(self.seen))
            .saturating_add(self.seen.saturating_sub(self.most))
    }
}

impl Sweep {
    /// Looks at some connections and removes those that are over; how many.
    pub(crate) fn step(&mut self, maps: &Maps) -> Result<usize, Error> {
        if self.rest > 0 {
            self.rest -= 1;
            return Ok(0);
        }
        let mut looked_at = 0;
        let mut removed = 0;
        self.note(&maps.established.read()?);
        while looked_at < STEP && !self.cursor.is_over() {
            let now = seconds();
            let found = maps.connections.walk(&mut self.cursor, STEP - looked_at)?;
            looked_at += found.len().max(1);
            for (key, connection) in found.iter().filter(|(_, connection)| !is_over(*connection, now)) {
                for counts_for in [connection.endpoint, ESTABLISHED_DOMAIN | key.domain, ESTABLISHED_DOMAIN] {
                    self.tallies.entry(counts_for).or_default().seen += 1;
                }
            }
            for (key, _) in found.iter().filter(|(_, connection)| is_over(*connection, now)) {
                // It may have begun anew since it was read.
                if maps
                    .connections
                    .get(key)?
                    .is_some_and(|connection| is_over(connection, now))
                {
                    maps.connections.remove(&[*key]).map_err(|stopped| stopped.error)?;
                    removed += 1;
                }
            }
        }
        let counted = maps.established.read()?;
        self.note(&counted);
        if self.cursor.is_over() {
            let (right, gone) = corrections(&self.tallies, &counted);
            maps.established.put(&right).map_err(|stopped| stopped.error)?;
            maps.established.remove(&gone).map_err(|stopped| stopped.error)?;
            *self = Self {
                rest: REST,
                ..Self::default()
            };
        }
        Ok(removed)
    }

    /// Notes what the counters say; one that is not there says 0.
    fn note(&mut self, counted: &BTreeMap<u32, u64>) {
        for (key, tally) in &mut self.tallies {
            let count = counted.get(key).map_or(0, |count| said(*count));
            tally.least = tally.least.min(count);
            tally.most = tally.most.max(count);
        }
        let least = |count| if self.begun { 0 } else { count };
        for (key, count) in counted {
            self.tallies.entry(*key).or_insert(Tally {
                seen: 0,
                least: least(said(*count)),
                most: said(*count),
            });
        }
        self.begun = true;
    }
}

/// What a counter says; one that programs counted down below 0 says 0.
fn said(count: u64) -> u64 {
    if count > i64::MAX.unsigned_abs() { 0 } else { count }
}

/// What has to be written, and what has to go, so that each counter is right; 0 is nobody.
fn corrections(tallies: &BTreeMap<u32, Tally>, counted: &BTreeMap<u32, u64>) -> (Vec<(u32, u64)>, Vec<u32>) {
    let (mut right, mut gone) = (Vec::new(), Vec::new());
    for (key, tally) in tallies.iter().filter(|(key, _)| **key != 0) {
        let count = counted.get(key).copied();
        match (tally.right(count.map_or(0, said)), count) {
            (0, Some(_)) => gone.push(*key),
            (0, None) => {}
            (wanted, count) if count == Some(wanted) => {}
            (wanted, _) => right.push((*key, wanted)),
        }
    }
    (right, gone)
}

/// Whether a connection is over, or in a state that no program knows.
pub(crate) fn is_over(connection: Connection, now: u32) -> bool {
    State::from_number(connection.state).is_none_or(|state| !state.live(connection.seen, now))
}

/// The clock of [`Connection::seen`].
pub(crate) fn seconds() -> u32 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE);
    // This clock is always there; if it were not, nothing would be over.
    time.map_or(0, |time| u32::try_from(time.tv_sec()).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A round in which the counters say one after the other, and so many were seen of each key.
    fn round(counters: &[&[(u32, u64)]], seen: &[(u32, u64)]) -> (Vec<(u32, u64)>, Vec<u32>) {
        let mut sweep = Sweep::default();
        let counters: Vec<BTreeMap<u32, u64>> = counters.iter().map(|said| said.iter().copied().collect()).collect();
        for counted in &counters {
            sweep.note(counted);
        }
        for (key, count) in seen {
            sweep.tallies.entry(*key).or_default().seen += count;
        }
        corrections(&sweep.tallies, counters.last().expect("they said something"))
    }

    #[test]
    fn counts_that_stay_become_what_was_seen() {
        let seen = [(0, 7), (1, 3), (2, 5), (4, 1)];
        let counted = [(1, 3), (2, 9), (3, 2)];
        assert_eq!(round(&[&counted], &seen), (vec![(2, 5), (4, 1)], vec![3]));
        assert_eq!(round(&[&counted, &counted], &counted), (vec![], vec![]));
        let below = [(1, u64::MAX), (2, u64::MAX)];
        assert_eq!(round(&[&below], &[(2, 5)]), (vec![(2, 5)], vec![1]));
    }

    #[test]
    fn what_opens_and_closes_during_a_round_is_not_taken_back() {
        // Seen early: nothing of all that opened since.
        assert_eq!(round(&[&[(1, 100)], &[(1, 90_000)]], &[(1, 100)]), (vec![], vec![]));
        assert_eq!(round(&[&[], &[(1, 90_000)]], &[]), (vec![], vec![]));
        // Some of it.
        assert_eq!(round(&[&[(1, 100)], &[(1, 9000)]], &[(1, 5000)]), (vec![], vec![]));
        // Seen before they closed.
        assert_eq!(round(&[&[(1, 9000)], &[(1, 100)]], &[(1, 9000)]), (vec![], vec![]));
        assert_eq!(round(&[&[(1, 9000)], &[(1, 0)]], &[(1, 9000)]), (vec![], vec![1]));
    }

    #[test]
    fn what_was_wrong_all_the_round_is_set_right_below_what_goes_on() {
        // 40 were swept that are counted; 1000 open.
        assert_eq!(
            round(&[&[(1, 140)], &[(1, 1140)]], &[(1, 100)]),
            (vec![(1, 1100)], vec![])
        );
        // 40 were never counted; 50 close.
        assert_eq!(round(&[&[(1, 100)], &[(1, 50)]], &[(1, 140)]), (vec![(1, 90)], vec![]));
        assert_eq!(
            round(&[&[(1, 500)], &[(1, 60)]], &[]),
            (vec![], vec![1]),
            "all of it, at most"
        );
    }

    #[test]
    fn only_what_is_over_is_swept() {
        let connection = |state: State, seen| Connection {
            seen,
            state: state as u32,
            endpoint: 0,
        };
        let now = 100_000;
        let table = [
            (connection(State::Established, now - 7439), false),
            (connection(State::Established, now - 7440), true),
            (connection(State::TwoWay, now - 299), false),
            (connection(State::TwoWay, now - 300), true),
            (connection(State::TwoWay, now + 1), false),
            (
                Connection {
                    seen: now,
                    state: 99,
                    endpoint: 0,
                },
                true,
            ),
        ];
        for (connection, expected) in table {
            assert_eq!(is_over(connection, now), expected, "{connection:?}");
        }
    }
}
