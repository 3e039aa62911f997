//! SecurityPolicy: ordered rules for the connections of the endpoints that it applies to.

mod error;
mod ports;
mod rule;
mod selector;

use serde::{Deserialize, Serialize};

use super::SpecError;
use super::present::{optional, present};
use rule::{Egress, Ingress};

pub use error::PolicyError;
pub use ports::{PortRange, Ports};
pub use rule::{Action, Cidrs, Peer, Rule, Traffic};
pub use selector::{Requirement, Requirements, Selector, Test, Values};

/// The content of a SecurityPolicy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct SecurityPolicySpec {
    /// Of two policies the one with the higher priority is asked first; at the same priority the lower name.
    pub priority: u16,
    /// The endpoints whose connections it speaks of.
    pub applies_to: Selector,
    /// What it says of them.
    pub rules: Rules,
}

impl SecurityPolicySpec {
    /// The priority of a policy that names none.
    pub const PRIORITY: u16 = 1000;
}

/// Up to 256 rules, each list in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    ingress: Vec<Rule>,
    egress: Vec<Rule>,
}

impl Rules {
    /// Most rules of a policy.
    pub const MAX: usize = 256;

    /// These rules, if they are not too many.
    pub fn new(ingress: Vec<Rule>, egress: Vec<Rule>) -> Result<Self, PolicyError> {
        match ingress.len() + egress.len() {
            0..=Self::MAX => Ok(Self { ingress, egress }),
            given => Err(PolicyError::Rules(given)),
        }
    }

    /// For connections that the endpoints receive.
    #[must_use]
    pub fn ingress(&self) -> &[Rule] {
        &self.ingress
    }

    /// For connections that the endpoints open.
    #[must_use]
    pub fn egress(&self) -> &[Rule] {
        &self.egress
    }
}

/// A SecurityPolicy as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    #[serde(default, deserialize_with = "optional")]
    priority: Option<u64>,
    #[serde(deserialize_with = "present")]
    applies_to: Selector,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Vec::is_empty")]
    ingress: Vec<Ingress>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Vec::is_empty")]
    egress: Vec<Egress>,
}

impl TryFrom<Raw> for SecurityPolicySpec {
    type Error = SpecError;

    fn try_from(raw: Raw) -> Result<Self, SpecError> {
        let priority = raw.priority.unwrap_or_else(|| Self::PRIORITY.into());
        let ingress = raw.ingress.into_iter().map(|Ingress(rule)| rule).collect();
        let egress = raw.egress.into_iter().map(|Egress(rule)| rule).collect();
        Ok(Self {
            priority: u16::try_from(priority).map_err(|_| PolicyError::Priority(priority))?,
            applies_to: raw.applies_to,
            rules: Rules::new(ingress, egress)?,
        })
    }
}

impl From<SecurityPolicySpec> for Raw {
    fn from(spec: SecurityPolicySpec) -> Self {
        Self {
            priority: Some(spec.priority.into()),
            applies_to: spec.applies_to,
            ingress: spec.rules.ingress.into_iter().map(Ingress).collect(),
            egress: spec.rules.egress.into_iter().map(Egress).collect(),
        }
    }
}
