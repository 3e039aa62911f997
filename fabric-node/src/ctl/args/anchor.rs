//! `anchor …`.

use clap::Subcommand;

/// `anchor …`.
#[derive(Debug, Subcommand)]
pub enum AnchorCommand {
    /// Lists the anchors, how they look from here, and how many must agree
    #[command(after_help = "Examples:\n  fabricctl anchor list\n  fabricctl anchor list -o json | jq .majority")]
    List,

    /// Makes a node an anchor as well; it gets the cluster's CA key
    #[command(after_help = "Examples:
  fabricctl anchor add h4

Works on the host of an anchor, over its unix socket. A majority of the anchors must agree. Three bear the loss of one,
five of two; two bear none.")]
    Add {
        /// Name or id of the node
        node: String,
    },

    /// Makes an anchor an ordinary node; it deletes its copy of the CA key
    #[command(after_help = "Examples:
  fabricctl anchor remove h1

Works on the host of an anchor, over its unix socket. A majority of the anchors must agree, the one that goes included.")]
    Remove {
        /// Name or id of the anchor
        node: String,
    },
}
