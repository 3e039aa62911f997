//! `ca …`: asks, shows the roots, and writes them to a file.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde::Serialize;

use super::args::{ExportArgs, RotateArgs};
use super::client::Client;
use super::identity::{unusable, write};
use super::problem::Problem;
use super::tables::grid;
use crate::api::ca::{Ca, CaRotate, CaStep};

/// The roots as the node has them.
pub(super) async fn show(client: &Client) -> Result<Ca, Problem> {
    client.get("/v1/ca").await
}

/// Begins, finishes or gives up a rotation; the roots as they are then.
pub(super) async fn rotate(client: &Client, args: &RotateArgs) -> Result<Ca, Problem> {
    let step = match (args.finish, args.cancel) {
        (true, _) => CaStep::Finish,
        (false, true) => CaStep::Cancel,
        (false, false) => CaStep::Begin,
    };
    let force = args.force;
    client.post("/v1/ca/rotate", &CaRotate { step, force }).await
}

/// What was written.
#[derive(Debug, Serialize)]
pub(super) struct Exported {
    file: String,
    fingerprints: Vec<String>,
}

impl Exported {
    /// For people.
    pub(super) fn told(&self) -> String {
        let roots: Vec<String> = self.fingerprints.iter().map(|root| format!("  {root}\n")).collect();
        format!(
            "{} has the certificates of these roots, and no key:\n{}",
            self.file,
            roots.concat()
        )
    }
}

/// Writes the roots to a file that everybody may read.
pub(super) async fn export(client: &Client, args: &ExportArgs) -> Result<Exported, Problem> {
    let ca = show(client).await?;
    let parts: Vec<&str> = ca.roots.iter().map(|root| &*root.pem).collect();
    let written = write(&args.file, &parts, args.force)
        .and_then(|()| std::fs::set_permissions(&args.file, Permissions::from_mode(0o644)));
    written.map_err(|error| unusable(&args.file, error))?;
    Ok(Exported {
        file: args.file.display().to_string(),
        fingerprints: ca.roots.into_iter().map(|root| root.fingerprint).collect(),
    })
}

/// For people.
pub(super) fn table(ca: &Ca) -> String {
    let rows = ca.roots.iter().map(|root| {
        let key = if root.key_here { "here" } else { "-" };
        let use_ = if root.issues { "issues" } else { "trusted" };
        vec![
            use_.to_owned(),
            root.not_before.clone(),
            root.not_after.clone(),
            root.certificates.to_string(),
            key.to_owned(),
            root.fingerprint.clone(),
        ]
    });
    let rows = grid(&["ROOT", "FROM", "UNTIL", "NODES", "KEY", "SHA-256"], rows);
    format!("{rows}{}\n", progress(ca))
}

fn progress(ca: &Ca) -> String {
    let done = ca.nodes.saturating_sub(ca.pending.len());
    let so_far = format!(
        "{done} of {} nodes have a certificate of the root that issues",
        ca.nodes
    );
    let rotating = ca.roots.len() > 1;
    match (&ca.pending[..], rotating) {
        ([], false) => so_far,
        ([], true) => format!("{so_far}; next: fabricctl ca rotate --finish"),
        (pending, _) => format!("{so_far}; not yet: {}", pending.join(", ")),
    }
}
