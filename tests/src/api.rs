//! Calls of a daemon's API by its socket, without a process for each.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Applies a manifest; an error, unless the daemon acknowledges it. Reading and writing wait so long at most.
pub fn apply(socket: &Path, manifest: &str, limit: Duration) -> Result<()> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("calling {}", socket.display()))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(
        stream,
        "POST /v1/apply HTTP/1.1\r\nhost: fabric\r\ncontent-type: application/yaml\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{manifest}",
        manifest.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "the API answered: {answer}");
    Ok(())
}
