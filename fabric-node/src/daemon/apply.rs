//! `apply`: manifests to objects, objects to verdicts, verdicts to one batch a domain. Whatever is wrong is found
//! before anything is written.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use membership::id::{NodeId, Scope};
use membership::record::Key;
use membership::service::{IntentWrite, Mark};
use overlay::admission::{Change, Outcome, Refusal, Verdicts, admit};
use overlay::manifest::{self, Document, ManifestError};
use overlay::name::DomainName;
use overlay::object::Object;
use tokio::time::Instant;

use super::node::Node;
use super::objects;
use super::version::{self, Guarded};
use crate::api::backend::Author;
use crate::api::error::{ApiError, Code, Detail};
use crate::api::types::{Action, Applied, AppliedObject, Apply, Programmed};
use crate::api::version::{NotAVersion, Precondition, Version};

/// How long `wait` waits.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Writes objects: all of a domain or nothing of it, and nothing at all if anything is wrong.
pub(super) async fn apply(
    node: &Node,
    author: &Author,
    request: Apply,
    only_if: Option<Precondition>,
) -> Result<Applied, ApiError> {
    let documents = read(&request)?;
    let asked = asked(&documents, only_if)?;
    let changes = write(node, &node.author(author), &documents, &asked).await?;
    let mut applied = Applied {
        objects: changes
            .iter()
            .map(|change| {
                shown(
                    change,
                    version::held(node, &change.object.scope(), &change.object.key()),
                )
            })
            .collect(),
        ..Applied::default()
    };
    if request.wait {
        let programmed = wait(node, &changes).await;
        if !programmed.unreachable.is_empty() {
            let hosts = programmed.unreachable.join(", ");
            applied.warnings.push(format!(
                "not reached: {hosts}; it comes into force there when they are back"
            ));
        }
        applied.programmed = Some(programmed);
    }
    Ok(applied)
}

/// All documents of a request.
fn read(request: &Apply) -> Result<Vec<Document>, ApiError> {
    let objects = request.objects.iter().enumerate();
    let objects = objects.map(|(index, object)| (format!("objects[{index}]"), object.to_string()));
    let texts = request
        .manifests
        .iter()
        .map(|manifest| (manifest.source.clone(), manifest.text.clone()));
    let (mut documents, mut wrong) = (Vec::new(), Vec::new());
    for (source, text) in texts.chain(objects) {
        match manifest::parse(&source, &text) {
            Ok(read) => documents.extend(read),
            Err(errors) => wrong.extend(errors.iter().map(unread)),
        }
    }
    if !wrong.is_empty() {
        return Err(invalid(wrong));
    }
    if documents.is_empty() {
        let sources = request.manifests.iter().map(|manifest| manifest.source.clone());
        let nothing = |source| Detail {
            source: Some(source),
            message: "there is no object in it".to_owned(),
            ..Detail::default()
        };
        return Err(invalid(sources.map(nothing).collect()));
    }
    Ok(documents)
}

/// What must hold of each document's object for it to be written; `only_if` is asked of the only one.
fn asked(documents: &[Document], only_if: Option<Precondition>) -> Result<Vec<(usize, Precondition)>, ApiError> {
    let mut asked = Vec::new();
    let mut wrong = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        match document.version.as_deref().map(str::parse) {
            None => {}
            Some(Ok(version)) => asked.push((index, Precondition::Version(vec![version]))),
            Some(Err(error)) => wrong.push(Detail {
                field: Some("version".to_owned()),
                message: NotAVersion::to_string(&error),
                ..place(document)
            }),
        }
    }
    if !wrong.is_empty() {
        return Err(invalid(wrong));
    }
    match (only_if, documents.len()) {
        (None, _) => {}
        (Some(only_if), 1) => asked.push((0, only_if)),
        (Some(_), count) => {
            return Err(ApiError::bad_request(format!(
                "a version can be asked of one object, and these are {count}: write `version` into each manifest instead"
            )));
        }
    }
    Ok(asked)
}

/// Admits and writes, under the lock that keeps other writes of this node away.
async fn write(
    node: &Node,
    author: &str,
    documents: &[Document],
    asked: &[(usize, Precondition)],
) -> Result<Vec<Change>, ApiError> {
    let objects: Vec<Object> = documents.iter().map(|document| document.object.clone()).collect();
    let _turn = node.writes.lock().await;
    let verdicts = node.sight.with_catalogue(|catalogue| admit(catalogue, &objects));
    let mut admitted = admitted(verdicts, documents)?;
    let changes = admitted.iter_mut().flat_map(|(_, changes)| changes);
    changes.for_each(|change| settle(node, change));
    let guarded = guarded(&admitted, documents, asked);
    let saw = version::check(node, &guarded)?;
    let saw: Vec<_> = guarded.iter().map(|it| &it.scope).zip(saw).collect();
    let mut all = Vec::new();
    for (domain, changes) in admitted {
        let changed = changes.iter().filter(|change| change.outcome != Outcome::Unchanged);
        let writes: Vec<IntentWrite> = changed
            .map(|change| IntentWrite {
                key: change.object.key(),
                body: Some(change.object.spec.encode()),
            })
            .collect();
        if !writes.is_empty() {
            tracing::info!(%author, %domain, objects = writes.len(), "applied");
            let scope = Scope::Domain(domain.clone());
            let of_domain = saw.iter().filter(|(of, _)| **of == scope);
            let saw = of_domain.map(|(_, saw)| saw.clone()).collect();
            let written = node.membership.write_intent_if(scope, author, writes, saw).await;
            written.map_err(|error| partly(version::unwritten(node, error, &guarded), &domain, &all))?;
        }
        all.extend(changes);
    }
    all.sort_by_key(|change| change.index);
    Ok(all)
}

