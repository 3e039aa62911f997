//! Waiting until a write is in force: here, and on the other hosts that a domain concerns.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::join_all;
use membership::id::{Label, NodeId, Scope};
use membership::service::{Liveness, Mark, Member, Membership};
use overlay::name::DomainName;
use tokio::time::Instant;

use super::force::{Force, Target};
use super::reconcile::Handle;
use super::seen::Sight;
use super::wire::{self, Request, Response, WireError};
use crate::api::types::Programmed;

/// Longest wait that another node grants.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Part of the wait that is kept for question and answer to travel.
const TRAVEL: Duration = Duration::from_millis(50);

/// Waits for what is in force.
#[derive(Debug, Clone)]
pub(super) struct Waiter {
    pub(super) membership: Membership,
    pub(super) sight: Sight,
    pub(super) reconcile: Handle,
}

/// The scope a mark is of.
pub(super) fn scope(mark: &Mark) -> &Scope {
    match mark {
        Mark::Facts { scope, .. } | Mark::Intents { scope, .. } => scope,
    }
}

impl Waiter {
    /// Whether what the marks name is in force here before the deadline.
    pub(super) async fn here(&self, marks: &[Mark], deadline: Instant) -> bool {
        let wait = async {
            for mark in marks {
                self.held(mark).await;
                if let Scope::Domain(domain) = scope(mark) {
                    self.obeyed(domain, self.target(domain)).await;
                }
            }
        };
        tokio::time::timeout_at(deadline, wait).await.is_ok()
    }

    /// What has to be in force for all that the replica holds of a domain to be.
    pub(super) fn target(&self, domain: &DomainName) -> Target {
        let root = self.sight.root(&Scope::Domain(domain.clone()));
        Target {
            root,
            begun: self.reconcile.begun(),
        }
    }

    async fn held(&self, mark: &Mark) {
        let mut changes = self.membership.changes();
        while !self.membership.holds(mark) {
            match changes.recv().await {
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                // The node stops; who asked gives up at the deadline.
                Err(tokio::sync::broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    async fn obeyed(&self, domain: &DomainName, target: Target) {
        let mut force = self.reconcile.force();
        let is_forgotten =
            |force: &Force| !force.domains.contains_key(domain) && !self.sight.domains().contains(domain);
        let obeyed = force.wait_for(|force| force.reached(domain, target) || is_forgotten(force));
        if obeyed.await.is_err() {
            // The node stops.
            std::future::pending::<()>().await;
        }
    }

    /// Asks these hosts, this one included if it is among them, until all answered or the deadline came.
    pub(super) async fn everywhere(&self, marks: &[Mark], hosts: &BTreeSet<NodeId>, deadline: Instant) -> Programmed {
        let members = self.membership.members();
        let asked = hosts.iter().map(|host| {
            let member = members.iter().find(|member| member.id == *host);
            self.on_host(marks, *host, member, deadline)
        });
        let mut programmed = Programmed::default();
        for (name, state) in join_all(asked).await {
            let list = match state {
                State::Programmed => &mut programmed.hosts,
                State::Pending => &mut programmed.pending,
                State::Unreachable => &mut programmed.unreachable,
            };
            list.push(name);
        }
        for list in [
            &mut programmed.hosts,
            &mut programmed.pending,
            &mut programmed.unreachable,
        ] {
            list.sort();
        }
        programmed
    }

    async fn on_host(
        &self,
        marks: &[Mark],
        host: NodeId,
        member: Option<&Member>,
        deadline: Instant,
    ) -> (String, State) {
        let name = member.map_or_else(|| host.to_string(), |member| member.record.name.to_string());
        // One that is only suspect may answer; if there is no connection, that is known at once.
        let reachable = member.is_some_and(|member| member.liveness != Liveness::Dead);
        let state = if host == self.membership.id() {
            if self.here(marks, deadline).await {
                State::Programmed
            } else {
                State::Pending
            }
        } else if !reachable {
            State::Unreachable
        } else {
            self.ask(marks, host, deadline).await
        };
        (name, state)
    }

    async fn ask(&self, marks: &[Mark], host: NodeId, deadline: Instant) -> State {
        let left = deadline.saturating_duration_since(Instant::now());
        let millis = u32::try_from(left.saturating_sub(TRAVEL).as_millis()).unwrap_or(u32::MAX);
        let Ok(request) = wire::encode(&Request::AwaitProgrammed {
            marks: marks.to_vec(),
            millis,
        }) else {
            return State::Pending;
        };
        match self.membership.call(host, request, left).await {
            Ok(answer) => match wire::decode(&answer) {
                Ok(Response::Programmed) => State::Programmed,
                Ok(Response::NotYet) | Err(_) => State::Pending,
            },
            Err(membership::service::CallError::NotConnected(_)) => State::Unreachable,
            Err(error) => {
                tracing::debug!(%host, %error, "not told whether it is in force");
                State::Pending
            }
        }
    }

    /// Answers another node.
    pub(super) async fn answer(&self, request: &[u8]) -> Result<Response, WireError> {
        let Request::AwaitProgrammed { marks, millis } = wire::decode(request)?;
        let deadline = Instant::now() + Duration::from_millis(millis.into()).min(WAIT_MAX);
        let done = self.here(&marks, deadline).await;
        Ok(if done { Response::Programmed } else { Response::NotYet })
    }

    /// Hosts that a domain concerns: those with one of its endpoints, and this one.
    pub(super) fn hosts(&self, domain: &Label) -> BTreeSet<NodeId> {
        let view = self.sight.read(domain).view;
        let mut hosts: BTreeSet<NodeId> = view
            .iter()
            .flat_map(|view| view.endpoints.values())
            .filter_map(|seen| seen.attachment.as_ref())
            .map(|(node, _)| *node)
            .collect();
        hosts.insert(self.membership.id());
        hosts
    }
}

enum State {
    Programmed,
    Pending,
    Unreachable,
}
