//! Log lines on standard error, as text or JSON. Types that hold secrets do not show them in `Debug`.

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging; fails on a level that is none.
pub(super) fn start(log: &Log) -> Result<(), String> {
    // netlink_proto warns whenever the asker of a dump has seen enough. What the operator says comes later and wins.
    let directives = format!("netlink_proto=error,{}", log.level);
    let filter = EnvFilter::builder()
        .parse(&directives)
        .map_err(|error| format!("log.level {:?}: {error}", log.level))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}
