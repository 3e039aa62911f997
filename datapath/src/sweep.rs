//! Taking over connections out of their map. Programs decide at every lookup what is over; this only makes room. And
//! counting those that stay: programs count them for endpoints and domains, but do not see what is swept.

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
    /// Connections that were seen in this round, by key of `ESTABLISHED`.
    stay: BTreeMap<u32, u64>,
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
        while looked_at < STEP && !self.cursor.is_over() {
            let now = seconds();
            let found = maps.connections.walk(&mut self.cursor, STEP - looked_at)?;
            looked_at += found.len().max(1);
            for (key, connection) in found.iter().filter(|(_, connection)| !is_over(*connection, now)) {
                for counts_for in [connection.endpoint, ESTABLISHED_DOMAIN | key.domain, ESTABLISHED_DOMAIN] {
                    *self.stay.entry(counts_for).or_default() += 1;
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
        if self.cursor.is_over() {
            let (right, gone) = corrections(&self.stay, &maps.established.read()?);
            maps.established.put(&right).map_err(|stopped| stopped.error)?;
            maps.established.remove(&gone).map_err(|stopped| stopped.error)?;
            *self = Self {
                cursor: Cursor::default(),
                rest: REST,
                stay: BTreeMap::new(),
            };
        }
        Ok(removed)
    }
}

/// What has to be written, and what has to go, so that each count is what was seen; 0 is nobody.
fn corrections(seen: &BTreeMap<u32, u64>, counted: &BTreeMap<u32, u64>) -> (Vec<(u32, u64)>, Vec<u32>) {
    let right = seen
        .iter()
        .filter(|(endpoint, count)| **endpoint != 0 && counted.get(endpoint) != Some(count));
    let gone = counted.keys().filter(|endpoint| !seen.contains_key(endpoint));
    (
        right.map(|(endpoint, count)| (*endpoint, *count)).collect(),
        gone.copied().collect(),
    )
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

    #[test]
    fn counts_become_what_was_seen() {
        let seen = BTreeMap::from([(0, 7), (1, 3), (2, 5), (4, 1)]);
        let counted = BTreeMap::from([(1, 3), (2, 9), (3, 2)]);
        assert_eq!(corrections(&seen, &counted), (vec![(2, 5), (4, 1)], vec![3]));
        assert_eq!(corrections(&counted, &counted), (vec![], vec![]));
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
