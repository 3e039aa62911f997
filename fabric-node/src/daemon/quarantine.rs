//! Domains whose records crash what handles them. Before a domain is handed over, a note on disk says so, and goes when it
//! was handled; whoever finds the note at a start knows what the last end was about. After two crashes in a row, panics or
//! ends of the process, the domain is left alone: its forwarding stays as it was. A change of its records is handed over
//! once more, but not at once: after two crashes 40 s after the last, then twice as long each time, up to an hour. Owns the
//! notes; refuses to know what handling is.
//!
//! | file in the data directory | what |
//! |---|---|
//! | `handling.json` | the domain that is being handled; empty when none is |
//! | `quarantine.json` | what went wrong: [`ledger`] |
//!
//! Neither is synced: they need to outlive the process, not the machine.

mod ledger;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use membership::record::Digest;
use overlay::name::DomainName;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

pub(super) use self::ledger::Entry;
use self::ledger::{FORMAT, Ledger};
use crate::wallclock;

const HANDLING: &str = "handling.json";
const LEDGER: &str = "quarantine.json";
/// Largest file that is read.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// A domain is not handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it is in quarantine: handling it ended in a crash {crashes} times ({why}); `fabricctl quarantine list`")]
pub(super) struct Held {
    crashes: u32,
    why: String,
}

/// What was caught.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("handling it panicked: {0}")]
pub(super) struct Panicked(pub(super) String);

/// The notes of one node. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Quarantine(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    /// None where it could not be opened: then ends of the process are not noticed.
    handling: Option<File>,
    ledger: Mutex<Ledger>,
    released: Mutex<Vec<DomainName>>,
    changed: Notify,
}

/// The domain that is being handled.
#[derive(Debug, Serialize, Deserialize)]
struct Handling {
    domain: DomainName,
    root: String,
}

impl Quarantine {
    /// Reads what the last run of this node left in its data directory. What cannot be read is left out and logged: a node
    /// forwards without these notes.
    pub(super) fn open(directory: &Path) -> Self {
        let mut ledger: Ledger = read(&directory.join(LEDGER)).unwrap_or_default();
        if ledger.format != FORMAT {
            ledger = Ledger::default();
        }
        let path = directory.join(HANDLING);
        let found: Option<Handling> = read(&path);
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let handling = opened.inspect_err(|error| unwritten(&path, error)).ok();
        let quarantine = Self(Arc::new(Shared {
            directory: directory.to_owned(),
            handling,
            ledger: Mutex::new(ledger),
            released: Mutex::default(),
            changed: Notify::new(),
        }));
        if let Some(Handling { domain, root }) = found {
            tracing::warn!(%domain, "the last run ended while it handled this domain");
            let why = "the daemon ended while it handled the domain".to_owned();
            quarantine.0.crashed(&domain, root, why);
        }
        quarantine.0.clear();
        quarantine
    }

    /// Notes that a domain in this state is about to be handled, unless it is held.
    pub(super) fn begin(&self, domain: &DomainName, root: Digest) -> Result<UnderWay, Held> {
        let root = root.to_string();
        if let Some(entry) = self.0.ledger().held(domain, &root, wallclock::since_epoch()) {
            return Err(Held {
                crashes: entry.crashes,
                why: entry.why.clone(),
            });
        }
        let under_way = UnderWay {
            shared: self.0.clone(),
            domain: domain.clone(),
            root,
            is_open: true,
        };
        self.0.note(&under_way.domain, &under_way.root);
        Ok(under_way)
    }

    /// All domains that are held.
    pub(super) fn held(&self) -> Vec<(DomainName, Entry)> {
        let ledger = self.0.ledger();
        let held = ledger.entries.iter().filter(|(_, entry)| entry.is_held());
        held.map(|(domain, entry)| (domain.clone(), entry.clone())).collect()
    }

    /// Has a domain handed over again. Whether it was held.
    pub(super) fn release(&self, domain: &DomainName) -> bool {
        let was_held = {
            let mut ledger = self.0.ledger();
            let was_held = ledger.entries.get(domain).is_some_and(Entry::is_held);
            ledger.entries.remove(domain);
            self.0.keep(&ledger);
            was_held
        };
        if was_held {
            lock(&self.0.released).push(domain.clone());
            self.0.changed.notify_one();
        }
        was_held
    }

