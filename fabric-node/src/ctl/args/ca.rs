//! `ca …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `ca …`.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Shows the trusted roots, and how many nodes have a certificate of each
    #[command(after_help = "Examples:\n  fabricctl ca show\n  fabricctl ca show -o json | jq -r '.pending[]'")]
    Show,

    /// Replaces the cluster's CA, in two steps and without a pause
    #[command(after_help = "Examples:
  fabricctl ca rotate               # a root is trusted beside the one that is; all nodes renew under it
  fabricctl ca show                 # N of M nodes have
  fabricctl ca rotate --finish      # the former root is not trusted any more

Works on the host of an anchor, over its unix socket. A majority of the anchors must agree, and must keep the key before
anybody trusts it. Nodes that are away get their certificate when they come back. Join tokens and users' identity files
that were made before do not know the latter root: make others with `token create` and `user create`.")]
    Rotate(RotateArgs),

    /// Writes the trusted roots to a file, without their keys
    #[command(after_help = "Examples:
  fabricctl ca export fabric-ca.pem
  openssl x509 -in fabric-ca.pem -noout -fingerprint -sha256

For clients that check the certificates of nodes, as Prometheus does: every node answers to the name
peer.CLUSTER-ID.fabric.internal. While the CA is replaced there are two certificates in it: export it again then.")]
    Export(ExportArgs),
}

/// Arguments of `ca rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Trust the former root no more; refused while nodes have no certificate of the latter
    #[arg(long, conflicts_with = "cancel")]
    pub finish: bool,

    /// With --finish: cut those nodes off until an anchor gives them a certificate when they come back
    #[arg(long, requires = "finish")]
    pub force: bool,

    /// Trust the latter root no more; nodes renew under the former
    #[arg(long)]
    pub cancel: bool,
}

/// Arguments of `ca export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Where the certificates are written as PEM
    pub file: PathBuf,

    /// Replace FILE if it is there
    #[arg(long)]
    pub force: bool,
}
