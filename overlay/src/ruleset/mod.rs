//! From the policies of a domain to its rules: selectors become numbered groups, a rule with several prefixes or ranges
//! of ports becomes one of each combination.
//!
//! A policy that was changed on two nodes at once has concurrent versions until it is applied again. It denies what any
//! of them denies, and allows only what all of them allow. Versions that differ in priority are asked each at its own,
//! but there can only deny (a run of rules that lacks a version allows nothing); where the lowest of them stands, all are
//! asked. A version that cannot be read denies everything: nobody knows whose connections it speaks of.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::forwarding::{Direction, GROUPS_MAX, Group, Peer, Protocol, RULES_MAX, Rule};
use crate::name::PolicyName;
use crate::object::SecurityPolicySpec;
use crate::object::endpoint::Labels;
use crate::object::policy::{Action, Peer as Said, Rule as Written, Selector, Traffic};
use crate::view::PolicyVersion;

/// The rules of a domain and what they select by.
#[derive(Debug, Default)]
pub(crate) struct Ruleset<'a> {
    /// In the order of evaluation.
    pub(crate) rules: Vec<Rule>,
    /// A selector for each group, by its number.
    selectors: Vec<&'a Selector>,
}

/// How large the rules of a domain are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Size {
    /// Different selectors.
    pub(crate) groups: usize,
    /// Rules of both directions.
    pub(crate) rules: usize,
}

impl Size {
    /// Whether a host can hold them.
    pub(crate) fn fits(self) -> bool {
        self.groups <= GROUPS_MAX && self.rules <= RULES_MAX
    }

    /// Of policies without concurrent versions.
    pub(crate) fn of<'a>(policies: impl IntoIterator<Item = &'a SecurityPolicySpec>) -> Self {
        let (mut selectors, mut rules) = (BTreeSet::new(), 0);
        for spec in policies {
            selectors.extend(selectors_of(spec));
            rules += count(spec);
        }
        let groups = selectors.len();
        Self { groups, rules }
    }
}

impl<'a> Ruleset<'a> {
    /// The rules of these policies, or how large they are if that is too large.
    pub(crate) fn of(policies: &'a BTreeMap<PolicyName, Vec<PolicyVersion>>) -> Result<Self, Size> {
        let runs = runs(policies);
        let mut size = Size::of(runs.iter().flat_map(|run| run.parts.iter().filter_map(Part::spec)));
        // A part that cannot be read is a rule in each direction.
        size.rules += 2 * runs
            .iter()
            .flat_map(|run| &run.parts)
            .filter(|part| part.spec().is_none())
            .count();
        if !size.fits() {
            return Err(size);
        }
        let mut builder = Builder::default();
        for run in &runs {
            builder.run(run);
        }
        Ok(builder.done())
    }

    /// The groups of endpoints with these labels.
    pub(crate) fn groups(&self, labels: &Labels) -> BTreeSet<Group> {
        let selected = (0..)
            .zip(&self.selectors)
            .filter(|(_, selector)| selector.selects(labels));
        selected.map(|(group, _)| group).collect()
    }
}

/// Rules of one policy that are asked at one priority.
struct Run<'a> {
    priority: u16,
    policy: &'a PolicyName,
    /// How many versions the policy has.
    versions: u16,
    parts: Vec<Part<'a>>,
}

/// What one version of a policy says at a priority.
struct Part<'a> {
    version: u16,
    what: What<'a>,
}

enum What<'a> {
    /// All of it.
    All(&'a SecurityPolicySpec),
    /// All but what it counts: that is counted where all versions are asked.
    Decisions(&'a SecurityPolicySpec),
    /// That nothing is let through.
    Nothing,
}

impl<'a> Part<'a> {
    fn spec(&self) -> Option<&'a SecurityPolicySpec> {
        match self.what {
            What::All(spec) | What::Decisions(spec) => Some(spec),
            What::Nothing => None,
        }
    }
}

/// In the order of evaluation.
fn runs(policies: &BTreeMap<PolicyName, Vec<PolicyVersion>>) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = policies
        .iter()
        .flat_map(|(policy, versions)| runs_of(policy, versions))
        .collect();
    runs.sort_by_key(|run| (Reverse(run.priority), run.policy));
    runs
}

fn runs_of<'a>(policy: &'a PolicyName, versions: &'a [PolicyVersion]) -> Vec<Run<'a>> {
    let priority = |version: &PolicyVersion| match version {
        PolicyVersion::Says(spec) => Some(spec.priority),
        PolicyVersion::Unreadable => Some(u16::MAX),
        PolicyVersion::Deleted => None,
    };
    let priorities: BTreeSet<u16> = versions.iter().filter_map(priority).collect();
    let lowest = priorities.first().copied();
    let run = |at: u16| {
        let all = Some(at) == lowest;
        let part = |(version, said): (u16, &'a PolicyVersion)| {
            let what = match said {
                PolicyVersion::Says(spec) if all => What::All(spec),
                PolicyVersion::Says(spec) if spec.priority == at => What::Decisions(spec),
                PolicyVersion::Unreadable if at == u16::MAX => What::Nothing,
                PolicyVersion::Says(_) | PolicyVersion::Unreadable | PolicyVersion::Deleted => return None,
            };
            Some(Part { version, what })
        };
        Run {
            priority: at,
            policy,
            versions: u16::try_from(versions.len()).unwrap_or(u16::MAX),
            parts: (0..u16::MAX).zip(versions).filter_map(part).collect(),
        }
    };
    priorities.into_iter().map(run).collect()
}

