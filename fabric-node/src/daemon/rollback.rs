//! `rollback`: the objects of a domain as they were at a moment, written again as one batch, or the list of what stands
//! in the way.

use std::collections::BTreeMap;

use membership::id::{Label, NodeId};
use membership::record::{BATCH_RECORDS_MAX, Key};
use membership::replica::Siblings;
use membership::service::{IntentWrite, Saw, WriteError};
use overlay::admission::admit;
use overlay::catalogue::Catalogue;
use overlay::object::{Kind, Object, Spec};
use overlay::view::View;

use super::history::{self, Change, Changes, named, scope};
use super::node::{Node, called};
use super::objects::{rfc3339, title};
use super::version;
use crate::api::backend::Author;
use crate::api::changes::{RolledBack, RolledBackObject, Written};
use crate::api::error::{ApiError, Code, Detail};
use crate::api::moment::Moment;

/// Takes a domain back to a moment.
pub(super) async fn rollback(
    node: &Node,
    author: &Author,
    domain: &Label,
    to: &Moment,
    dry_run: bool,
) -> Result<RolledBack, ApiError> {
    let _turn = node.writes.lock().await;
    let changes = history::changes(node, domain, to).await?;
    let mut obstacles = unknown(domain, &changes);
    let (view, names) = (node.sight.read(domain).view, node.sight.names());
    obstacles.extend(attached(view.as_ref(), &names, domain, &changes));
    if obstacles.is_empty() {
        obstacles = inadmissible(node.sight.with_catalogue(Catalogue::clone), domain, &changes);
    }
    refuse(domain, &changes, obstacles)?;
    let done = RolledBack {
        domain: domain.to_string(),
        to: rfc3339(changes.at),
        dry_run,
        objects: changes.changes.iter().map(told).collect(),
    };
    if !dry_run && !changes.changes.is_empty() {
        let author = node.author(author);
        write(node, &author, domain, changes.changes).await?;
        tracing::info!(%author, %domain, to = %done.to, objects = done.objects.len(), "rolled back");
    }
    Ok(done)
}

async fn write(node: &Node, author: &str, domain: &Label, changes: Vec<Change>) -> Result<(), ApiError> {
    let (mut writes, mut saw) = (Vec::new(), Vec::new());
    for Change { key, then, now } in changes {
        saw.push(Saw {
            key: key.clone(),
            versions: now.as_ref().map(Siblings::digest),
        });
        writes.push(IntentWrite {
            key,
            body: then.and_then(|then| then.value().body.clone()),
        });
    }
    let written = node
        .membership
        .write_intent_if(scope(domain), author, writes, saw)
        .await;
    written.map(drop).map_err(|error| match error {
        WriteError::Changed(key) => ApiError::try_again(format!(
            "{} was changed at this moment; nothing was changed: try again",
            named(domain, &key)
        )),
        other => other.into(),
    })
}

fn refuse(domain: &Label, changes: &Changes, details: Vec<Detail>) -> Result<(), ApiError> {
    let count = changes.changes.len();
    if !details.is_empty() {
        let message = format!("domain {domain} is not taken back: this stands in the way; nothing was changed");
        return Err(ApiError {
            code: Code::Refused,
            message,
            details,
        });
    }
    if count > BATCH_RECORDS_MAX {
        return Err(ApiError::refused(format!(
            "{count} objects of domain {domain} differ, and at most {BATCH_RECORDS_MAX} can change at once: go back in steps, \
             to versions in between that `fabricctl history -d {domain}` shows"
        )));
    }
    Ok(())
}

fn obstacle(domain: &Label, key: &Key, message: impl Into<String>) -> Detail {
    Detail {
        object: Some(named(domain, key)),
        message: message.into(),
        ..Detail::default()
    }
}

fn unknown(domain: &Label, changes: &Changes) -> Vec<Detail> {
    let why = "what it was then is not known on this node: it was replaced while this node was away, or is forgotten; ask \
               another node, or go back less far";
    changes.unknown.iter().map(|key| obstacle(domain, key, why)).collect()
}

/// Endpoints that would go while a workload is behind them.
fn attached(view: Option<&View>, names: &BTreeMap<NodeId, Label>, domain: &Label, changes: &Changes) -> Vec<Detail> {
    let gone = changes.changes.iter().filter(|change| change.then.is_none());
    let attached = gone.filter_map(|change| {
        let (Kind::Endpoint, name) = Kind::of_key(&change.key)? else {
            return None;
        };
        let (node, _) = view?.endpoints.get(&name)?.attachment.as_ref()?;
        let host = called(&[*node], names).concat();
        let why = format!(
            "it was not there then, and is attached on {host}: `fabricctl endpoint detach {domain}/{name}` there first"
        );
        Some(obstacle(domain, &change.key, why))
    });
    attached.collect()
}