/// Applying an object as it is shown settles a conflict about it, and so is a change then.
fn settle(node: &Node, change: &mut Change) {
    let (scope, key) = (change.object.scope(), change.object.key());
    if change.outcome == Outcome::Unchanged && node.membership.read(|replica| version::disagree(replica, &scope, &key))
    {
        change.outcome = Outcome::Configured;
    }
}

/// The objects that must be as asked: all but those that are already as they are to be (RFC 9110 section 13.1.1 lets a
/// repeated request succeed).
fn guarded(
    admitted: &[(DomainName, Vec<Change>)],
    documents: &[Document],
    asked: &[(usize, Precondition)],
) -> Vec<Guarded> {
    let changes = admitted.iter().flat_map(|(_, changes)| changes);
    let changed = changes.filter(|change| change.outcome != Outcome::Unchanged);
    let guarded = |change: &Change| {
        let of_it = asked.iter().filter(|(index, _)| *index == change.index);
        let place = documents.get(change.index).map(place).unwrap_or_default();
        let guarded = |(_, asked): &(usize, Precondition)| Guarded {
            scope: change.object.scope(),
            key: change.object.key(),
            asked: asked.clone(),
            place: place.clone(),
        };
        of_it.map(guarded).collect::<Vec<_>>()
    };
    changed.flat_map(guarded).collect()
}

/// The changes by domain, or everything that stands against them.
fn admitted(verdicts: Verdicts, documents: &[Document]) -> Result<Vec<(DomainName, Vec<Change>)>, ApiError> {
    let (mut good, mut wrong) = (Vec::new(), Vec::new());
    for (domain, verdict) in verdicts {
        match verdict {
            Ok(changes) => good.push((domain, changes)),
            Err(refusals) => wrong.extend(refusals),
        }
    }
    if wrong.is_empty() {
        return Ok(good);
    }
    wrong.sort_by_key(|refusal| refusal.index);
    Err(invalid(
        wrong.iter().map(|refusal| refused(refusal, documents)).collect(),
    ))
}

/// A write that failed behind others that did not: says which domains are done.
fn partly(error: ApiError, domain: &DomainName, done: &[Change]) -> ApiError {
    let domains: BTreeSet<String> = done.iter().map(|change| change.object.domain.to_string()).collect();
    let before = match domains.is_empty() {
        true => "nothing was changed".to_owned(),
        false => format!(
            "only these domains were written: {}",
            domains.into_iter().collect::<Vec<_>>().join(", ")
        ),
    };
    ApiError {
        message: format!("domain {domain}: {}; {before}", error.message),
        ..error
    }
}

fn invalid(details: Vec<Detail>) -> ApiError {
    ApiError {
        code: Code::InvalidManifest,
        message: "invalid; nothing was changed".to_owned(),
        details,
    }
}

fn unread(error: &ManifestError) -> Detail {
    Detail {
        source: Some(error.place.file.to_string()),
        document: error.place.document,
        object: None,
        field: Some(error.path.clone()).filter(|path| !path.is_empty()),
        line: error.place.line,
        message: error.cause.to_string(),
        current: None,
    }
}

fn refused(refusal: &Refusal, documents: &[Document]) -> Detail {
    Detail {
        field: Some(refusal.path.clone()).filter(|path| !path.is_empty()),
        message: refusal.rule.to_string(),
        ..documents.get(refusal.index).map(place).unwrap_or_default()
    }
}

/// Which object of which document.
fn place(document: &Document) -> Detail {
    Detail {
        source: Some(document.place.file.to_string()),
        document: document.place.document,
        object: Some(title(&document.object)),
        line: document.place.line,
        ..Detail::default()
    }
}

fn title(object: &Object) -> String {
    objects::title(object.kind(), &object.domain, &object.name)
}

fn shown(change: &Change, version: Option<Version>) -> AppliedObject {
    AppliedObject {
        kind: change.object.kind().to_string(),
        domain: change.object.domain.to_string(),
        name: change.object.name.to_string(),
        action: match change.outcome {
            Outcome::Created => Action::Created,
            Outcome::Configured => Action::Configured,
            Outcome::Unchanged => Action::Unchanged,
        },
        version,
    }
}

