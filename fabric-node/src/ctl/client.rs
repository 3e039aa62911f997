//! One request to a daemon, one answer: HTTP/1.1 over a connection of its own. Time and size are bounded.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::Api;
use super::identity::Identity;
use super::problem::Problem;
use super::stream::{self, Stream};
use crate::api::BODY_MAX;
use crate::api::error::{ApiError, Code};

/// Longer than the daemon allows itself.
const TIME_MAX: Duration = Duration::from_secs(70);

/// The way to a daemon.
#[derive(Debug)]
pub(super) enum Client {
    /// That of this host.
    Unix(PathBuf),
    /// That of another one.
    Https {
        /// As messages call it.
        api: String,
        /// Name or address.
        host: String,
        /// TCP port.
        port: u16,
        /// As whom.
        identity: Box<Identity>,
    },
}

impl Client {
    pub(super) fn new(api: Api, identity: Option<&Path>) -> Result<Self, Problem> {
        let shown = api.to_string();
        match (api, identity) {
            (Api::Unix(path), _) => Ok(Self::Unix(path)),
            (Api::Https { .. }, None) => Err(Problem::NoIdentity(shown)),
            (Api::Https { host, port }, Some(file)) => Ok(Self::Https {
                api: shown,
                host,
                port,
                identity: Box::new(Identity::read(file)?),
            }),
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Problem> {
        match self {
            Self::Unix(socket) => stream::unix(socket).await,
            Self::Https {
                api,
                host,
                port,
                identity,
            } => stream::https(api, host, *port, identity).await,
        }
    }

    /// A connection that broke off; a node that refuses a certificate says so by that (RFC 8446 section 4.4.2.4).
    fn silent(&self, error: &(dyn Error + 'static)) -> Problem {
        let refused = match self {
            Self::Unix(_) => None,
            Self::Https { api, .. } => stream::by_tls(api, error),
        };
        refused.unwrap_or_else(|| Problem::Silent(error.to_string()))
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
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.silent(&error))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "fabric")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| Problem::Silent(error.to_string()))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.silent(&error))?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), BODY_MAX).collect().await;
        driver.abort();
        let answer = answer.map_err(|error| Problem::Silent(error.to_string()))?;
        Ok((status, answer.to_bytes()))
    }
}
