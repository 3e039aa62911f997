//! What reads bytes from outside, as functions of bytes alone: for fuzzers (`tests/fuzz`) and for the test that replays
//! their corpus. Nothing else uses it. What a target reads it writes again and reads the same.

use std::fmt::Debug;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::api::changes::{Resolve, Rollback};
use crate::api::moment::Moment;
use crate::api::types::{Apply, Attach, FunctionLoad, TokenRequest, UserRequest};
use crate::api::version::Precondition;
use crate::backup;
use crate::config;
use crate::daemon;

/// A function of any bytes.
pub type Target = fn(&[u8]);

/// All of them with the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("fabric-node-api", api),
    ("fabric-node-call", call),
    ("fabric-node-config", config),
    ("fabric-node-moment", moment),
    ("fabric-node-backup", backup),
];

/// Bodies of requests to the API.
pub fn api(bytes: &[u8]) {
    fn same<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
        if let Ok(value) = serde_json::from_slice::<T>(bytes) {
            let written = serde_json::to_vec(&value).unwrap_or_default();
            assert_eq!(serde_json::from_slice(&written).ok(), Some(value));
        }
    }
    same::<Apply>(bytes);
    same::<Attach>(bytes);
    same::<TokenRequest>(bytes);
    same::<UserRequest>(bytes);
    same::<FunctionLoad>(bytes);
    same::<Rollback>(bytes);
    same::<Resolve>(bytes);
}

/// Calls of other nodes.
pub fn call(bytes: &[u8]) {
    daemon::read_call(bytes);
}

/// The configuration file.
pub fn config(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _read = config::Config::parse(Path::new("fuzz"), text);
    }
}

/// Moments and versions as people and clients write them.
pub fn moment(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _moment = text.parse::<Moment>();
        let _wanted = text.parse::<Precondition>();
        let _typed = Precondition::typed(text);
    }
}

/// Backups: as they are, and with a last line that fits all lines before the last.
pub fn backup(bytes: &[u8]) {
    let _read = backup::read(bytes);
    let end = bytes.trim_ascii_end().iter().rposition(|byte| *byte == b'\n');
    let lines = end.and_then(|end| bytes.get(..=end)).unwrap_or_default();
    let objects = lines.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
    let sha256 = data_encoding::HEXLOWER.encode(&Sha256::digest(lines));
    let tail = serde_json::json!({"objects": objects, "sha256": sha256}).to_string();
    let _read = backup::read([lines, tail.as_bytes(), b"\n"].concat().as_slice());
}

#[cfg(test)]
#[path = "../../tests/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &impl Serialize) -> Vec<u8> {
        serde_json::to_vec(value).expect("it has a JSON form")
    }

    fn bodies() -> Vec<Vec<u8>> {
        let attach = Attach {
            netns: Some("web".to_owned()),
            ..Attach::default()
        };
        let apply = br#"{"manifests": [{"source": "a", "text": "kind: Domain"}], "objects": [{"kind": "Domain"}], "wait": true}"#;
        vec![json(&attach), json(&TokenRequest::default()), apply.to_vec()]
    }

    #[test]
    fn no_target_fails_on_its_corpus_nor_near_it() {
        for (name, target) in TARGETS {
            let made = match *name {
                "fabric-node-api" => bodies(),
                "fabric-node-call" => vec![daemon::a_call()],
                "fabric-node-moment" => ["15m", "2026-01-31T14:00:00Z", "none", "\"v0\"", "*"]
                    .map(|text| text.as_bytes().to_vec())
                    .to_vec(),
                "fabric-node-backup" => vec![backup::an_example()],
                "fabric-node-config" => vec![config::COMMENTED_DEFAULT.as_bytes().to_vec()],
                other => panic!("no inputs for {other}"),
            };
            replay::replay(name, *target, made);
        }
    }
}
