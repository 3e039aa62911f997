//! Why the datapath cannot open or obey. Texts say what to do; the cause is the error's source.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use aya::maps::MapError;
use aya::programs::ProgramError;

/// Why the datapath cannot open or obey.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A capability that the datapath needs is missing.
    #[error("{0} is missing: run as root, or with CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_BPF")]
    Capability(&'static str),
    /// Older than the oldest kernel that is supported.
    #[error("Linux {0} is too old for the eBPF programs: install 6.1 or later")]
    Kernel(String),
    /// There is no bpf file system and none can be mounted.
    #[error("no bpf file system at {path}: run `mount -t bpf bpf {path}`")]
    Bpffs {
        /// Where it should be.
        path: PathBuf,
        /// Why it could not be mounted.
        source: io::Error,
    },
    /// The eBPF object does not load.
    #[error("the eBPF programs do not load on this kernel: report this with the kernel's version")]
    Object(#[from] aya::EbpfError),
    /// A program is refused or cannot be attached.
    #[error("cannot {action} the eBPF program {program}")]
    Program {
        /// What was tried.
        action: &'static str,
        /// The program.
        program: &'static str,
        /// Why not.
        source: Box<ProgramError>,
    },
    /// The eBPF object lacks a part that this build needs.
    #[error("the eBPF object has no {0}: it is of another build; install the package again")]
    Part(&'static str),
    /// A map cannot be read or written.
    #[error("cannot {action} the eBPF map {table}: is something else removing pins?")]
    Map {
        /// What was tried.
        action: &'static str,
        /// The map.
        table: &'static str,
        /// Why not.
        source: Box<MapError>,
    },
    /// A change of some stations reaches further than that.
    #[error("the domain {0} has to be applied as a whole")]
    Whole(overlay::name::DomainName),
    /// A map has no room left.
    #[error("the eBPF map {table} is full: this host has more entries than the datapath can hold")]
    Full {
        /// The map.
        table: &'static str,
    },
    /// Something cannot be pinned.
    #[error("cannot pin {path}")]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: Box<aya::pin::PinError>,
    },
    /// A file, mostly a pin or a sysctl, cannot be used.
    #[error("cannot {action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel refused a netlink request.
    #[error("cannot {action}")]
    Netlink {
        /// What was tried.
        action: String,
        /// Why not.
        source: io::Error,
    },
    /// Another build's programs use an interface.
    #[error(
        "{0} is used by the tables of another build, which are in force: it changes when this build has taken over"
    )]
    InUse(String),
    /// No interface carries a tunnel address.
    #[error("no interface carries {0}: add the address to an interface or change the node's tunnel address")]
    Address(IpAddr),
    /// A thread that works in another network namespace did not come to an end.
    #[error("a thread for work in the network namespace {0} ended early")]
    Thread(PathBuf),
}

impl Error {
    /// Names a map in an error of aya's; "no space" becomes [`Error::Full`].
    pub(crate) fn map(action: &'static str, table: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| match io_kind(&source) {
            Some(nix::libc::E2BIG) => Self::Full { table },
            _ => Self::Map {
                action,
                table,
                source: Box::new(source),
            },
        }
    }

    pub(crate) fn program(action: &'static str, program: &'static str) -> impl FnOnce(ProgramError) -> Self {
        move |source| Self::Program {
            action,
            program,
            source: Box::new(source),
        }
    }

    pub(crate) fn pin(path: &Path) -> impl FnOnce(aya::pin::PinError) -> Self {
        move |source| Self::Pin {
            path: path.to_owned(),
            source: Box::new(source),
        }
    }

    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn netlink(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        let action = action.into();
        move |source| Self::Netlink {
            action,
            source: netlink_io(source),
        }
    }

    /// The whole error in one line, with what caused it.
    pub(crate) fn words(&self) -> String {
        let mut words = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            words = format!("{words}: {error}");
            cause = error.source();
        }
        words
    }

    /// The errno of a refused netlink request.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Netlink { source, .. } | Self::File { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the kernel says that the interface of a request is not there (any more).
    pub(crate) fn is_gone(&self) -> bool {
        self.errno() == Some(nix::libc::ENODEV)
    }
}

fn io_kind(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(e) => e.io_error.raw_os_error(),
        MapError::IoError(e) => e.raw_os_error(),
        _ => None,
    }
}

fn netlink_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_is_told_from_a_broken_one() {
        let refused = |errno| MapError::IoError(io::Error::from_raw_os_error(errno));
        let full = Error::map("write", "PORTS")(refused(nix::libc::E2BIG));
        assert!(matches!(full, Error::Full { table: "PORTS" }));
        let broken = Error::map("write", "PORTS")(refused(nix::libc::EPERM));
        assert!(
            broken.words().ends_with("Operation not permitted (os error 1)"),
            "{}",
            broken.words()
        );
    }
}