    /// Waits until domains are released, and tells which. May be cancelled.
    pub(super) async fn released(&self) -> Vec<DomainName> {
        loop {
            let released = std::mem::take(&mut *lock(&self.0.released));
            if !released.is_empty() {
                return released;
            }
            self.0.changed.notified().await;
        }
    }
}

/// A domain that is being handled. Dropped without a word it was interrupted, which is nobody's fault, or it panicked.
#[derive(Debug)]
pub(super) struct UnderWay {
    shared: Arc<Shared>,
    domain: DomainName,
    root: String,
    is_open: bool,
}

impl UnderWay {
    /// Does a pure part of the work: a panic ends in here. Nothing that the work changes may be used after one.
    pub(super) fn contain<T>(&mut self, work: impl FnOnce() -> T) -> Result<T, Panicked> {
        catch_unwind(AssertUnwindSafe(work)).map_err(|payload| {
            let why = words(payload.as_ref());
            let end = Panicked(why);
            self.shared.crashed(&self.domain, self.root.clone(), end.to_string());
            self.close();
            end
        })
    }

    /// It was handled, well or with an error, and nothing crashed.
    pub(super) fn over(mut self, is_done: bool) {
        if self.is_open && is_done {
            let mut ledger = self.shared.ledger();
            if ledger.entries.remove(&self.domain).is_some() {
                self.shared.keep(&ledger);
            }
        }
        self.close();
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            self.shared.clear();
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if self.is_open && std::thread::panicking() {
            let why = "handling it panicked, see the log".to_owned();
            self.shared.crashed(&self.domain, self.root.clone(), why);
        }
        self.close();
    }
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    fn crashed(&self, domain: &DomainName, root: String, why: String) {
        let mut ledger = self.ledger();
        ledger.crashed(domain, root, why, wallclock::since_epoch());
        self.keep(&ledger);
        if let Some(entry) = ledger.entries.get(domain).filter(|entry| entry.is_held()) {
            tracing::error!(%domain, crashes = entry.crashes, why = entry.why, "in quarantine: it is not handled until it has changed and some time has passed, or it is released");
        }
    }

    /// One write, so that the end of the process leaves all of it or nothing.
    fn note(&self, domain: &DomainName, root: &str) {
        let row = Handling {
            domain: domain.clone(),
            root: root.to_owned(),
        };
        let written = serde_json::to_vec(&row).map_err(io::Error::other);
        let Some(file) = &self.handling else { return };
        if let Err(error) = written.and_then(|bytes| file.write_all_at(&bytes, 0)) {
            unwritten(&self.directory.join(HANDLING), &error);
        }
    }

    fn clear(&self) {
        let Some(file) = &self.handling else { return };
        if let Err(error) = file.set_len(0) {
            unwritten(&self.directory.join(HANDLING), &error);
        }
    }

    /// The ledger takes the place of the one on disk.
    fn keep(&self, ledger: &Ledger) {
        let (path, draft) = (self.directory.join(LEDGER), self.directory.join("quarantine.json.new"));
        let written = serde_json::to_vec_pretty(ledger).map_err(io::Error::other);
        let written = written.and_then(|bytes| {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(&bytes)?;
            std::fs::rename(&draft, &path)
        });
        if let Err(error) = written {
            unwritten(&path, &error);
        }
    }
}

/// Removes the notes of a node that is no more.
pub(super) fn forget(directory: &Path) -> io::Result<()> {
    for name in [HANDLING, LEDGER, "quarantine.json.new"] {
        match std::fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What a file says, if it is there, not empty and can be read.
fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let is_fit = std::fs::metadata(path).is_ok_and(|file| (1..=FILE_MAX).contains(&file.len()));
    let bytes = is_fit.then(|| std::fs::read(path)).and_then(Result::ok)?;
    let read = serde_json::from_slice(&bytes);
    read.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "this file is left out of account"))
        .ok()
}

fn unwritten(path: &Path, error: &io::Error) {
    tracing::warn!(path = %path.display(), %error, "what crashes is not noted");
}

/// What a panic said.
fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without words".to_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
