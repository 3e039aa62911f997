//! What reads bytes from outside, as functions of bytes alone: for fuzzers (`tests/fuzz`) and for the test that replays
//! their corpus. Nothing else uses it. What a target reads it writes again and reads the same.

use std::fmt::Debug;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::types::{Apply, Attach, FunctionLoad, TokenRequest, UserRequest};
use crate::config;
use crate::daemon;

/// A function of any bytes.
pub type Target = fn(&[u8]);

/// All of them with the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("fabric-node-api", api),
    ("fabric-node-call", call),
    ("fabric-node-config", config),
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
                "fabric-node-config" => vec![config::COMMENTED_DEFAULT.as_bytes().to_vec()],
                other => panic!("no inputs for {other}"),
            };
            replay::replay(name, *target, made);
        }
    }
}
