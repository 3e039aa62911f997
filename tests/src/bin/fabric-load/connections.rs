//! TCP connections as fast as they come.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// A connection that takes longer is a failure.
const LIMIT: Duration = Duration::from_secs(5);

/// The server closes first, so that it is not the client that runs out of ports.
pub(crate) fn serve(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
    let echo = UdpSocket::bind(listen).with_context(|| format!("listening on {listen}"))?;
    thread::spawn(move || answer(&echo));
    loop {
        // Who gave up before it was accepted is gone.
        drop(listener.accept());
    }
}

fn answer(socket: &UdpSocket) {
    let mut datagram = [0; 64];
    loop {
        // What cannot be received or answered was refused on its way.
        if let Ok((length, from)) = socket.recv_from(&mut datagram) {
            drop(socket.send_to(&datagram[..length], from));
        }
    }
}

/// Prints connections per second.
pub(crate) fn connect(to: SocketAddr, seconds: u64, threads: usize) -> Result<()> {
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
