//! Tables M, F, G, E and C: whether a packet may go to where it would go.

use std::time::Duration;

use super::account::Account;
use super::connection::{Connections, Side, Standing, State};
use super::fragment::{Entrance, Fragments};
use super::headers::{Fragment, Ip};
use super::owner::{Speaker, is_martian};
use super::policy::{self, End, Spoken};
use super::transport::{ACK, FIN, Message, RST, SYN, Transport, Tuple, tcp_flags};
use super::{Reason, related};
use crate::forwarding::{Direction, Forwarding};

/// What a host remembers of packets.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    pub(super) connections: Connections,
    pub(super) fragments: Fragments,
    /// What is counted of the last packet.
    pub(super) account: Account,
}

/// A packet that has passed tables M, F and G.
#[derive(Debug)]
pub(super) struct Passenger<'a> {
    pub(super) domain: &'a Forwarding,
    pub(super) entrance: Entrance,
    pub(super) ip: &'a Ip<'a>,
    /// Its own, or its first fragment's.
    pub(super) transport: Transport,
    pub(super) now: Duration,
}

impl<'a> Passenger<'a> {
    /// Tables M, F and G; whether the frame is for `everybody` of its segment.
    pub(super) fn board(
        memory: &Memory,
        domain: &'a Forwarding,
        entrance: Entrance,
        (ip, everybody): (&'a Ip<'a>, bool),
        now: Duration,
    ) -> Result<Self, Reason> {
        if is_martian(ip.source, ip.destination, everybody) {
            return Err(Reason::Martian);
        }
        if matches!(ip.fragment, Fragment::First(_)) && ip.upper.len() < ip.least_first() {
            return Err(Reason::TinyFragment);
        }
        let transport = memory.fragments.transport(&domain.domain, &entrance, ip, now)?;
        let valid = [SYN, SYN | ACK, ACK, ACK | FIN, RST, RST | ACK];
        if tcp_flags(ip).is_some_and(|flags| !valid.contains(&flags)) {
            return Err(Reason::TcpFlags);
        }
        Ok(Self {
            domain,
            entrance,
            ip,
            transport,
            now,
        })
    }

    /// Table E or C for the packet of this station between these ends.
    pub(super) fn admit(
        &self,
        memory: &mut Memory,
        speaker: Speaker,
        source: End<'_>,
        destination: End<'_>,
    ) -> Result<(), Reason> {
        if self.transport.message() == Some(Message::Error) {
            return related::check(&memory.connections, self, speaker);
        }
        let standing = self.standing(&mut memory.connections)?;
        memory.account.length = self.ip.packet.len();
        if !self.allowed(standing, source, destination, &mut memory.account) {
            if let Some(state) = standing.state.or(standing.ended) {
                let domain = &self.domain.domain;
                memory.connections.set(domain, standing.initiator, state, self.now);
            }
            return Err(Reason::Policy);
        }
        if let Some(state) = self.stepped(standing) {
            let domain = &self.domain.domain;
            memory.connections.set(domain, standing.initiator, state, self.now);
        }
        self.remember(memory);
        Ok(())
    }

    /// What rules are asked about a packet that is for everybody, and makes no connection.
    pub(super) fn spoken(&self) -> Spoken {
        let tuple = Tuple::of(self.ip.source, self.ip.destination, self.transport);
        Spoken::by(tuple, false, self.transport)
    }

    /// Remembers a first fragment.
    pub(super) fn remember(&self, memory: &mut Memory) {
        let (domain, fragments) = (&self.domain.domain, &mut memory.fragments);
        fragments.remember(domain, &self.entrance, self.ip, self.transport, self.now);
    }

    /// C1 to C5.
    fn standing(&self, connections: &mut Connections) -> Result<Standing, Reason> {
        let tuple = Tuple::of(self.ip.source, self.ip.destination, self.transport);
        let domain = &self.domain.domain;
        let of = Standing::of;
        match self.transport.message() {
            Some(Message::Request(_)) => Ok(of(tuple, Side::Initiator, connections.live(domain, tuple, self.now))),
            Some(Message::Reply(_)) => {
                let initiator = tuple.reversed();
                let live = connections.live(domain, initiator, self.now).ok_or(Reason::Unrelated)?;
                Ok(of(initiator, Side::Responder, Some(live)))
            }
            Some(Message::Other | Message::Error) => Ok(of(tuple, Side::Initiator, None)),
            None => {
                let flags = tcp_flags(self.ip);
                let standing = connections.standing(domain, tuple, flags, self.now);
                let reset = flags.is_some_and(|flags| flags & RST != 0);
                if standing.state.is_none() && reset {
                    return Err(Reason::Unrelated);
                }
                Ok(standing)
            }
        }
    }

    /// C6.
    fn allowed(&self, standing: Standing, source: End<'_>, destination: End<'_>, account: &mut Account) -> bool {
        let (initiator, responder) = match standing.side {
            Side::Initiator => (source, destination),
            Side::Responder => (destination, source),
        };
        let what = Spoken::by(standing.initiator, standing.state.is_some(), self.transport);
        let mut says = |direction, ends: (End<'_>, End<'_>)| {
            !ends.0.asked || policy::allows(self.domain, direction, ends, what, &mut account.audits)
        };
        says(Direction::Egress, (initiator, responder)) && says(Direction::Ingress, (responder, initiator))
    }

    /// The state of its connection behind it; none if it changes nothing.
    fn stepped(&self, standing: Standing) -> Option<State> {
        if matches!(self.transport.message(), Some(Message::Other)) {
            return None;
        }
        Some(match standing.state {
            Some(state) => state.step(standing.side, tcp_flags(self.ip)),
            None => State::first(self.transport),
        })
    }
}
