//! Connections of one host, and table K: their states.

use std::collections::BTreeMap;
use std::time::Duration;

use super::transport::{ACK, FIN, ICMP, ICMPV6, RST, SYN, TCP, Transport, Tuple};
use crate::name::DomainName;

/// Which end of a connection a packet is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Initiator,
    Responder,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Opening,
    Opened,
    Established,
    /// This side sent the first FIN.
    Closing(Side),
    Closed,
    OneWay,
    TwoWay,
    Echo,
}

/// What a TCP packet does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Reset,
    Finish,
    Synchronize,
    Acknowledge,
    /// It has no flags that are known.
    Nothing,
}

impl State {
    /// Of a connection's first packet.
    pub(super) fn first(transport: Transport) -> Self {
        match transport.protocol {
            TCP => Self::Opening,
            ICMP | ICMPV6 => Self::Echo,
            _ => Self::OneWay,
        }
    }

    /// After a packet of this side.
    pub(super) fn step(self, side: Side, flags: Option<u8>) -> Self {
        use Side::{Initiator, Responder};
        use Step::{Acknowledge, Finish, Nothing, Reset, Synchronize};

        let step = match flags {
            Some(flags) if flags & RST != 0 => Reset,
            Some(flags) if flags & FIN != 0 => Finish,
            Some(flags) if flags & SYN != 0 => Synchronize,
            Some(_) => Acknowledge,
            None => Nothing,
        };
        match (self, side, step) {
            (Self::OneWay, Responder, _) => Self::TwoWay,
            (Self::OneWay | Self::TwoWay | Self::Echo, ..) => self,
            (_, _, Reset) => Self::Closed,
            (Self::Opening, Responder, Finish) => Self::Closing(Responder),
            (Self::Opening, Responder, Synchronize) => Self::Opened,
            (Self::Opening, Responder, Acknowledge) | (Self::Opened, Initiator, Acknowledge) => Self::Established,
            (Self::Opened | Self::Established, side, Finish) => Self::Closing(side),
            (Self::Closing(first), side, Finish) if first != side => Self::Closed,
            _ => self,
        }
    }

    /// How long it lives without a packet.
    fn timeout(self) -> Duration {
        Duration::from_secs(match self {
            Self::Opening | Self::Opened | Self::Echo => 60,
            Self::Established => 7440,
            Self::Closing(_) => 240,
            Self::Closed => 10,
            Self::OneWay => 120,
            Self::TwoWay => 300,
        })
    }

    /// C4: whether this packet begins a connection where this one was.
    fn ends_with(self, side: Side, flags: Option<u8>) -> bool {
        let begins = flags.is_some_and(|flags| flags & (SYN | ACK) == SYN);
        match (self, side) {
            (Self::Closed, _) | (Self::Closing(_), Side::Initiator) => begins,
            _ => false,
        }
    }
}

/// A host's connections, by domain and the initiator's tuple.
#[derive(Debug, Clone, Default)]
pub(super) struct Connections(BTreeMap<(DomainName, Tuple), Connection>);

#[derive(Debug, Clone, Copy)]
struct Connection {
    state: State,
    seen: Duration,
}

/// What a packet is to the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// As the initiator's packets carry it.
    pub(super) initiator: Tuple,
    /// Whose packet it is.
    pub(super) side: Side,
    /// Of the connection that lives; none if the packet opens one.
    pub(super) state: Option<State>,
    /// Of the connection in whose place the packet opens one, if it may.
    pub(super) ended: Option<State>,
}

impl Connections {
    /// The state of a live connection with this initiator's tuple.
    pub(super) fn live(&self, domain: &DomainName, initiator: Tuple, now: Duration) -> Option<State> {
        let connection = self.0.get(&(domain.clone(), initiator))?;
        let age = now.saturating_sub(connection.seen);
        (age < connection.state.timeout()).then_some(connection.state)
    }

    /// C3 and C4: what a packet with this tuple is.
    pub(super) fn standing(&mut self, domain: &DomainName, tuple: Tuple, flags: Option<u8>, now: Duration) -> Standing {
        let either = [(tuple, Side::Initiator), (tuple.reversed(), Side::Responder)];
        let live = either
            .into_iter()
            .find_map(|(tuple, side)| Some((tuple, side, self.live(domain, tuple, now)?)));
        match live {
            Some((initiator, side, state)) if !state.ends_with(side, flags) => {
                Standing::of(initiator, side, Some(state))
            }
            Some((initiator, Side::Initiator, state)) => Standing {
                ended: Some(state),
                ..Standing::of(initiator, Side::Initiator, None)
            },
            Some((initiator, Side::Responder, _)) => {
                self.remove(domain, initiator);
                Standing::of(tuple, Side::Initiator, None)
            }
            None => Standing::of(tuple, Side::Initiator, None),
        }
    }

    pub(super) fn set(&mut self, domain: &DomainName, initiator: Tuple, state: State, now: Duration) {
        self.0
            .insert((domain.clone(), initiator), Connection { state, seen: now });
    }

    fn remove(&mut self, domain: &DomainName, initiator: Tuple) {
        self.0.remove(&(domain.clone(), initiator));
    }

    /// Forgets those of domains of which that is not true.
    pub(super) fn retain(&mut self, is_here: impl Fn(&DomainName) -> bool) {
        self.0.retain(|(domain, _), _| is_here(domain));
    }
}

impl Standing {
    /// In whose place none was.
    pub(super) fn of(initiator: Tuple, side: Side, state: Option<State>) -> Self {
        Self {
            initiator,
            side,
            state,
            ended: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Side::{Initiator, Responder};
    use super::State::{Closed, Closing, Echo, Established, OneWay, Opened, Opening, TwoWay};
    use super::*;

    #[test]
    fn every_cell_of_table_k() {
        let (reset, finish, both, back, data) = (RST, FIN | ACK, SYN | ACK, SYN, ACK);
        let table = [
            (
                Opening,
                [Opening, Opening, Opening, Opening],
                [Closing(Responder), Opened, Opened, Established],
            ),
            (
                Opened,
                [Closing(Initiator), Opened, Opened, Established],
                [Closing(Responder), Opened, Opened, Opened],
            ),
            (
                Established,
                [Closing(Initiator), Established, Established, Established],
                [Closing(Responder), Established, Established, Established],
            ),
            (
                Closing(Initiator),
                [Closing(Initiator); 4],
                [Closed, Closing(Initiator), Closing(Initiator), Closing(Initiator)],
            ),
            (
                Closing(Responder),
                [Closed, Closing(Responder), Closing(Responder), Closing(Responder)],
                [Closing(Responder); 4],
            ),
            (Closed, [Closed; 4], [Closed; 4]),
        ];
        for (state, initiator, responder) in table {
            for (side, expected) in [(Initiator, initiator), (Responder, responder)] {
                for (flags, expected) in [finish, both, back, data].into_iter().zip(expected) {
                    assert_eq!(
                        state.step(side, Some(flags)),
                        expected,
                        "{state:?} {side:?} {flags:02x}"
                    );
                }
                for flags in [reset, reset | ACK] {
                    assert_eq!(state.step(side, Some(flags)), Closed, "{state:?} {side:?} {flags:02x}");
                }
            }
        }
        for (state, back) in [(OneWay, TwoWay), (TwoWay, TwoWay), (Echo, Echo)] {
            assert_eq!(
                (state.step(Initiator, None), state.step(Responder, None)),
                (state, back)
            );
        }
    }
}
