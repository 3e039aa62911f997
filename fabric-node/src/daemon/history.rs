//! What objects were: the versions that this node merged and still remembers, and what a domain was at a moment.

use std::collections::{BTreeMap, BTreeSet};

use membership::history::{Act, Entry, Then, Timeline};
use membership::hlc::Stamp;
use membership::id::{Label, NodeId, Scope};
use membership::record::{Body, Digest, Intent, Key};
use membership::replica::Siblings;
use membership::service::HistoryError;
use membership::signed::Signed;
use overlay::object::{Kind, Spec};
use serde_json::Value;

use super::node::{Node, called};
use super::objects::{no_domain, rfc3339, title};
use super::version;
use crate::api::changes::{Diff, History, HistoryEntry, ObjectDiff, Side, VersionState, Written};
use crate::api::error::ApiError;
use crate::api::moment::{Moment, end_of};
use crate::wallclock;

/// Bytes of objects in one answer: as JSON they are a few times as many.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The known versions of a domain's objects.
pub(super) async fn timeline(node: &Node, domain: &Label) -> Result<Timeline, ApiError> {
    if !node.sight.domains().contains(domain) {
        return Err(no_domain(domain));
    }
    Ok(Timeline::of(node.membership.history(&scope(domain)).await?))
}

/// Versions of a domain's objects, newest first.
pub(super) async fn history(
    node: &Node,
    domain: &Label,
    (kind, name): (Option<Kind>, Option<&Label>),
    limit: usize,
) -> Result<History, ApiError> {
    let (timeline, names) = (timeline(node, domain).await?, node.sight.names());
    let current = current(node, domain);
    let wanted = |entry: &Entry<'_>| {
        let Some((of, called)) = Kind::of_key(&entry.version.value().key) else {
            return false;
        };
        kind.is_none_or(|kind| kind == of) && name.is_none_or(|name| *name == called)
    };
    let (mut entries, mut bytes, mut more) = (Vec::new(), 0, false);
    for entry in timeline.entries().iter().filter(|entry| wanted(entry)) {
        bytes += entry.version.raw().len();
        if entries.len() == limit || bytes > ANSWER_BYTES_MAX {
            more = true;
            break;
        }
        entries.push(shown(entry, &current, &names));
    }
    Ok(History {
        domain: domain.to_string(),
        entries,
        more,
    })
}

/// The versions that count, and whether each is the shown one.
fn current(node: &Node, domain: &Label) -> BTreeMap<Digest, VersionState> {
    node.membership.read(|replica| {
        let states = |siblings: &Siblings| {
            let states = std::iter::once(VersionState::Shown).chain(std::iter::repeat(VersionState::Sibling));
            let versions = siblings.versions().map(Signed::digest);
            versions.zip(states).collect::<Vec<_>>()
        };
        let scope = scope(domain);
        let objects = replica.intents(&scope);
        objects.flat_map(|(_, siblings)| states(siblings)).collect()
    })
}

fn shown(entry: &Entry<'_>, current: &BTreeMap<Digest, VersionState>, names: &BTreeMap<NodeId, Label>) -> HistoryEntry {
    let intent = entry.version.value();
    let state = current.get(&entry.version.digest());
    HistoryEntry {
        stamp: rfc3339(intent.stamp),
        version: version::of_record(entry.version),
        kind: intent.key.kind.to_string(),
        name: intent.key.name.to_string(),
        action: match entry.act {
            Act::Created => Written::Created,
            Act::Changed => Written::Configured,
            Act::Deleted => Written::Deleted,
        },
        author: intent.author.to_string(),
        node: intent.dot.writer.to_string(),
        node_name: called(&[intent.dot.writer], names).concat(),
        state: state.copied().unwrap_or(VersionState::Replaced),
        gap: entry.gap,
        spec: spec(intent),
    }
}

