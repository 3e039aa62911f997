//! Ten thousand flows between two workloads, each of which goes on all the time: datagrams with sequence numbers and their
//! echoes, datagrams that only who was asked once sends, and TCP connections that exchange a few bytes. What is lost is counted, not repeated.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::libc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use crate::namespace::{Namespace, eventually};

/// Datagrams: sockets of the client, each with a flow to every port of the server.
const SOCKETS: u16 = 90;
const PORTS: u16 = 100;
const FIRST_PORT: u16 = 9000;
/// TCP connections.
const CONNECTIONS: usize = 1000;
const TCP_PORT: u16 = 8000;
/// Flows in which only the server speaks, once it was asked: nothing but their connections lets them pass.
const ANSWERS: usize = 100;
const ANSWERS_PORT: u16 = FIRST_PORT + PORTS;
/// Flows in all.
pub(crate) const FLOWS: usize = SOCKETS as usize * PORTS as usize + ANSWERS + CONNECTIONS;
/// Datagrams of a socket that are on their way at a time.
const WINDOW: usize = 10;
/// Between two rounds of a flow.
const REST: Duration = Duration::from_millis(50);
/// When a datagram counts as lost, and a connection as stuck.
const LOST: Duration = Duration::from_secs(10);

/// What became of the flows.
#[derive(Debug, Default)]
struct Counts {
    over: AtomicBool,
    /// Rounds made, of each task; a round is a packet and its answer on every flow of the task.
    rounds: Vec<AtomicUsize>,
    /// Datagrams that were not echoed.
    lost: AtomicUsize,
    /// Connections that broke or got stuck.
    broken: AtomicUsize,
}

/// Runs until it is dropped.
pub(crate) struct Load {
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts the flows; every one has had an answer when this returns.
    pub(crate) fn start(client: &Namespace, server: &Namespace, address: [u8; 4]) -> Self {
        allow_descriptors();
        let rounds = (0..usize::from(SOCKETS) + ANSWERS + CONNECTIONS).map(|_| AtomicUsize::new(0));
        let counts = Arc::new(Counts {
            rounds: rounds.collect(),
            ..Counts::default()
        });
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (far, near) = (Arc::clone(&counts), Arc::clone(&counts));
        let serves = server.thread(async move || serve(address, &far, ready).await);
        is_ready.recv().expect("the server listens");
        let sends = client.thread(async move || send(address, near).await);
        let load = Self {
            counts,
            threads: vec![serves, sends],
        };
        load.goes_on("every flow begins");
        load
    }

    /// Waits until every flow made two rounds from here on: the second one began after the call.
    pub(crate) fn goes_on(&self, what: &str) {
        let rounds = |at: &AtomicUsize| at.load(Ordering::Relaxed);
        let before: Vec<usize> = self.counts.rounds.iter().map(rounds).collect();
        eventually(what, || {
            let all = self.counts.rounds.iter().zip(&before);
            let (lost, broken) = self.lost();
            assert_eq!((lost, broken), (0, 0), "{what}: datagrams lost, connections broken");
            all.into_iter().all(|(at, before)| rounds(at) >= before + 2)
        });
    }

    /// Datagrams that were lost and connections that broke.
    pub(crate) fn lost(&self) -> (usize, usize) {
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (load(&self.counts.lost), load(&self.counts.broken))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.counts.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What it panicked of, it printed.
            let _ = thread.join();
        }
    }
}

/// A soft limit may be small; the hard one may not.
fn allow_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes a limit, which lives until the call returns.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the kernel reads a limit, which lives until the call returns.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

async fn serve(address: [u8; 4], counts: &Counts, ready: std::sync::mpsc::Sender<()>) {
    for port in FIRST_PORT..FIRST_PORT + PORTS {
        let socket = UdpSocket::bind(SocketAddr::from((address, port))).await.expect("bind");
        enlarge(&socket);
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                // An error is a lost datagram, which the client counts.
                let _ = socket.send_to(&buffer[..length], from).await;
            }
        });
    }
    let socket = UdpSocket::bind(SocketAddr::from((address, ANSWERS_PORT)))
        .await
        .expect("bind");
    tokio::spawn(answer(Arc::new(socket)));
    let listener = TcpSocket::new_v4().expect("a socket");
    listener.set_reuseaddr(true).expect("an option");
    listener.bind(SocketAddr::from((address, TCP_PORT))).expect("bind");
    let listener = listener.listen(2048).expect("listen");
    tokio::spawn(accept(listener));
    ready.send(()).expect("the test waits");
    until_over(counts).await;
}

