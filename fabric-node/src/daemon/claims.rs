//! Gives addresses back that this host claimed and that no endpoint has any more: its endpoint was deleted, got another
//! network or a fixed address, or the attach that claimed it never came to its end. First this host takes its word back,
//! then every member has to have obeyed that, then the anchors free the address. A member that is away holds it back until
//! it returns or is removed: it may believe still that the address is the former endpoint's. What this release cannot read
//! has the addresses that it had.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use membership::id::Scope;
use membership::record::{Digest, Fact, Key};
use membership::service::{FactWrite, Mark, WriteError};
use overlay::fact::{ADDRESS_CLAIM_KIND, AddressClaim, Content as _};
use overlay::name::{DomainName, EndpointName};
use overlay::object::Kind;
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
/// Most addresses that are given up in one look, and that are freed in one of a domain.
const AT_ONCE: usize = 128;

/// In which domain, and which key.
type Held = (DomainName, String);

/// Since when which keys have been nobody's.
#[derive(Debug, Default)]
struct Idle(BTreeMap<Held, Instant>);

/// The domains that could not be looked at, and the records that they had: until those change they are left alone.
#[derive(Debug, Default)]
struct Crashed(BTreeMap<DomainName, Digest>);

impl Crashed {
    /// Looks at a domain with these records. A panic ends in here: nothing is known of that domain then.
    fn look<T>(&mut self, domain: &DomainName, root: Digest, look: impl FnOnce() -> T) -> Option<T> {
        if self.0.get(domain) == Some(&root) {
            return None;
        }
        let looked = catch_unwind(AssertUnwindSafe(look));
        match &looked {
            Ok(_) => drop(self.0.remove(domain)),
            Err(_) => {
                tracing::error!(%domain, "its addresses are not given back until it changes: looking at it panicked");
                self.0.insert(domain.clone(), root);
            }
        }
        looked.ok()
    }
}

/// What is known from one look to the next.
#[derive(Debug, Default)]
struct Looks {
    idle: Idle,
    crashed: Crashed,
}

/// Looks until stopped.
pub(super) async fn run(node: Arc<Node>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = Looks::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let looked = async {
            looks.give_up(&node).await?;
            looks.free(&node).await
        };
        tokio::select! {
            () = stop.cancelled() => return,
            looked = looked => if let Err(error) = looked {
                tracing::warn!(%error, "addresses that nobody has cannot be given back yet");
            }
        }
    }
}

impl Looks {
    /// Gives up what has been nobody's for long enough.
    async fn give_up(&mut self, node: &Node) -> Result<(), WriteError> {
        // No attach is between its claims and its word for them.
        let _turn = node.writes.lock().await;
        let mut unused = BTreeMap::new();
        for (domain, keys) in by_domain(node, node.membership.keys_held().await?) {
            let look = || Ground::read(node, &domain).unused(keys);
            let Some(found) = self.crashed.look(&domain, root(node, &domain), look) else {
                continue;
            };
            unused.extend(found.into_iter().map(|(key, said)| ((domain.clone(), key), said)));
        }
        let due = self.idle.due(unused.keys(), Instant::now());
        for held in due.into_iter().take(AT_ONCE) {
            let said = unused.remove(&held).flatten();
            let (scope, key) = (Scope::Domain(held.0), held.1);
            if let Some(fact) = said {
                let write = FactWrite { key: fact, body: None };
                node.membership.write_facts(scope.clone(), vec![write]).await?;
            }
            node.membership.give_up(&scope, &key).await?;
            tracing::info!(?scope, key, "given up: no endpoint has this address");
        }
        Ok(())
    }

    /// Has the anchors free what was given up, where every member obeyed that. What this host still says it has it did
    /// not give up, whatever its disk says.
    async fn free(&mut self, node: &Node) -> Result<(), WriteError> {
        for (domain, mut keys) in by_domain(node, node.membership.keys_given_up().await?) {
            let look = || Said::read(node, &domain);
            let Some(said) = self.crashed.look(&domain, root(node, &domain), look) else {
                continue;
            };
            keys.retain(|key| !said.may_name(key));
            keys.truncate(AT_ONCE);
            let scope = Scope::Domain(domain);
            if keys.is_empty() || !is_obeyed(node, &scope).await {
                continue;
            }
            let freed = keys.iter().map(|key| node.membership.free(&scope, key));
            for freed in futures::future::join_all(freed).await {
                freed?;
            }
        }
        Ok(())
    }
}

