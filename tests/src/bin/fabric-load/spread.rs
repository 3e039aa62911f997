//! How long a write on one node takes until all others show it.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::change::apply;

/// A write that takes longer is a failure.
const LIMIT: Duration = Duration::from_secs(30);

/// Prints a line of milliseconds for each time: from the call to when the last of the others shows what was written.
pub(crate) fn spread(write: &Path, read: &[PathBuf], times: u32) -> Result<()> {
    apply(
        write,
        "{kind: Domain, name: spread, spec: {}}\n---\n{kind: Network, domain: spread, name: lan, spec: {subnets: [10.50.0.0/16]}}\n",
    )?;
    for time in 0..times {
        let label = format!("time-{time}");
        let manifest = format!(
            "{{kind: Endpoint, domain: spread, name: e, spec: {{network: lan, addresses: [10.50.0.9], labels: {{n: {label}}}}}}}"
        );
        let began = now();
        apply(write, &manifest)?;
        let last = thread::scope(|scope| -> Result<Instant> {
            let waits: Vec<_> = read.iter().map(|api| scope.spawn(|| shown(api, &label))).collect();
            let mut last = began;
            for wait in waits {
                last = last.max(wait.join().unwrap_or_else(|_| bail!("a thread that reads ended"))?);
            }
            Ok(last)
        })?;
        writeln!(io::stdout(), "{:.2}", (last - began).as_secs_f64() * 1e3)?;
    }
    Ok(())
}

/// When a node shows this label.
fn shown(api: &Path, label: &str) -> Result<Instant> {
    let (begun, wanted) = (now(), format!("\"{label}\""));
    while begun.elapsed() < LIMIT {
        if get(api)?.contains(&wanted) {
            return Ok(now());
        }
    }
    bail!("{} does not show {label} within {LIMIT:?}", api.display())
}

fn get(api: &Path) -> Result<String> {
    let mut stream = UnixStream::connect(api).with_context(|| format!("calling {}", api.display()))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET /v1/domains/spread/endpoint/e HTTP/1.1\r\nhost: fabric\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}