/// What a version says; none if it deletes the object or cannot be read.
pub(super) fn spec(intent: &Intent) -> Option<Value> {
    let (kind, _) = Kind::of_key(&intent.key)?;
    let spec = Spec::decode(kind, intent.body.as_ref()?).ok()?;
    serde_json::to_value(&spec).ok()
}

/// An object of which something differs between a moment and the present.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) key: Key,
    pub(super) then: Option<Signed<Intent>>,
    pub(super) now: Option<Siblings>,
}

/// What differs between a moment and the present.
#[derive(Debug, Clone)]
pub(super) struct Changes {
    pub(super) at: Stamp,
    /// By key.
    pub(super) changes: Vec<Change>,
    /// Objects that are as they were.
    pub(super) same: Vec<Signed<Intent>>,
    /// Objects of which it is not known what they were.
    pub(super) unknown: BTreeSet<Key>,
}

/// Compares a moment with the present.
pub(super) async fn changes(node: &Node, domain: &Label, moment: &Moment) -> Result<Changes, ApiError> {
    let timeline = timeline(node, domain).await?;
    let at = stamp(&timeline, domain, moment)?;
    let held: BTreeMap<Key, Siblings> = node.membership.read(|replica| {
        let scope = scope(domain);
        let objects = replica.intents(&scope);
        objects.map(|(key, siblings)| (key.clone(), siblings.clone())).collect()
    });
    Ok(compare(&timeline, &held, at))
}

fn compare(timeline: &Timeline, held: &BTreeMap<Key, Siblings>, at: Stamp) -> Changes {
    let mut all = Changes {
        at,
        changes: Vec::new(),
        same: Vec::new(),
        unknown: BTreeSet::new(),
    };
    let keys: BTreeSet<&Key> = timeline.keys().chain(held.keys()).collect();
    for key in keys {
        let then = match timeline.at(key, at) {
            Then::Unknown => {
                all.unknown.insert(key.clone());
                continue;
            }
            Then::Absent => None,
            Then::Shown(version) => Some(version.clone()),
        };
        let now = held.get(key);
        if body(then.as_ref().map(Signed::value)) != body(now.map(Siblings::shown)) {
            let (key, now) = (key.clone(), now.cloned());
            all.changes.push(Change { key, then, now });
        } else {
            all.same.extend(then);
        }
    }
    all
}

fn body(version: Option<&Intent>) -> Option<&Body> {
    version.and_then(|version| version.body.as_ref())
}

/// The stamp up to which versions belong to a moment.
fn stamp(timeline: &Timeline, domain: &Label, moment: &Moment) -> Result<Stamp, ApiError> {
    let now = wallclock::since_epoch();
    match moment {
        Moment::Time(time) if *time > now => Err(ApiError::bad_request(format!(
            "{moment} lies in the future by this node's clock"
        ))),
        Moment::Time(time) => Ok(end_of(*time)),
        Moment::Ago(ago) => Ok(end_of(now.saturating_sub(*ago))),
        Moment::Version(wanted) => {
            let entries = timeline.entries();
            let found = entries
                .iter()
                .find(|entry| version::of_record(entry.version) == *wanted);
            found.map(|entry| entry.version.value().stamp).ok_or_else(|| {
                ApiError::not_found(format!(
                    "no version {wanted} is known here in domain {domain}; `fabricctl history -d {domain}` lists those that are"
                ))
            })
        }
    }
}

