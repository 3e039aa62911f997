//! `/v1/domains/{domain}/history`, `…/diff`, `…/rollback`: what a domain was.

use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::Uri;

use super::backend::Author;
use super::changes::{Diff, DiffQuery, HISTORY_LIMIT_MAX, History, HistoryQuery, Rollback, RolledBack};
use super::error::ApiError;
use super::moment::NotAMoment;
use super::routes::{Answer, Content, Daemon, Parts, kind_of, label, query};

/// The versions of a domain's objects that this node merged and still remembers, newest first.
#[utoipa::path(get, path = "/v1/domains/{domain}/history", params(("domain" = String, Path), HistoryQuery),
    responses((status = 200, body = History), (status = 404, body = ApiError)))]
pub(super) async fn history(State(daemon): Daemon, Parts(domain): Parts<String>, uri: Uri) -> Answer<History> {
    let ask: HistoryQuery = query(&uri)?;
    if !(1..=HISTORY_LIMIT_MAX).contains(&ask.limit) {
        return Err(ApiError::bad_request(format!("limit is 1 to {HISTORY_LIMIT_MAX}")));
    }
    let kind = ask.kind.as_deref().map(kind_of).transpose()?;
    let name = ask.name.as_deref().map(label).transpose()?;
    daemon
        .history(&label(&domain)?, kind, name.as_ref(), ask.limit)
        .await
        .map(Json)
}

/// What a domain was at a moment, where that differs from what it is.
#[utoipa::path(get, path = "/v1/domains/{domain}/diff", params(("domain" = String, Path), DiffQuery),
    responses((status = 200, body = Diff), (status = 404, body = ApiError)))]
pub(super) async fn diff(State(daemon): Daemon, Parts(domain): Parts<String>, uri: Uri) -> Answer<Diff> {
    let ask: DiffQuery = query(&uri)?;
    let at = match ask.at.as_str() {
        "" => "0s",
        at => at,
    };
    daemon
        .diff(&label(&domain)?, at.parse().map_err(refused)?)
        .await
        .map(Json)
}

/// Writes the objects of a domain as they were at a moment: all of them at once, as versions of the user who asks.
#[utoipa::path(post, path = "/v1/domains/{domain}/rollback", request_body = Rollback, params(("domain" = String, Path)),
    responses((status = 200, body = RolledBack), (status = 404, body = ApiError),
        (status = 409, body = ApiError, description = "`details` lists what stands in its way")))]
pub(super) async fn rollback(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    Parts(domain): Parts<String>,
    body: Content,
) -> Answer<RolledBack> {
    let Rollback { to, dry_run } = body.json()?;
    let to = to.parse().map_err(refused)?;
    daemon.rollback(&author, &label(&domain)?, to, dry_run).await.map(Json)
}

fn refused(error: NotAMoment) -> ApiError {
    ApiError::bad_request(error.to_string())
}
