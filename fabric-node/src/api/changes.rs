//! The JSON of what objects were and where their versions disagree: history, differences, rollback, conflicts. Field
//! names and their order are the contract with scripts, as in [`super::types`].

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::version::Version;

/// Most entries of a history in one answer.
pub const HISTORY_LIMIT_MAX: usize = 1_000;

/// `GET /v1/domains/{domain}/history`: the versions that the answering node merged and still remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The domain.
    pub domain: String,
    /// Newest first, by the stamps of their writers.
    pub entries: Vec<HistoryEntry>,
    /// Whether older ones are remembered; ask with a higher `limit`.
    pub more: bool,
}

/// A version of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HistoryEntry {
    /// When it was written (RFC 3339).
    pub stamp: String,
    /// Its name.
    pub version: Version,
    /// Of which kind of object.
    pub kind: String,
    /// Of which object.
    pub name: String,
    /// What it did.
    pub action: Written,
    /// Who asked for it, as `user@node`.
    pub author: String,
    /// Id of the node that took it.
    pub node: String,
    /// Name of that node.
    pub node_name: String,
    /// Whether it counts.
    pub state: VersionState,
    /// It replaced a version that the answering node does not know: merged while it was away, or forgotten.
    pub gap: bool,
    /// What the object says by it; null if it is deleted, or of a later release.
    #[schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>)]
    pub spec: Option<serde_json::Value>,
}

/// What a version did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Written {
    /// The object was not there.
    Created,
    /// It said something else.
    Configured,
    /// It is gone.
    Deleted,
}

/// Whether a version counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VersionState {
    /// It is the object's version.
    Shown,
    /// It stands beside the shown one: a conflict.
    Sibling,
    /// A later one saw it.
    Replaced,
}

/// `GET /v1/domains/{domain}/history?…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryQuery {
    /// Only objects of this kind.
    pub kind: Option<String>,
    /// Only objects of this name.
    pub name: Option<String>,
    /// How many entries at most; 100 unless given, 1000 at most.
    pub limit: usize,
}

impl Default for HistoryQuery {
    fn default() -> Self {
        Self {
            kind: None,
            name: None,
            limit: 100,
        }
    }
}

/// `GET /v1/domains/{domain}/diff?at=…`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct DiffQuery {
    /// A time (RFC 3339), an age (`15m`), or a version, which stands for the moment it was written; the present unless
    /// given.
    pub at: String,
}

/// What a domain was at a moment and is at present, where that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// The domain.
    pub domain: String,
    /// The moment (RFC 3339).
    pub at: String,
    /// Objects that differ, by kind and name.
    pub objects: Vec<ObjectDiff>,
    /// Objects of which the answering node does not know what they were, as `Network red/front`.
    pub unknown: Vec<String>,
    /// Whether there are more than an answer holds.
    pub more: bool,
}

/// An object then and at present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectDiff {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What it was; null if it was not there.
    pub then: Option<Side>,
    /// What it is; null if it is not there.
    pub now: Option<Side>,
}

/// An object at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Side {
    /// Its shown version.
    pub version: Version,
    /// When that was written (RFC 3339).
    pub stamp: String,
    /// Who asked for it.
    pub author: String,
    /// What it says; null if that is of a later release.
    #[schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>)]
    pub spec: Option<serde_json::Value>,
}

/// `POST /v1/domains/{domain}/rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rollback {
    /// A time (RFC 3339), an age (`15m`), or a version, which stands for the moment it was written.
    pub to: String,
    /// Tell what would be done, and what stands in its way, and do nothing.
    pub dry_run: bool,
}

/// What a rollback did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolledBack {
    /// The domain.
    pub domain: String,
    /// To which moment (RFC 3339).
    pub to: String,
    /// Whether nothing was done.
    pub dry_run: bool,
    /// What was written, by kind and name.
    pub objects: Vec<RolledBackObject>,
}

/// What a rollback did to an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RolledBackObject {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What was done.
    pub action: Written,
    /// The version that it says the same as again; null if it is deleted.
    pub as_of: Option<Version>,
}

/// `GET /v1/conflicts?…`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields, default)]
pub struct ConflictsQuery {
    /// Only of this domain.
    pub domain: Option<String>,
}

/// `GET /v1/conflicts`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Conflicts {
    /// Objects that were written on several nodes at once, by domain, kind and name.
    pub conflicts: Vec<Conflict>,
    /// Writes that count on no node: the node that took them was removed before a majority of the anchors saw them. Only
    /// those that came to this node, at most 1,000, by domain, kind and name.
    pub void: Vec<VoidVersion>,
}

/// A write that counts on no node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VoidVersion {
    /// The domain it was to belong to.
    pub domain: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Names what was written.
    pub version: Version,
    /// When it was written (RFC 3339).
    pub stamp: String,
    /// Who asked for it, as `user@node`.
    pub author: String,
    /// Id of the removed node that took it.
    pub node: String,
    /// What that node was called.
    pub node_name: String,
    /// Whether it was to delete the object.
    pub deleted: bool,
    /// What the object was to be; null if it was to be deleted, or is of a later release.
    #[schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>)]
    pub spec: Option<serde_json::Value>,
}

/// An object whose versions disagree, until somebody who saw them all writes it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Conflict {
    /// Its domain.
    pub domain: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// The object's version, made from all of these: who gives it has seen them.
    pub version: Version,
    /// What is in force meanwhile.
    pub in_force: String,
    /// The shown one first.
    pub versions: Vec<ConflictVersion>,
}

/// One of several versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConflictVersion {
    /// Its name, to take it.
    pub version: Version,
    /// When it was written (RFC 3339).
    pub stamp: String,
    /// Who asked for it, as `user@node`.
    pub author: String,
    /// Id of the node that took it.
    pub node: String,
    /// Name of that node.
    pub node_name: String,
    /// Whether it deletes the object.
    pub deleted: bool,
    /// Fields in which it differs from the shown version, as `spec.subnets`.
    pub differs: Vec<String>,
    /// What it says; null if it deletes the object, or is of a later release.
    #[schema(value_type = Option<std::collections::BTreeMap<String, serde_json::Value>>)]
    pub spec: Option<serde_json::Value>,
}

/// `POST /v1/domains/{domain}/{kind}/{name}/resolve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resolve {
    /// Which of the versions the object is to have.
    pub take: Version,
}

/// What settling a conflict did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Resolved {
    /// The object's domain.
    pub domain: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether it was deleted.
    pub deleted: bool,
    /// The version whose words it has.
    pub took: Version,
}
