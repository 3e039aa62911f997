//! Clients that write through the API of random hosts without a pause, each an object of its own, and remember what was
//! acknowledged. A write that failed may have been taken or not.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::api;
use crate::deadline::eventually;
use crate::dice::Dice;
use crate::lab::Lab;

/// Longer than any daemon stands still: one that wakes does what it was asked to, also for a client that went on to its
/// next number.
const LIMIT: Duration = Duration::from_secs(120);
/// Between two writes of one client.
const PACE: Duration = Duration::from_millis(20);

/// Running clients. They end when this goes.
#[derive(Debug)]
pub struct Clients {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Written>>,
}

/// What one client wrote: numbers, ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    /// Its object: a domain of this name; the number is its description.
    pub domain: String,
    /// The last number that was acknowledged.
    pub acknowledged: u64,
    /// How many were.
    pub count: u64,
    /// The last number that was sent.
    pub sent: u64,
}

impl Clients {
    /// Starts so many, each writing through all hosts of a lab in a random order. `name` keeps apart those of two steps.
    pub fn start(lab: &Lab, name: &str, clients: u64) -> Result<Self> {
        let sockets: Vec<PathBuf> = lab
            .hosts
            .iter()
            .map(|host| lab.host_folder(host).join("api.sock"))
            .collect();
        ensure!(!sockets.is_empty(), "no hosts");
        let (stop, count): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let threads = (1..=clients).map(|number| {
            let (stop, count) = (stop.clone(), count.clone());
            let (sockets, domain) = (sockets.clone(), format!("{name}-{number}"));
            thread::spawn(move || write_on(&sockets, domain, number, &stop, &count))
        });
        Ok(Self {
            threads: threads.collect(),
            count,
            stop,
        })
    }

    /// Waits until so many further writes were acknowledged.
    pub fn wait(&self, writes: u64) -> Result<()> {
        let goal = self.count.load(Ordering::SeqCst) + writes;
        eventually("clients write", || {
            let count = self.count.load(Ordering::SeqCst);
            ensure!(count >= goal, "{count} of {goal} writes were acknowledged");
            Ok(())
        })
    }

    /// Ends them; what each wrote.
    pub fn stop(mut self) -> Result<Vec<Written>> {
        self.stop.store(true, Ordering::SeqCst);
        let threads = std::mem::take(&mut self.threads);
        let written = threads.into_iter().map(JoinHandle::join);
        written
            .map(|written| written.map_err(|_| anyhow::anyhow!("a client panicked")))
            .collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn write_on(sockets: &[PathBuf], domain: String, seed: u64, stop: &AtomicBool, count: &AtomicU64) -> Written {
    let mut dice = Dice::new(seed);
    let mut written = Written {
        domain,
        ..Written::default()
    };
    while !stop.load(Ordering::SeqCst) {
        written.sent += 1;
        if apply(&dice.pick(sockets), &written.domain, written.sent).is_ok() {
            written.acknowledged = written.sent;
            written.count += 1;
            count.fetch_add(1, Ordering::SeqCst);
        }
        thread::sleep(PACE);
    }
    written
}

fn apply(socket: &Path, domain: &str, number: u64) -> Result<()> {
    let manifest = format!("{{kind: Domain, name: {domain}, spec: {{description: \"{number}\"}}}}");
    api::apply(socket, &manifest, LIMIT)
}

/// Waits until all hosts agree; then each must show of each client its last acknowledged number, or a later one that it
/// sent.
pub fn check(lab: &Lab, written: &[Written]) -> Result<()> {
    let hosts: Vec<&str> = lab.hosts.iter().map(String::as_str).collect();
    lab.converged(&hosts)?;
    for host in hosts {
        eventually(format!("{host} shows what was acknowledged"), || {
            let domains = lab.json(host, &["get", "domains"])?;
            let domains = domains.as_array().context("no list of domains")?;
            for client in written.iter().filter(|client| client.acknowledged > 0) {
                let found = domains.iter().find(|domain| domain["name"] == *client.domain);
                let shown = found.and_then(|domain| domain["spec"]["description"].as_str()?.parse::<u64>().ok());
                let range = client.acknowledged..=client.sent;
                ensure!(
                    shown.is_some_and(|shown| range.contains(&shown)),
                    "{client:?}: {host} shows {shown:?}"
                );
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// How many writes were acknowledged in all.
#[must_use]
pub fn acknowledged(written: &[Written]) -> u64 {
    written.iter().map(|client| client.count).sum()
}
