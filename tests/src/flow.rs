//! TCP and UDP between two workloads: what one side sends must come back byte for byte.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::lab::Workload;
use crate::netns::inside;

const PATIENCE: Duration = Duration::from_secs(10);

/// One end of a flow: a namespace and an address in it.
#[derive(Debug, Clone)]
pub struct End {
    /// The network namespace.
    pub netns: String,
    /// An address that is in it.
    pub address: IpAddr,
}

impl End {
    /// A workload's end in the address family of `like`.
    #[must_use]
    pub fn of(workload: &Workload, like: IpAddr) -> Self {
        let address = if like.is_ipv4() { workload.ipv4 } else { workload.ipv6 };
        Self {
            netns: workload.netns.clone(),
            address,
        }
    }
}

/// Both directions carry `bytes` bytes over one TCP connection that `from` opens.
pub fn tcp(from: &End, to: &End, bytes: usize) -> Result<()> {
    let listener = inside(&to.netns, || Ok(TcpListener::bind((to.address, 0))?))?;
    let address = listener.local_addr()?;
    let sent: Vec<u8> = pattern(bytes);
    thread::scope(|scope| {
        let server = scope.spawn(|| echo_once(&listener, bytes));
        let received = inside(&from.netns, || send_and_read(address, &sent));
        if received.is_err() {
            // Lets the server's accept return.
            let _ = inside(&to.netns, || Ok(TcpStream::connect_timeout(&address, PATIENCE)?));
        }
        let server = server.join().map_err(|_| anyhow::anyhow!("the server panicked"))?;
        ensure!(
            received.with_context(|| format!("TCP to {address}"))? == sent,
            "the bytes that came back differ"
        );
        server
    })
}

fn echo_once(listener: &TcpListener, bytes: usize) -> Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut all = vec![0; bytes];
    stream.read_exact(&mut all).context("server")?;
    stream.write_all(&all)?;
    Ok(())
}

fn send_and_read(address: SocketAddr, sent: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).context("connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(sent).context("send")?;
    stream.shutdown(Shutdown::Write)?;
    let mut all = Vec::new();
    stream.read_to_end(&mut all).context("receive")?;
    Ok(all)
}

/// One UDP datagram of each size goes and comes back.
pub fn udp(from: &End, to: &End, sizes: &[usize]) -> Result<()> {
    let bound = |end: &End| {
        inside(&end.netns, || {
            let socket = UdpSocket::bind((end.address, 0))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        })
    };
    let (here, there) = (bound(from)?, bound(to)?);
    let mut buffer = vec![0; 65536];
    for &size in sizes {
        let sent = pattern(size);
        here.send_to(&sent, there.local_addr()?)?;
        let (count, source) = there
            .recv_from(&mut buffer)
            .with_context(|| format!("UDP {size} bytes to {}", to.address))?;
        ensure!(
            buffer.get(..count) == Some(&sent),
            "a datagram of {size} bytes came differently"
        );
        ensure!(source == here.local_addr()?, "it came from {source}");
        there.send_to(&sent, source)?;
        let count = here
            .recv(&mut buffer)
            .with_context(|| format!("UDP {size} bytes back"))?;
        ensure!(
            buffer.get(..count) == Some(&sent),
            "the answer of {size} bytes came differently"
        );
    }
    Ok(())
}

/// Whether a TCP connection can be made at all within a second.
pub fn connects(from: &End, to: &End) -> Result<bool> {
    let listener = inside(&to.netns, || Ok(TcpListener::bind((to.address, 0))?))?;
    let address = listener.local_addr()?;
    inside(&from.netns, || {
        Ok(TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
    })
}

/// TCP and UDP in both address families between two workloads, as a test of a way.
pub fn everything(from: &Workload, to: &Workload) -> Result<()> {
    for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let (a, b) = (End::of(from, any), End::of(to, any));
        tcp(&a, &b, 1 << 20).with_context(|| format!("{} -> {}", from.name, to.name))?;
        udp(&a, &b, &[1, 64, 1200]).with_context(|| format!("{} -> {}", from.name, to.name))?;
    }
    Ok(())
}

/// Segments that a namespace's TCP sent more than once since it was made.
pub fn retransmitted(netns: &str) -> Result<u64> {
    // The calling thread's own view: /proc/net is that of the process' first thread.
    let text = inside(netns, || Ok(std::fs::read_to_string("/proc/thread-self/net/snmp")?))?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        bail!("no Tcp lines in {text}")
    };
    let mut both = names.split_whitespace().zip(values.split_whitespace());
    let (_, count) = both
        .find(|(name, _)| *name == "RetransSegs")
        .context("no RetransSegs")?;
    Ok(count.parse()?)
}

/// Bytes in which a shift or a swap shows.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes)
        .map(|i| u8::try_from((i * 31 + i / 251) % 256).unwrap_or_default())
        .collect()
}
