//! Labels: what selectors select endpoints by.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SpecError;

/// Up to 32 keys with their values, ascending by key. Every endpoint of the cluster has some on every host: what they take is
/// what is in them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Most labels of an endpoint.
    pub const MAX: usize = 32;
    /// Longest key, longest value, in characters.
    pub const TEXT_MAX: usize = 63;

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(other, _)| (**other).cmp(key)).ok()?;
        Some(&self.0.get(at)?.1)
    }

    /// Keys with their values, ascending by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<BTreeMap<String, String>> for Labels {
    type Error = SpecError;

    fn try_from(labels: BTreeMap<String, String>) -> Result<Self, SpecError> {
        SpecError::limit("labels", Self::MAX, labels.len())?;
        for (key, value) in &labels {
            LabelKey::check(key)?;
            if !is_label_value(value) {
                return Err(SpecError::LabelValue {
                    key: key.clone(),
                    value: value.clone(),
                });
            }
        }
        let pairs = labels.into_iter().map(|(key, value)| (key.into(), value.into()));
        Ok(Self(pairs.collect()))
    }
}

/// A label's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelKey(String);

impl LabelKey {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn check(key: &str) -> Result<(), SpecError> {
        if is_label_key(key) {
            Ok(())
        } else {
            Err(SpecError::LabelKey(key.to_owned()))
        }
    }
}

impl TryFrom<String> for LabelKey {
    type Error = SpecError;

    fn try_from(key: String) -> Result<Self, SpecError> {
        Self::check(&key)?;
        Ok(Self(key))
    }
}

impl From<LabelKey> for String {
    fn from(key: LabelKey) -> Self {
        key.0
    }
}

/// A label's value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelValue(String);

impl LabelValue {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LabelValue {
    type Error = SpecError;

    fn try_from(value: String) -> Result<Self, SpecError> {
        if is_label_value(&value) {
            Ok(Self(value))
        } else {
            Err(SpecError::NoLabelValue(value))
        }
    }
}

impl From<LabelValue> for String {
    fn from(value: LabelValue) -> Self {
        value.0
    }
}

/// Sets of values are asked for texts.
impl Borrow<str> for LabelValue {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn is_label_value(value: &str) -> bool {
    value.len() <= Labels::TEXT_MAX && value.bytes().all(|c| is_label_byte(c) && c != b'/')
}

fn is_label_key(key: &str) -> bool {
    let bytes = key.as_bytes();
    let ends =
        bytes.first().is_some_and(u8::is_ascii_alphanumeric) && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
    ends && bytes.len() <= Labels::TEXT_MAX && bytes.iter().all(|c| is_label_byte(*c))
}

fn is_label_byte(c: u8) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-' | b'/')
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        let pairs = labels.0.into_iter();
        pairs.map(|(key, value)| (key.into(), value.into())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Result<Labels, SpecError> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<BTreeMap<_, _>>()
            .try_into()
    }

    #[test]
    fn labels_have_limits() {
        let long = "x".repeat(64);
        assert!(labels(&[("app.kubernetes.io/name", "web-1"), ("empty", "")]).is_ok());
        for key in ["", "-a", "a/", "a b", "ä", &long] {
            assert_eq!(labels(&[(key, "")]), Err(SpecError::LabelKey(key.to_owned())));
        }
        for value in ["a b", "a/b", "\u{1b}", &long] {
            assert!(
                matches!(labels(&[("k", value)]), Err(SpecError::LabelValue { .. })),
                "{value:?}"
            );
        }
        let many: BTreeMap<String, String> = (0..33).map(|n| (n.to_string(), String::new())).collect();
        assert!(matches!(
            Labels::try_from(many),
            Err(SpecError::TooMany { given: 33, .. })
        ));
    }
}
