//! One request to the daemon, one answer: HTTP/1.1 over its unix socket. Time and size are bounded.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::args::Api;
use super::problem::Problem;
use crate::api::BODY_MAX;
use crate::api::error::{ApiError, Code};

/// Longer than the daemon allows itself.
const TIME_MAX: Duration = Duration::from_secs(70);

/// The way to the daemon.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(super) fn new(api: &Api) -> Result<Self, Problem> {
        match api {
            Api::Unix(path) => Ok(Self { socket: path.clone() }),
            Api::Https(url) => Err(Problem::Unsupported(url.clone())),
        }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.ask(Method::DELETE, path, Bytes::new()).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| Problem::Silent(error.to_string()))?;
        self.ask(Method::POST, path, body.into()).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, Problem> {
        let exchange = self.exchange(method, path, body);
        let (status, bytes) = match tokio::time::timeout(TIME_MAX, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(Problem::Silent(format!("nothing came within {} s", TIME_MAX.as_secs()))),
        };
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| Problem::Silent(format!("not understood: {error}")));
        }
        let unread = |_| ApiError::new(Code::Internal, format!("the daemon answered {status}"));
        Err(Problem::Api(serde_json::from_slice(&bytes).unwrap_or_else(unread)))
    }

    async fn exchange(&self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes), Problem> {
        let silent = |error: hyper::Error| Problem::Silent(error.to_string());
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| unreachable(&self.socket, &error))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(silent)?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "fabric")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| Problem::Silent(error.to_string()))?;
        let response = sender.send_request(request).await.map_err(silent)?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), BODY_MAX).collect().await;
        driver.abort();
        let answer = answer.map_err(|error| Problem::Silent(error.to_string()))?;
        Ok((status, answer.to_bytes()))
    }
}

fn unreachable(socket: &Path, error: &io::Error) -> Problem {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Problem::Permission(socket.to_owned()),
        _ => Problem::NoDaemon(socket.to_owned()),
    }
}
