//! The kinds of object, under the names people use for them.

use overlay::object::Kind;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /v1/kinds`: a kind and what it may be called in paths and on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KindInfo {
    /// As in manifests.
    pub kind: String,
    /// As in paths.
    pub plural: String,
    /// For the lazy.
    pub short: String,
    /// What it is.
    pub description: String,
}

/// Kind, its name, plural, short form, description.
const NAMES: &[(Kind, &str, &str, &str, &str)] = &[
    (Kind::Domain, "Domain", "domains", "dom", "isolation unit of a tenant"),
    (Kind::Network, "Network", "networks", "net", "L2 segment of a domain"),
    (
        Kind::Endpoint,
        "Endpoint",
        "endpoints",
        "ep",
        "a workload's port in a network",
    ),
];

/// All kinds.
#[must_use]
pub fn all() -> Vec<KindInfo> {
    let info = |&(_, kind, plural, short, description): &(Kind, &str, &str, &str, &str)| KindInfo {
        kind: kind.to_owned(),
        plural: plural.to_owned(),
        short: short.to_owned(),
        description: description.to_owned(),
    };
    NAMES.iter().map(info).collect()
}

/// The kind as manifests call it.
#[must_use]
pub fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Domain => "Domain",
        Kind::Network => "Network",
        Kind::Endpoint => "Endpoint",
    }
}

/// The kind that a person means: singular, plural or short, in any case.
#[must_use]
pub fn find(text: &str) -> Option<Kind> {
    let text = text.to_ascii_lowercase();
    let named = |entry: &&(Kind, &str, &str, &str, &str)| {
        entry.1.to_ascii_lowercase() == text || entry.2 == text || entry.3 == text
    };
    NAMES.iter().find(named).map(|entry| entry.0)
}

/// What to say about a text that is no kind.
#[must_use]
pub fn unknown(text: &str) -> String {
    let known = || NAMES.iter().map(|entry| entry.1);
    let lower = text.to_ascii_lowercase();
    let nearest = known().min_by_key(|kind| strsim::damerau_levenshtein(&kind.to_ascii_lowercase(), &lower));
    let list = known().collect::<Vec<_>>().join(", ");
    format!(
        "unknown kind {text:?}; did you mean {}? The kinds are {list}",
        nearest.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_many_names() {
        for text in ["Network", "network", "networks", "NET"] {
            assert_eq!(find(text), Some(Kind::Network), "{text}");
        }
        assert_eq!(find("netwrk"), None);
        assert!(unknown("netwrk").contains("did you mean Network?"));
        for info in all() {
            assert_eq!(find(&info.kind).map(name), Some(info.kind.as_str()));
        }
    }
}
