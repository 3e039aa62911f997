//! `/v1/backup`: all objects of all domains as one file.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures::stream;

use super::error::ApiError;
use super::routes::Daemon;

/// The objects of all domains with their versions and authors, as JSON lines: what `fabric-node init --restore` reads.
/// The last line has the digest of those before it; without it the answer was cut off.
#[utoipa::path(get, path = "/v1/backup",
    responses((status = 200, body = String, content_type = "application/jsonl"), (status = 503, body = ApiError)))]
pub(super) async fn backup(State(daemon): Daemon) -> Result<Response, ApiError> {
    let chunks = daemon.backup().await?;
    let body = Body::from_stream(stream::iter(
        chunks.map(|chunk| Ok::<_, Infallible>(Bytes::from(chunk))),
    ));
    Ok(([(header::CONTENT_TYPE, "application/jsonl")], body).into_response())
}
