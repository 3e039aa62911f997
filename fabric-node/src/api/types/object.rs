//! Objects, and what is done with them: applied, deleted, attached.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::PeerState;
use crate::api::version::Version;

/// An object with what is known of it. Without `status` it is a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Object {
    /// `Domain`, `Network`, `Endpoint`, `Router` or `SecurityPolicy`.
    pub kind: String,
    /// The domain it belongs to.
    pub domain: String,
    /// Its name.
    pub name: String,
    /// What was written last; also its `ETag`. A manifest that has it changes the object only if it is still so.
    pub version: Version,
    /// What it says.
    #[schema(value_type = BTreeMap<String, serde_json::Value>)]
    pub spec: serde_json::Value,
    /// What is known of it.
    pub status: ObjectStatus,
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ObjectStatus {
    /// When its shown version was written (RFC 3339).
    pub stamp: String,
    /// Who asked for it, as `user@node`.
    pub author: String,
    /// Versions that were written at the same time and disagree; 1 unless there is a conflict.
    pub versions: usize,
    /// Why it is not (wholly) in force.
    pub conditions: Vec<Condition>,
    /// An endpoint's addresses: fixed, computed and claimed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Where an endpoint is attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
    /// A network's VXLAN number in force; none where a condition says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<u32>,
    /// A network's MTU in force, in bytes: the interfaces of its workloads have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Which hosts have it programmed; only in the answer about one object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programmed: Option<Programmed>,
}

/// Why an object is not (wholly) in force.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct Condition {
    /// Stable, as `VniConflict`.
    pub reason: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Where an endpoint is attached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// Id of the node.
    pub node: String,
    /// Name of the node.
    pub name: String,
    /// How that node looks from here; `live` for itself.
    pub state: PeerState,
    /// How often the endpoint was attached.
    pub counter: u64,
    /// `interface tap0` or `netns /run/netns/web (eth0)`.
    pub binding: String,
}

/// Which hosts have something in force, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Programmed {
    /// They have.
    pub hosts: Vec<String>,
    /// They were reached and have not yet.
    pub pending: Vec<String>,
    /// They could not be reached.
    pub unreachable: Vec<String>,
}

/// `POST /v1/apply`: manifests as texts, objects, or both.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Apply {
    /// YAML or JSON texts with any number of documents each.
    pub manifests: Vec<Manifest>,
    /// Objects: `{kind, domain, name, spec}`, and `version` if it must be that.
    #[schema(value_type = Vec<BTreeMap<String, serde_json::Value>>)]
    pub objects: Vec<serde_json::Value>,
    /// Return when all reachable hosts have programmed it, after 30 s at most.
    pub wait: bool,
}

/// A text with objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Where it came from, for messages.
    pub source: String,
    /// YAML or JSON.
    pub text: String,
}

/// What `apply` did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Applied {
    /// Every object, in the order of the manifests.
    pub objects: Vec<AppliedObject>,
    /// What did not go as it should.
    pub warnings: Vec<String>,
    /// With `wait`: which hosts have it in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programmed: Option<Programmed>,
}

/// What `apply` did to an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppliedObject {
    /// Its kind.
    pub kind: String,
    /// Its domain.
    pub domain: String,
    /// Its name.
    pub name: String,
    /// What was done.
    pub action: Action,
    /// Its version behind that; null if that cannot be told.
    pub version: Option<Version>,
}

/// What `apply` does to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was not there.
    Created,
    /// It was there and said something else.
    Configured,
    /// It was there as it is.
    Unchanged,
}

/// What `delete` removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Deleted {
    /// Every object that is gone, as `Kind domain/name`, in the order of removal.
    pub deleted: Vec<String>,
}

/// `GET …?programmed=false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct DescribeQuery {
    /// Ask the hosts which of them have it in force; true unless given.
    pub programmed: bool,
}

impl Default for DescribeQuery {
    fn default() -> Self {
        Self { programmed: true }
    }
}

/// `DELETE …?cascade=true`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct DeleteQuery {
    /// Delete what depends on it as well.
    pub cascade: bool,
}

/// `POST /v1/endpoints/{domain}/{name}/attach`: exactly one of `netns` and `interface`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Attach {
    /// A network namespace, by name (under /run/netns) or absolute path.
    pub netns: Option<String>,
    /// Name of the interface made inside the namespace; eth0 unless given.
    pub ifname: Option<String>,
    /// An interface of the host that exists.
    pub interface: Option<String>,
}

/// What `attach` made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Attached {
    /// The domain.
    pub domain: String,
    /// The endpoint.
    pub endpoint: String,
    /// Name of the node.
    pub node: String,
    /// The host side of its interface.
    pub interface: String,
    /// Its MAC address.
    pub mac: String,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<String>,
    /// What is not as it should be yet, as hosts that did not confirm in time.
    pub warnings: Vec<String>,
}

/// What `detach` did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Detached {
    /// The domain.
    pub domain: String,
    /// The endpoint.
    pub endpoint: String,
    /// Whether it was attached here before.
    pub was_attached: bool,
}
