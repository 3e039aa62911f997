//! Opens and closes TCP connections as fast as it can, and serves them. For `tests/bench.sh`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

/// A connection that takes longer is a failure.
const LIMIT: Duration = Duration::from_secs(5);

/// Opens and closes TCP connections, or serves them.
#[derive(Debug, Parser)]
enum Command {
    /// Accepts connections and closes them.
    Serve {
        /// Address and port.
        #[arg(long)]
        listen: SocketAddr,
    },
    /// Opens a connection, waits for its end, and again; prints how many there were per second.
    Connect {
        /// Address and port.
        #[arg(long)]
        to: SocketAddr,
        /// For how long.
        #[arg(long, default_value_t = 2)]
        seconds: u64,
        /// How many at a time.
        #[arg(long, default_value_t = 4)]
        threads: usize,
    },
}

fn main() -> Result<()> {
    match Command::parse() {
        Command::Serve { listen } => serve(listen),
        Command::Connect { to, seconds, threads } => connect(to, seconds, threads),
    }
}

/// The server closes first, so that it is not the client that runs out of ports.
fn serve(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    loop {
        // Who gave up before it was accepted is gone.
        drop(listener.accept());
    }
}

fn connect(to: SocketAddr, seconds: u64, threads: usize) -> Result<()> {
    let over = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    let failed = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| -> io::Result<()> {
                    while !over.load(Ordering::Relaxed) {
                        once(to)?;
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        thread::sleep(Duration::from_secs(seconds));
        over.store(true, Ordering::Relaxed);
        let ended = workers.into_iter().map(thread::ScopedJoinHandle::join);
        ended.filter_map(|ended| ended.unwrap_or(Ok(())).err()).next()
    });
    if let Some(error) = failed {
        bail!("a connection to {to} failed: {error}");
    }
    writeln!(io::stdout(), "{}", count.into_inner() / seconds)?;
    Ok(())
}

fn once(to: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}
