//! What a process of ours says by ending: the one table of exit codes (65 to 77 as in BSD's `sysexits.h`).

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked holds.
    Done,
    /// It was understood and not done; the text says why.
    Refused,
    /// The command line or the configuration is wrong.
    Usage,
    /// A manifest is wrong; nothing of it was done.
    InvalidManifest,
    /// No daemon answers.
    NoDaemon,
    /// It may work later, unchanged.
    TryAgain,
    /// The user may not.
    Permission,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::InvalidManifest => 65,
            Self::NoDaemon => 69,
            Self::TryAgain => 75,
            Self::Permission => 77,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The part of the help texts that lists the codes.
pub const HELP: &str = "Exit codes:
  0 done, 1 refused, 2 wrong usage or configuration, 65 invalid manifest,
  69 no daemon, 75 try again later, 77 no permission";
