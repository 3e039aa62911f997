//! `node …`.

use clap::Subcommand;

/// `node …`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Removes a node from the cluster for good
    #[command(after_help = "Examples:
  fabricctl node remove h4

Works on the host of an anchor, over its unix socket; a majority of the anchors must agree. The node is cut off at once, its
attachments and addresses are free, its id does not return. What it wrote while nobody heard it is void. A host that is
still there leaves with `fabric-node leave`, or forgets itself with `fabric-node reset`.")]
    Remove {
        /// Name or id of the node
        node: String,
    },
}
