//! Records that a later release wrote: kept and handed on as they are, and without effect here. Owns finding and naming
//! them.

use std::collections::BTreeMap;

use bytes::Bytes;
use membership::collect::SEEN_KIND;
use membership::id::Scope;
use membership::node::{CLUSTER_KIND, NODE_KIND};
use membership::record::{Body, Key};
use membership::replica::Replica;
use overlay::fact::{ADDRESS_CLAIM_KIND, ATTACHMENT_KIND, VTEP_KIND};
use overlay::object::body::BodyError;
use overlay::object::{Kind, Spec};

use crate::api::types::Alarm;

/// Kinds that are counted apart, and that are named.
const KINDS_MAX: usize = 64;
const NAMED_MAX: usize = 8;
/// All further ones.
const OTHERS: &str = "others";
/// Most characters of a kind's name.
const NAME_MAX: usize = 40;

/// How many records of each kind are not understood.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Unknown(BTreeMap<String, usize>);

impl Unknown {
    /// Looks at all records.
    pub(super) fn of(replica: &Replica) -> Self {
        let mut found = Self::default();
        for scope in replica.scopes() {
            for fact in replica.facts(scope) {
                if !is_known_fact(scope, &fact.key) {
                    found.add(&fact.key.kind);
                }
            }
            for (key, held) in replica.intents(scope) {
                if !held.all().all(|version| is_readable(key, version.body.as_ref())) {
                    found.add(&key.kind);
                }
            }
        }
        found
    }

    fn add(&mut self, kind: &str) {
        let plain: String = kind.chars().filter(|c| !c.is_control()).take(NAME_MAX).collect();
        let is_room = self.0.len() < KINDS_MAX || self.0.contains_key(&plain);
        *self
            .0
            .entry(if is_room { plain } else { OTHERS.to_owned() })
            .or_default() += 1;
    }

    /// All of them.
    pub(super) fn count(&self) -> u64 {
        self.0.values().map(|count| *count as u64).sum()
    }

    /// What an operator is told.
    pub(super) fn alarm(&self) -> Option<Alarm> {
        if self.0.is_empty() {
            return None;
        }
        let named = self.0.iter().take(NAMED_MAX);
        let mut named: Vec<String> = named.map(|(kind, count)| format!("{count} {kind}")).collect();
        if self.0.len() > NAMED_MAX {
            named.push(OTHERS.to_owned());
        }
        Some(Alarm {
            name: "unknown-kinds".to_owned(),
            message: format!(
                "records of a later release are kept and handed on as they are, but have no effect on this node: {}; upgrade it",
                named.join(", ")
            ),
        })
    }
}

fn is_known_fact(scope: &Scope, key: &Key) -> bool {
    let known: &[&str] = match scope {
        Scope::System => &[CLUSTER_KIND, NODE_KIND, VTEP_KIND, SEEN_KIND],
        Scope::Domain(_) => &[ATTACHMENT_KIND, ADDRESS_CLAIM_KIND, SEEN_KIND],
    };
    known.contains(&&*key.kind)
}

/// Whether a version of an object is of a kind and form that this release reads; a delete always is, of a known kind.
fn is_readable(key: &Key, body: Option<&Body>) -> bool {
    let Some((kind, _)) = Kind::of_key(key) else {
        return false;
    };
    body.is_none_or(|body| {
        // Which forms there are is told by the version alone: nothing is read.
        let form = Body {
            version: body.version,
            bytes: Bytes::new(),
        };
        !matches!(Spec::decode(kind, &form), Err(BodyError::Version(_)))
    })
}

#[cfg(test)]
mod tests {
    use membership::author::{self, Write};
    use membership::hlc::Stamp;
    use membership::identity::NodeKey;

    use super::*;

    fn write(kind: &str, name: &str, version: u16) -> Write {
        let bytes = Bytes::from_static(b"of a later release");
        Write {
            key: Key::new(kind, name),
            body: Some(Body { version, bytes }),
        }
    }

    #[test]
    fn what_a_later_release_wrote_is_named_and_nothing_else_is() {
        let (mut replica, key) = (Replica::default(), NodeKey::generate());
        let (red, stamp) = (
            Scope::Domain("red".parse().expect("a name")),
            Stamp { millis: 1, logical: 0 },
        );
        let facts = vec![
            write(ATTACHMENT_KIND, "a", 1),
            write("Mirror\n", "m", 1),
            write(SEEN_KIND, "seen", 1),
        ];
        let objects = vec![
            write("Network", "lan", 1),
            write("Network", "next", 900),
            write("LoadBalancer", "lb", 1),
            write("LoadBalancer", "lb2", 1),
        ];
        replica.learn(&key.public());
        for made in [
            author::facts(&replica, &key, &red, facts, stamp).expect("made").batch,
            author::intents(&replica, &key, &red, "test", objects, stamp)
                .expect("made")
                .batch,
        ] {
            replica.merge(&made).expect("merged");
        }
        let unknown = Unknown::of(&replica);
        assert_eq!(unknown.count(), 4);
        let alarm = unknown.alarm().expect("an alarm");
        assert_eq!(alarm.name, "unknown-kinds");
        assert!(
            alarm
                .message
                .contains(": 2 LoadBalancer, 1 Mirror, 1 Network; upgrade it"),
            "{}",
            alarm.message
        );
        assert_eq!(Unknown::of(&Replica::default()).alarm(), None);
    }

    #[test]
    fn many_kinds_do_not_make_a_long_alarm() {
        let mut unknown = Unknown::default();
        for n in 0..1_000 {
            unknown.add(&format!("{n} {}", "x".repeat(100)));
        }
        unknown.add(&"x".repeat(10_000));
        assert_eq!((unknown.0.len(), unknown.count()), (KINDS_MAX + 1, 1_001));
        let message = unknown.alarm().expect("an alarm").message;
        assert!(message.contains("others") && message.len() < 600, "{message}");
    }
}
