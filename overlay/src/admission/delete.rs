//! What a deletion takes with it.

use membership::id::Label;

use super::refusal::listed;
use crate::catalogue::{Catalogue, Contents};
use crate::name::DomainName;
use crate::object::Kind;

/// Why an object is not deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// Nothing to delete.
    #[error("there is no {kind} {name} in domain {domain}")]
    NotFound {
        /// Its domain.
        domain: Label,
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Label,
    },
    /// Others refer to it.
    #[error("{kind} {name} is still needed by {}; delete these first, or all with --cascade", listed(dependants.iter().map(|(k, n)| format!("{k} {n}"))))]
    Needed {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: Label,
        /// Who needs it, in the order in which they could be deleted.
        dependants: Vec<(Kind, Label)>,
    },
}

/// What to delete so that an object is gone, in an order in which nothing is left that refers to what is not there. More
/// than one object only with `cascade`.
pub fn delete(
    catalogue: &Catalogue,
    domain: &DomainName,
    kind: Kind,
    name: &Label,
    cascade: bool,
) -> Result<Vec<(Kind, Label)>, DeleteError> {
    let exists = catalogue
        .domain(domain)
        .filter(|contents| contents.get(kind, name).is_some());
    let Some(contents) = exists.filter(|_| kind != Kind::Domain || name == domain) else {
        return Err(DeleteError::NotFound {
            domain: domain.clone(),
            kind,
            name: name.clone(),
        });
    };
    let mut order = dependants(contents, kind, name);
    if !cascade && !order.is_empty() {
        return Err(DeleteError::Needed {
            kind,
            name: name.clone(),
            dependants: order,
        });
    }
    order.push((kind, name.clone()));
    Ok(order)
}

fn dependants(contents: &Contents, kind: Kind, name: &Label) -> Vec<(Kind, Label)> {
    let of_kind = |kind: Kind| move |name: &Label| (kind, name.clone());
    match kind {
        Kind::Domain => {
            let endpoints = contents.endpoints.keys().map(of_kind(Kind::Endpoint));
            let routers = contents.routers.keys().map(of_kind(Kind::Router));
            let networks = contents.networks.keys().map(of_kind(Kind::Network));
            // Last, so that no workload is left without its rules.
            let policies = contents.policies.keys().map(of_kind(Kind::SecurityPolicy));
            endpoints.chain(routers).chain(networks).chain(policies).collect()
        }
        Kind::Network => {
            let endpoints = contents.endpoints_of(name).map(|(name, _)| name);
            let routers = contents.routers_of(name).map(|(name, _)| name);
            endpoints
                .map(of_kind(Kind::Endpoint))
                .chain(routers.map(of_kind(Kind::Router)))
                .collect()
        }
        Kind::Endpoint | Kind::Router | Kind::SecurityPolicy => Vec::new(),
    }
}
