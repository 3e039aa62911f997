//! From HTTP to [`Backend`] and back. Each handler parses, asks and answers; limits are applied around all of them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header, request};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete as delete_of, get, post};
use axum::{Json, Router};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use membership::id::Label;
use overlay::object::Kind;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;

use super::backend::{Author, Backend};
use super::error::{ApiError, Code};
use super::kinds::{self, KindInfo};
use super::types::{
    Applied, Apply, Attach, Attached, DeleteQuery, Deleted, DescribeQuery, Detached, Drop, Manifest, Object, Peer,
    Status, Token, TokenRequest, UserCertificate, UserRequest,
};
use super::version::Precondition;
use super::{BODY_MAX, anchors, backup, ca, conflicts, functions, history, nodes, openapi, quarantine, upgrade};

/// Requests that are worked on at the same time.
const CONCURRENT_MAX: usize = 64;
/// Longest time that a request waits for its turn to be worked on.
const TURN_MAX: Duration = Duration::from_secs(10);
/// Longest time for a body to arrive. It arrives before its request takes a turn: a slow client holds up itself only.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// Longest time for one request.
const TIME_MAX: Duration = Duration::from_secs(60);

pub(super) type Daemon = State<Arc<dyn Backend>>;
pub(super) type Answer<T> = Result<Json<T>, ApiError>;

/// The whole API over a backend. Requests carry their [`Author`] as connection info.
pub fn router(backend: Arc<dyn Backend>) -> Router {
    let places = Arc::new(Semaphore::new(CONCURRENT_MAX));
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/peers", get(peers))
        .route("/v1/drops", get(drops))
        .route("/metrics", get(metrics))
        .route("/v1/functions", get(functions::list).post(functions::load))
        .route("/v1/functions/{domain}/{name}", delete_of(functions::remove))
        .route("/v1/kinds", get(list_kinds))
        .route("/v1/apply", post(apply))
        .route("/v1/objects/{kind}", get(list_all))
        .route("/v1/domains", get(list_domains))
        .route("/v1/backup", get(backup::backup))
        .route("/v1/conflicts", get(conflicts::list))
        .route("/v1/domains/{domain}/history", get(history::history))
        .route("/v1/domains/{domain}/diff", get(history::diff))
        .route("/v1/domains/{domain}/rollback", post(history::rollback))
        .route("/v1/domains/{domain}/{kind}", get(list))
        .route("/v1/domains/{domain}/{kind}/{name}", get(describe).delete(delete))
        .route("/v1/domains/{domain}/{kind}/{name}/resolve", post(conflicts::resolve))
        .route("/v1/endpoints/{domain}/{name}/attach", post(attach))
        .route("/v1/endpoints/{domain}/{name}/detach", post(detach))
        .route("/v1/anchors", get(anchors::list).post(anchors::add))
        .route("/v1/anchors/{node}", delete_of(anchors::remove))
        .route("/v1/ca", get(ca::show))
        .route("/v1/ca/rotate", post(ca::rotate))
        .route("/v1/nodes/{node}", delete_of(nodes::remove))
        .route("/v1/leave", post(nodes::leave))
        .route("/v1/quarantine", get(quarantine::list))
        .route("/v1/quarantine/{domain}", delete_of(quarantine::release))
        .route("/v1/cluster/upgrade", get(upgrade::show))
        .route("/v1/cluster/upgrade/finish", post(upgrade::finish))
        .route("/v1/tokens", post(token))
        .route("/v1/users", post(user))
        .route("/v1/openapi.json", get(openapi_document))
        .fallback(no_such_resource)
        .method_not_allowed_fallback(no_such_method)
        // The whole body is there, within its limit, before any handler.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(places, limited))
        .with_state(backend)
}

/// Of `/metrics`.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn limited(State(places): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let request = match tokio::time::timeout(BODY_TIME_MAX, whole(request)).await {
        Ok(Ok(request)) => request,
        Ok(Err(refusal)) => return refusal.into_response(),
        Err(_) => {
            let message = format!("the body did not arrive within {} s", BODY_TIME_MAX.as_secs());
            return ApiError::bad_request(message).into_response();
        }
    };
    let Ok(Ok(_place)) = tokio::time::timeout(TURN_MAX, places.acquire()).await else {
        return ApiError::try_again("the daemon is working on too many requests").into_response();
    };
    match tokio::time::timeout(TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::try_again(format!("not done within {} s", TIME_MAX.as_secs())).into_response(),
    }
}

/// The request with all of its body, if that is not too large.
async fn whole(request: Request) -> Result<Request, ApiError> {
    let too_large = || {
        let message = format!("the body is larger than {BODY_MAX} bytes; apply it in parts");
        ApiError::new(Code::TooLarge, message)
    };
    let (head, body) = request.into_parts();
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(too_large());
    }
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => Ok(Request::from_parts(head, Body::from(body.to_bytes()))),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(error) => Err(ApiError::bad_request(error.to_string())),
    }
}

