//! Domain: the isolation unit of a tenant. Addresses of different domains may overlap.

use serde::{Deserialize, Serialize};

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
}

/// The content of a Domain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct DomainSpec {
    /// For people, up to 256 characters.
    pub description: String,
    /// Deny unless it says otherwise.
    pub default_policy: DefaultPolicy,
    /// VXLAN unless it says otherwise.
    pub encapsulation: Encapsulation,
}
