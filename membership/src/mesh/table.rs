//! The connections this node has, one per peer. When both sides dialled at once both must keep the same one without
//! talking about it: the one dialled by the lower id. Of two dialled by the same side the later one counts, because the
//! other is of a process that is gone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::Connection;
use tokio_util::sync::CancellationToken;

use super::queue::{Bounds, Queue};
use crate::id::NodeId;

/// Records that wait for a slow peer; repair brings what does not fit.
const RECORDS_WAITING: Bounds = Bounds {
    items: 1_024,
    bytes: 4 * 1024 * 1024,
};
/// Gossip that waits; older messages are worthless.
const GOSSIP_WAITING: Bounds = Bounds {
    items: 8,
    bytes: 4 * 65_536,
};

/// Which side dialled a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialled {
    /// This node.
    Here,
    /// The peer.
    There,
}

/// What a connection's writers take from.
#[derive(Debug, Clone)]
pub(crate) struct Queues {
    pub(crate) records: Arc<Queue<Bytes>>,
    pub(crate) gossip: Arc<Queue<Bytes>>,
}

impl Queues {
    fn new() -> Self {
        Self {
            records: Arc::new(Queue::new(RECORDS_WAITING)),
            gossip: Arc::new(Queue::new(GOSSIP_WAITING)),
        }
    }
}

/// A place in the table.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    /// Told apart from earlier and later ones of the same peer.
    pub(crate) serial: u64,
    /// What it sends.
    pub(crate) queues: Queues,
    /// Cancelled when another connection takes the place.
    pub(crate) replaced: CancellationToken,
    /// The wire version that both ends speak.
    wire: u16,
    by_lower: bool,
    connection: Connection,
}

/// The connections of one node.
#[derive(Debug)]
pub(crate) struct Table {
    own: NodeId,
    seats: BTreeMap<NodeId, Seat>,
    serial: u64,
}

impl Table {
    /// No connections.
    pub(crate) fn new(own: NodeId) -> Self {
        Self {
            own,
            seats: BTreeMap::new(),
            serial: 0,
        }
    }

    /// Gives a connection its place, unless the pair has one that counts more.
    pub(crate) fn take(&mut self, peer: NodeId, dialled: Dialled, connection: Connection, wire: u16) -> Option<Seat> {
        let by_lower = by_lower(self.own, peer, dialled);
        if !takes(self.seats.get(&peer).map(|seat| seat.by_lower), by_lower) {
            return None;
        }
        self.serial += 1;
        let replaced = CancellationToken::new();
        let seat = Seat {
            serial: self.serial,
            queues: Queues::new(),
            replaced,
            wire,
            by_lower,
            connection,
        };
        if let Some(before) = self.seats.insert(peer, seat.clone()) {
            before.replaced.cancel();
        }
        Some(seat)
    }

    /// Frees the place of a connection that ended. Says whether it was still its own.
    pub(crate) fn free(&mut self, peer: NodeId, serial: u64) -> bool {
        let own = self.seats.get(&peer).is_some_and(|seat| seat.serial == serial);
        if own {
            self.seats.remove(&peer);
        }
        own
    }

    /// The connection to a peer.
    pub(crate) fn connection(&self, peer: NodeId) -> Option<Connection> {
        self.seats.get(&peer).map(|seat| seat.connection.clone())
    }

    /// All connections.
    pub(crate) fn connections(&self) -> Vec<(NodeId, Connection)> {
        let seats = self.seats.iter();
        seats.map(|(peer, seat)| (*peer, seat.connection.clone())).collect()
    }

    /// The connections on which an older version is spoken.
    pub(crate) fn older(&self, wire: u16) -> Vec<Connection> {
        let older = self.seats.values().filter(|seat| seat.wire < wire);
        older.map(|seat| seat.connection.clone()).collect()
    }

    /// What is sent to a peer.
    pub(crate) fn queues(&self, peer: NodeId) -> Option<&Queues> {
        self.seats.get(&peer).map(|seat| &seat.queues)
    }

    /// Whom this node is connected to, with smoothed round-trip times.
    pub(crate) fn peers(&self) -> BTreeMap<NodeId, Duration> {
        self.seats
            .iter()
            .map(|(id, seat)| (*id, seat.connection.rtt()))
            .collect()
    }
}

fn by_lower(own: NodeId, peer: NodeId, dialled: Dialled) -> bool {
    match dialled {
        Dialled::Here => own < peer,
        Dialled::There => peer < own,
    }
}

/// Whether a connection takes the place that another one may have.
fn takes(existing_by_lower: Option<bool>, by_lower: bool) -> bool {
    match existing_by_lower {
        None => true,
        Some(existing) => by_lower || !existing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends see both connections, in any order, and must keep the same one.
    #[test]
    fn crossed_dials_leave_the_one_of_the_lower_id() {
        let (low, high): (NodeId, NodeId) = ("aaaaaaaaaaaa".parse().unwrap(), "bbbbbbbbbbbb".parse().unwrap());
        let low_dialled = [by_lower(low, high, Dialled::Here), by_lower(high, low, Dialled::There)];
        let high_dialled = [by_lower(low, high, Dialled::There), by_lower(high, low, Dialled::Here)];
        assert_eq!((low_dialled, high_dialled), ([true, true], [false, false]));
        for end in 0..2 {
            assert!(
                takes(Some(high_dialled[end]), low_dialled[end]),
                "the lower's comes second and replaces"
            );
            assert!(
                !takes(Some(low_dialled[end]), high_dialled[end]),
                "the higher's comes second and is refused"
            );
        }
    }

    #[test]
    fn a_later_connection_of_the_same_side_replaces() {
        assert!(takes(None, false) && takes(None, true));
        assert!(takes(Some(false), false) && takes(Some(true), true));
    }
}