#[derive(Default)]
struct Builder<'a> {
    set: Ruleset<'a>,
    numbers: BTreeMap<&'a Selector, Group>,
}

impl<'a> Builder<'a> {
    fn run(&mut self, run: &Run<'a>) {
        for part in &run.parts {
            let (spec, audits) = match part.what {
                What::All(spec) => (spec, true),
                What::Decisions(spec) => (spec, false),
                What::Nothing => {
                    self.set.rules.extend(denials(run, part.version));
                    continue;
                }
            };
            let subject = (!spec.applies_to.is_empty()).then(|| self.group(&spec.applies_to));
            let directions = [
                (Direction::Ingress, spec.rules.ingress()),
                (Direction::Egress, spec.rules.egress()),
            ];
            for (direction, written) in directions {
                let said = (0..)
                    .zip(written)
                    .filter(|(_, rule)| audits || rule.action != Action::Audit);
                for (number, rule) in said {
                    let mut resolved = Rule {
                        number,
                        subject,
                        direction,
                        action: rule.action,
                        ..denial(run, part.version, direction)
                    };
                    for peer in self.peers(rule) {
                        resolved.peer = peer;
                        let rules = protocols(&rule.traffic).into_iter();
                        self.set.rules.extend(rules.map(|protocol| Rule {
                            protocol,
                            ..resolved.clone()
                        }));
                    }
                }
            }
        }
    }

    fn peers(&mut self, rule: &'a Written) -> Vec<Peer> {
        match &rule.peer {
            None => vec![Peer::Any],
            Some(Said::Selector(selector)) => vec![Peer::Group(self.group(selector))],
            Some(Said::Cidrs(cidrs)) => cidrs.iter().map(|prefix| Peer::Prefix(prefix.net())).collect(),
        }
    }

    /// Its number; the set was measured before, so that there is one.
    fn group(&mut self, selector: &'a Selector) -> Group {
        let next = Group::try_from(self.set.selectors.len()).unwrap_or(Group::MAX);
        let selectors = &mut self.set.selectors;
        *self.numbers.entry(selector).or_insert_with(|| {
            selectors.push(selector);
            next
        })
    }

    fn done(self) -> Ruleset<'a> {
        self.set
    }
}

/// What an unreadable version says.
fn denials(run: &Run<'_>, version: u16) -> [Rule; 2] {
    [Direction::Ingress, Direction::Egress].map(|direction| denial(run, version, direction))
}

fn denial(run: &Run<'_>, version: u16, direction: Direction) -> Rule {
    Rule {
        policy: run.policy.clone(),
        number: 0,
        version,
        versions: run.versions,
        direction,
        subject: None,
        peer: Peer::Any,
        protocol: Protocol::Any,
        action: Action::Deny,
    }
}

fn protocols(traffic: &Traffic) -> Vec<Protocol> {
    match traffic {
        Traffic::Any => vec![Protocol::Any],
        Traffic::Tcp(ports) => ports.ranges().into_iter().map(Protocol::Tcp).collect(),
        Traffic::Udp(ports) => ports.ranges().into_iter().map(Protocol::Udp).collect(),
        Traffic::Sctp(ports) => ports.ranges().into_iter().map(Protocol::Sctp).collect(),
        Traffic::Icmp(None) => vec![Protocol::Icmp(None, None)],
        Traffic::Icmp(Some((kind, code))) => vec![Protocol::Icmp(Some(*kind), *code)],
        Traffic::Number(number) => vec![Protocol::Number(*number)],
    }
}

/// The selectors that become groups.
fn selectors_of(spec: &SecurityPolicySpec) -> impl Iterator<Item = &Selector> {
    let subject = Some(&spec.applies_to).filter(|selector| !selector.is_empty());
    let peers = written(spec).filter_map(|rule| match &rule.peer {
        Some(Said::Selector(selector)) => Some(selector),
        Some(Said::Cidrs(_)) | None => None,
    });
    subject.into_iter().chain(peers)
}

/// How many rules it becomes.
fn count(spec: &SecurityPolicySpec) -> usize {
    let peers = |rule: &Written| match &rule.peer {
        Some(Said::Cidrs(cidrs)) => cidrs.len(),
        Some(Said::Selector(_)) | None => 1,
    };
    written(spec)
        .map(|rule| peers(rule) * protocols(&rule.traffic).len())
        .sum()
}

fn written(spec: &SecurityPolicySpec) -> impl Iterator<Item = &Written> {
    spec.rules.ingress().iter().chain(spec.rules.egress())
}

#[cfg(test)]
mod tests;
