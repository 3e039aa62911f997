//! Selectors: which endpoints of a domain, by their labels. As in Kubernetes an empty selector selects every endpoint;
//! there is no selector that was left out.

use std::collections::BTreeSet;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::PolicyError;
use crate::object::SpecError;
use crate::object::endpoint::{LabelKey, LabelValue, Labels};
use crate::object::present::{optional, present};

/// All of these must hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Selector {
    /// Labels that the endpoint has.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Labels::is_empty")]
    pub match_labels: Labels,
    /// What else holds of its labels.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Requirements::is_empty"
    )]
    pub match_expressions: Requirements,
}

impl Selector {
    /// Whether it selects an endpoint with these labels.
    #[must_use]
    pub fn selects(&self, labels: &Labels) -> bool {
        let equal = self
            .match_labels
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value));
        equal
            && self
                .match_expressions
                .iter()
                .all(|requirement| requirement.holds(labels))
    }

    /// Whether it selects every endpoint, whatever its labels.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }
}

/// Up to 32 requirements, ascending.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<Requirement>", into = "Vec<Requirement>")]
pub struct Requirements(BTreeSet<Requirement>);

impl Requirements {
    /// Most requirements of a selector.
    pub const MAX: usize = 32;

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Deref for Requirements {
    type Target = BTreeSet<Requirement>;

    fn deref(&self) -> &BTreeSet<Requirement> {
        &self.0
    }
}

impl TryFrom<Vec<Requirement>> for Requirements {
    type Error = SpecError;

    fn try_from(given: Vec<Requirement>) -> Result<Self, SpecError> {
        SpecError::limit("requirements", Self::MAX, given.len())?;
        Ok(Self(given.into_iter().collect()))
    }
}

impl From<Requirements> for Vec<Requirement> {
    fn from(requirements: Requirements) -> Self {
        requirements.0.into_iter().collect()
    }
}

/// What must hold of one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct Requirement {
    /// The label.
    pub key: LabelKey,
    /// What must hold.
    pub test: Test,
}

/// What must hold of a label. As in Kubernetes, an endpoint without the label passes `NotIn`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// It is there and has one of these values.
    In(Values),
    /// It is not there or has none of these values.
    NotIn(Values),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Requirement {
    /// Whether it holds of an endpoint with these labels.
    #[must_use]
    pub fn holds(&self, labels: &Labels) -> bool {
        match (&self.test, labels.get(self.key.as_str())) {
            (Test::In(values), Some(value)) => values.contains(value),
            (Test::NotIn(values), Some(value)) => !values.contains(value),
            (Test::Exists, Some(_)) | (Test::NotIn(_) | Test::DoesNotExist, None) => true,
            (Test::DoesNotExist, Some(_)) | (Test::In(_) | Test::Exists, None) => false,
        }
    }
}

/// One to 64 values of a label, ascending.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Values(BTreeSet<LabelValue>);

impl Values {
    /// Most values of a requirement.
    pub const MAX: usize = 64;

    /// These values, of which there must be one; `operator` is what an error calls their operator.
    pub(in crate::object) fn new(operator: &'static str, given: Vec<LabelValue>) -> Result<Self, SpecError> {
        SpecError::limit("values", Self::MAX, given.len())?;
        if given.is_empty() {
            return Err(PolicyError::NoValues(operator).into());
        }
        Ok(Self(given.into_iter().collect()))
    }
}

impl Deref for Values {
    type Target = BTreeSet<LabelValue>;

    fn deref(&self) -> &BTreeSet<LabelValue> {
        &self.0
    }
}

/// A requirement as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    key: LabelKey,
    operator: Operator,
    #[serde(default, deserialize_with = "optional", skip_serializing_if = "Option::is_none")]
    values: Option<Vec<LabelValue>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl Operator {
    fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }
}

impl TryFrom<Raw> for Requirement {
    type Error = SpecError;

    fn try_from(raw: Raw) -> Result<Self, SpecError> {
        let Raw { key, operator, values } = raw;
        let values = values.unwrap_or_default();
        let test = match operator {
            Operator::In => Test::In(Values::new(operator.as_str(), values)?),
            Operator::NotIn => Test::NotIn(Values::new(operator.as_str(), values)?),
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return Err(PolicyError::Values(operator.as_str()).into());
            }
            Operator::Exists => Test::Exists,
            Operator::DoesNotExist => Test::DoesNotExist,
        };
        Ok(Self { key, test })
    }
}

