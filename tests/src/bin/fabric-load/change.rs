//! Changes by a node's API, and what they do to traffic.

use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// Between two questions; the times are as exact as that.
const PACE: Duration = Duration::from_micros(500);
/// Silence that shows that the far end is denied.
const SILENCE: Duration = Duration::from_millis(200);
/// A change that takes longer is a failure.
const LIMIT: Duration = Duration::from_secs(60);

/// Prints a line of milliseconds for each time.
pub(crate) fn first(to: SocketAddr, api: &Path, [allow, deny]: [&Path; 2], times: u32) -> Result<()> {
    let (allow, deny) = (read(allow)?, read(deny)?);
    for _ in 0..times {
        apply(api, &deny)?;
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(to)?;
        silence(&socket)?;
        let milliseconds = thread::scope(|scope| -> Result<f64> {
            let began = now();
            let written = scope.spawn(|| apply(api, &allow));
            let arrived = answer(&socket);
            written
                .join()
                .unwrap_or_else(|_| bail!("the thread that writes ended"))
                .context("allowing")?;
            Ok((arrived? - began).as_secs_f64() * 1e3)
        })?;
        writeln!(io::stdout(), "{milliseconds:.1}")?;
    }
    Ok(())
}

/// Prints how many changes there were per second.
pub(crate) fn changes(api: &Path, folder: &Path, rate: u32, seconds: u64, writers: usize) -> Result<()> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    let manifests = paths.iter().map(|path| read(path)).collect::<Result<Vec<_>>>()?;
    ensure!(!manifests.is_empty(), "{} is empty", folder.display());
    let (began, over, next) = (now(), Duration::from_secs(seconds), AtomicU32::new(0));
    let written = thread::scope(|scope| -> Result<u32> {
        let writers: Vec<_> = (0..writers)
            .map(|_| scope.spawn(|| write_in_turn(api, &manifests, rate, &next, (began, over))))
            .collect();
        let counts = writers.into_iter().map(|writer| writer.join().unwrap_or(Ok(0)));
        counts.sum()
    })?;
    writeln!(
        io::stdout(),
        "{:.1}",
        f64::from(written) / began.elapsed().as_secs_f64()
    )?;
    Ok(())
}

/// Writes whichever manifest is due next until time is over; how many it wrote.
fn write_in_turn(
    api: &Path,
    manifests: &[String],
    rate: u32,
    next: &AtomicU32,
    (began, over): (Instant, Duration),
) -> Result<u32> {
    let mut written = 0;
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let due = Duration::from_secs(1) * number / rate;
        if due >= over || began.elapsed() >= over {
            return Ok(written);
        }
        thread::sleep(due.saturating_sub(began.elapsed()));
        apply(api, &manifests[number as usize % manifests.len()])?;
        written += 1;
    }
}

/// Asks until an answer comes; when that was.
fn answer(socket: &UdpSocket) -> Result<Instant> {
    socket.set_read_timeout(Some(PACE))?;
    let end = now() + LIMIT;
    while now() < end {
        // Refused on its way, or lost: the next one may get there.
        drop(socket.send(b"?"));
        if socket.recv(&mut [0; 64]).is_ok() {
            return Ok(now());
        }
    }
    bail!("no answer within {LIMIT:?} after the change")
}

/// Asks until no answer comes any more.
fn silence(socket: &UdpSocket) -> Result<()> {
    socket.set_read_timeout(Some(PACE))?;
    let (end, mut since) = (now() + LIMIT, now());
    while now() < end {
        drop(socket.send(b"?"));
        if socket.recv(&mut [0; 64]).is_ok() {
            since = now();
        } else if since.elapsed() >= SILENCE {
            return Ok(());
        }
    }
    bail!("there are answers {LIMIT:?} after they were denied")
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn now() -> Instant {
    Instant::now()
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Writes a manifest.
pub(crate) fn apply(api: &Path, manifest: &str) -> Result<()> {
    fabric_tests::api::apply(api, manifest, LIMIT)
}
