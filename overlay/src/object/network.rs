//! Network: an L2 segment of a domain.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::name::Vni;

/// The content of a Network. Subnets of one domain do not overlap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NetworkSpec {
    /// At most 8, without host bits.
    pub subnets: Vec<IpNet>,
    /// Chosen by the fabric when absent from the manifest; always there in a stored object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// In bytes; when absent, the smallest underlay MTU of all hosts less 70.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}
