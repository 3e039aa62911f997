//! Ten thousand flows between two workloads, each of which goes on all the time: datagrams with sequence numbers and their
//! echoes, datagrams that only who was asked once sends, and TCP connections that exchange a few bytes. Nothing is sent
//! again by this: what does not come in time is lost.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt};

use crate::deadline::eventually;
use crate::flow::End;
use crate::netns::inside;

/// Where the server echoes datagrams: every socket of the client has a flow to each.
pub const FIRST_PORT: u16 = 9000;
const PORTS: u16 = 30;
const SOCKETS: usize = 300;
/// Where it is asked once, and speaks from then on: nothing but their connections lets these datagrams pass.
pub const ANSWERS_PORT: u16 = FIRST_PORT + PORTS;
const ANSWERS: usize = 100;
/// Where it takes connections.
pub const TCP_PORT: u16 = 8000;
const CONNECTIONS: usize = 1000;
/// Flows in all.
pub const FLOWS: usize = SOCKETS * PORTS as usize + ANSWERS + CONNECTIONS;
/// Between two rounds: daemons shall have a processor for themselves now and then.
const REST: Duration = Duration::from_millis(250);
/// When a datagram counts as lost, and a connection as stuck.
const LOST: Duration = Duration::from_secs(10);
/// How long a server waits before it looks whether it is over.
const LOOK: Duration = Duration::from_millis(300);
/// What is on its way to one port meanwhile.
const BUFFER: usize = 4 << 20;

/// Flows that go on until this is dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    /// Rounds of the three kinds: a packet on every flow of the kind, and its answer.
    rounds: [AtomicU64; 3],
    /// The first thing that went wrong.
    wrong: OnceLock<String>,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn counts(&self) -> [u64; 3] {
        self.rounds.each_ref().map(|count| count.load(Ordering::SeqCst))
    }

    /// Goes through round after round of a kind until it is over or something is wrong.
    fn rounds(&self, kind: usize, mut round: impl FnMut(u64) -> Result<()>) {
        let mut number = 0;
        while !self.is_over() {
            if let Err(error) = round(number) {
                // Only the first counts.
                let _ = self.wrong.set(format!("round {number}: {error:#}"));
                return;
            }
            number += 1;
            self.rounds[kind].fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Load {
    /// Starts the flows; every one has had an answer when this returns.
    pub fn start(client: &End, server: &End) -> Result<Self> {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let mut load = Self {
            shared: Arc::default(),
            threads: Vec::new(),
        };
        load.echoes(client, server)?;
        load.answers(client, server)?;
        load.connections(client, server)?;
        load.goes_on("every flow begins")?;
        Ok(load)
    }

    /// Waits until every flow made two rounds from here on: the second one began after the call.
    pub fn goes_on(&self, what: &str) -> Result<()> {
        let before = self.shared.counts();
        let wrong = eventually(what, || {
            let wrong = self.shared.wrong.get();
            let counts = self.shared.counts();
            let all = counts.iter().zip(before).all(|(count, before)| *count >= before + 2);
            ensure!(wrong.is_some() || all, "rounds were {before:?}, are {counts:?}");
            Ok(wrong)
        })?;
        wrong.map_or(Ok(()), |wrong| bail!("{what}: {wrong}"))
    }

    fn spawn(&mut self, f: impl FnOnce(&Shared) + Send + 'static) {
        let shared = Arc::clone(&self.shared);
        self.threads.push(thread::spawn(move || f(&shared)));
    }

    fn echoes(&mut self, client: &End, server: &End) -> Result<()> {
        for port in FIRST_PORT..ANSWERS_PORT {
            let socket = bound(server, port, LOOK)?;
            self.spawn(move |shared| echo(&socket, shared));
        }
        let sockets = (0..SOCKETS)
            .map(|_| bound(client, 0, LOST))
            .collect::<Result<Vec<_>>>()?;
        let to = server.address;
        self.spawn(move |shared| {
            shared.rounds(0, |number| {
                thread::sleep(REST);
                sockets.iter().try_for_each(|socket| ask_all(socket, to, number))
            });
        });
        Ok(())
    }

    fn answers(&mut self, client: &End, server: &End) -> Result<()> {
        let mouth = bound(server, ANSWERS_PORT, LOST)?;
        let ears = (0..ANSWERS)
            .map(|_| bound(client, 0, LOST))
            .collect::<Result<Vec<_>>>()?;
        let mut to = Vec::new();
        for ear in &ears {
            ear.send_to(b"speak", (server.address, ANSWERS_PORT))?;
            to.push(mouth.recv_from(&mut [0; 8]).context("nobody asks")?.1);
        }
        self.spawn(move |shared| speak(&mouth, &to, shared));
        self.spawn(move |shared| {
            shared.rounds(1, |number| ears.iter().try_for_each(|ear| expect(ear, number)));
        });
        Ok(())
    }

    fn connections(&mut self, client: &End, server: &End) -> Result<()> {
        let listener = inside(&server.netns, || Ok(TcpListener::bind((server.address, TCP_PORT))?))?;
        let (mut near, mut far) = (Vec::new(), Vec::new());
        let to = SocketAddr::from((server.address, TCP_PORT));
        inside(&client.netns, || {
            for _ in 0..CONNECTIONS {
                near.push(patient(TcpStream::connect_timeout(&to, LOST)?)?);
                far.push(patient(listener.accept()?.0)?);
            }
            Ok(())
        })?;
        self.spawn(move |_| while far.iter_mut().all(|stream| echo_bytes(stream).is_ok()) {});
        self.spawn(move |shared| shared.rounds(2, |number| exchange(&mut near, number)));
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("    a thread of the load panicked");
            }
        }
    }
}

