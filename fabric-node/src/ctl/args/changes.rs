//! Arguments of what looks back and takes back: history, differences, rollback, conflicts, backup.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use membership::id::Label;
use overlay::object::Kind;

use crate::api::kinds;
use crate::api::moment::Moment;
use crate::api::version::{Precondition, Version};

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Only objects of this kind: Domain, Network, Endpoint, Router or SecurityPolicy
    #[arg(value_parser = kinds::parse)]
    pub kind: Option<Kind>,

    /// Only the one of this name
    pub name: Option<Label>,

    /// In which domain; not needed for a Domain that is named
    #[arg(short, long)]
    pub domain: Option<Label>,

    /// How many at most, newest first
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// Of which domain
    #[arg(short, long)]
    pub domain: Label,

    /// A time (2026-01-31T14:00:00Z), an age (15m), or a version, which stands for the moment it was written
    #[arg(long, value_name = "TIME|AGE|VERSION")]
    pub at: Moment,
}

/// Arguments of `rollback`.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Which domain
    #[arg(short, long)]
    pub domain: Label,

    /// A time (2026-01-31T14:00:00Z), an age (15m), or a version, which stands for the moment it was written
    #[arg(long, value_name = "TIME|AGE|VERSION")]
    pub to: Moment,

    /// Tell what would be done, or what stands in the way, and do nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `conflicts`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConflictsArgs {
    /// Only of this domain
    #[arg(short, long)]
    pub domain: Option<Label>,

    /// Something else than to list them
    #[command(subcommand)]
    pub command: Option<ConflictsCommand>,
}

/// `conflicts …`.
#[derive(Debug, Subcommand)]
pub enum ConflictsCommand {
    /// Settles a conflict by one of the versions that disagree
    #[command(after_help = "Examples:
  fabricctl conflicts resolve network front -d red --take v5f0e2c9a7b114d32

The version is written again, in knowledge of all that disagree. To mix them, apply a manifest instead.")]
    Resolve(ResolveArgs),
}

/// Arguments of `conflicts resolve`.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// Domain, Network, Endpoint, Router or SecurityPolicy
    #[arg(value_parser = kinds::parse)]
    pub kind: Kind,

    /// Its name
    pub name: Label,

    /// Its domain; not needed for a Domain
    #[arg(short, long)]
    pub domain: Option<Label>,

    /// Which of the versions it is to have, as `fabricctl conflicts` lists them
    #[arg(long, value_name = "VERSION")]
    pub take: Version,

    /// Only if the object still has this version, which is made from all that disagree
    #[arg(long = "if-version", value_name = "VERSION", value_parser = Precondition::typed)]
    pub only_if: Option<Precondition>,
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Where it is written, with mode 0600
    pub file: PathBuf,

    /// Replace FILE if it is there
    #[arg(long)]
    pub force: bool,
}
