//! What is in force on this node: per domain, which state of the replica the datapath obeys. Pure bookkeeping; the
//! reconcile task writes it, everybody else waits on it.

use std::collections::{BTreeMap, BTreeSet};

use datapath::PortState;
use membership::record::Digest;
use overlay::condition::Conditions;
use overlay::name::{DomainName, EndpointName};

/// One domain in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct InForce {
    /// Number of the pass that made it; passes are numbered when they begin to read the replica.
    pub(super) pass: u64,
    /// The domain's root at that reading.
    pub(super) root: Digest,
    /// Ports on this host.
    pub(super) ports: BTreeMap<EndpointName, PortState>,
    /// What keeps objects from working.
    pub(super) conditions: Conditions,
}

/// Everything in force, and what failed to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Force {
    /// Domains by name.
    pub(super) domains: BTreeMap<DomainName, InForce>,
    /// Why the last pass over a domain failed.
    pub(super) failures: BTreeMap<DomainName, String>,
    /// Why this host's tunnel end cannot be told.
    pub(super) vtep: Option<String>,
    /// Why another build's tables stay in force though this one's are complete.
    pub(super) take_over: Option<String>,
    /// Domains of the start that were never brought into force.
    pub(super) unapplied: BTreeSet<DomainName>,
    /// Whether every domain that was on disk at the start was tried once.
    pub(super) started: bool,
}

/// From when on a state counts as in force: read after the state was in the replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// The domain's root then.
    pub(super) root: Digest,
    /// How many passes had begun then.
    pub(super) begun: u64,
}

impl Force {
    /// Whether what the target stands for is obeyed: the same state, or one that was read later.
    pub(super) fn reached(&self, domain: &DomainName, target: Target) -> bool {
        self.domains
            .get(domain)
            .is_some_and(|force| force.root == target.root || force.pass > target.begun)
    }

    /// The port of an endpoint, if the pass that knows it reached the target.
    pub(super) fn port(&self, domain: &DomainName, endpoint: &EndpointName, target: Target) -> Option<&PortState> {
        if !self.reached(domain, target) {
            return None;
        }
        self.domains.get(domain)?.ports.get(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn force(pass: u64, root: u8) -> Force {
        let in_force = InForce {
            pass,
            root: Digest([root; 32]),
            ..InForce::default()
        };
        Force {
            domains: [("red".parse().expect("a label"), in_force)].into(),
            ..Force::default()
        }
    }

    #[test]
    fn a_target_is_reached_by_the_same_state_or_a_later_reading() {
        let red = "red".parse().expect("a label");
        let target = Target {
            root: Digest([7; 32]),
            begun: 4,
        };
        assert!(force(1, 7).reached(&red, target), "the same state, read earlier");
        assert!(force(5, 9).reached(&red, target), "another state, read later");
        assert!(!force(4, 9).reached(&red, target), "another state, maybe read earlier");
        assert!(
            !force(5, 7).reached(&"blue".parse().expect("a label"), target),
            "another domain"
        );
    }
}