/// What the rules between objects have against the domain as it was, beside the other domains as they are.
fn inadmissible(mut catalogue: Catalogue, domain: &Label, changes: &Changes) -> Vec<Detail> {
    let (mut objects, mut wrong) = (Vec::new(), Vec::new());
    for change in &changes.changes {
        if let (None, Some((kind, name))) = (&change.then, Kind::of_key(&change.key)) {
            catalogue.remove(domain, kind, &name);
        }
    }
    let then = changes.changes.iter().filter_map(|change| change.then.as_ref());
    for version in then.chain(&changes.same) {
        let intent = version.value();
        let known = Kind::of_key(&intent.key).zip(intent.body.as_ref());
        let object = known.and_then(|((kind, name), body)| {
            let spec = Spec::decode(kind, body).ok()?;
            let domain = domain.clone();
            Some(Object { domain, name, spec })
        });
        match object {
            Some(object) => objects.push(object),
            None => {
                let why = "this release cannot read it: roll back on a node with the release that wrote it";
                wrong.push(obstacle(domain, &intent.key, why));
            }
        }
    }
    let refusals = admit(&catalogue, &objects)
        .into_values()
        .filter_map(Result::err)
        .flatten();
    wrong.extend(refusals.map(|refusal| {
        let object = objects.get(refusal.index);
        Detail {
            object: object.map(|object| title(object.kind(), domain, &object.name)),
            field: Some(refusal.path.clone()).filter(|path| !path.is_empty()),
            message: refusal.rule.to_string(),
            ..Detail::default()
        }
    }));
    wrong
}

fn told(change: &Change) -> RolledBackObject {
    let is_there = change.now.as_ref().is_some_and(|now| now.shown().body.is_some());
    RolledBackObject {
        kind: change.key.kind.to_string(),
        name: change.key.name.to_string(),
        action: match (&change.then, is_there) {
            (None, _) => Written::Deleted,
            (Some(_), true) => Written::Configured,
            (Some(_), false) => Written::Created,
        },
        as_of: change.then.as_ref().map(version::of_record),
    }
}

#[cfg(test)]
mod tests {
    use membership::hlc::Stamp;
    use membership::signed::Signed;

    use super::*;
    use crate::daemon::fixture::{Writer, lan};

    fn label(text: &str) -> Label {
        text.parse().expect("a label")
    }

    fn object(text: &str) -> Object {
        overlay::manifest::parse("test", text).expect("good").remove(0).object
    }

    /// Network `lan` as it was, and what is there.
    fn changes(then: Option<Signed<membership::record::Intent>>, now: &Writer) -> Changes {
        let change = Change {
            key: lan(),
            then,
            now: Some(now.lan()),
        };
        Changes {
            at: Stamp::default(),
            changes: vec![change],
            same: Vec::new(),
            unknown: [Kind::Router.key(&label("core"))].into(),
        }
    }

    #[test]
    fn what_the_rules_forbid_stands_in_the_way() {
        let mut writer = Writer::new();
        let then = writer.writes(1, Some("10.0.0.0/24"));
        writer.writes(2, None);
        let changes = changes(Some(then), &writer);
        let mut catalogue = Catalogue::default();
        catalogue.insert(object("{kind: Domain, name: red}"), Stamp::default());
        assert_eq!(inadmissible(catalogue.clone(), &label("red"), &changes), []);
        catalogue.insert(object("{kind: Domain, name: blue}"), Stamp::default());
        let taken = "{kind: Network, domain: blue, name: lan, spec: {subnets: [10.9.0.0/24], vni: 7}}";
        catalogue.insert(object(taken), Stamp::default());
        let wrong = inadmissible(catalogue, &label("red"), &changes);
        let [detail] = &wrong[..] else { panic!("{wrong:?}") };
        assert_eq!(detail.object.as_deref(), Some("Network red/lan"));
        assert!(detail.message.contains("belongs to network blue/lan"), "{detail:?}");
        let unknown = unknown(&label("red"), &changes);
        assert_eq!(unknown[0].object.as_deref(), Some("Router red/core"));
        let told = told(&changes.changes[0]);
        assert_eq!((told.action, told.as_of.is_some()), (Written::Created, true));
    }

    #[test]
    fn what_would_go_does_not_stand_in_its_own_way() {
        let mut writer = Writer::new();
        writer.writes(1, Some("10.0.0.0/24"));
        let mut catalogue = Catalogue::default();
        catalogue.insert(object("{kind: Domain, name: red}"), Stamp::default());
        let there = "{kind: Network, domain: red, name: lan, spec: {subnets: [10.0.0.0/24], vni: 7}}";
        catalogue.insert(object(there), Stamp::default());
        let mut other = changes(None, &writer);
        let mut elsewhere = Writer::new();
        let old = elsewhere.writes(1, Some("10.0.0.0/24"));
        // The same subnet and number, under another name then.
        let mut renamed = old.value().clone();
        renamed.key = Kind::Network.key(&label("old"));
        other.same.push(elsewhere.signs(renamed));
        assert_eq!(inadmissible(catalogue.clone(), &label("red"), &other), []);
        other.changes.clear();
        assert!(
            !inadmissible(catalogue, &label("red"), &other).is_empty(),
            "as long as both are there"
        );
        assert_eq!(told(&changes(None, &writer).changes[0]).action, Written::Deleted);
    }

    #[test]
    fn too_much_at_once_is_refused_with_what_to_do() {
        let mut writer = Writer::new();
        let then = writer.writes(1, Some("10.0.0.0/24"));
        let mut changes = changes(Some(then), &writer);
        assert_eq!(refuse(&label("red"), &changes, Vec::new()), Ok(()));
        let one = changes.changes[0].clone();
        changes.changes = vec![one; BATCH_RECORDS_MAX + 1];
        let error = refuse(&label("red"), &changes, Vec::new()).expect_err("too many");
        assert!(
            error.message.contains("257 objects") && error.message.contains("in steps"),
            "{error}"
        );
    }
}
