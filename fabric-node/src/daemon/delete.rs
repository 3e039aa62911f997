//! `delete`: an object, and with `cascade` what depends on it; refused while something does.

use membership::id::{Label, Scope};
use membership::record::BATCH_RECORDS_MAX;
use membership::service::IntentWrite;
use overlay::object::Kind;
use overlay::view::View;

use super::node::Node;
use super::objects::{missing, no_domain};
use crate::api::backend::Author;
use crate::api::error::{ApiError, Code, Detail};
use crate::api::types::Deleted;

/// Deletes an object.
pub(super) async fn delete(
    node: &Node,
    author: &Author,
    kind: Kind,
    domain: &Label,
    name: &Label,
    cascade: bool,
) -> Result<Deleted, ApiError> {
    let _turn = node.writes.lock().await;
    let view = node.sight.read(domain).view.ok_or_else(|| no_domain(domain))?;
    if !exists(&view, kind, name) {
        return Err(missing(kind, domain, name));
    }
    let dependants = dependants(&view, kind, name);
    if !dependants.is_empty() && !cascade {
        return Err(refusal(kind, domain, name, &dependants));
    }
    let mut gone = dependants;
    gone.push((kind, name.clone()));
    let author = node.author(author);
    // What depends on others goes first, so that each batch leaves a consistent domain.
    for batch in gone.chunks(BATCH_RECORDS_MAX) {
        let writes = batch
            .iter()
            .map(|(kind, name)| IntentWrite {
                key: kind.key(name),
                body: None,
            })
            .collect();
        node.membership
            .write_intent(Scope::Domain(domain.clone()), &author, writes)
            .await?;
    }
    tracing::info!(%author, %domain, %kind, %name, objects = gone.len(), "deleted");
    Ok(Deleted {
        deleted: gone.iter().map(|(kind, name)| shown(*kind, domain, name)).collect(),
    })
}

fn exists(view: &View, kind: Kind, name: &Label) -> bool {
    let unreadable = view.unreadable.contains_key(&(kind, name.to_string()));
    unreadable
        || match kind {
            Kind::Domain => *name == view.domain,
            Kind::Network => view.networks.contains_key(name),
            Kind::Endpoint => view.endpoints.contains_key(name),
        }
}

/// What refers to an object, in an order in which it can be deleted: endpoints, then networks.
fn dependants(view: &View, kind: Kind, name: &Label) -> Vec<(Kind, Label)> {
    let in_network = |network: Option<&Label>| {
        let endpoints = view
            .endpoints
            .iter()
            .filter(move |(_, seen)| network.is_none_or(|it| seen.spec.network == *it));
        endpoints.map(|(endpoint, _)| (Kind::Endpoint, endpoint.clone()))
    };
    match kind {
        Kind::Endpoint => Vec::new(),
        Kind::Network => in_network(Some(name)).collect(),
        Kind::Domain => {
            let unreadable = view
                .unreadable
                .keys()
                .filter_map(|(kind, name)| Some((*kind, name.parse().ok()?)));
            let mut all: Vec<(Kind, Label)> = in_network(None).collect();
            all.extend(view.networks.keys().map(|network| (Kind::Network, network.clone())));
            all.extend(unreadable.filter(|(kind, _)| *kind != Kind::Domain));
            all.sort_by_key(|(kind, _)| std::cmp::Reverse(*kind));
            all
        }
    }
}

fn refusal(kind: Kind, domain: &Label, name: &Label, dependants: &[(Kind, Label)]) -> ApiError {
    let details = dependants.iter().map(|(kind, name)| Detail {
        message: shown(*kind, domain, name),
        ..Detail::default()
    });
    ApiError {
        code: Code::Refused,
        message: format!(
            "{} is not deleted: these depend on it; delete them first or give --cascade",
            shown(kind, domain, name)
        ),
        details: details.collect(),
    }
}

fn shown(kind: Kind, domain: &Label, name: &Label) -> String {
    match kind {
        Kind::Domain => format!("Domain {name}"),
        Kind::Network | Kind::Endpoint => format!("{kind} {domain}/{name}"),
    }
}
