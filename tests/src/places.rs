//! Many workloads, each in a namespace and on an interface of its own that stay when its endpoint is taken away, so that a
//! packet which still comes there is seen. All of them answer; some ask all addresses all the time. A question says at which
//! moment it was asked, a number that the test raises, and an answer says from which place it comes.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::netns::{inside, run};

/// Where all places answer.
const PORT: u16 = 7300;
/// Between two rounds of questions.
const ROUND: Duration = Duration::from_millis(500);
/// After which a listener looks whether it is over.
const LOOK: Duration = Duration::from_millis(300);

/// A workload's namespace and the interface of the host that leads to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its namespace.
    pub netns: String,
    /// The namespace of its host.
    pub host: String,
    /// The host's side of its interface.
    pub interface: String,
    /// Its MAC address, as tools write it.
    pub mac: String,
    /// Its address, in a network of prefix length 16 whose gateway is the first one.
    pub address: Ipv4Addr,
}

/// That a place got a question, or an asker an answer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Seen {
    /// The place of this number was asked.
    Asked {
        /// The moment of the question.
        moment: u64,
        /// The number of the place.
        place: u32,
    },
    /// An address answered.
    Answered {
        /// The moment of the question.
        moment: u64,
        /// The number of the place that asked.
        by: u32,
        /// The address that was asked.
        address: Ipv4Addr,
        /// The number of the place that answered.
        place: u32,
    },
}

/// Places that answer and ask until this is dropped; their namespaces go with it. A place's number is its index.
#[derive(Debug)]
pub struct Places {
    /// All of them.
    pub all: Vec<Place>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    moment: AtomicU64,
    seen: Mutex<BTreeSet<Seen>>,
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    fn note(&self, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(seen);
    }
}

impl Places {
    /// Makes them; all answer to whatever reaches them.
    pub fn make(all: Vec<Place>) -> Result<Self> {
        let lines = all.iter().map(|place| format!("netns add {}\n", place.netns));
        batch(&[], &lines.collect::<String>())?;
        let mut places = Self {
            all,
            shared: Arc::default(),
            threads: Vec::new(),
        };
        let link = |place: &Place| {
            let Place {
                netns,
                host,
                interface,
                mac,
                ..
            } = place;
            format!("link add {interface} netns {host} type veth peer name eth0 address {mac} netns {netns}\n")
        };
        batch(&[], &places.all.iter().map(link).collect::<String>())?;
        for number in 0..places.all.len() {
            places.answers(number)?;
        }
        Ok(places)
    }

    fn answers(&mut self, number: usize) -> Result<()> {
        let place = &self.all[number];
        // Whoever learned a neighbour asks soon whether it still is the same one.
        inside(&place.netns, || {
            for (name, value) in [("base_reachable_time_ms", "1000"), ("delay_first_probe_time", "1")] {
                std::fs::write(format!("/proc/sys/net/ipv4/neigh/eth0/{name}"), value).context(name)?;
            }
            Ok(())
        })?;
        let [a, b, ..] = place.address.octets();
        let lines = format!(
            "link set eth0 mtu 1430 up\naddress add {}/16 dev eth0\nroute add default via {a}.{b}.0.1\n",
            place.address
        );
        batch(&["-n", &place.netns], &lines)?;
        let socket = bound(place, PORT)?;
        let (shared, number) = (Arc::clone(&self.shared), u32::try_from(number)?);
        self.threads
            .push(thread::spawn(move || answer(&socket, number, &shared)));
        Ok(())
    }

    /// Has the place of this number ask all of these addresses from here on.
    pub fn asks(&mut self, number: usize, addresses: &[Ipv4Addr]) -> Result<()> {
        let mouth = bound(&self.all[number], 0)?;
        let ear = mouth.try_clone()?;
        let (speaks, hears, addresses) = (Arc::clone(&self.shared), Arc::clone(&self.shared), addresses.to_vec());
        let by = u32::try_from(number)?;
        self.threads
            .push(thread::spawn(move || ask(&mouth, &addresses, &speaks)));
        self.threads.push(thread::spawn(move || hear(&ear, by, &hears)));
        Ok(())
    }

    /// Begins the next moment; which it is.
    pub fn next(&self) -> u64 {
        self.shared.moment.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// All that was seen since this was called last.
    #[must_use]
    pub fn seen(&self) -> BTreeSet<Seen> {
        std::mem::take(&mut *self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("    a place panicked");
            }
        }
        let lines = self.all.iter().map(|place| format!("netns delete {}\n", place.netns));
        if let Err(error) = batch(&["-force"], &lines.collect::<String>()) {
            eprintln!("    namespaces stay: {error:#}");
        }
    }
}

/// Has `ip` do all of these lines.
fn batch(options: &[&str], lines: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), lines)?;
    run(Command::new("ip").args(options).arg("-batch").arg(file.path())).map(drop)
}

fn bound(place: &Place, port: u16) -> Result<UdpSocket> {
    let socket = inside(&place.netns, || Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?))?;
    socket.set_read_timeout(Some(LOOK))?;
    Ok(socket)
}

fn answer(socket: &UdpSocket, place: u32, shared: &Shared) {
    let mut moment = [0; 8];
    while !shared.is_over() {
        let Ok((8, from)) = socket.recv_from(&mut moment) else {
            continue;
        };
        shared.note(Seen::Asked {
            moment: u64::from_be_bytes(moment),
            place,
        });
        // Who was detached meanwhile has no way to anybody.
        let _ = socket.send_to(&[&moment[..], &place.to_be_bytes()].concat(), from);
    }
}

fn ask(mouth: &UdpSocket, addresses: &[Ipv4Addr], shared: &Shared) {
    while !shared.is_over() {
        for address in addresses {
            let moment = shared.moment.load(Ordering::SeqCst);
            // Who is attached nowhere has no way to anybody.
            let _ = mouth.send_to(&moment.to_be_bytes(), (*address, PORT));
        }
        thread::sleep(ROUND);
    }
}

fn hear(ear: &UdpSocket, by: u32, shared: &Shared) {
    let mut buffer = [0; 12];
    while !shared.is_over() {
        let Ok((12, from)) = ear.recv_from(&mut buffer) else {
            continue;
        };
        let (moment, place) = buffer.split_at(8);
        if let (IpAddr::V4(address), Ok(moment), Ok(place)) = (from.ip(), moment.try_into(), place.try_into()) {
            shared.note(Seen::Answered {
                moment: u64::from_be_bytes(moment),
                by,
                address,
                place: u32::from_be_bytes(place),
            });
        }
    }
}
