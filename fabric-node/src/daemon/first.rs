//! What the first pass has left: which jobs of the start were not tried, and which of its domains were not applied.
//! Pure bookkeeping. A domain that fails keeps the node from taking over for a while, not from calling itself ready.

use std::collections::BTreeSet;
use std::time::Duration;

use overlay::name::DomainName;

use super::agenda::Job;

/// For so long what another build has of a domain is more than that the others go by what the cluster agreed on since.
pub(super) const TAKE_OVER_WITHOUT: Duration = Duration::from_secs(300);

/// The jobs of the start that are still to be done. Without any, all are.
#[derive(Debug, Default)]
pub(super) struct First {
    untried: BTreeSet<Job>,
    unapplied: BTreeSet<DomainName>,
    /// How many domains there were.
    domains: usize,
}

impl First {
    /// Nothing is done yet, for the domains that are known at the start.
    pub(super) fn of(domains: BTreeSet<DomainName>) -> Self {
        Self {
            untried: domains.iter().cloned().map(Job::Domain).chain([Job::Vtep]).collect(),
            domains: domains.len(),
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

    /// Whether this build may take over from one with other tables, which has waited so long: each domain was applied once,
    /// and so its tables hold all that the other build's do; or it has waited long enough for those that were not. A build
    /// that can apply none has a fault of its own, and leaves all to the other.
    pub(super) fn may_take_over(&self, waits: Duration) -> bool {
        let some = self.unapplied.len() < self.domains;
        self.unapplied.is_empty() || some && self.is_tried() && waits >= TAKE_OVER_WITHOUT
    }

    /// Domains that were never applied.
    pub(super) fn unapplied(&self) -> &BTreeSet<DomainName> {
        &self.unapplied
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> DomainName {
        name.parse().expect("a label")
    }

    #[test]
    fn a_domain_that_fails_is_tried_and_keeps_what_another_build_applied_for_a_while() {
        let (soon, late) = (TAKE_OVER_WITHOUT - Duration::from_secs(1), TAKE_OVER_WITHOUT);
        let (red, blue) = (Job::Domain(domain("red")), Job::Domain(domain("blue")));
        let mut first = First::of([domain("red"), domain("blue")].into());
        first.note(&Job::Vtep, true);
        first.note(&red, true);
        assert!(
            !first.is_tried() && !first.may_take_over(late),
            "blue has not had its turn"
        );
        first.note(&blue, false);
        assert!(first.is_tried(), "all had their turn");
        assert!(!first.may_take_over(soon), "blue is only in the other build's tables");
        assert!(first.may_take_over(late), "red does not wait for blue for ever");
        assert_eq!(*first.unapplied(), [domain("blue")].into());
        first.note(&blue, true);
        assert!(first.may_take_over(soon));
        first.note(&blue, false);
        assert!(first.may_take_over(soon), "what was applied once stays in the tables");
    }

    #[test]
    fn a_build_that_can_apply_nothing_never_takes_over() {
        let mut first = First::of([domain("red"), domain("blue")].into());
        for job in [Job::Vtep, Job::Domain(domain("red")), Job::Domain(domain("blue"))] {
            first.note(&job, false);
        }
        assert!(first.is_tried() && !first.may_take_over(10 * TAKE_OVER_WITHOUT));
        first.note(&Job::Domain(domain("red")), true);
        assert!(first.may_take_over(TAKE_OVER_WITHOUT));
    }

    #[test]
    fn a_tunnel_end_that_cannot_be_told_keeps_no_domain_back() {
        let mut first = First::of([domain("red")].into());
        first.note(&Job::Domain(domain("red")), true);
        first.note(&Job::Vtep, false);
        assert!(first.is_tried() && first.may_take_over(Duration::ZERO));
    }
}
