//! `delete`: an object, and with `cascade` what depends on it; refused while something does.

use membership::id::{Label, Scope};
use membership::record::BATCH_RECORDS_MAX;
use membership::service::IntentWrite;
use overlay::admission::{self, DeleteError};
use overlay::object::Kind;

use super::node::Node;
use super::objects::title;
use super::version::{self, Guarded};
use crate::api::backend::Author;
use crate::api::error::{ApiError, Code, Detail};
use crate::api::types::Deleted;
use crate::api::version::Precondition;

/// Names one object.
pub(super) struct Named<'a> {
    pub(super) kind: Kind,
    pub(super) domain: &'a Label,
    pub(super) name: &'a Label,
}

/// Deletes an object, if it is as asked.
pub(super) async fn delete(
    node: &Node,
    author: &Author,
    &Named { kind, domain, name }: &Named<'_>,
    cascade: bool,
    only_if: Option<Precondition>,
) -> Result<Deleted, ApiError> {
    let _turn = node.writes.lock().await;
    let gone = node
        .sight
        .with_catalogue(|catalogue| admission::delete(catalogue, domain, kind, name, cascade))
        .map_err(|error| refusal(&error, domain))?;
    let (author, scope) = (node.author(author), Scope::Domain(domain.clone()));
    let guarded: Vec<Guarded> = only_if
        .map(|asked| Guarded {
            scope: scope.clone(),
            key: kind.key(name),
            asked,
            place: Detail {
                object: Some(title(kind, domain, name)),
                ..Detail::default()
            },
        })
        .into_iter()
        .collect();
    let saw = version::check(node, &guarded)?;
    // What depends on others goes first, so that each batch leaves a consistent domain.
    for batch in gone.chunks(BATCH_RECORDS_MAX) {
        let writes = batch
            .iter()
            .map(|(kind, name)| IntentWrite {
                key: kind.key(name),
                body: None,
            })
            .collect();
        // The object itself is in the last batch; it is looked at before each.
        let written = node
            .membership
            .write_intent_if(scope.clone(), &author, writes, saw.clone())
            .await;
        written.map_err(|error| version::unwritten(node, error, &guarded))?;
    }
    tracing::info!(%author, %domain, %kind, %name, objects = gone.len(), "deleted");
    Ok(Deleted {
        deleted: gone.iter().map(|(kind, name)| title(*kind, domain, name)).collect(),
    })
}

fn refusal(error: &DeleteError, domain: &Label) -> ApiError {
    match error {
        DeleteError::NotFound { kind, name, .. } => {
            ApiError::not_found(format!("there is no {}", title(*kind, domain, name)))
        }
        DeleteError::Needed { kind, name, dependants } => {
            let detail = |(kind, name): &(Kind, Label)| Detail {
                message: title(*kind, domain, name),
                ..Detail::default()
            };
            let what = title(*kind, domain, name);
            ApiError {
                code: Code::Refused,
                message: format!("{what} is not deleted: these depend on it; delete them first or give --cascade"),
                details: dependants.iter().map(detail).collect(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_create_what_is_to_be_deleted() {
        let label = |text: &str| text.parse::<Label>().expect("a label");
        for (kind, name, said) in [
            (Kind::Domain, "red", "there is no Domain red"),
            (Kind::Endpoint, "web-1", "there is no Endpoint red/web-1"),
        ] {
            let absent = DeleteError::NotFound {
                domain: label("red"),
                kind,
                name: label(name),
            };
            let error = refusal(&absent, &label("red"));
            assert_eq!((error.code, error.message.as_str()), (Code::NotFound, said));
        }
    }

    #[test]
    fn a_refusal_lists_what_depends() {
        let label = |text: &str| text.parse::<Label>().expect("a label");
        let dependants = vec![(Kind::Endpoint, label("web-1")), (Kind::Network, label("lan"))];
        let needed = DeleteError::Needed {
            kind: Kind::Domain,
            name: label("red"),
            dependants,
        };
        let error = refusal(&needed, &label("red"));
        assert_eq!(error.code, Code::Refused);
        let listed: Vec<_> = error.details.iter().map(|detail| detail.message.as_str()).collect();
        assert_eq!(listed, ["Endpoint red/web-1", "Network red/lan"]);
        assert!(error.message.starts_with("Domain red is not deleted"), "{error}");
    }
}
