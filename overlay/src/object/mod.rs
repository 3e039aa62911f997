//! The objects an operator writes. A value of these types obeys every rule that can be checked on it alone; rules
//! between objects are [`crate::admission`]'s.

pub mod domain;
pub mod endpoint;
pub mod network;

use membership::id::Label;
use serde::{Deserialize, Serialize};

pub use domain::DomainSpec;
pub use endpoint::EndpointSpec;
pub use network::NetworkSpec;

/// The kinds of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A tenant's isolation unit.
    Domain,
    /// An L2 segment.
    Network,
    /// A workload's port.
    Endpoint,
}

/// What an object of a kind says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// See [`DomainSpec`].
    Domain(DomainSpec),
    /// See [`NetworkSpec`].
    Network(NetworkSpec),
    /// See [`EndpointSpec`].
    Endpoint(EndpointSpec),
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
