//! Calls of a daemon's API by its socket, without a process for each.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Applies a manifest; an error, unless the daemon acknowledges it. Reading and writing wait so long at most.
pub fn apply(socket: &Path, manifest: &str, limit: Duration) -> Result<()> {
    call(socket, "POST /v1/apply", "application/yaml", manifest, limit)
}

/// Attaches an endpoint, as `red/web-1`, to an interface of the daemon's host.
pub fn attach(socket: &Path, endpoint: &str, interface: &str, limit: Duration) -> Result<()> {
    let request = format!("POST /v1/endpoints/{endpoint}/attach");
    let body = format!("{{\"interface\": \"{interface}\"}}");
    call(socket, &request, "application/json", &body, limit)
}

/// Detaches an endpoint, as `red/web-1`.
pub fn detach(socket: &Path, endpoint: &str, limit: Duration) -> Result<()> {
    let request = format!("POST /v1/endpoints/{endpoint}/detach");
    call(socket, &request, "application/json", "", limit)
}

/// Deletes an endpoint, as `web-1` of `red`.
pub fn delete_endpoint(socket: &Path, domain: &str, name: &str, limit: Duration) -> Result<()> {
    let request = format!("DELETE /v1/domains/{domain}/endpoints/{name}");
    call(socket, &request, "application/json", "", limit)
}

fn call(socket: &Path, request: &str, kind: &str, body: &str, limit: Duration) -> Result<()> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("calling {}", socket.display()))?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: fabric\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(
        answer.starts_with("HTTP/1.1 20"),
        "the API answered {request}: {answer}"
    );
    Ok(())
}
