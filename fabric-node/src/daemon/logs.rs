//! Log lines on standard error, as text or JSON. Types that hold secrets do not show them in `Debug`.

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging; fails on a level that is none.
pub(super) fn start(log: &Log) -> Result<(), String> {
    // netlink_proto warns whenever the asker of a dump has seen enough. What the operator says comes later and wins.
    known(&log.level)?;
    let directives = format!("netlink_proto=error,{}", log.level);
    let filter = EnvFilter::builder()
        .parse(&directives)
        .map_err(|error| format!("log.level {:?}: {error}", log.level))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // What cannot be written is lost: to complain about it on the same standard error would panic.
        .log_internal_errors(false);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())
}

/// A word alone must be a level: taken as a target, a misspelt level would silence everything else.
fn known(level: &str) -> Result<(), String> {
    let is_level = |word: &str| !word.is_empty() && word.parse::<tracing_subscriber::filter::LevelFilter>().is_ok();
    let mut words = level.split(',').map(str::trim);
    match words.find(|word| !word.contains(['=', '[']) && !is_level(word)) {
        None => Ok(()),
        Some(word) => Err(format!(
            "log.level {level:?}: {word:?} is none of error, warn, info, debug, trace and off, and no TARGET=LEVEL"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        for level in [
            "info",
            "INFO",
            "off",
            "info,membership=debug",
            "warn, quinn=off",
            "info,[span]=debug",
        ] {
            assert_eq!(known(level), Ok(()), "{level:?}");
        }
        for level in ["inof", "info,membership", "", "info,"] {
            assert!(known(level).is_err(), "{level:?}");
        }
    }
}
