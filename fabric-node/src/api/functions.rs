//! `/v1/functions`: third-party functions on this host. Provisional: they will be objects that spread to all hosts. Who
//! loads a file of this host is to be a user of this host.

use axum::Json;
use axum::extract::{ConnectInfo, State};

use super::backend::Author;
use super::error::{ApiError, Code};
use super::routes::{Answer, Content, Daemon, Parts, label};
use super::types::{Function, FunctionLoad, FunctionRemoved};

/// The functions on this host. Provisional.
#[utoipa::path(get, path = "/v1/functions", responses((status = 200, body = [Function])))]
pub(super) async fn list(State(daemon): Daemon) -> Answer<Vec<Function>> {
    daemon.functions().await.map(Json)
}

/// Loads a function from an object file of this host, or swaps the one of its name. Provisional.
#[utoipa::path(post, path = "/v1/functions", request_body = FunctionLoad,
    responses((status = 200, body = Function), (status = 403, body = ApiError),
        (status = 409, body = ApiError, description = "the file is no function, or the domain has no room for it")))]
pub(super) async fn load(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    body: Content,
) -> Answer<Function> {
    only_here(&author)?;
    daemon.load_function(&author, body.json()?).await.map(Json)
}

/// Removes a function from this host. Provisional.
#[utoipa::path(delete, path = "/v1/functions/{domain}/{name}",
    params(("domain" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = FunctionRemoved), (status = 403, body = ApiError), (status = 404, body = ApiError)))]
pub(super) async fn remove(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    Parts((domain, name)): Parts<(String, String)>,
) -> Answer<FunctionRemoved> {
    only_here(&author)?;
    let (domain, name) = (label(&domain)?, label(&name)?);
    daemon.remove_function(&author, &domain, &name).await.map(Json)
}

fn only_here(author: &Author) -> Result<(), ApiError> {
    if matches!(author, Author::Certified(_)) {
        let message = "functions are loaded and removed over the unix socket of their host only: run it on that host";
        return Err(ApiError::new(Code::Forbidden, message));
    }
    Ok(())
}