async fn no_such_resource(uri: Uri) -> ApiError {
    let message = format!("there is no {}; see /v1/openapi.json", uri.path());
    ApiError::new(Code::NoSuchResource, message)
}

async fn no_such_method(uri: Uri) -> Response {
    let message = format!("{} does not take this method; see /v1/openapi.json", uri.path());
    (
        StatusCode::METHOD_NOT_ALLOWED,
        Json(ApiError::new(Code::NoSuchResource, message)),
    )
        .into_response()
}

/// This node, its cluster and its datapath.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status)))]
pub(super) async fn status(State(daemon): Daemon) -> Answer<Status> {
    daemon.status().await.map(Json)
}

/// The other nodes of the cluster.
#[utoipa::path(get, path = "/v1/peers", responses((status = 200, body = [Peer])))]
pub(super) async fn peers(State(daemon): Daemon) -> Answer<Vec<Peer>> {
    daemon.peers().await.map(Json)
}

/// Counters of dropped packets on this node.
#[utoipa::path(get, path = "/v1/drops", responses((status = 200, body = [Drop])))]
pub(super) async fn drops(State(daemon): Daemon) -> Answer<Vec<Drop>> {
    daemon.drops().await.map(Json)
}

/// Counters and measurements of this node for Prometheus, as OpenMetrics text.
#[utoipa::path(get, path = "/metrics",
    responses((status = 200, body = String, content_type = "application/openmetrics-text")))]
pub(super) async fn metrics(State(daemon): Daemon) -> Result<Response, ApiError> {
    let text = daemon.metrics().await?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}

/// The kinds of object.
#[utoipa::path(get, path = "/v1/kinds", responses((status = 200, body = [KindInfo])))]
pub(super) async fn list_kinds() -> Json<Vec<KindInfo>> {
    Json(kinds::all())
}

/// The objects of a kind in all domains.
#[utoipa::path(get, path = "/v1/objects/{kind}", params(("kind" = String, Path, description = "as in /v1/kinds")),
    responses((status = 200, body = [Object]), (status = 404, body = ApiError)))]
pub(super) async fn list_all(State(daemon): Daemon, Parts(kind): Parts<String>) -> Answer<Vec<Object>> {
    daemon.list(kind_of(&kind)?, None).await.map(Json)
}

/// All domains.
#[utoipa::path(get, path = "/v1/domains", responses((status = 200, body = [Object])))]
pub(super) async fn list_domains(State(daemon): Daemon) -> Answer<Vec<Object>> {
    daemon.list(Kind::Domain, None).await.map(Json)
}

/// The objects of a kind in a domain.
#[utoipa::path(get, path = "/v1/domains/{domain}/{kind}",
    params(("domain" = String, Path), ("kind" = String, Path, description = "as in /v1/kinds")),
    responses((status = 200, body = [Object]), (status = 404, body = ApiError)))]
pub(super) async fn list(State(daemon): Daemon, Parts((domain, kind)): Parts<(String, String)>) -> Answer<Vec<Object>> {
    daemon.list(kind_of(&kind)?, Some(&label(&domain)?)).await.map(Json)
}

/// One object, with the hosts on which it is in force.
#[utoipa::path(get, path = "/v1/domains/{domain}/{kind}/{name}",
    params(("domain" = String, Path), ("kind" = String, Path), ("name" = String, Path), DescribeQuery),
    responses((status = 200, body = Object, headers(("ETag" = String, description = "its version, for `If-Match`"))),
        (status = 404, body = ApiError)))]
pub(super) async fn describe(
    State(daemon): Daemon,
    Parts((domain, kind, name)): Parts<(String, String, String)>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let ask: DescribeQuery = query(&uri)?;
    let object = daemon
        .describe(kind_of(&kind)?, &label(&domain)?, &label(&name)?, ask.programmed)
        .await?;
    Ok(([(header::ETAG, object.version.etag())], Json(object)).into_response())
}

/// Deletes an object; with `cascade`, what depends on it as well.
#[utoipa::path(delete, path = "/v1/domains/{domain}/{kind}/{name}",
    params(("domain" = String, Path), ("kind" = String, Path), ("name" = String, Path), DeleteQuery,
        ("If-Match" = Option<String>, Header, description = "delete only this version of it")),
    responses((status = 200, body = Deleted), (status = 404, body = ApiError),
        (status = 409, body = ApiError, description = "objects depend on it; `details` lists them"),
        (status = 412, body = ApiError, description = "it has another version; `details` has what is there")))]
