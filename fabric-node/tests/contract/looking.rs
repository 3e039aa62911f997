//! What the made-up daemon says of the past and of conflicts.

use fabric_node::api::changes::*;
use fabric_node::api::error::{ApiError, Code, Detail};
use fabric_node::api::version::Version;
use fabric_node::backup::{self, Head, Writer};
use membership::hlc::Stamp;
use membership::id::{Label, NodeId};
use membership::record::{Dot, Intent, VersionVector};
use serde_json::{Value, json};

fn text(text: &str) -> String {
    text.to_owned()
}

fn version(digit: char) -> Version {
    let digits: String = std::iter::repeat_n(digit, 16).collect();
    format!("v{digits}").parse().expect("a version")
}

fn spec(subnet: &str) -> Value {
    json!({"subnets": [subnet], "vni": 4711})
}

fn entry(digit: char, action: Written, state: VersionState, spec: Option<Value>) -> HistoryEntry {
    HistoryEntry {
        stamp: format!("2026-01-02T03:04:0{digit}Z"),
        version: version(digit),
        kind: text("Network"),
        name: text("lan"),
        action,
        author: text("alice@h1"),
        node: text("aaaaaaaaaaaa"),
        node_name: text("h1"),
        state,
        gap: false,
        spec,
    }
}

/// A network that was made, changed on two nodes at once, while this one was away from a change before, and another one
/// that is gone.
pub(super) fn history() -> History {
    let shown = entry('4', Written::Configured, VersionState::Shown, Some(spec("10.0.2.0/24")));
    let sibling = entry(
        '3',
        Written::Configured,
        VersionState::Sibling,
        Some(spec("10.0.1.0/24")),
    );
    let gone = HistoryEntry {
        name: text("old"),
        ..entry('2', Written::Deleted, VersionState::Shown, None)
    };
    let first = entry('1', Written::Created, VersionState::Replaced, Some(spec("10.0.0.0/24")));
    let entries = vec![shown, HistoryEntry { gap: true, ..sibling }, gone, first];
    History {
        domain: text("red"),
        entries,
        more: true,
    }
}

fn side(digit: char, subnet: &str) -> Option<Side> {
    Some(Side {
        version: version(digit),
        stamp: format!("2026-01-02T03:04:0{digit}Z"),
        author: text("alice@h1"),
        spec: Some(spec(subnet)),
    })
}

pub(super) fn diff(differs: bool) -> Diff {
    let object = |kind: &str, name: &str, then, now| ObjectDiff {
        kind: text(kind),
        name: text(name),
        then,
        now,
    };
    let domain = side('1', "-").map(|side| Side {
        spec: Some(json!({"description": "the \u{1b}[31mfirst"})),
        ..side
    });
    let objects = vec![
        object("Domain", "red", None, domain),
        object("Network", "lan", side('1', "10.0.0.0/24"), side('4', "10.0.2.0/24")),
        object("Network", "old", side('2', "10.9.0.0/24"), None),
    ];
    Diff {
        domain: text("red"),
        at: text("2026-01-02T03:04:03Z"),
        objects: if differs { objects } else { Vec::new() },
        unknown: if differs {
            vec![text("Router red/core")]
        } else {
            Vec::new()
        },
        more: false,
    }
}

pub(super) fn rolled_back(domain: &Label, dry_run: bool) -> Result<RolledBack, ApiError> {
    if domain.as_str() == "busy" {
        return Err(ApiError {
            code: Code::Refused,
            message: text("domain busy is not taken back: this stands in the way; nothing was changed"),
            details: vec![Detail {
                object: Some(text("Endpoint busy/web-1")),
                message: text(
                    "it was not there then, and is attached on h1: `fabricctl endpoint detach busy/web-1` there first",
                ),
                ..Detail::default()
            }],
        });
    }
    let object = |kind: &str, name: &str, action, as_of| RolledBackObject {
        kind: text(kind),
        name: text(name),
        action,
        as_of,
    };
    Ok(RolledBack {
        domain: domain.to_string(),
        to: text("2026-01-02T03:04:03Z"),
        dry_run,
        objects: vec![
            object("Domain", "red", Written::Configured, Some(version('1'))),
            object("Endpoint", "web-9", Written::Deleted, None),
            object("Network", "old", Written::Created, Some(version('2'))),
        ],
    })
}

/// None in other domains than red.
pub(super) fn conflicts(domain: Option<&Label>) -> Conflicts {
    if domain.is_some_and(|domain| domain.as_str() != "red") {
        return Conflicts::default();
    }
    let one = |digit: char, author: &str, spec: Option<Value>| ConflictVersion {
        version: version(digit),
        stamp: format!("2026-01-02T03:04:0{digit}Z"),
        author: text(author),
        node: text("aaaaaaaaaaaa"),
        node_name: text("h1"),
        deleted: spec.is_none(),
        differs: Vec::new(),
        spec,
    };
    let other = ConflictVersion {
        differs: vec![text("spec.subnets")],
        ..one('3', "bob@h2", Some(spec("10.0.1.0/24")))
    };
    Conflicts {
        conflicts: vec![Conflict {
            domain: text("red"),
            kind: text("Network"),
            name: text("lan"),
            version: version('9'),
            in_force: text("the shown version"),
            versions: vec![
                one('4', "alice@h1", Some(spec("10.0.2.0/24"))),
                other,
                one('2', "carol@h3", None),
            ],
        }],
        void: vec![
            VoidVersion {
                deleted: false,
                spec: Some(spec("10.0.7.0/24")),
                ..void('6', "lan")
            },
            void('7', "old"),
        ],
    }
}

fn void(digit: char, name: &str) -> VoidVersion {
    VoidVersion {
        domain: text("red"),
        kind: text("Network"),
        name: text(name),
        version: version(digit),
        stamp: format!("2026-01-02T03:04:0{digit}Z"),
        author: text("dave@h4"),
        node: text("dddddddddddd"),
        node_name: text("h4"),
        deleted: true,
        spec: None,
    }
}

/// Two objects in three pieces, or the first two of them.
pub(super) fn backup(breaks_off: bool) -> Vec<Vec<u8>> {
    let intent = |manifest: &str| {
        let object = overlay::manifest::parse("made up", manifest)
            .expect("good")
            .remove(0)
            .object;
        Intent {
            scope: object.scope(),
            key: object.key(),
            dot: Dot {
                writer: NodeId::of_key(&[1; 32]),
                counter: 1,
            },
            context: VersionVector::default(),
            stamp: Stamp {
                millis: 1_700_000_000_000,
                logical: 0,
            },
            author: "alice@h1".into(),
            body: Some(object.spec.encode()),
        }
    };
    let head = Head {
        format: backup::FORMAT,
        cluster: "0".repeat(32),
        cluster_name: text("prod"),
        node_name: text("h1"),
        taken: text("2026-01-02T03:04:05Z"),
        software: text("0.1.0"),
    };
    let (mut writer, red) = (Writer::default(), "red".parse().expect("a label"));
    let mut chunks = vec![writer.head(&head).expect("written")];
    let lan = "{kind: Network, domain: red, name: lan, spec: {subnets: [10.0.0.0/24], vni: 4711}}";
    for manifest in ["{kind: Domain, name: red}", lan] {
        let line = writer.object(&red, [&intent(manifest)]).expect("written");
        chunks.push(line.expect("an object"));
    }
    if !breaks_off {
        chunks.push(writer.tail().expect("written"));
    }
    chunks
}
