//! Opens files whose paths somebody else names: it never waits for a writer, as a FIFO would have it, and takes no
//! terminal. Who opens looks at what it got before reading it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::libc::{O_NOCTTY, O_NONBLOCK};

/// Opens what is at a path for reading, at once.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK | O_NOCTTY)
        .open(path)
}
