//! What a packet leaves behind in counters, besides its verdict (the head's last table).

use super::Reason;
use crate::forwarding::{Direction, Rule};
use crate::name::{DomainName, EndpointName, PolicyName};

/// What is counted of a packet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// For whom a drop is counted: nobody, a domain, or an endpoint of it.
    pub owner: Option<(DomainName, Option<EndpointName>)>,
    /// Copies of a group frame that were not made, by whom each is counted for: the endpoint that would have got it, or the
    /// sender where it was for another host. Each counts as a drop of the whole frame.
    pub copies: Vec<(EndpointName, Reason)>,
    /// The audit rules that it matched, in their order.
    pub audits: Vec<Audit>,
    /// The length of the IP packet that rules were asked about: what audits count in bytes.
    pub length: usize,
}

/// An audit rule that a packet matched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Audit {
    /// Whose rule it is.
    pub policy: PolicyName,
    /// In which of the policy's lists it is.
    pub direction: Direction,
    /// Where it stands in that list.
    pub number: u16,
}

impl Audit {
    pub(super) fn of(rule: &Rule) -> Self {
        Self {
            policy: rule.policy.clone(),
            direction: rule.direction,
            number: rule.number,
        }
    }
}
