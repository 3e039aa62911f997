//! Connections of clients, whatever they came over: HTTP/1.1, as many at a time as there are places, each bounded in
//! time, so that no client keeps a place without asking something and reading the answer.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Extension};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backend::Author;

/// Longest time for the head of a request to arrive, and for a connection to stay without one.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// After this time a connection takes no further request.
const LIFE_MAX: Duration = Duration::from_secs(300);
/// Longest time for the last request of a connection: its body, its turn, its work, and the reading of its answer.
const END_MAX: Duration = Duration::from_secs(120);
/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 64 * 1024;
/// Between two tries after the system refused to accept, as for want of file descriptors.
const RETRY: Duration = Duration::from_millis(200);

/// A place of a connection; it is free again when this is dropped.
pub(super) type Place = OwnedSemaphorePermit;

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Connections {
    router: Router,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    ending: CancellationToken,
}

impl Connections {
    /// Up to `most` at a time.
    pub(super) fn new(router: Router, most: usize) -> Self {
        Self {
            router,
            places: Arc::new(Semaphore::new(most)),
            tasks: TaskTracker::new(),
            ending: CancellationToken::new(),
        }
    }

    /// Waits for a place.
    pub(super) async fn place(&self) -> Place {
        match self.places.clone().acquire_owned().await {
            Ok(place) => place,
            // The semaphore is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// A place, if one is free.
    pub(super) fn free_place(&self) -> Option<Place> {
        self.places.clone().try_acquire_owned().ok()
    }

    /// Serves a client in a task of its own.
    pub(super) fn serve<S>(&self, stream: S, author: Author, place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let router = self.router.clone().layer(Extension(ConnectInfo(author)));
        let ending = self.ending.clone();
        self.tasks.spawn(async move {
            one(stream, router, ending).await;
            drop(place);
        });
    }

    /// Lets requests in progress finish; whoever has not asked anything is sent away.
    pub(super) async fn end(&self) {
        self.ending.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

async fn one<S>(stream: S, router: Router, ending: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_MAX);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Ok(ended),
        () = ending.cancelled() => Err(()),
        () = tokio::time::sleep(LIFE_MAX) => Err(()),
    };
    let ended = match ended {
        Ok(ended) => ended,
        Err(()) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(END_MAX, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("a client of the API was cut off: it took too long"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client of the API broke off, or was too slow");
    }
}

/// The next connection that can be had.
pub(super) async fn accepted<T, F: Future<Output = io::Result<T>>>(accept: impl Fn() -> F) -> T {
    loop {
        match accept().await {
            Ok(connection) => return connection,
            Err(error) => {
                tracing::warn!(%error, "the API could not accept a connection");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
    use tokio::time::timeout;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    /// One place, taken by a client.
    async fn taken() -> (Connections, DuplexStream) {
        let router = Router::new().route("/", get(async || "x".repeat(4096)));
        let connections = Connections::new(router, 1);
        let (client, server) = tokio::io::duplex(1024);
        let place = connections.place().await;
        connections.serve(server, Author::Local("tester".to_owned()), place);
        assert!(connections.free_place().is_none());
        (connections, client)
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_and_does_not_read_loses_its_place() {
        let (connections, mut client) = taken().await;
        client.write_all(REQUEST).await.expect("sent");
        let freed = timeout(LIFE_MAX + END_MAX + HEAD_TIME_MAX, connections.place()).await;
        assert!(freed.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_ever_loses_its_place() {
        let (connections, mut client) = taken().await;
        let mut answer = [0; 512];
        let mut often = tokio::time::interval(HEAD_TIME_MAX / 2);
        let asking = async {
            loop {
                often.tick().await;
                client.write_all(REQUEST).await?;
                while let Ok(read) = timeout(Duration::from_secs(1), client.read(&mut answer)).await {
                    if read? == 0 {
                        return io::Result::Ok(());
                    }
                }
            }
        };
        let ended = timeout(LIFE_MAX + HEAD_TIME_MAX, asking).await;
        assert!(ended.is_ok());
        assert!(connections.free_place().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_sends_idle_clients_away_at_once() {
        let (connections, mut client) = taken().await;
        let mut answer = Vec::new();
        let (ended, read) = tokio::join!(
            timeout(Duration::from_millis(1), connections.end()),
            client.read_to_end(&mut answer)
        );
        assert!(ended.is_ok());
        assert_eq!(read.ok(), Some(0));
    }
}
