//! What the first pass has left: which jobs of the start were not tried, and which of its domains were not applied.
//! Pure bookkeeping. A domain that fails keeps the node from taking over, not from calling itself ready.

use std::collections::BTreeSet;

use overlay::name::DomainName;

use super::agenda::Job;

/// The jobs of the start that are still to be done. Without any, all are.
#[derive(Debug, Default)]
pub(super) struct First {
    untried: BTreeSet<Job>,
    unapplied: BTreeSet<DomainName>,
}

impl First {
    /// Nothing is done yet, for the domains that are known at the start.
    pub(super) fn of(domains: BTreeSet<DomainName>) -> Self {
        Self {
            untried: domains.iter().cloned().map(Job::Domain).chain([Job::Vtep]).collect(),
            unapplied: domains,
        }
    }

    /// A job was done, or failed.
    pub(super) fn note(&mut self, job: &Job, is_done: bool) {
        self.untried.remove(job);
        if let Job::Domain(domain) = job
            && is_done
        {
            self.unapplied.remove(domain);
        }
    }

    /// Whether each job was tried once: as much is in force as can be, which is what a start waits for.
    pub(super) fn is_tried(&self) -> bool {
        self.untried.is_empty()
    }

    /// Whether each domain was applied once: only then do this build's tables hold all that another build's do.
    pub(super) fn is_applied(&self) -> bool {
        self.unapplied.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> DomainName {
        name.parse().expect("a label")
    }

    #[test]
    fn a_domain_that_fails_is_tried_but_keeps_what_another_build_applied() {
        let (red, blue) = (Job::Domain(domain("red")), Job::Domain(domain("blue")));
        let mut first = First::of([domain("red"), domain("blue")].into());
        first.note(&Job::Vtep, true);
        first.note(&red, true);
        assert!(!first.is_tried(), "blue has not had its turn");
        first.note(&blue, false);
        assert!(first.is_tried(), "all had their turn");
        assert!(!first.is_applied(), "blue is only in the other build's tables");
        first.note(&blue, true);
        assert!(first.is_applied());
        first.note(&blue, false);
        assert!(first.is_applied(), "what was applied once stays in the tables");
    }

    #[test]
    fn a_tunnel_end_that_cannot_be_told_keeps_no_domain_back() {
        let mut first = First::of([domain("red")].into());
        first.note(&Job::Domain(domain("red")), true);
        first.note(&Job::Vtep, false);
        assert!(first.is_tried() && first.is_applied());
    }
}
