//! `cluster …`: asks, and shows who speaks what.

use super::args::ClusterCommand;
use super::client::Client;
use super::problem::Problem;
use super::tables::{grid, state};
use crate::api::upgrade::{Upgrade, UpgradeNode};

/// Does it; how it is then.
pub(super) async fn ask(client: &Client, command: ClusterCommand) -> Result<Upgrade, Problem> {
    let ClusterCommand::Upgrade { finish } = command;
    match finish {
        false => client.get("/v1/cluster/upgrade").await,
        true => client.post("/v1/cluster/upgrade/finish", &serde_json::json!({})).await,
    }
}

/// For people.
pub(super) fn table(upgrade: &Upgrade) -> String {
    let rows = upgrade.nodes.iter().map(|node| {
        vec![
            node.name.clone(),
            node.id.clone(),
            node.software.clone(),
            speaks(node),
            state(node.state).to_owned(),
            node.obstacle.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let rows = grid(&["NAME", "ID", "SOFTWARE", "WIRE", "STATE", "OBSTACLE"], rows);
    let agreed = format!("The cluster agreed on wire version {}.", upgrade.agreed);
    let next = match upgrade.next {
        None => "This node speaks nothing newer.".to_owned(),
        Some(next) if upgrade.nodes.iter().any(|node| node.obstacle.is_some()) => {
            format!(
                "Version {next} is next, when nothing stands against it: upgrade, bring back or remove those nodes."
            )
        }
        Some(next) => {
            format!("All speak version {next}: `fabricctl cluster upgrade --finish` on the host of an anchor.")
        }
    };
    format!("{rows}{agreed} {next}\n")
}

fn speaks(node: &UpgradeNode) -> String {
    match node.oldest == node.newest {
        true => node.newest.to_string(),
        false => format!("{} to {}", node.oldest, node.newest),
    }
}