/// What a domain was at a moment, where that differs from what it is.
pub(super) async fn diff(node: &Node, domain: &Label, moment: &Moment) -> Result<Diff, ApiError> {
    let changes = changes(node, domain, moment).await?;
    let (mut objects, mut bytes, mut more) = (Vec::new(), 0, false);
    for change in &changes.changes {
        let shown = change.now.as_ref().and_then(|now| now.versions().next());
        bytes += [change.then.as_ref(), shown]
            .into_iter()
            .flatten()
            .map(|version| version.raw().len())
            .sum::<usize>();
        if bytes > ANSWER_BYTES_MAX {
            more = true;
            break;
        }
        objects.push(ObjectDiff {
            kind: change.key.kind.to_string(),
            name: change.key.name.to_string(),
            then: change.then.as_ref().map(side),
            now: shown.filter(|shown| shown.value().body.is_some()).map(side),
        });
    }
    Ok(Diff {
        domain: domain.to_string(),
        at: rfc3339(changes.at),
        objects,
        unknown: changes.unknown.iter().map(|key| named(domain, key)).collect(),
        more,
    })
}

fn side(version: &Signed<Intent>) -> Side {
    let intent = version.value();
    Side {
        version: version::of_record(version),
        stamp: rfc3339(intent.stamp),
        author: intent.author.to_string(),
        spec: spec(intent),
    }
}

/// What an object is called.
pub(super) fn named(domain: &Label, key: &Key) -> String {
    match Kind::of_key(key) {
        Some((kind, name)) => title(kind, domain, &name),
        None => format!("{} {domain}/{}", key.kind, key.name),
    }
}

/// Where a domain's objects are.
pub(super) fn scope(domain: &Label) -> Scope {
    Scope::Domain(domain.clone())
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::Store(_) => Self::internal(error.to_string()),
            HistoryError::Closed => Self::try_again(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::fixture::{Writer, lan};

    fn red() -> Label {
        "red".parse().expect("a label")
    }

    fn held(writer: &Writer) -> BTreeMap<Key, Siblings> {
        [(lan(), writer.lan())].into()
    }

    #[test]
    fn a_moment_is_compared_with_the_present() {
        let mut writer = Writer::new();
        let texts = [Some("10.0.0.0/24"), Some("10.0.1.0/24"), None, Some("10.0.0.0/24")];
        let versions: Vec<_> = (1..).zip(texts).map(|(at, text)| writer.writes(at, text)).collect();
        let (timeline, held) = (Timeline::of(versions.clone()), held(&writer));
        let compared = |millis| {
            compare(
                &timeline,
                &held,
                Stamp {
                    millis,
                    logical: u32::MAX,
                },
            )
        };
        for (millis, then) in [(0, None), (2, Some(1)), (3, None)] {
            let changes = compared(millis);
            let [change] = &changes.changes[..] else {
                panic!("{millis}: {changes:?}")
            };
            assert_eq!(
                change.then.as_ref(),
                then.map(|index: usize| &versions[index]),
                "{millis}"
            );
            assert_eq!(change.now.as_ref(), Some(&writer.lan()));
            assert!(changes.same.is_empty() && changes.unknown.is_empty());
        }
        let same = compared(1);
        assert!(same.changes.is_empty(), "it says the same again: {same:?}");
        assert_eq!(same.same, [versions[0].clone()]);
        let forgotten = compare(
            &Timeline::of(versions[1..].to_vec()),
            &held,
            Stamp { millis: 1, logical: 0 },
        );
        assert_eq!((forgotten.unknown.len(), forgotten.changes.len()), (1, 0));
    }

    #[test]
    fn a_moment_is_a_time_or_that_of_a_version() {
        let mut writer = Writer::new();
        let version = writer.writes(7, Some("10.0.0.0/24"));
        let timeline = Timeline::of([version.clone()]);
        let at = |text: &str| stamp(&timeline, &red(), &text.parse().expect("a moment"));
        assert_eq!(at(&version::of_record(&version).to_string()), Ok(version.value().stamp));
        assert_eq!(at("1970-01-01T00:00:09Z").map(|stamp| stamp.millis), Ok(9_000));
        let unknown = at("v0123456789abcdef").expect_err("not there");
        assert!(unknown.message.contains("fabricctl history -d red"), "{unknown}");
        let future = at("2999-01-01T00:00:00Z").expect_err("to come");
        assert!(future.message.contains("in the future"), "{future}");
    }
}
