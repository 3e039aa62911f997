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

/// All kinds.
#[must_use]
pub fn all() -> Vec<KindInfo> {
    let info = |kind: Kind| KindInfo {
        kind: kind.to_string(),
        plural: kind.plural().to_owned(),
        short: short(kind).to_owned(),
        description: description(kind).to_owned(),
    };
    Kind::ALL.into_iter().map(info).collect()
}

/// The kind that a person means: singular, plural or short, in any case. The error names the nearest one.
pub fn parse(text: &str) -> Result<Kind, String> {
    let lower = text.to_ascii_lowercase();
    let lower = if lower == "policies" {
        short(Kind::SecurityPolicy)
    } else {
        &lower
    };
    match Kind::ALL.into_iter().find(|kind| short(*kind) == lower) {
        Some(kind) => Ok(kind),
        None => text
            .parse()
            .map_err(|error: overlay::object::kind::UnknownKind| error.to_string()),
    }
}

fn short(kind: Kind) -> &'static str {
    match kind {
        Kind::Domain => "dom",
        Kind::Network => "net",
        Kind::Endpoint => "ep",
        Kind::Router => "rt",
        Kind::SecurityPolicy => "policy",
    }
}

fn description(kind: Kind) -> &'static str {
    match kind {
        Kind::Domain => "isolation unit of a tenant",
        Kind::Network => "L2 segment of a domain",
        Kind::Endpoint => "a workload's port in a network",
        Kind::Router => "joins networks of a domain",
        Kind::SecurityPolicy => "which connections the endpoints of a domain may have",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_many_names() {
        for text in ["Network", "network", "networks", "NET"] {
            assert_eq!(parse(text), Ok(Kind::Network), "{text}");
        }
        for text in ["SecurityPolicy", "securitypolicies", "policy", "Policies"] {
            assert_eq!(parse(text), Ok(Kind::SecurityPolicy), "{text}");
        }
        let error = parse("netwrk").expect_err("no kind");
        assert!(error.contains("did you mean Network?"), "{error}");
        for info in all() {
            for name in [&info.kind, &info.plural, &info.short] {
                assert_eq!(
                    parse(name).map(|kind| kind.to_string()),
                    Ok(info.kind.clone()),
                    "{name}"
                );
            }
        }
    }
}
