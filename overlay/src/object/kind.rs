//! The kinds of object and how they are keyed among the records.

use std::fmt;
use std::str::FromStr;

use membership::id::Label;
use membership::record::Key;
use serde::{Deserialize, Serialize};

use crate::near;

/// The kinds of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A tenant's isolation unit.
    Domain,
    /// An L2 segment.
    Network,
    /// A workload's port.
    Endpoint,
    /// What joins networks.
    Router,
    /// Rules for connections.
    SecurityPolicy,
}

/// The text names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no kind {given:?}; {}kinds are {kinds}", meant(*nearest), kinds = Kind::ALL.map(Kind::as_str).join(", "))]
pub struct UnknownKind {
    /// As written.
    pub given: String,
    /// The kind whose name is most like it, if one is near.
    pub nearest: Option<Kind>,
}

impl Kind {
    /// Every kind; an object only refers to objects of kinds before its own.
    pub const ALL: [Self; 5] = [
        Self::Domain,
        Self::Network,
        Self::Endpoint,
        Self::Router,
        Self::SecurityPolicy,
    ];

    /// Its name in manifests and as key kind of records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Domain => "Domain",
            Self::Network => "Network",
            Self::Endpoint => "Endpoint",
            Self::Router => "Router",
            Self::SecurityPolicy => "SecurityPolicy",
        }
    }

    /// The name of many, in lower case.
    #[must_use]
    pub fn plural(self) -> &'static str {
        match self {
            Self::Domain => "domains",
            Self::Network => "networks",
            Self::Endpoint => "endpoints",
            Self::Router => "routers",
            Self::SecurityPolicy => "securitypolicies",
        }
    }

    /// The key of an object of this kind in its domain's scope.
    #[must_use]
    pub fn key(self, name: &Label) -> Key {
        Key::new(self.as_str(), name.as_str())
    }

    /// The kind and name that a key stands for; none if it is no object's.
    #[must_use]
    pub fn of_key(key: &Key) -> Option<(Self, Label)> {
        let kind = Self::ALL.into_iter().find(|kind| kind.as_str() == &*key.kind)?;
        Some((kind, key.name.parse().ok()?))
    }
}

/// As people type it: in any case, in singular or plural.
impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let typed = text.to_ascii_lowercase();
        let called = |name: &str| {
            Self::ALL
                .into_iter()
                .find(|kind| kind.as_str().eq_ignore_ascii_case(name) || kind.plural() == name)
        };
        let words = Self::ALL.into_iter().flat_map(|kind| [kind.as_str(), kind.plural()]);
        called(&typed).ok_or_else(|| UnknownKind {
            given: text.to_owned(),
            nearest: near::nearest(&typed, words).and_then(|word| called(&word.to_ascii_lowercase())),
        })
    }
}

fn meant(nearest: Option<Kind>) -> String {
    nearest.map(|kind| format!("did you mean {kind}? ")).unwrap_or_default()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_may_type_a_kind_in_any_case_and_number() {
        for (text, kind) in [
            ("domain", Kind::Domain),
            ("Networks", Kind::Network),
            ("ENDPOINT", Kind::Endpoint),
            ("routers", Kind::Router),
            ("SecurityPolicies", Kind::SecurityPolicy),
        ] {
            assert_eq!(text.parse(), Ok(kind));
        }
        let error = "Endpiont".parse::<Kind>().unwrap_err();
        assert_eq!(
            error,
            UnknownKind {
                given: "Endpiont".to_owned(),
                nearest: Some(Kind::Endpoint)
            }
        );
        assert!(
            error.to_string().contains("; did you mean Endpoint? kinds are"),
            "{error}"
        );
        let error = "Deployment".parse::<Kind>().unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }

    #[test]
    fn a_key_stands_for_a_kind_and_a_name() {
        let name: Label = "web-1".parse().unwrap();
        for kind in Kind::ALL {
            assert_eq!(Kind::of_key(&kind.key(&name)), Some((kind, name.clone())));
        }
        for key in [
            Key::new("Bridge", "r"),
            Key::new("network", "n"),
            Key::new("Network", "UPPER"),
        ] {
            assert_eq!(Kind::of_key(&key), None, "{key}");
        }
    }
}
