//! The objects an operator writes. A value of these types obeys every rule that can be checked on it alone (each field
//! is of a type that can only exist valid); rules between objects are [`crate::admission`]'s.

mod allowed;
pub mod body;
pub mod domain;
pub mod endpoint;
pub mod error;
pub mod kind;
mod labels;
pub mod network;
pub mod policy;
mod present;
pub mod router;

use membership::id::{Label, Scope};
use membership::record::Key;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

pub use domain::DomainSpec;
pub use endpoint::EndpointSpec;
pub use error::SpecError;
pub use kind::Kind;
pub use network::NetworkSpec;
pub use policy::SecurityPolicySpec;
pub use router::RouterSpec;

/// What an object of a kind says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// See [`DomainSpec`].
    Domain(DomainSpec),
    /// See [`NetworkSpec`].
    Network(NetworkSpec),
    /// See [`EndpointSpec`].
    Endpoint(EndpointSpec),
    /// See [`RouterSpec`].
    Router(RouterSpec),
    /// See [`SecurityPolicySpec`].
    SecurityPolicy(SecurityPolicySpec),
}

/// One object. A `Domain`'s name is its domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// The domain it belongs to.
    pub domain: Label,
    /// Unique within (domain, kind).
    pub name: Label,
    /// What it says; its variant is the object's kind.
    pub spec: Spec,
}

impl Spec {
    /// The kind of object that says this.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Domain(_) => Kind::Domain,
            Self::Network(_) => Kind::Network,
            Self::Endpoint(_) => Kind::Endpoint,
            Self::Router(_) => Kind::Router,
            Self::SecurityPolicy(_) => Kind::SecurityPolicy,
        }
    }
}

impl Object {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.spec.kind()
    }

    /// The replication scope it is in.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::Domain(self.domain.clone())
    }

    /// Its key in that scope.
    #[must_use]
    pub fn key(&self) -> Key {
        self.kind().key(&self.name)
    }
}

impl Serialize for Spec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Domain(spec) => spec.serialize(serializer),
            Self::Network(spec) => spec.serialize(serializer),
            Self::Endpoint(spec) => spec.serialize(serializer),
            Self::Router(spec) => spec.serialize(serializer),
            Self::SecurityPolicy(spec) => spec.serialize(serializer),
        }
    }
}

/// The manifest form: `kind`, `domain` (not for a Domain), `name`, `spec`. [`crate::manifest::parse`] reads it back.
impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", self.kind().as_str())?;
        if self.kind() != Kind::Domain {
            map.serialize_entry("domain", &self.domain)?;
        }
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("spec", &self.spec)?;
        map.end()
    }
}
