//! Gives addresses back that this host claimed and that no endpoint has any more: its endpoint was deleted, got another
//! network or a fixed address, or the attach that claimed it never came to its end. First this host takes its word back,
//! then every member has to have obeyed that, then the anchors free the address. A member that is away holds it back until
//! it returns or is removed: it may believe still that the address is the former endpoint's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use membership::id::Scope;
use membership::service::{FactWrite, Mark, WriteError};
use overlay::fact::{ADDRESS_CLAIM_KIND, AddressClaim, Content as _};
use overlay::name::DomainName;
use overlay::view::View;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::node::Node;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(5);
/// How long an address has to be nobody's before it is given up: what is applied anew meanwhile has it again.
const REST: Duration = Duration::from_secs(10);
/// How long the members are asked whether they obeyed.
const CONFIRM_MAX: Duration = Duration::from_secs(10);
/// Most addresses that are given up in one look.
const AT_ONCE: usize = 128;

/// Within which scope, and which key.
type Held = (Scope, String);

/// Since when which keys have been nobody's.
#[derive(Debug, Default)]
struct Idle(BTreeMap<Held, Instant>);

/// Looks until stopped.
pub(super) async fn run(node: Arc<Node>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut idle = Idle::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let looked = async {
            give_up(&node, &mut idle).await?;
            free(&node).await
        };
        tokio::select! {
            () = stop.cancelled() => return,
            looked = looked => if let Err(error) = looked {
                tracing::warn!(%error, "addresses that nobody has cannot be given back yet");
            }
        }
    }
}

/// Gives up what has been nobody's for long enough.
async fn give_up(node: &Node, idle: &mut Idle) -> Result<(), WriteError> {
    // No attach is between its claims and its word for them.
    let _turn = node.writes.lock().await;
    let mut views = BTreeMap::new();
    let mut unused = BTreeMap::new();
    for (scope, key) in node.membership.keys_held().await? {
        let Scope::Domain(domain) = &scope else { continue };
        let said = said(node, &scope, &key);
        let view: &Option<View> = views
            .entry(domain.clone())
            .or_insert_with(|| node.sight.read(domain).view);
        if !said.as_ref().is_some_and(|said| is_used(view.as_ref(), said)) {
            unused.insert((scope, key), said.map(|said| said.key()));
        }
    }
    let due = idle.due(unused.keys(), Instant::now());
    for (scope, key) in due.into_iter().take(AT_ONCE) {
        if let Some(Some(fact)) = unused.remove(&(scope.clone(), key.clone())) {
            let write = FactWrite { key: fact, body: None };
            node.membership.write_facts(scope.clone(), vec![write]).await?;
        }
        node.membership.give_up(&scope, &key).await?;
        tracing::info!(?scope, key, "given up: no endpoint has this address");
    }
    Ok(())
}

/// What this host says of a key.
fn said(node: &Node, scope: &Scope, key: &str) -> Option<AddressClaim> {
    let here = node.membership.id();
    node.membership.read(|replica| {
        let facts = replica.facts_from(scope, here);
        let mut claims = facts
            .filter(|fact| &*fact.key.kind == ADDRESS_CLAIM_KIND)
            .filter_map(|fact| AddressClaim::decode(fact.body.as_ref()?).ok());
        claims.find(|said| *said.claim.key == *key)
    })
}

/// Whether an endpoint has the address by this claim.
fn is_used(view: Option<&View>, said: &AddressClaim) -> bool {
    let endpoint = said.endpoint.parse().ok();
    let seen = view.zip(endpoint).and_then(|(view, name)| view.endpoints.get(&name));
    seen.is_some_and(|seen| seen.spec.network.as_str() == said.network && seen.claimed.contains(&said.address))
}

impl Idle {
    /// Those of the unused keys that have been so for long enough.
    fn due<'a>(&mut self, unused: impl Iterator<Item = &'a Held>, now: Instant) -> Vec<Held> {
        let before = std::mem::take(&mut self.0);
        self.0 = unused
            .map(|held| (held.clone(), before.get(held).copied().unwrap_or(now)))
            .collect();
        let due = self.0.iter().filter(|(_, since)| now.duration_since(**since) >= REST);
        due.map(|(held, _)| held.clone()).collect()
    }
}

/// Has the anchors free what was given up, where every member obeyed that.
async fn free(node: &Node) -> Result<(), WriteError> {
    let mut by_domain: BTreeMap<DomainName, Vec<String>> = BTreeMap::new();
    for (scope, key) in node.membership.keys_given_up().await? {
        if let Scope::Domain(domain) = scope {
            by_domain.entry(domain).or_default().push(key);
        }
    }
    for (domain, keys) in by_domain {
        let scope = Scope::Domain(domain);
        if !is_obeyed(node, &scope).await {
            continue;
        }
        let freed = keys.iter().map(|key| node.membership.free(&scope, key));
        for freed in futures::future::join_all(freed).await {
            freed?;
        }
    }
    Ok(())
}

/// Whether every member goes by all that this host has said of a domain.
async fn is_obeyed(node: &Node, scope: &Scope) -> bool {
    let here = node.membership.id();
    let mark = node.membership.read(|replica| {
        let head = replica.head(scope, here)?;
        Some(Mark::Facts {
            origin: here,
            scope: scope.clone(),
            epoch: head.epoch,
            seq: head.seq,
        })
    });
    let Some(mark) = mark else {
        // It never said anything.
        return true;
    };
    let members: BTreeSet<_> = node.membership.members().iter().map(|member| member.id).collect();
    let asked = node
        .waiter()
        .everywhere(&[mark], &members, Instant::now() + CONFIRM_MAX)
        .await;
    asked.pending.is_empty() && asked.unreachable.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_is_given_up_when_it_has_been_nobodys_for_a_while() {
        let (mut idle, start) = (Idle::default(), Instant::now());
        let held = |key: &str| (Scope::System, key.to_owned());
        let (a, b) = (held("a"), held("b"));
        assert_eq!(idle.due([&a].into_iter(), start), []);
        assert_eq!(idle.due([&a, &b].into_iter(), start + LOOK), []);
        assert_eq!(idle.due([&a, &b].into_iter(), start + REST), std::slice::from_ref(&a));
        assert_eq!(idle.due([&b].into_iter(), start + REST), [], "the other is used again");
        assert_eq!(idle.due([&a, &b].into_iter(), start + REST + LOOK), [b]);
        assert_eq!(idle.due([&a].into_iter(), start + 2 * REST + LOOK), [a]);
    }
}