/// Speaks for ever with whoever asks.
async fn answer(socket: Arc<UdpSocket>) {
    let mut buffer = [0; 64];
    while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            for sequence in 0_u64.. {
                // An error is a lost datagram, which the client counts.
                let _ = socket.send_to(&sequence.to_be_bytes(), from).await;
                tokio::time::sleep(REST).await;
            }
        });
    }
}

async fn accept(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let mut buffer = [0; 8];
            while stream.read_exact(&mut buffer).await.is_ok() && stream.write_all(&buffer).await.is_ok() {}
        });
    }
}

async fn send(address: [u8; 4], counts: Arc<Counts>) {
    for task in 0..usize::from(SOCKETS) {
        let socket = UdpSocket::bind("0.0.0.0:0").await.expect("bind");
        enlarge(&socket);
        tokio::spawn(datagrams(socket, address, task, Arc::clone(&counts)));
    }
    let (answers, connections) = (usize::from(SOCKETS), usize::from(SOCKETS) + ANSWERS);
    for task in answers..connections {
        let socket = UdpSocket::bind("0.0.0.0:0").await.expect("bind");
        let asked = socket.send_to(&[0], SocketAddr::from((address, ANSWERS_PORT))).await;
        asked.expect("it is sent");
        tokio::spawn(listen(socket, task, Arc::clone(&counts)));
    }
    for task in connections..connections + CONNECTIONS {
        let stream = TcpStream::connect(SocketAddr::from((address, TCP_PORT)))
            .await
            .expect("connect");
        stream.set_nodelay(true).expect("an option");
        tokio::spawn(connection(stream, task, Arc::clone(&counts)));
    }
    until_over(&counts).await;
}

async fn until_over(counts: &Counts) {
    while !counts.over.load(Ordering::Relaxed) {
        tokio::time::sleep(REST).await;
    }
}

/// As large as it goes: this is no test of buffers.
fn enlarge(socket: &UdpSocket) {
    let set = nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::RcvBufForce, &(4 << 20));
    set.expect("root may");
}

/// Rounds of a sequence number to every port.
async fn datagrams(socket: UdpSocket, address: [u8; 4], task: usize, counts: Arc<Counts>) {
    let ports: Vec<u16> = (FIRST_PORT..FIRST_PORT + PORTS).collect();
    for sequence in 0_u64.. {
        for some in ports.chunks(WINDOW) {
            for port in some {
                let to = SocketAddr::from((address, *port));
                // An error is a lost datagram.
                let _ = socket.send_to(&sequence.to_be_bytes(), to).await;
            }
            let mut left: std::collections::BTreeSet<u16> = some.iter().copied().collect();
            let mut buffer = [0; 64];
            while !left.is_empty() {
                match tokio::time::timeout(LOST, socket.recv_from(&mut buffer)).await {
                    Ok(Ok((_, from))) if buffer[..8] == sequence.to_be_bytes() => drop(left.remove(&from.port())),
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) | Err(_) => {
                        counts.lost.fetch_add(left.len(), Ordering::Relaxed);
                        return;
                    }
                }
            }
        }
        counts.rounds[task].fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(REST).await;
    }
}

/// Every sequence number has to come.
async fn listen(socket: UdpSocket, task: usize, counts: Arc<Counts>) {
    let mut buffer = [0; 64];
    for sequence in 0_u64.. {
        let received = tokio::time::timeout(LOST, socket.recv(&mut buffer)).await;
        if !matches!(received, Ok(Ok(8))) || buffer[..8] != sequence.to_be_bytes() {
            counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        counts.rounds[task].fetch_add(1, Ordering::Relaxed);
    }
}

async fn connection(mut stream: TcpStream, task: usize, counts: Arc<Counts>) {
    let mut buffer = [0; 8];
    for sequence in 0_u64.. {
        let exchange = async {
            stream.write_all(&sequence.to_be_bytes()).await?;
            stream.read_exact(&mut buffer).await
        };
        if !matches!(tokio::time::timeout(LOST, exchange).await, Ok(Ok(_))) {
            counts.broken.fetch_add(1, Ordering::Relaxed);
            return;
        }
        counts.rounds[task].fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(REST).await;
    }
}
