//! Workloads that all talk to each other all the time, and what each of them hears. A datagram says of which domain its
//! sender is, its name, and the moment at which it was sent: a number that the test raises, so that what was sent before
//! a change can be told from what was sent after it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;

use crate::netns::inside;

/// Where all of them listen. They send from other ports, so that no datagram is the answer to another.
const PORT: u16 = 7100;
/// Between two rounds of a talker.
const ROUND: Duration = Duration::from_millis(25);

/// One who talks and listens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Talker {
    /// Its domain.
    pub domain: String,
    /// Its endpoint.
    pub name: String,
    /// Where it lives.
    pub netns: String,
}

/// That somebody heard somebody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Heard {
    /// Who heard, as `red/web-1`.
    pub by: String,
    /// Whom.
    pub from: String,
    /// Over IPv4, else IPv6.
    pub ipv4: bool,
    /// When it was sent.
    pub moment: u64,
}

/// All of them, talking until this is dropped.
#[derive(Debug)]
pub struct Chatter {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    moment: AtomicU64,
    heard: Mutex<BTreeSet<Heard>>,
}

impl Chatter {
    /// Each of the talkers talks to all addresses, whoever has them.
    pub fn start(talkers: &[Talker], addresses: &[IpAddr]) -> Result<Self> {
        let shared: Arc<Shared> = Arc::default();
        let mut chatter = Self {
            shared: shared.clone(),
            threads: Vec::new(),
        };
        let to: Vec<SocketAddr> = addresses.iter().map(|ip| (mapped(*ip), PORT).into()).collect();
        for talker in talkers {
            let bind = |port| inside(&talker.netns, || Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port))?));
            let (ear, mouth) = (bind(PORT)?, bind(0)?);
            ear.set_read_timeout(Some(ROUND))?;
            let (by, listener) = (format!("{}/{}", talker.domain, talker.name), shared.clone());
            let (from, speaker, to) = (by.clone(), shared.clone(), to.clone());
            chatter
                .threads
                .push(thread::spawn(move || listen(&ear, &by, &listener)));
            chatter
                .threads
                .push(thread::spawn(move || talk(&mouth, &from, &to, &speaker)));
        }
        Ok(chatter)
    }

    /// Begins the next moment; which it is. Nobody says the moment before from here on.
    pub fn next(&self) -> u64 {
        self.shared.moment.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// All that was heard since this was called last.
    #[must_use]
    pub fn heard(&self) -> BTreeSet<Heard> {
        std::mem::take(&mut *self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Chatter {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("    a talker panicked");
            }
        }
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn talk(mouth: &UdpSocket, from: &str, to: &[SocketAddr], shared: &Shared) {
    while !shared.stop.load(Ordering::SeqCst) {
        for address in to {
            let text = format!("{from} {}", shared.moment.load(Ordering::SeqCst));
            // Who is attached nowhere has no way to anybody.
            let _ = mouth.send_to(text.as_bytes(), address);
        }
        thread::sleep(ROUND);
    }
}

fn listen(ear: &UdpSocket, by: &str, shared: &Shared) {
    let mut buffer = [0; 256];
    while !shared.stop.load(Ordering::SeqCst) {
        let Ok((length, source)) = ear.recv_from(&mut buffer) else {
            continue;
        };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let (from, moment) = text.split_once(' ').unwrap_or((&text, "0"));
        let heard = Heard {
            by: by.to_owned(),
            from: from.to_owned(),
            ipv4: source.ip().to_canonical().is_ipv4(),
            moment: moment.parse().unwrap_or_default(),
        };
        shared
            .heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(heard);
    }
}