impl From<Requirement> for Raw {
    fn from(requirement: Requirement) -> Self {
        let list = |values: Values| Some(values.0.into_iter().collect());
        let (operator, values) = match requirement.test {
            Test::In(values) => (Operator::In, list(values)),
            Test::NotIn(values) => (Operator::NotIn, list(values)),
            Test::Exists => (Operator::Exists, None),
            Test::DoesNotExist => (Operator::DoesNotExist, None),
        };
        let key = requirement.key;
        Self { key, operator, values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &str) -> bool {
        let selector: Selector = serde_norway::from_str(selector).unwrap();
        selector.selects(&serde_norway::from_str(labels).unwrap())
    }

    #[test]
    fn selectors_select_as_in_kubernetes() {
        let table = [
            ("{}", "{}", true),
            ("{}", "{app: web}", true),
            ("matchLabels: {app: web}", "{app: web, tier: x}", true),
            ("matchLabels: {app: web}", "{app: db}", false),
            ("matchLabels: {app: web}", "{}", false),
            ("matchLabels: {app: web, tier: x}", "{app: web}", false),
            ("matchLabels: {app: ''}", "{app: ''}", true),
            (
                "matchExpressions: [{key: app, operator: In, values: [web, db]}]",
                "{app: db}",
                true,
            ),
            (
                "matchExpressions: [{key: app, operator: In, values: [web]}]",
                "{app: db}",
                false,
            ),
            (
                "matchExpressions: [{key: app, operator: In, values: [web]}]",
                "{}",
                false,
            ),
            (
                "matchExpressions: [{key: app, operator: NotIn, values: [web]}]",
                "{app: web}",
                false,
            ),
            (
                "matchExpressions: [{key: app, operator: NotIn, values: [web]}]",
                "{app: db}",
                true,
            ),
            (
                "matchExpressions: [{key: app, operator: NotIn, values: [web]}]",
                "{}",
                true,
            ),
            ("matchExpressions: [{key: app, operator: Exists}]", "{app: ''}", true),
            ("matchExpressions: [{key: app, operator: Exists}]", "{}", false),
            (
                "matchExpressions: [{key: app, operator: DoesNotExist}]",
                "{app: ''}",
                false,
            ),
            ("matchExpressions: [{key: app, operator: DoesNotExist}]", "{}", true),
            (
                "{matchLabels: {app: web}, matchExpressions: [{key: old, operator: DoesNotExist}]}",
                "{app: web}",
                true,
            ),
            (
                "{matchLabels: {app: web}, matchExpressions: [{key: old, operator: DoesNotExist}]}",
                "{app: web, old: y}",
                false,
            ),
        ];
        for (selector, labels, expected) in table {
            assert_eq!(selects(selector, labels), expected, "{selector} of {labels}");
        }
    }

    #[test]
    fn a_selector_that_says_nothing_clear_does_not_exist() {
        let table = [
            ("matchLabels:", "it is empty"),
            ("matchExpressions:", "it is empty"),
            (
                "matchExpressions: [{key: a, operator: In}]",
                "In needs at least one value",
            ),
            (
                "matchExpressions: [{key: a, operator: NotIn, values: []}]",
                "NotIn needs at least one value",
            ),
            ("matchExpressions: [{key: a, operator: NotIn, values: }]", "it is empty"),
            (
                "matchExpressions: [{key: a, operator: Exists, values: [x]}]",
                "Exists has no values",
            ),
            ("matchExpressions: [{key: a, operator: Is}]", "unknown variant `Is`"),
            ("matchExpressions: [{key: -a, operator: Exists}]", "a label's key is"),
            (
                "matchExpressions: [{key: a, operator: In, values: ['a b']}]",
                "a label's value is",
            ),
            ("matchLabel: {a: b}", "unknown field `matchLabel`"),
        ];
        for (text, part) in table {
            let error = serde_norway::from_str::<Selector>(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
