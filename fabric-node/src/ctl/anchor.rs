//! `anchor …`: asks, and shows the list.

use super::args::AnchorCommand;
use super::client::Client;
use super::problem::Problem;
use super::tables::{grid, state};
use crate::api::anchors::{AnchorRequest, Anchors};

/// Does it; the list as it is then.
pub(super) async fn ask(client: &Client, command: AnchorCommand) -> Result<Anchors, Problem> {
    match command {
        AnchorCommand::List => client.get("/v1/anchors").await,
        AnchorCommand::Add { node } => client.post("/v1/anchors", &AnchorRequest { node }).await,
        AnchorCommand::Remove { node } => client.delete(&format!("/v1/anchors/{}", segment(&node))).await,
    }
}

/// For people.
pub(super) fn table(anchors: &Anchors) -> String {
    let rows = anchors.anchors.iter().map(|anchor| {
        vec![
            anchor.name.clone(),
            anchor.id.clone(),
            state(anchor.state).to_owned(),
            anchor.since.to_string(),
        ]
    });
    let rows = grid(&["NAME", "ID", "STATE", "SINCE"], rows);
    let (version, majority) = (anchors.version, anchors.majority);
    format!(
        "{rows}{majority} of {} must agree; version {version} of the cluster record\n",
        anchors.anchors.len()
    )
}

/// What stands in a path (RFC 3986 section 3.3): neither names nor ids have anything else, and what is wrong is for the
/// node to say.
pub(super) fn segment(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.chars().map(|c| if plain(c) { c } else { '_' }).collect()
}