pub(super) async fn delete(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    Parts((domain, kind, name)): Parts<(String, String, String)>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer<Deleted> {
    let ask: DeleteQuery = query(&uri)?;
    let (kind, domain, name) = (kind_of(&kind)?, label(&domain)?, label(&name)?);
    daemon
        .delete(&author, kind, &domain, &name, ask.cascade, Precondition::of(&headers)?)
        .await
        .map(Json)
}

/// Writes objects. Content type `application/yaml` is taken as one manifest; else the body is JSON. An object that has a
/// `version` is written only if it has that version, or is already as given; a header asks the same of the one object of
/// a request.
#[utoipa::path(post, path = "/v1/apply", request_body = Apply,
    params(("If-Match" = Option<String>, Header, description = "write only over this version"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: write only if it is not there")),
    responses((status = 200, body = Applied), (status = 422, body = ApiError, description = "a manifest is invalid"),
        (status = 412, body = ApiError, description = "an object has another version; `details` has what is there")))]
pub(super) async fn apply(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    headers: HeaderMap,
    body: Content,
) -> Answer<Applied> {
    let request = if body.yaml { body.manifest()? } else { body.json()? };
    daemon
        .apply(&author, request, Precondition::of(&headers)?)
        .await
        .map(Json)
}

/// Binds an endpoint to a namespace or an interface of this host.
#[utoipa::path(post, path = "/v1/endpoints/{domain}/{name}/attach", request_body = Attach,
    params(("domain" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Attached), (status = 404, body = ApiError), (status = 409, body = ApiError)))]
pub(super) async fn attach(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    Parts((domain, name)): Parts<(String, String)>,
    body: Content,
) -> Answer<Attached> {
    daemon
        .attach(&author, &label(&domain)?, &label(&name)?, body.json()?)
        .await
        .map(Json)
}

/// Undoes `attach` on this host.
#[utoipa::path(post, path = "/v1/endpoints/{domain}/{name}/detach",
    params(("domain" = String, Path), ("name" = String, Path)),
    responses((status = 200, body = Detached), (status = 404, body = ApiError)))]
pub(super) async fn detach(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    Parts((domain, name)): Parts<(String, String)>,
) -> Answer<Detached> {
    daemon.detach(&author, &label(&domain)?, &label(&name)?).await.map(Json)
}

/// Makes a join token; only an anchor can.
#[utoipa::path(post, path = "/v1/tokens", request_body = TokenRequest,
    responses((status = 200, body = Token), (status = 409, body = ApiError)))]
pub(super) async fn token(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    body: Content,
) -> Answer<Token> {
    daemon.token(&author, body.json()?).await.map(Json)
}

/// Makes the certificate of an API user; only an anchor can, and only for users of its own host: whoever came with a
/// certificate could otherwise outlive it.
#[utoipa::path(post, path = "/v1/users", request_body = UserRequest,
    responses((status = 200, body = UserCertificate), (status = 403, body = ApiError), (status = 409, body = ApiError)))]
pub(super) async fn user(
    State(daemon): Daemon,
    ConnectInfo(author): ConnectInfo<Author>,
    body: Content,
) -> Answer<UserCertificate> {
    if matches!(author, Author::Certified(_)) {
        let message = "certificates of users are made over the unix socket of an anchor only: run it on that host";
        return Err(ApiError::new(Code::Forbidden, message));
    }
    let request: UserRequest = body.json()?;
    daemon.user(&author, &label(&request.name)?, request).await.map(Json)
}

async fn openapi_document() -> Json<utoipa::openapi::OpenApi> {
    Json(openapi::document())
}

pub(super) fn kind_of(text: &str) -> Result<Kind, ApiError> {
    kinds::parse(text).map_err(ApiError::not_found)
}

pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    let found = Query::try_from_uri(uri).map_err(|error| ApiError::bad_request(error.body_text()))?;
    Ok(found.0)
}

pub(super) fn label(text: &str) -> Result<Label, ApiError> {
    text.parse()
        .map_err(|error: membership::id::IdError| ApiError::bad_request(error.to_string()))
}

/// The body of a request.
pub(super) struct Content {
    yaml: bool,
    bytes: Bytes,
}

impl Content {
    /// The value; an empty body is `{}`.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        let bytes: &[u8] = if self.bytes.is_empty() { b"{}" } else { &self.bytes };
        serde_json::from_slice(bytes)
            .map_err(|error| ApiError::bad_request(format!("the body is not as expected: {error}")))
    }

    fn manifest(&self) -> Result<Apply, ApiError> {
        let text = std::str::from_utf8(&self.bytes).map_err(|error| ApiError::bad_request(error.to_string()))?;
        let manifest = Manifest {
            source: "request".to_owned(),
            text: text.to_owned(),
        };
        Ok(Apply {
            manifests: vec![manifest],
            ..Apply::default()
        })
    }
}

impl<S: Send + Sync> FromRequest<S> for Content {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let kind = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let yaml = kind.is_some_and(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().ends_with("yaml")));
        let bytes = Bytes::from_request(request, state).await;
        let bytes = bytes.map_err(|error| ApiError::bad_request(error.body_text()))?;
        Ok(Self { yaml, bytes })
    }
}

/// The variable parts of a path.
pub(super) struct Parts<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Parts<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut request::Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::from_request_parts(parts, state).await;
        path.map(|Path(it)| Self(it))
            .map_err(|error| ApiError::bad_request(error.body_text()))
    }
}
