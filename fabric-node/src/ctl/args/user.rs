//! `token …` and `user …`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use membership::id::Label;

/// `token …`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Makes a token with which nodes can join the cluster; it is a secret
    #[command(after_help = "Examples:\n  fabric-node join \"$(ssh root@first fabricctl token create)\"")]
    Create {
        /// How many nodes can join with it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,

        /// How long it is good for, as 10m, 1h, 2d
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
        ttl: Duration,
    },
}

/// `user …`.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Makes a key and a certificate with which NAME can use the API of every node over TLS
    #[command(after_help = "Examples:
  fabricctl user create alice --out alice.pem
  fabricctl --api https://192.0.2.2 --identity alice.pem status

Works on the host of an anchor, by default one of the first three nodes, over its unix socket. The private
key is made here and goes into FILE only. A certificate cannot be taken back: it ends with its life.")]
    Create(UserArgs),
}

/// Arguments of `user create`.
#[derive(Debug, Args)]
pub struct UserArgs {
    /// Who is recorded as the author of changes
    pub name: Label,

    /// How long it is good for, as 8h, 24h, 30d; at most 90d
    #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
    pub ttl: Duration,

    /// Where key, certificate and the cluster's roots are written as PEM, with mode 0600
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,

    /// Replace FILE if it is there
    #[arg(long)]
    pub force: bool,
}
