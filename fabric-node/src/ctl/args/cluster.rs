//! `cluster …`.

use clap::Subcommand;

/// `cluster …`.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Shows which wire versions the nodes speak, and has the cluster agree on the next one
    #[command(after_help = "Examples:
  fabricctl cluster upgrade
  fabricctl cluster upgrade --finish

A release speaks its own wire version and the one before, so nodes are upgraded one after the other, in any order, and may
go back until it is finished. What only the next version has is used from then on, and who speaks only older ones is
refused. Finishing works on the host of an anchor, over its unix socket; every node must speak the next version and be
there (remove who is gone for good), and a majority of the anchors must agree. There is no way back.")]
    Upgrade {
        /// Agree on the next version
        #[arg(long)]
        finish: bool,
    },
}