/// The keys of each domain that is not in quarantine: what crashes other parts of this daemon may crash this one.
fn by_domain(node: &Node, keys: Vec<(Scope, String)>) -> BTreeMap<DomainName, Vec<String>> {
    let quarantined: BTreeSet<DomainName> = node.quarantine.held().into_iter().map(|(domain, _)| domain).collect();
    let mut by_domain: BTreeMap<DomainName, Vec<String>> = BTreeMap::new();
    for (scope, key) in keys {
        if let Scope::Domain(domain) = scope
            && !quarantined.contains(&domain)
        {
            by_domain.entry(domain).or_default().push(key);
        }
    }
    by_domain
}

fn root(node: &Node, domain: &DomainName) -> Digest {
    node.sight.root(&Scope::Domain(domain.clone()))
}

/// What this host says of its keys of a domain.
#[derive(Debug, Default)]
struct Said {
    claims: BTreeMap<String, AddressClaim>,
    /// It said something that this release cannot read: that may be of any key.
    is_partly_unreadable: bool,
}

impl Said {
    fn read(node: &Node, domain: &DomainName) -> Self {
        let (here, scope) = (node.membership.id(), Scope::Domain(domain.clone()));
        node.membership
            .read(|replica| Self::of(replica.facts_from(&scope, here)))
    }

    fn of<'a>(facts: impl Iterator<Item = &'a Fact>) -> Self {
        let mut all = Self::default();
        for fact in facts.filter(|fact| &*fact.key.kind == ADDRESS_CLAIM_KIND) {
            match fact.body.as_ref().map(AddressClaim::decode) {
                Some(Ok(said)) => drop(all.claims.insert(said.claim.key.to_string(), said)),
                Some(Err(_)) => all.is_partly_unreadable = true,
                None => {}
            }
        }
        all
    }

    /// Whether this host may say that it has the key.
    fn may_name(&self, key: &str) -> bool {
        self.is_partly_unreadable || self.claims.contains_key(key)
    }
}

/// What decides whether the addresses of a domain are used. What this release cannot read may use any.
#[derive(Debug)]
struct Ground {
    said: Said,
    view: Option<View>,
    /// There is a Domain object, whether a view can be made of it or not.
    is_there: bool,
}

impl Ground {
    fn read(node: &Node, domain: &DomainName) -> Self {
        let (view, key) = (node.sight.read(domain).view, Kind::Domain.key(domain));
        let is_there = node.membership.read(|replica| {
            let object = replica.intent(&Scope::Domain(domain.clone()), &key);
            object.is_some_and(|versions| versions.shown().body.is_some())
        });
        Self {
            said: Said::read(node, domain),
            view,
            is_there,
        }
    }

    /// Those of these keys that nobody uses, and what this host says of each.
    fn unused(&self, keys: Vec<String>) -> Vec<(String, Option<Key>)> {
        let unused = keys.into_iter().filter(|key| !self.uses(key));
        unused
            .map(|key| {
                let said = self.said.claims.get(&key).map(AddressClaim::key);
                (key, said)
            })
            .collect()
    }

    /// Whether an endpoint has the address by what this host says of its key, or may have it.
    fn uses(&self, key: &str) -> bool {
        let Some(said) = self.said.claims.get(key) else {
            return self.said.is_partly_unreadable;
        };
        let Some(view) = &self.view else {
            return self.is_there;
        };
        let is_unreadable = |kind, name: &str| view.unreadable.contains_key(&(kind, name.to_owned()));
        if is_unreadable(Kind::Endpoint, &said.endpoint) || is_unreadable(Kind::Network, &said.network) {
            return true;
        }
        let endpoint = said.endpoint.parse().ok();
        let seen = endpoint.and_then(|name| view.endpoints.get::<EndpointName>(&name));
        seen.is_some_and(|seen| seen.spec.network.as_str() == &*said.network && seen.claimed.contains(&said.address))
    }
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
    use membership::claim::Claim;
    use membership::hlc::Stamp;
    use membership::id::NodeId;
    use membership::record::{Body, Dot, Intent, VersionVector};
    use overlay::address::claim_key;
    use overlay::cluster::Cluster;
    use overlay::manifest;

    use super::super::fixture::red;
    use super::*;

    /// The key of an address of network lan.
    fn key(address: &str) -> String {
        claim_key(&"lan".parse().expect("a name"), address.parse().expect("an address"))
    }

    fn fact(key: &Key, body: Option<Body>) -> Fact {
        Fact {
            origin: NodeId::of_key(&[1; 32]),
            scope: red(),
            epoch: 1,
            seq: 1,
            previous: Digest::default(),
            key: key.clone(),
            stamp: Stamp::default(),
            body,
        }
    }

    fn claim() -> Fact {
        let claim = Claim {
            scope: red(),
            key: key("10.0.0.7").into(),
            holder: NodeId::of_key(&[1; 32]),
            witnesses: Vec::new(),
        };
        let said = AddressClaim {
            network: "lan".to_owned(),
            endpoint: "web".to_owned(),
            address: "10.0.0.7".parse().expect("an address"),
            claim,
        };
        fact(&said.key(), Some(said.encode().expect("small")))
    }

