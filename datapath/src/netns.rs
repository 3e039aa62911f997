//! Work in other network namespaces, each piece on an OS thread of its own: a thread that entered a namespace never
//! serves anybody else. It sees the namespace's own `/proc/sys/net`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::error::Error;
use crate::netlink::Netlink;
use crate::opening;

/// An open network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    path: PathBuf,
}

/// Tells one namespace from every other, as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Namespace {
    /// Opens what is at a path, which may be anything: a FIFO or a device is refused at once.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = opening::open(path)?;
        if fstatfs(&file)?.filesystem_type() != NSFS_MAGIC {
            return Err(io::Error::other(
                "it is not a network namespace: name a file under /run/netns",
            ));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    pub(crate) fn identity(&self) -> io::Result<Identity> {
        self.file.metadata().map(|m| Identity {
            device: m.dev(),
            inode: m.ino(),
        })
    }

    /// Runs `work` in the namespace, on a thread of its own with a netlink connection of that namespace.
    pub(crate) async fn run<W, T>(&self, work: W) -> Result<T, Error>
    where
        W: AsyncFnOnce(&Netlink) -> Result<T, Error> + Send + 'static,
        T: Send + 'static,
    {
        let file = self.file.try_clone().map_err(Error::file("open", &self.path))?;
        let path = self.path.clone();
        let (done, result) = tokio::sync::oneshot::channel();
        let spawned = thread::Builder::new().name("fabric-netns".into()).spawn(move || {
            // The receiver is gone only if nobody wants the result any more.
            let _ = done.send(enter(file, &path, work));
        });
        spawned.map_err(Error::file("start a thread for", &self.path))?;
        result.await.map_err(|_| Error::Thread(self.path.clone()))?
    }
}

fn enter<W, T>(file: File, path: &Path, work: W) -> Result<T, Error>
where
    W: AsyncFnOnce(&Netlink) -> Result<T, Error>,
{
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(|e| Error::file("enter the network namespace", path)(e.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Error::file("start a runtime in", path))?;
    runtime.block_on(async { work(&Netlink::connect()?).await })
}

/// What is at a path, if it can be looked at.
pub(crate) fn identity(path: &Path) -> Option<Identity> {
    path.metadata().ok().map(|m| Identity {
        device: m.dev(),
        inode: m.ino(),
    })
}

/// The namespace of this thread.
pub(crate) fn own() -> Option<Identity> {
    identity(Path::new("/proc/thread-self/ns/net"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_opened_and_nothing_else_is() {
        assert!(Namespace::open(Path::new("/proc/self/ns/net")).is_ok());
        let why = Namespace::open(Path::new("/proc/self/exe")).expect_err("a program");
        assert!(why.to_string().contains("not a network namespace"), "{why}");
    }

    #[test]
    fn a_fifo_without_a_writer_is_refused_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        let why = Namespace::open(&fifo).expect_err("a FIFO");
        assert!(why.to_string().contains("not a network namespace"), "{why}");
    }
}
