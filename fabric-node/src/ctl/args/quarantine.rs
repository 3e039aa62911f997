//! `quarantine …`.

use clap::Subcommand;
use membership::id::Label;

/// `quarantine …`.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// Lists the domains that are left alone on this host, and what was written last in them
    #[command(after_help = "Examples:
  fabricctl quarantine list
  fabricctl quarantine list -o json | jq '.[].written_last'

Handling a domain panicked, or ended this host's daemon, twice in a row. What is forwarded for the domain stays as it was.
A change of the domain is tried once more by itself.")]
    List,

    /// Has a domain handled again on this host
    #[command(after_help = "Examples:\n  fabricctl quarantine release red")]
    Release {
        /// The domain
        domain: Label,
    },
}
