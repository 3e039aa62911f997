//! `fabric-node`: the commands of the daemon, and the running node.
//!
//! | module | what |
//! |---|---|
//! | `run` | starts the stages, serves, stops |
//! | `reconcile` | the one task that owns the datapath; `agenda` is what it has to do, `force` what it did |
//! | `seen` | views read from the replica; `following` is what domains want, at the cost of what changed |
//! | `quarantine` | what crashes the task, and is left alone then |
//! | `paths` | the task that probes the paths to other hosts |
//! | `metrics` | what is counted and measured, for Prometheus |
//! | `version` | which version an object has, and whether a client saw it |
//! | `programmed`, `wire` | waiting until a write is in force, here and on other hosts |
//! | `node` | the API's backend, one file a request: `apply`, `delete`, `objects`, `attach`, `history`, `rollback`, `conflicts`, `backup`, `functions`, `quarantined`, `report`, `unknown`, `upgrade`, `users` |
//! | `setup` | `init`, `join`, `purge` |

mod agenda;
mod anchors;
mod apply;
mod attach;
mod backup;
mod binding;
mod ca;
mod claims;
mod conflicts;
mod credentials;
mod delete;
mod first;
#[cfg(test)]
mod fixture;
mod following;
mod force;
mod functions;
mod history;
mod host;
mod logs;
mod metrics;
mod moves;
mod node;
mod notify;
mod objects;
mod paths;
mod programmed;
mod quarantine;
mod quarantined;
mod reconcile;
mod report;
mod rollback;
mod run;
mod seen;
mod setup;
mod unknown;
mod upgrade;
mod users;
mod version;
mod vtep;
mod wire;

#[cfg(test)]
pub(crate) use wire::a_call;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use wire::read_call;

use std::io::{self, BufRead, Read, Write};

use crate::config::resolve::ResolveError;
use crate::config::{COMMENTED_DEFAULT, Config, ConfigError, Kept};
use crate::exit::Exit;
use crate::node_args::{Cli, Command, Settings};

/// Longest line that is read as a token, in bytes.
const TOKEN_MAX: u64 = 64 * 1024;

/// Why a command of `fabric-node` failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    message: String,
}

/// Does what the command line says; answers go to `out`.
pub async fn main(cli: Cli, out: &mut impl Write) -> Result<(), Failure> {
    match cli.command {
        Command::Config => Ok(out.write_all(COMMENTED_DEFAULT.as_bytes())?),
        Command::Init {
            cluster_name,
            restore,
            settings,
        } => setup::init(&begin(settings)?, cluster_name, restore.as_deref(), out).await,
        Command::Join { token, settings } => setup::join(&begin(settings)?, &secret(token)?, out).await,
        Command::Purge { settings } => setup::purge(&begin(settings)?.config, out).await,
        Command::Leave { settings } => setup::leave(&begin(settings)?.config, out).await,
        Command::Reset { yes, settings } => setup::reset(&begin(settings)?.config, yes, out).await,
        Command::Run { settings } => run::run(begin(settings)?.config).await,
    }
}

/// What a command was told.
struct Told {
    /// All of it: flags over the file over what was kept.
    config: Config,
    /// The same without flags: what a later `run` goes by.
    later: Config,
    /// The flags that a later `run` needs.
    flags: Kept,
}

/// Configuration and logging.
fn begin(settings: Settings) -> Result<Told, Failure> {
    let later = Config::load(settings.config.as_deref(), settings.data.as_deref())?;
    let flags = settings.kept();
    let config = settings.over(later.clone());
    logs::start(&config.log).map_err(|error| Failure::new(Exit::Usage, error))?;
    Ok(Told { config, later, flags })
}

/// The token itself, or what standard input says: arguments can be read by every user of the host.
fn secret(token: String) -> Result<String, Failure> {
    if token != "-" {
        return Ok(token);
    }
    let mut line = String::new();
    let read = io::stdin().lock().take(TOKEN_MAX).read_line(&mut line);
    read.map_err(|error| Failure::new(Exit::Usage, format!("standard input: {error}")))?;
    Ok(line.trim().to_owned())
}

impl Failure {
    /// What to write to standard error; empty if the reader of our output just went away.
    #[must_use]
    pub fn text(&self) -> String {
        match self.exit {
            Exit::Done => String::new(),
            _ => format!("fabric-node: {self}\n"),
        }
    }

    fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// The system said no, as told by `message`.
    fn io(cause: &io::Error, message: String) -> Self {
        match cause.kind() {
            io::ErrorKind::PermissionDenied => Self::denied(message),
            _ => Self::new(Exit::Refused, message),
        }
    }

    /// The user may not; who is root already finds out elsewhere why.
    fn denied(message: String) -> Self {
        let hint = if is_root() { "" } else { ": run it as root" };
        Self::new(Exit::Permission, message + hint)
    }

    fn datapath(error: datapath::Error) -> Self {
        match is_root() {
            true => Self::new(Exit::Refused, chain(&error)),
            false => Self::denied(chain(&error)),
        }
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::denied(error.to_string())
            }
            ConfigError::Read { .. }
            | ConfigError::Unknown { .. }
            | ConfigError::Invalid { .. }
            | ConfigError::Version { .. } => Self::new(Exit::Usage, error.to_string()),
        }
    }
}

impl From<ResolveError> for Failure {
    fn from(error: ResolveError) -> Self {
        Self::new(Exit::Usage, error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let exit = match error.kind() {
            io::ErrorKind::BrokenPipe => Exit::Done,
            _ => Exit::Refused,
        };
        Self::new(exit, format!("standard output: {error}"))
    }
}
