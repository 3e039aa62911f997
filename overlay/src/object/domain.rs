//! Domain: the isolation unit of a tenant. Addresses of different domains may overlap.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::SpecError;

/// What happens to a packet inside a domain that no policy speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DefaultPolicy {
    /// It is dropped.
    #[default]
    Deny,
    /// It is forwarded.
    Allow,
}

/// How a domain's packets travel between hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// RFC 7348.
    #[default]
    Vxlan,
    /// RFC 8926.
    Geneve,
}

/// The content of a Domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct DomainSpec {
    /// For people.
    pub description: Description,
    /// Deny unless it says otherwise.
    pub default_policy: DefaultPolicy,
    /// VXLAN unless it says otherwise.
    pub encapsulation: Encapsulation,
}

/// A text for people: up to 256 characters, none of them a control character.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Description(String);

impl Description {
    /// Most characters.
    pub const MAX: usize = 256;

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Description {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        let given = text.chars().count();
        if given > Self::MAX {
            Err(SpecError::TooLong { max: Self::MAX, given })
        } else if text.chars().any(char::is_control) {
            Err(SpecError::ControlCharacter)
        } else {
            Ok(Self(text))
        }
    }
}

impl From<Description> for String {
    fn from(description: Description) -> Self {
        description.0
    }
}

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_short_and_printable() {
        assert!(Description::try_from("ä".repeat(256)).is_ok());
        let long = Description::try_from("ä".repeat(257));
        assert_eq!(long, Err(SpecError::TooLong { max: 256, given: 257 }));
        assert_eq!(
            Description::try_from("red\u{1b}[31m".to_owned()),
            Err(SpecError::ControlCharacter)
        );
    }
}
