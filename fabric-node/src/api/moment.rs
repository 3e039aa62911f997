//! Moments as people write them: a time, an age, or a version, which stands for the moment at which it was written.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use membership::hlc::Stamp;

use super::version::Version;

/// A moment of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// All that was written up to this time, to the millisecond.
    Time(Duration),
    /// So long ago.
    Ago(Duration),
    /// All that was written up to this version, and together with it.
    Version(Version),
}

/// A text is no moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no moment: write a time as 2026-01-31T14:00:00Z (UTC), an age as 15m or 2h, or a version as `fabricctl history` shows it"
)]
pub struct NotAMoment(String);

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Self, NotAMoment> {
        let text = text.trim();
        if let Ok(version) = text.parse() {
            return Ok(Self::Version(version));
        }
        if let Ok(ago) = humantime::parse_duration(text) {
            return Ok(Self::Ago(ago));
        }
        let time = humantime::parse_rfc3339_weak(text).ok();
        let since = time.and_then(|time: SystemTime| time.duration_since(UNIX_EPOCH).ok());
        since
            .map(Self::Time)
            .ok_or_else(|| NotAMoment(text.chars().take(64).collect()))
    }
}

/// As it is parsed, without spaces.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(since) => match UNIX_EPOCH.checked_add(*since) {
                Some(time) => write!(f, "{}", humantime::format_rfc3339_millis(time)),
                None => Err(fmt::Error),
            },
            Self::Ago(ago) => write!(f, "{}ms", ago.as_millis()),
            Self::Version(version) => version.fmt(f),
        }
    }
}

/// The last stamp of the millisecond that begins this long after 1970.
#[must_use]
pub fn end_of(since_epoch: Duration) -> Stamp {
    Stamp {
        millis: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        logical: u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_an_age_or_a_version() {
        let time = |seconds, millis| Moment::Time(Duration::from_secs(seconds) + Duration::from_millis(millis));
        for (text, moment) in [
            ("2023-11-14T22:13:20.25Z", time(1_700_000_000, 250)),
            ("2023-11-14 22:13:20", time(1_700_000_000, 0)),
            ("15m", Moment::Ago(Duration::from_secs(900))),
            (" 1h 30m ", Moment::Ago(Duration::from_secs(5_400))),
            (
                "v0123456789abcdef",
                Moment::Version("v0123456789abcdef".parse().expect("good")),
            ),
        ] {
            assert_eq!(text.parse(), Ok(moment.clone()), "{text}");
            let said = moment.to_string();
            assert!(!said.contains(' ') && said.parse() == Ok(moment), "{said}");
        }
        for wrong in [
            "",
            "now",
            "yesterday",
            "v01",
            "2023-11-14",
            "1969-12-31T23:59:59Z",
            "-5m",
        ] {
            assert!(wrong.parse::<Moment>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_takes_in_all_of_its_millisecond() {
        let stamp = end_of(Duration::from_micros(1_500));
        assert_eq!((stamp.millis, stamp.logical), (1, u32::MAX));
        assert_eq!(end_of(Duration::MAX).millis, u64::MAX);
    }
}