    /// The domain of these objects, in which web has the address by its claim.
    fn ground(objects: &[&str], unreadable: &[&str]) -> Ground {
        let object = |kind: &&str| {
            let text = match *kind {
                "Domain" => "{kind: Domain, name: red, spec: {}}",
                "Network" => "{kind: Network, domain: red, name: lan, spec: {subnets: [10.0.0.0/24], vni: 7}}",
                _ => "{kind: Endpoint, domain: red, name: web, spec: {network: lan}}",
            };
            let object = manifest::parse("test", text).expect("good").remove(0).object;
            let mut body = object.spec.encode();
            if unreadable.contains(kind) {
                body.version = u16::MAX;
            }
            let (key, dot) = (
                object.spec.kind().key(&object.name),
                Dot {
                    writer: NodeId::of_key(&[1; 32]),
                    counter: 1,
                },
            );
            let (context, stamp, author) = (VersionVector::default(), Stamp::default(), "alice".into());
            Intent {
                scope: red(),
                key,
                dot,
                context,
                stamp,
                author,
                body: Some(body),
            }
        };
        let (intents, fact): (Vec<_>, _) = (objects.iter().map(object).collect(), claim());
        let domain = "red".parse().expect("a name");
        let cluster = Cluster::default();
        Ground {
            view: View::of(&domain, &intents, [&fact], &cluster, &|_| true),
            said: Said::of([&fact].into_iter()),
            is_there: objects.contains(&"Domain"),
        }
    }

    #[test]
    fn what_cannot_be_read_has_its_addresses_still() {
        let all = ["Domain", "Network", "Endpoint"];
        assert!(ground(&all, &[]).uses(&key("10.0.0.7")));
        assert!(!ground(&all, &[]).uses(&key("10.0.0.8")), "nobody says anything of it");
        for kind in all {
            assert!(ground(&all, &[kind]).uses(&key("10.0.0.7")), "{kind}");
            let others: Vec<_> = all.into_iter().filter(|other| *other != kind).collect();
            assert!(!ground(&others, &[]).uses(&key("10.0.0.7")), "{kind} is gone");
        }
        let mut later = claim();
        later.body.as_mut().expect("it says something").version = u16::MAX;
        let unreadable = Ground {
            said: Said::of([&later].into_iter()),
            ..ground(&all, &[])
        };
        assert!(unreadable.uses(&key("10.0.0.7")), "a later release said it");
        assert!(unreadable.said.may_name(&key("10.0.0.7")));
    }

    #[test]
    fn what_this_host_says_it_has_is_not_freed() {
        let (there, mut withdrawn) = (claim(), claim());
        withdrawn.body = None;
        assert!(Said::of([&there].into_iter()).may_name(&key("10.0.0.7")));
        assert!(!Said::of([&there].into_iter()).may_name(&key("10.0.0.8")));
        assert!(!Said::of([&withdrawn].into_iter()).may_name(&key("10.0.0.7")));
    }

    #[test]
    fn a_domain_that_panics_is_left_alone_until_it_changes() {
        let (mut crashed, red): (_, DomainName) = (Crashed::default(), "red".parse().expect("a name"));
        let (before, after) = (Digest::of(&[b"poison"]), Digest::of(&[b"mended"]));
        assert_eq!(crashed.look::<()>(&red, before, || panic!("on purpose")), None);
        assert_eq!(crashed.look(&red, before, || "looked"), None);
        assert_eq!(
            crashed.look(&"blue".parse().expect("a name"), before, || "looked"),
            Some("looked")
        );
        assert_eq!(crashed.look(&red, after, || "looked"), Some("looked"));
        assert_eq!(crashed.look(&red, before, || "looked"), Some("looked"));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_given_up_when_it_has_been_nobodys_for_a_while() {
        let (mut idle, start) = (Idle::default(), Instant::now());
        let held = |key: &str| ("red".parse().expect("a name"), key.to_owned());
        let (a, b) = (held("a"), held("b"));
        assert_eq!(idle.due([&a].into_iter(), start), []);
        assert_eq!(idle.due([&a, &b].into_iter(), start + LOOK), []);
        assert_eq!(idle.due([&a, &b].into_iter(), start + REST), std::slice::from_ref(&a));
        assert_eq!(idle.due([&b].into_iter(), start + REST), [], "the other is used again");
        assert_eq!(idle.due([&a, &b].into_iter(), start + REST + LOOK), [b]);
        assert_eq!(idle.due([&a].into_iter(), start + 2 * REST + LOOK), [a]);
    }
}