/// As large a buffer as it goes: this is no test of buffers.
fn bound(end: &End, port: u16, patience: Duration) -> Result<UdpSocket> {
    let socket = inside(&end.netns, || Ok(UdpSocket::bind((end.address, port))?))?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)?;
    socket.set_read_timeout(Some(patience))?;
    Ok(socket)
}

fn patient(stream: TcpStream) -> Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(LOST))?;
    stream.set_read_timeout(Some(2 * LOST))?;
    Ok(stream)
}

fn echo(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 8];
    while !shared.is_over() {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // An error is a lost datagram, which the client sees.
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// One datagram to each port, and its echo.
fn ask_all(socket: &UdpSocket, to: IpAddr, number: u64) -> Result<()> {
    let mut left: BTreeSet<u16> = (FIRST_PORT..ANSWERS_PORT).collect();
    for port in &left {
        socket.send_to(&number.to_be_bytes(), (to, *port))?;
    }
    while !left.is_empty() {
        let mut buffer = [0; 8];
        let received = socket.recv_from(&mut buffer);
        let (_, from) = received.with_context(|| format!("{} echoes are lost", left.len()))?;
        let seen = u64::from_be_bytes(buffer);
        ensure!(
            seen == number && left.remove(&from.port()),
            "{seen} came once more from {from}"
        );
    }
    Ok(())
}

fn speak(mouth: &UdpSocket, to: &[SocketAddr], shared: &Shared) {
    let mut number = 0_u64;
    while !shared.is_over() {
        for address in to {
            // An error is a lost datagram, which the client sees.
            let _ = mouth.send_to(&number.to_be_bytes(), address);
        }
        number += 1;
        thread::sleep(REST);
    }
}

/// The next datagram has this number.
fn expect(ear: &UdpSocket, number: u64) -> Result<()> {
    let mut buffer = [0; 8];
    ear.recv(&mut buffer).context("nothing more is said")?;
    let said = u64::from_be_bytes(buffer);
    ensure!(said == number, "{said} was said, not {number}");
    Ok(())
}

fn echo_bytes(stream: &mut TcpStream) -> Result<()> {
    let mut buffer = [0; 8];
    stream.read_exact(&mut buffer)?;
    Ok(stream.write_all(&buffer)?)
}

/// A number on every connection, and back.
fn exchange(streams: &mut [TcpStream], number: u64) -> Result<()> {
    thread::sleep(REST);
    for stream in &mut *streams {
        stream
            .write_all(&number.to_be_bytes())
            .context("a connection takes nothing")?;
    }
    for stream in streams {
        let mut buffer = [0; 8];
        stream.read_exact(&mut buffer).context("a connection gives nothing")?;
        ensure!(buffer == number.to_be_bytes(), "other bytes came: {buffer:?}");
    }
    Ok(())
}
