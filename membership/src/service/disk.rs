//! The thread that owns the store. Everything that touches the disk goes through its queue, so that commits keep their
//! order, several that wait become one (group commit), and the file is closed when the peer stops.

use std::thread;

use tokio::sync::{mpsc, oneshot};

use crate::replica::Change;
use crate::store::{Durable, Store, StoreError};

/// Jobs that may wait; more make their senders wait.
const WAITING: usize = 1_024;
/// Most changes in one commit.
const GROUP_MAX: usize = 256;

type Reply = oneshot::Sender<Result<(), DiskError>>;

/// Why the disk did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DiskError {
    /// The store refused.
    #[error("{0}")]
    Store(String),
    /// The peer is shutting down.
    #[error("the node is shutting down")]
    Closed,
}

impl From<StoreError> for DiskError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

enum Job {
    /// Commit; durable before the reply, where one is wanted.
    Change(Box<Change>, Option<Reply>),
    Run(Box<dyn FnOnce(&Store) + Send>),
    /// Flush, close the file, reply, end.
    Close(oneshot::Sender<()>),
}

/// A handle to the thread. It ends with the last handle, or with [`Disk::close`].
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    jobs: mpsc::Sender<Job>,
}

impl Disk {
    /// Starts the thread. `failed` is told of commits that nobody waits for.
    pub(crate) fn start(store: Store, failed: impl Fn(String) + Send + 'static) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(WAITING);
        thread::Builder::new()
            .name("fabric-store".to_owned())
            .spawn(move || work(store, queue, &failed))?;
        Ok(Self { jobs })
    }

    /// Commits a change that is on disk when this returns.
    pub(crate) async fn commit(&self, change: Change) -> Result<(), DiskError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Change(Box::new(change), Some(reply))).await?;
        answer.await.map_err(|_| DiskError::Closed)?
    }

    /// Commits a change some time later, after all that were handed over before.
    pub(crate) async fn commit_later(&self, change: Change) -> Result<(), DiskError> {
        self.send(Job::Change(Box::new(change), None)).await
    }

    /// Does something else with the store.
    pub(crate) async fn run<R: Send + 'static>(
        &self,
        f: impl FnOnce(&Store) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, DiskError> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may have gone.
        self.send(Job::Run(Box::new(move |store| drop(reply.send(f(store))))))
            .await?;
        answer.await.map_err(|_| DiskError::Closed)?.map_err(DiskError::from)
    }

    /// Makes all durable and closes the file.
    pub(crate) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.send(Job::Close(reply)).await.is_ok() {
            let _ended = closed.await;
        }
    }

    async fn send(&self, job: Job) -> Result<(), DiskError> {
        self.jobs.send(job).await.map_err(|_| DiskError::Closed)
    }
}

fn work(store: Store, mut queue: mpsc::Receiver<Job>, failed: &dyn Fn(String)) {
    let mut next = queue.blocking_recv();
    while let Some(job) = next.take() {
        match job {
            Job::Run(run) => run(&store),
            Job::Close(reply) => return close(store, reply),
            Job::Change(change, reply) => {
                let mut group = vec![(*change, reply)];
                while group.len() < GROUP_MAX {
                    match queue.try_recv() {
                        Ok(Job::Change(change, reply)) => group.push((*change, reply)),
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                commit(&store, group, failed);
            }
        }
        next = next.or_else(|| queue.blocking_recv());
    }
}

fn close(store: Store, reply: oneshot::Sender<()>) {
    if let Err(error) = store.flush() {
        tracing::error!("the store could not be flushed: {error}");
    }
    drop(store);
    let _gone = reply.send(());
}

fn commit(store: &Store, group: Vec<(Change, Option<Reply>)>, failed: &dyn Fn(String)) {
    let (changes, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
    let awaited = replies.iter().any(Option::is_some);
    let durable = if awaited { Durable::Before } else { Durable::Later };
    let outcome = store.commit(&changes, durable).map_err(DiskError::from);
    if let Err(error) = &outcome {
        failed(error.to_string());
    }
    for reply in replies.into_iter().flatten() {
        // A write goes on even if nobody waits for it any more.
        let _gone = reply.send(outcome.clone());
    }
}
