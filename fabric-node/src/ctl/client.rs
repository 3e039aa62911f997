//! One request to a daemon, one answer: HTTP/1.1 over a connection of its own. Time and size are bounded.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::args::Api;
use super::identity::Identity;
use super::problem::Problem;
use super::stream::{self, Stream};
use crate::api::BODY_MAX;
use crate::api::error::{ApiError, Code};
use crate::api::version::Precondition;

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
        self.ask(Method::GET, path, Bytes::new(), None).await
    }

    pub(super) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.delete_if(path, None).await
    }

    /// The same, if what it is about is as asked.
    pub(super) async fn delete_if<T: DeserializeOwned>(
        &self,
        path: &str,
        only_if: Option<&Precondition>,
    ) -> Result<T, Problem> {
        self.ask(Method::DELETE, path, Bytes::new(), only_if).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        self.post_if(path, body, None).await
    }

    /// The same, if what it is about is as asked.
    pub(super) async fn post_if<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        only_if: Option<&Precondition>,
    ) -> Result<T, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| Problem::Silent(error.to_string()))?;
        self.ask(Method::POST, path, body.into(), only_if).await
    }

    /// Writes a long answer into a file as it comes.
    pub(super) async fn download(&self, path: &str, into: &mut impl io::Write) -> Result<(), Problem> {
        let silent = |_| Problem::Silent(format!("nothing came within {} s", TIME_MAX.as_secs()));
        let (response, _driver) = timeout(TIME_MAX, self.send(Method::GET, path, Bytes::new(), None))
            .await
            .map_err(silent)??;
        let status = response.status();
        let mut body = response.into_body();
        if !status.is_success() {
            let answer = timeout(TIME_MAX, Limited::new(body, BODY_MAX).collect())
                .await
                .map_err(silent)?;
            let answer = answer.map_err(|error| Problem::Silent(error.to_string()))?;
            return Err(refused(status, &answer.to_bytes()));
        }
        while let Some(frame) = timeout(TIME_MAX, body.frame()).await.map_err(silent)? {
            let frame = frame.map_err(|error| Problem::Silent(error.to_string()))?;
            if let Some(data) = frame.data_ref() {
                into.write_all(data).map_err(Problem::Written)?;
            }
        }
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        only_if: Option<&Precondition>,
    ) -> Result<T, Problem> {
        let exchange = self.exchange(method, path, body, only_if);
        let (status, bytes) = match timeout(TIME_MAX, exchange).await {
            Ok(answer) => answer?,
            Err(_) => return Err(Problem::Silent(format!("nothing came within {} s", TIME_MAX.as_secs()))),
        };
        if status.is_success() {
            return serde_json::from_slice(&bytes).map_err(|error| Problem::Silent(format!("not understood: {error}")));
        }
        Err(refused(status, &bytes))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        only_if: Option<&Precondition>,
    ) -> Result<(StatusCode, Bytes), Problem> {
        let (response, _driver) = self.send(method, path, body, only_if).await?;
        let status = response.status();
        let answer = Limited::new(response.into_body(), BODY_MAX).collect().await;
        let answer = answer.map_err(|error| Problem::Silent(error.to_string()))?;
        Ok((status, answer.to_bytes()))
    }

    /// The head of the answer; its body comes as long as the connection is kept.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        only_if: Option<&Precondition>,
    ) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), Problem> {
        let stream = self.connect().await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.silent(&error))?;
        // What is wrong with the connection, its request is told.
        let driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "fabric")
            .header("content-type", "application/json");
        if let Some((name, value)) = only_if.map(Precondition::header) {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| Problem::Silent(error.to_string()))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.silent(&error))?;
        Ok((response, driver))
    }
}

fn refused(status: StatusCode, answer: &[u8]) -> Problem {
    let unread = |_| ApiError::new(Code::Internal, format!("the daemon answered {status}"));
    Problem::Api(serde_json::from_slice(answer).unwrap_or_else(unread))
}
