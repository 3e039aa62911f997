//! Objects whose versions disagree, and settling them; writes of removed nodes that count nowhere.

use std::collections::BTreeMap;

use membership::id::{Label, NodeId, Scope};
use membership::record::{Intent, Key};
use membership::replica::Siblings;
use membership::service::{IntentWrite, Void};
use membership::signed::Signed;
use overlay::admission::{self, DeleteError, admit};
use overlay::object::{Kind, Object, Spec};
use serde_json::Value;

use super::history::spec;
use super::node::{Node, called};
use super::objects::{missing, rfc3339, title};
use super::version::{self, Guarded};
use crate::api::backend::Author;
use crate::api::changes::{Conflict, ConflictVersion, Conflicts, Resolved, VoidVersion};
use crate::api::error::{ApiError, Code, Detail};
use crate::api::version::{Precondition, Version};

/// Fields that are listed of one version.
const DIFFERS_MAX: usize = 32;

/// All conflicts and void writes, or those of a domain.
pub(super) async fn list(node: &Node, domain: Option<&Label>) -> Result<Conflicts, ApiError> {
    let void = node.membership.void_records().await;
    let void = void.map_err(|error| ApiError::internal(format!("the store could not be read: {error}")))?;
    Ok(Conflicts {
        conflicts: conflicts(node, domain),
        void: void.iter().filter_map(|void| self::void(void, domain)).collect(),
    })
}

/// A write of a removed node, if it is of that domain.
fn void(void: &Void, domain: Option<&Label>) -> Option<VoidVersion> {
    let intent = void.record.value();
    let Scope::Domain(of) = &intent.scope else { return None };
    if domain.is_some_and(|domain| domain != of) {
        return None;
    }
    let node = intent.dot.writer.to_string();
    Some(VoidVersion {
        domain: of.to_string(),
        // Also what this release does not know: it is shown because it was lost.
        kind: intent.key.kind.to_string(),
        name: intent.key.name.to_string(),
        version: version::of_record(&void.record),
        stamp: rfc3339(intent.stamp),
        author: intent.author.to_string(),
        node_name: void.writer.as_ref().map_or_else(|| node.clone(), ToString::to_string),
        node,
        deleted: intent.body.is_none(),
        spec: spec(intent),
    })
}

fn conflicts(node: &Node, domain: Option<&Label>) -> Vec<Conflict> {
    let names = node.sight.names();
    node.membership.read(|replica| {
        let mut found = Vec::new();
        for scope in replica.scopes() {
            let Scope::Domain(of) = scope else { continue };
            if domain.is_some_and(|domain| domain != of) {
                continue;
            }
            let disagree = replica.intents(scope).filter(|(_, held)| held.all().count() > 1);
            found.extend(disagree.filter_map(|(key, held)| conflict(of, key, held, &names)));
        }
        found
    })
}

fn conflict(domain: &Label, key: &Key, held: &Siblings, names: &BTreeMap<NodeId, Label>) -> Option<Conflict> {
    let (kind, name) = Kind::of_key(key)?;
    let shown = spec(held.shown());
    Some(Conflict {
        domain: domain.to_string(),
        kind: kind.to_string(),
        name: name.to_string(),
        version: version::of(held),
        in_force: in_force(kind).to_owned(),
        versions: held
            .versions()
            .map(|record| one(record, shown.as_ref(), names))
            .collect(),
    })
}

/// What the view of a domain makes of several versions.
fn in_force(kind: Kind) -> &'static str {
    match kind {
        Kind::SecurityPolicy => "denies what any version denies, and allows only what all allow",
        Kind::Domain => "the shown version, with default policy deny if any version has it",
        Kind::Network | Kind::Endpoint | Kind::Router => "the shown version",
    }
}

fn one(record: &Signed<Intent>, shown: Option<&Value>, names: &BTreeMap<NodeId, Label>) -> ConflictVersion {
    let intent = record.value();
    let spec = spec(intent);
    let differs = match (shown, &spec) {
        (Some(shown), Some(spec)) => differing(shown, spec),
        (None, _) | (_, None) => Vec::new(),
    };
    ConflictVersion {
        version: version::of_record(record),
        stamp: rfc3339(intent.stamp),
        author: intent.author.to_string(),
        node: intent.dot.writer.to_string(),
        node_name: called(&[intent.dot.writer], names).concat(),
        deleted: intent.body.is_none(),
        differs,
        spec,
    }
}

/// The fields in which two objects differ, as `spec.subnets`; lists count as one field.
fn differing(a: &Value, b: &Value) -> Vec<String> {
    let mut found = Vec::new();
    walk("spec", Some(a), Some(b), &mut found);
    found.truncate(DIFFERS_MAX);
    found
}

