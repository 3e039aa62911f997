//! What is in quarantine here, in the words of the API, with what was written last in it.

use std::collections::BTreeMap;

use membership::hlc::Stamp;
use membership::id::{Label, NodeId, Scope};
use membership::replica::Replica;
use overlay::name::DomainName;

use super::node::{Node, called};
use super::objects::rfc3339;
use super::quarantine::Entry;
use crate::api::error::ApiError;
use crate::api::quarantine::{Quarantined, Released, Suspect};
use crate::api::types::Alarm;

/// Most versions that are named.
const NAMED_MAX: usize = 5;

/// All domains that are left alone.
pub(super) fn list(node: &Node) -> Vec<Quarantined> {
    let held = node.quarantine.held();
    if held.is_empty() {
        return Vec::new();
    }
    let names = node.sight.names();
    let told = |(domain, entry): (DomainName, Entry)| Quarantined {
        written_last: node.membership.read(|replica| written_last(replica, &domain, &names)),
        domain: domain.to_string(),
        crashes: entry.crashes,
        since: rfc3339(Stamp {
            millis: entry.at_ms,
            logical: 0,
        }),
        why: entry.why,
        digest: entry.root,
    };
    held.into_iter().map(told).collect()
}

/// Has a domain handled again.
pub(super) fn release(node: &Node, domain: &Label) -> Result<Released, ApiError> {
    match node.quarantine.release(domain) {
        true => Ok(Released {
            domain: domain.to_string(),
        }),
        false => Err(ApiError::not_found(format!(
            "domain {domain} is not in quarantine on this host; see `fabricctl quarantine list`"
        ))),
    }
}

/// What an operator is told in `status`.
pub(super) fn alarms(node: &Node) -> Vec<Alarm> {
    list(node).iter().map(alarm).collect()
}

fn alarm(held: &Quarantined) -> Alarm {
    let Quarantined {
        domain, crashes, why, ..
    } = held;
    let last = held.written_last.first().map(|it| {
        format!(
            "; written last: {} {} by {} on {} at {}",
            it.kind, it.name, it.author, it.node_name, it.stamp
        )
    });
    Alarm {
        name: "quarantine".to_owned(),
        message: format!(
            "domain {domain} is left as it was on this host: handling it ended in a crash {crashes} times ({why}){}; change \
             what is wrong with it, or `fabricctl quarantine release {domain}`",
            last.unwrap_or_default()
        ),
    }
}

/// The latest versions of a domain's objects.
fn written_last(replica: &Replica, domain: &DomainName, names: &BTreeMap<NodeId, Label>) -> Vec<Suspect> {
    let scope = Scope::Domain(domain.clone());
    let objects = replica.intents(&scope);
    let mut latest: BTreeMap<_, _> = BTreeMap::new();
    for (key, version) in objects.flat_map(|(key, held)| held.all().map(move |version| (key, version))) {
        latest.insert((version.stamp, version.dot), (key, version));
        if latest.len() > NAMED_MAX {
            latest.pop_first();
        }
    }
    let named = |(key, version): (&membership::record::Key, &membership::record::Intent)| Suspect {
        kind: key.kind.to_string(),
        name: key.name.to_string(),
        stamp: rfc3339(version.stamp),
        author: version.author.to_string(),
        node_name: called(&[version.dot.writer], names).concat(),
    };
    latest.into_values().rev().map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Writer;
    use super::*;

    #[test]
    fn who_wrote_last_is_named() {
        let mut writer = Writer::new();
        let first = writer.writes(1_000, Some("10.0.0.0/24"));
        let last = writer.writes(2_000, Some("10.0.1.0/24"));
        assert_ne!(first.digest(), last.digest());
        let domain: DomainName = "red".parse().expect("a name");
        let suspects = written_last(&writer.replica, &domain, &BTreeMap::new());
        assert_eq!(suspects.len(), 1, "what was replaced is not there any more");
        assert_eq!(
            (suspects[0].name.as_str(), suspects[0].author.as_str()),
            ("lan", "alice@h1")
        );
        assert!(suspects[0].stamp.starts_with("1970-01-01T00:00:02"), "{suspects:?}");
        let held = Quarantined {
            domain: domain.to_string(),
            crashes: 2,
            since: String::new(),
            why: "handling it panicked".to_owned(),
            digest: String::new(),
            written_last: suspects,
        };
        let message = alarm(&held).message;
        for words in [
            "domain red",
            "2 times",
            "Network lan by alice@h1",
            "fabricctl quarantine release red",
        ] {
            assert!(message.contains(words), "{message}");
        }
    }
}
