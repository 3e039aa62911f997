//! Endpoint: a workload's port in a network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use membership::id::Label;
use serde::{Deserialize, Serialize};

use crate::name::Mac;

/// The content of an Endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EndpointSpec {
    /// The network it is in.
    pub network: Label,
    /// Computed from (domain, name) when absent from the manifest; always there in a stored object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Fixed addresses. For each subnet of the network in which none is given, one is allocated: IPv6 is computed
    /// when the object is stored, IPv4 is claimed by the host that attaches it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// For selectors.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Node names it may be attached on; empty means any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_hosts: Vec<Label>,
}
