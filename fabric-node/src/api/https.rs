//! Serves the API to other hosts: the same routes as the unix socket, over TLS with the node's own certificate. Who
//! shows a certificate that the cluster made for a user may use it. A node's certificate is none: a host can only speak
//! for itself, and its own API it has on the socket.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use membership::pki::{PkiError, Roots};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::backend::Author;
use super::connections::{Connections, accepted};
use super::error::{ApiError, Code};
use super::half_open::{HalfOpen, Handshake};
use super::refusals::{Reason, Refusals};
use super::serve::ServeError;
use crate::wallclock;

/// Users that are served at the same time.
const CONNECTIONS_MAX: usize = 256;
/// Others that are told at the same time why they are not.
const STRANGERS_MAX: usize = 16;
/// Longest time for a handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// How long, and how many bytes, a refused client may go on: its alert (RFC 8446 section 6.2) would be lost if what it
/// sent were left unread.
const PARTING_MAX: Duration = Duration::from_secs(1);
const PARTING_BYTES_MAX: u64 = 64 * 1024;

/// How a node proves itself, and whom it trusts.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// Asks for a certificate and checks that a root of the cluster signed it.
    pub tls: Arc<ServerConfig>,
    /// The roots of the cluster.
    pub roots: Roots,
}

/// Binds the address.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Address { address, source })
}

/// Serves until `stop` resolves; requests in progress are finished. Each connection goes by the credentials of the moment
/// at which it comes, and keeps them.
pub async fn serve(
    listener: TcpListener,
    credentials: watch::Receiver<Credentials>,
    router: Router,
    refusals: Arc<Refusals>,
    stop: impl Future<Output = ()> + Send,
) {
    let door = Arc::new(Door {
        credentials,
        users: Connections::new(router, CONNECTIONS_MAX),
        strangers: Connections::new(Router::new().fallback(not_a_user), STRANGERS_MAX),
        refusals,
    });
    let half_open = Arc::new(HalfOpen::default());
    let accept = async {
        loop {
            let (stream, from) = accepted(|| listener.accept()).await;
            match half_open.enter(from.ip()) {
                Some(handshake) => drop(tokio::spawn(door.clone().admit(stream, from, handshake))),
                None => door.refusals.note(Reason::Busy, from, "too many handshakes at once"),
            }
        }
    };
    tokio::select! {
        () = stop => {}
        () = accept => {}
    }
    tokio::join!(door.users.end(), door.strangers.end());
}

/// What every connection passes.
struct Door {
    credentials: watch::Receiver<Credentials>,
    users: Connections,
    strangers: Connections,
    refusals: Arc<Refusals>,
}

impl Door {
    async fn admit(self: Arc<Self>, stream: TcpStream, from: SocketAddr, handshake: Handshake) {
        let Credentials { tls, roots } = self.credentials.borrow().clone();
        let accepting = TlsAcceptor::from(tls).accept(stream).into_fallible();
        let stream = match timeout(HANDSHAKE_MAX, accepting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                self.refusals.note(Reason::Handshake, from, &error.to_string());
                return part(stream).await;
            }
            Err(_) => return self.refusals.note(Reason::Slow, from, "the handshake took too long"),
        };
        drop(handshake);
        let (connections, author) = match user(&stream, &roots) {
            Ok(author) => (&self.users, author),
            Err(why) => {
                self.refusals.note(Reason::NotUser, from, &why.to_string());
                (&self.strangers, Author::Local("nobody".to_owned()))
            }
        };
        match connections.free_place() {
            Some(place) => connections.serve(stream, author, place),
            None => self.refusals.note(Reason::Busy, from, "too many connections at once"),
        }
    }
}

fn user(stream: &TlsStream<TcpStream>, roots: &Roots) -> Result<Author, PkiError> {
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let shown = shown.ok_or(PkiError::NotUser("there is none"))?;
    let user = roots.check_user(shown, wallclock::since_epoch())?;
    Ok(Author::Certified(user.name))
}

/// The one answer to who is no user.
async fn not_a_user() -> impl IntoResponse {
    let message = "the certificate is not of a user of the API: a node's does not count on other nodes; make one with \
                   `fabricctl user create NAME --out FILE` on an anchor";
    ([(header::CONNECTION, "close")], ApiError::new(Code::Forbidden, message))
}

/// Lets a client read why it was refused.
async fn part(mut stream: TcpStream) {
    let parting = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(PARTING_BYTES_MAX), &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = timeout(PARTING_MAX, parting).await {
        tracing::debug!(%error, "a refused client of the API broke off");
    }
}
