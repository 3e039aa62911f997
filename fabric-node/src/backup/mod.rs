//! Backups: the objects of all domains in one file of JSON lines, which is written on one node and read by
//! `fabric-node init --restore`. Pure: no socket, no replica, no clock. Holds no key and no fact of a host.
//!
//! ```text
//! {"fabric_backup":1,"cluster":"…","cluster_name":"fabric","node_name":"h1","taken":"…","software":"…"}
//! {"domain":"red","kind":"Network","name":"lan","versions":[{"millis":…,"logical":0,"author":"alice@h1","spec":{…}}]}
//! …
//! {"objects":1,"sha256":"…"}
//! ```
//!
//! The last line has the digest of all bytes before it: what was cut off or changed is not taken for a backup. An object
//! whose versions disagree has all of them, the shown one first. A version without `spec` and `body` is a deletion.

mod read;
mod write;

use membership::record::Body;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use read::{Backup, BackupError, Saved, read};
pub use write::Writer;

/// The format that this release writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The format of the file.
    #[serde(rename = "fabric_backup")]
    pub format: u32,
    /// Id of the cluster.
    pub cluster: String,
    /// Its name.
    pub cluster_name: String,
    /// The node that wrote it.
    pub node_name: String,
    /// When (RFC 3339).
    pub taken: String,
    /// The release that wrote it.
    pub software: String,
}

/// An object with its versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    domain: String,
    kind: String,
    name: String,
    versions: Vec<Version>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    /// Of its stamp.
    millis: u64,
    /// Of its stamp.
    logical: u32,
    author: String,
    /// What it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spec: Option<Value>,
    /// The same where the writer could not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Body>,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    objects: u64,
    sha256: String,
}

#[cfg(test)]
mod tests;
