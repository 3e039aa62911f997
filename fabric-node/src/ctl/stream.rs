//! A connection to a daemon: its unix socket, or TLS to a node that proves to be one of the identity's cluster.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use membership::pki::{PkiError, tls};
use rustls::{AlertDescription, CertificateError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::identity::Identity;
use super::problem::Problem;
use crate::wallclock;

/// Longest time to reach a node, and the same for the handshake.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Either.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// To the daemon of this host.
pub(super) async fn unix(socket: &Path) -> Result<Box<dyn Stream>, Problem> {
    match UnixStream::connect(socket).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::PermissionDenied => Problem::Permission(socket.to_owned()),
            io::ErrorKind::WouldBlock => Problem::Silent("too many others are waiting for it".to_owned()),
            _ => Problem::NoDaemon(socket.to_owned()),
        }),
    }
}

/// To a node; `api` is what messages call it.
pub(super) async fn https(api: &str, host: &str, port: u16, identity: &Identity) -> Result<Box<dyn Stream>, Problem> {
    let unreachable = |why: String| Problem::NoNode {
        api: api.to_owned(),
        why,
    };
    let tcp = match timeout(CONNECT_MAX, TcpStream::connect((host, port))).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => return Err(unreachable(error.to_string())),
        Err(_) => return Err(unreachable(format!("no answer within {} s", CONNECT_MAX.as_secs()))),
    };
    let unset = |error: PkiError| Problem::Silent(error.to_string());
    let config = tls::client(&identity.key, &identity.certificate, &identity.roots).map_err(unset)?;
    let name = tls::any_node(&identity.roots).map_err(unset)?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let tls = match timeout(CONNECT_MAX, handshake).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            return Err(by_tls(api, &error).unwrap_or_else(|| Problem::Silent(format!("it speaks no TLS: {error}"))));
        }
        Err(_) => return Err(Problem::Silent("the TLS handshake took too long".to_owned())),
    };
    check(&tls, identity).map_err(|error| Problem::Stranger {
        api: api.to_owned(),
        why: error.to_string(),
    })?;
    Ok(Box::new(tls))
}

/// TLS has checked who signed the certificate; what it says is looked at as the mesh does.
fn check(tls: &TlsStream<TcpStream>, identity: &Identity) -> Result<(), PkiError> {
    let shown = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    let shown = shown.ok_or(PkiError::Malformed("there is none"))?;
    identity.roots.check(shown, wallclock::since_epoch()).map(drop)
}

/// What an error of a connection says about certificates: about theirs, or, as an alert, what they think of ours.
pub(super) fn by_tls(api: &str, error: &(dyn Error + 'static)) -> Option<Problem> {
    let api = api.to_owned();
    match of_tls(error)? {
        rustls::Error::InvalidCertificate(wrong) => Some(Problem::Stranger {
            api,
            why: match wrong {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "no root of that cluster signed its certificate".to_owned()
                }
                other => format!("its certificate is not valid: {other}"),
            },
        }),
        rustls::Error::AlertReceived(alert) => Some(Problem::NotLetIn {
            api,
            why: match alert {
                AlertDescription::CertificateExpired => "its certificate has expired by that node's clock".to_owned(),
                AlertDescription::UnknownCA | AlertDescription::DecryptError => "it is of another cluster".to_owned(),
                other => format!("TLS alert {other:?}"),
            },
        }),
        _ => None,
    }
}

/// The TLS library's error among the causes; those of I/O errors hide in them.
fn of_tls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inside.and_then(|inside| inside.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}
