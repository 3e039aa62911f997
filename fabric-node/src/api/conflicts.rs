//! `/v1/conflicts` and how one is settled.

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Uri};

use super::backend::Author;
use super::changes::{Conflicts, ConflictsQuery, Resolve, Resolved};
use super::error::ApiError;
use super::routes::{Answer, Content, Daemon, Parts, kind_of, label, query};
use super::version::Precondition;

/// Objects that were written on several nodes at once and not settled since, and writes of removed nodes that count nowhere.
#[utoipa::path(get, path = "/v1/conflicts", params(ConflictsQuery), responses((status = 200, body = Conflicts)))]
pub(super) async fn list(State(daemon): Daemon, uri: Uri) -> Answer<Conflicts> {
    let ask: ConflictsQuery = query(&uri)?;
    let domain = ask.domain.as_deref().map(label).transpose()?;
    daemon.conflicts(domain.as_ref()).await.map(Json)
}

/// Settles a conflict by writing one of its versions again, in knowledge of all of them.
#[utoipa::path(post, path = "/v1/domains/{domain}/{kind}/{name}/resolve", request_body = Resolve,
    params(("domain" = String, Path), ("kind" = String, Path), ("name" = String, Path),
        ("If-Match" = Option<String>, Header, description = "only if nothing came to these versions")),
    responses((status = 200, body = Resolved), (status = 404, body = ApiError),
        (status = 409, body = ApiError, description = "there is no conflict, or the version cannot be taken"),
        (status = 412, body = ApiError, description = "the object has another version")))]
pub(super) async fn resolve(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    Parts((domain, kind, name)): Parts<(String, String, String)>,
    headers: HeaderMap,
    body: Content,
) -> Answer<Resolved> {
    let (kind, domain, name) = (kind_of(&kind)?, label(&domain)?, label(&name)?);
    let only_if = Precondition::of(&headers)?;
    let Resolve { take } = body.json()?;
    daemon
        .resolve(&author, (kind, &domain, &name), take, only_if)
        .await
        .map(Json)
}
