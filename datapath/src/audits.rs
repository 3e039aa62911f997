//! What audit rules counted, under the names of their policies.

use std::collections::BTreeMap;

use datapath_common::{Count, MemberKey};
use overlay::forwarding::{Action, Direction, Forwarding};
use overlay::name::{DomainName, PolicyName};

use crate::numbers::{Name, Numbers};
use crate::tables::Tables;

/// One line of the audit counters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditCount {
    /// The domain.
    pub domain: DomainName,
    /// The policy.
    pub policy: PolicyName,
    /// Which of the policy's lists the rule is in.
    pub direction: Direction,
    /// Where the rule stands in that list, from 0.
    pub number: u16,
    /// Packets that opened a connection (or were looked at by rules again) and matched, since the rules of this direction
    /// were changed last.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The audit rules in force, by domain: where each stands in the list of its direction, and what it is called.
#[derive(Debug, Default)]
pub(crate) struct Audited(BTreeMap<DomainName, Vec<(Direction, u32, PolicyName, u16)>>);

impl Audited {
    /// These rules are in force.
    pub(crate) fn set(&mut self, wanted: &Forwarding) {
        self.0.remove(&wanted.domain);
        let mut rules = Vec::new();
        for direction in [Direction::Egress, Direction::Ingress] {
            let list = wanted.rules.iter().filter(|rule| rule.direction == direction);
            let audits = (0..).zip(list).filter(|(_, rule)| rule.action == Action::Audit);
            rules.extend(audits.map(|(index, rule)| (direction, index, rule.policy.clone(), rule.number)));
        }
        if !rules.is_empty() {
            self.0.insert(wanted.domain.clone(), rules);
        }
    }

    /// The counters of all these rules; those of a policy's concurrent versions are added up.
    pub(crate) fn named(
        &self,
        counts: &BTreeMap<MemberKey, Count>,
        numbers: &Numbers,
        installed: &Tables,
    ) -> Vec<AuditCount> {
        let mut lines: BTreeMap<_, Count> = BTreeMap::new();
        for (domain, rules) in &self.0 {
            let name = Name {
                domain: domain.clone(),
                endpoint: None,
            };
            let Some(sets) = numbers.number(&name).and_then(|number| installed.domains.get(&number)) else {
                continue;
            };
            for (direction, index, policy, number) in rules {
                let set = match direction {
                    Direction::Egress => sets.egress,
                    Direction::Ingress => sets.ingress,
                };
                let none = Count { packets: 0, bytes: 0 };
                let count = counts.get(&MemberKey { set, index: *index }).unwrap_or(&none);
                let line = lines.entry((domain, policy, *direction, *number)).or_insert(none);
                line.packets = line.packets.saturating_add(count.packets);
                line.bytes = line.bytes.saturating_add(count.bytes);
            }
        }
        let line =
            |((domain, policy, direction, number), count): ((&DomainName, &PolicyName, _, _), Count)| AuditCount {
                domain: domain.clone(),
                policy: policy.clone(),
                direction,
                number,
                packets: count.packets,
                bytes: count.bytes,
            };
        lines.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use datapath_common::Domain;
    use overlay::forwarding::{Peer, Protocol, Rule};

    use super::*;
    use crate::lower::fixture::forwarding;

    fn rule(policy: &str, number: u16, version: u16, direction: Direction, action: Action) -> Rule {
        Rule {
            policy: policy.parse().expect("a label"),
            number,
            version,
            versions: 2,
            direction,
            subject: None,
            peer: Peer::Any,
            protocol: Protocol::Any,
            action,
        }
    }

    #[test]
    fn counters_are_found_by_the_set_and_the_place_in_it() {
        let mut wanted = forwarding("red");
        wanted.rules = vec![
            rule("web", 0, 0, Direction::Ingress, Action::Allow),
            rule("web", 0, 0, Direction::Egress, Action::Audit),
            rule("web", 1, 0, Direction::Ingress, Action::Audit),
            rule("web", 1, 1, Direction::Ingress, Action::Audit),
        ];
        let mut audited = Audited::default();
        audited.set(&wanted);
        let name = |domain: &str| Name {
            domain: domain.parse().expect("a label"),
            endpoint: None,
        };
        let numbers = Numbers::from_iter([(7, name("red")), (8, name("blue"))]);
        let domain = Domain {
            flags: 0,
            slot: 0,
            egress: 3,
            egress_rules: 1,
            ingress: 4,
            ingress_rules: 3,
            chain_flow: 0,
            chain_packet: 0,
        };
        let installed = Tables {
            domains: [(7, domain)].into(),
            ..Tables::default()
        };
        let count = |packets| Count {
            packets,
            bytes: packets * 100,
        };
        let key = |set, index| MemberKey { set, index };
        let counts = [
            (key(4, 1), count(5)),
            (key(4, 2), count(2)),
            (key(4, 0), count(9)),
            (key(9, 0), count(1)),
        ]
        .into();
        let line = |direction, number, packets| AuditCount {
            domain: "red".parse().expect("a label"),
            policy: "web".parse().expect("a label"),
            direction,
            number,
            packets,
            bytes: packets * 100,
        };
        assert_eq!(
            audited.named(&counts, &numbers, &installed),
            [line(Direction::Ingress, 1, 7), line(Direction::Egress, 0, 0)]
        );
        wanted.rules.clear();
        audited.set(&wanted);
        assert_eq!(audited.named(&counts, &numbers, &installed), []);
    }
}
