//! Serves the API on a unix socket. Who may open the socket may use the API; the system says who it is.

use std::future::Future;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::Router;
use nix::unistd::{Group, Uid, User};
use tokio::net::{UnixListener, UnixStream};

use super::backend::Author;
use super::connections::{Connections, accepted};

/// Connections that are served at the same time; more wait, and none keeps its place without asking something.
const CONNECTIONS_MAX: usize = 256;

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Somebody serves there.
    #[error("another daemon listens on {0}; stop it or choose another --api")]
    InUse(PathBuf),
    /// Something else than a socket is there.
    #[error("{0} exists and is no socket; choose another --api")]
    NotASocket(PathBuf),
    /// The group does not exist.
    #[error("there is no group {0:?} (api.group)")]
    NoGroup(String),
    /// The address cannot be listened on.
    #[error("the API cannot be served on {address} (api.https): {source}")]
    Address {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("the API cannot be served over TLS (api.https): {0}")]
    Tls(#[from] membership::pki::PkiError),
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// On which path.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

/// Binds the socket: its directory is made, a stale socket replaced, a live one respected.
pub async fn bind(path: &Path, group: Option<&str>) -> Result<UnixListener, ServeError> {
    let io = |source| ServeError::Io {
        path: path.to_owned(),
        source,
    };
    let gid = group.map(gid_of).transpose()?;
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(parent)
            .map_err(io)?;
    }
    remove_stale(path).await?;
    let listener = bind_private(path).map_err(io)?;
    if let Some(gid) = gid {
        nix::unistd::chown(path, None, Some(gid)).map_err(|error| io(error.into()))?;
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(io)?;
    Ok(listener)
}

/// Linux gives the socket's file the mode of the socket itself, so that nobody else can connect before it has its group.
fn bind_private(path: &Path) -> std::io::Result<UnixListener> {
    use nix::sys::socket;
    let flags = socket::SockFlag::SOCK_CLOEXEC | socket::SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(socket::AddressFamily::Unix, socket::SockType::Stream, flags, None)?;
    nix::sys::stat::fchmod(&socket, nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR)?;
    socket::bind(socket.as_raw_fd(), &socket::UnixAddr::new(path)?)?;
    socket::listen(&socket, socket::Backlog::new(128)?)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))
}

/// Serves until `stop` resolves; requests in progress are finished.
pub async fn serve(listener: UnixListener, router: Router, stop: impl Future<Output = ()> + Send) {
    let connections = Connections::new(router, CONNECTIONS_MAX);
    let accept = async {
        loop {
            let place = connections.place().await;
            let stream = accepted(|| listener.accept()).await.0;
            let author = author(&stream);
            connections.serve(stream, author, place);
        }
    };
    tokio::select! {
        () = stop => {}
        () = accept => {}
    }
    connections.end().await;
}

fn gid_of(name: &str) -> Result<nix::unistd::Gid, ServeError> {
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) | Err(_) => Err(ServeError::NoGroup(name.to_owned())),
    }
}

async fn remove_stale(path: &Path) -> Result<(), ServeError> {
    let io = |source| ServeError::Io {
        path: path.to_owned(),
        source,
    };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io(error)),
        Ok(found) if !found.file_type().is_socket() => Err(ServeError::NotASocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).await.is_ok() => Err(ServeError::InUse(path.to_owned())),
        Ok(_) => std::fs::remove_file(path).map_err(io),
    }
}

fn author(stream: &UnixStream) -> Author {
    let uid = stream.peer_cred().map(|peer| Uid::from_raw(peer.uid()));
    Author::Local(uid.map_or_else(|_| "unknown".to_owned(), user_name))
}

fn user_name(uid: Uid) -> String {
    match User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("uid:{uid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_respected() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("run/fabric/api.sock");
        let first = bind(&path, None).await.expect("bound");
        let mode = std::fs::metadata(&path).expect("a socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        assert!(matches!(bind(&path, None).await, Err(ServeError::InUse(_))));
        drop(first);
        bind(&path, None).await.expect("the stale socket is replaced");
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("api.sock");
        std::fs::write(&path, "mine").expect("written");
        assert!(matches!(bind(&path, None).await, Err(ServeError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "mine");
    }

    #[tokio::test]
    async fn an_unknown_group_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = bind(&dir.path().join("api.sock"), Some("no-such-group")).await;
        assert!(matches!(error, Err(ServeError::NoGroup(name)) if name == "no-such-group"));
    }
}