/// Waits for every node: each holds every domain and may attach an endpoint of it next. What was unchanged is waited for
/// as well: it may have been written a moment ago.
async fn wait(node: &Node, changes: &[Change]) -> Programmed {
    let mut keys: BTreeMap<Scope, Vec<Key>> = BTreeMap::new();
    for change in changes {
        keys.entry(change.object.scope()).or_default().push(change.object.key());
    }
    let marks: Vec<Mark> = keys
        .into_iter()
        .map(|(scope, keys)| node.sight.versions(&scope, keys))
        .collect();
    let nodes: BTreeSet<NodeId> = node.membership.members().into_iter().map(|member| member.id).collect();
    node.waiter()
        .everywhere(&marks, &nodes, Instant::now() + WAIT_MAX)
        .await
}

#[cfg(test)]
mod tests {
    use membership::hlc::Stamp;
    use overlay::catalogue::Catalogue;

    use super::*;
    use crate::api::types::Manifest;

    fn request(text: &str) -> Apply {
        let manifest = Manifest {
            source: "red.yaml".to_owned(),
            text: text.to_owned(),
        };
        Apply {
            manifests: vec![manifest],
            ..Apply::default()
        }
    }

    fn verdict(catalogue: &Catalogue, text: &str) -> Result<usize, ApiError> {
        let documents = read(&request(text))?;
        let objects: Vec<Object> = documents.iter().map(|document| document.object.clone()).collect();
        Ok(admitted(admit(catalogue, &objects), &documents)?
            .into_iter()
            .map(|(_, changes)| changes.len())
            .sum())
    }

    const RED: &str = "kind: Domain\nname: red\n";

    #[test]
    fn a_wrong_field_is_told_with_file_document_field_and_line() {
        let text = format!("{RED}---\nkind: Network\ndomain: red\nname: lan\nspec:\n  subnets: [10.0.0.1/24]\n");
        let error = verdict(&Catalogue::default(), &text).expect_err("host bits");
        assert_eq!(error.code, Code::InvalidManifest);
        let [detail] = &error.details[..] else {
            panic!("{error:?}")
        };
        assert_eq!(
            (detail.source.as_deref(), detail.document, detail.line),
            (Some("red.yaml"), Some(2), Some(8))
        );
        assert_eq!(detail.field.as_deref(), Some("spec.subnets[0]"));
        assert!(detail.message.contains("host bits"), "{detail:?}");
    }

    #[test]
    fn a_rule_between_objects_names_document_line_and_object() {
        let text = "# nothing\n---\nkind: Network\ndomain: red\nname: lan\nspec:\n  subnets: [10.0.0.0/24]\n";
        let error = verdict(&Catalogue::default(), text).expect_err("no domain");
        let [detail] = &error.details[..] else {
            panic!("{error:?}")
        };
        assert_eq!(
            (detail.source.as_deref(), detail.document, detail.line),
            (Some("red.yaml"), Some(1), Some(3))
        );
        assert_eq!(detail.object.as_deref(), Some("Network red/lan"));
        assert!(detail.message.contains("no domain red"), "{detail:?}");
    }

    #[test]
    fn what_is_good_is_admitted_and_what_is_there_is_unchanged() {
        let mut catalogue = Catalogue::default();
        assert_eq!(verdict(&catalogue, RED), Ok(1));
        let object = read(&request(RED)).expect("read").remove(0).object;
        catalogue.insert(object.clone(), Stamp::default());
        let verdicts = admit(&catalogue, &[object]);
        let changes = verdicts.into_values().next().expect("one domain").expect("admitted");
        assert_eq!(shown(&changes[0], None).action, Action::Unchanged);
    }

    #[test]
    fn objects_may_come_as_json_and_nothing_is_an_error() {
        let object = serde_json::json!({"kind": "Domain", "name": "red", "spec": {"defaultPolicy": "allow"}});
        let read_ = read(&Apply {
            objects: vec![object],
            ..Apply::default()
        })
        .expect("read");
        assert_eq!(read_[0].object.name.as_str(), "red");
        let wrong = serde_json::json!({"kind": "Domain", "name": "red", "spec": {"polizy": 1}});
        let error = read(&Apply {
            objects: vec![wrong],
            ..Apply::default()
        })
        .expect_err("unknown field");
        assert_eq!(error.details[0].source.as_deref(), Some("objects[0]"));
        let empty = read(&request("---\n")).expect_err("empty");
        assert_eq!(empty.code, Code::InvalidManifest);
        assert_eq!(empty.details[0].source.as_deref(), Some("red.yaml"));
        assert_eq!(
            read(&Apply::default()).expect_err("nothing").code,
            Code::InvalidManifest
        );
    }
}