fn walk(path: &str, a: Option<&Value>, b: Option<&Value>, found: &mut Vec<String>) {
    match (a, b) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let only_b = b.keys().filter(|key| !a.contains_key(*key));
            for key in a.keys().chain(only_b) {
                walk(&format!("{path}.{key}"), a.get(key), b.get(key), found);
            }
        }
        (a, b) if a == b => {}
        _ => found.push(path.to_owned()),
    }
}

/// Settles a conflict by writing one of the versions again, in knowledge of all of them.
pub(super) async fn resolve(
    node: &Node,
    author: &Author,
    (kind, domain, name): (Kind, &Label, &Label),
    take: Version,
    only_if: Option<Precondition>,
) -> Result<Resolved, ApiError> {
    let (scope, key) = (Scope::Domain(domain.clone()), kind.key(name));
    let _turn = node.writes.lock().await;
    let held = node.membership.read(|replica| replica.intent(&scope, &key).cloned());
    let held = held.ok_or_else(|| missing(kind, domain, name))?;
    if held.all().count() == 1 {
        let what = title(kind, domain, name);
        return Err(ApiError::refused(format!(
            "{what} has no conflict: its version is {}",
            version::of(&held)
        )));
    }
    let taken = held.versions().find(|record| version::of_record(record) == take);
    let taken = taken
        .ok_or_else(|| no_such_version(&title(kind, domain, name), &held, &take))?
        .value();
    admissible(node, (kind, domain, name), taken)?;
    let asked = only_if.unwrap_or_else(|| Precondition::Version(vec![version::of(&held)]));
    let guarded = [Guarded {
        scope: scope.clone(),
        key: key.clone(),
        asked,
        place: Detail {
            object: Some(title(kind, domain, name)),
            ..Detail::default()
        },
    }];
    let saw = version::check(node, &guarded)?;
    let (author, body) = (node.author(author), taken.body.clone());
    let deleted = body.is_none();
    let written = node
        .membership
        .write_intent_if(scope, &author, vec![IntentWrite { key, body }], saw)
        .await;
    written.map_err(|error| version::unwritten(node, error, &guarded))?;
    tracing::info!(%author, %domain, %kind, %name, %take, "a conflict was settled");
    Ok(Resolved {
        domain: domain.to_string(),
        kind: kind.to_string(),
        name: name.to_string(),
        deleted,
        took: take,
    })
}

fn no_such_version(what: &str, held: &Siblings, take: &Version) -> ApiError {
    let versions: Vec<String> = held
        .versions()
        .map(|record| version::of_record(record).to_string())
        .collect();
    ApiError::not_found(format!(
        "{take} is none of the versions of {what} that disagree; they are {}",
        versions.join(", ")
    ))
}

/// Whether the rules between objects let the object be as that version says.
fn admissible(node: &Node, (kind, domain, name): (Kind, &Label, &Label), taken: &Intent) -> Result<(), ApiError> {
    let what = title(kind, domain, name);
    let details: Vec<Detail> = match &taken.body {
        None => match node
            .sight
            .with_catalogue(|catalogue| admission::delete(catalogue, domain, kind, name, false))
        {
            Ok(_) | Err(DeleteError::NotFound { .. }) => Vec::new(),
            Err(DeleteError::Needed { dependants, .. }) => dependants
                .iter()
                .map(|(kind, name)| Detail {
                    object: Some(title(*kind, domain, name)),
                    message: "depends on it".to_owned(),
                    ..Detail::default()
                })
                .collect(),
        },
        Some(body) => {
            let unreadable = |_| ApiError::refused(format!("this release cannot read that version of {what}"));
            let spec = Spec::decode(kind, body).map_err(unreadable)?;
            let (domain, name) = (domain.clone(), name.clone());
            let verdicts = node
                .sight
                .with_catalogue(|catalogue| admit(catalogue, &[Object { domain, name, spec }]));
            let refusals = verdicts.into_values().filter_map(Result::err).flatten();
            refusals
                .map(|refusal| Detail {
                    object: Some(what.clone()),
                    field: Some(refusal.path.clone()).filter(|path| !path.is_empty()),
                    message: refusal.rule.to_string(),
                    ..Detail::default()
                })
                .collect()
        }
    };
    if details.is_empty() {
        return Ok(());
    }
    Err(ApiError {
        code: Code::Refused,
        message: format!("that version of {what} cannot be taken beside the other objects; nothing was changed"),
        details,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_that_differ_are_named() {
        let a = json!({"mtu": 1400, "subnets": ["10.0.0.0/24"], "gone": 1, "in": {"same": 1, "other": 1}});
        let b = json!({"mtu": 1400, "subnets": ["10.0.1.0/24"], "come": 1, "in": {"same": 1, "other": 2}});
        let mut found = differing(&a, &b);
        found.sort();
        assert_eq!(found, ["spec.come", "spec.gone", "spec.in.other", "spec.subnets"]);
        assert!(differing(&a, &a).is_empty());
    }
}
