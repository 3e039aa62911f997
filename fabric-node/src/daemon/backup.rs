//! `backup`: all objects as they are at one moment, written while they are sent.

use membership::id::{Label, Scope};
use membership::replica::Siblings;

use super::node::Node;
use super::objects::rfc3339;
use crate::api::backend::Chunks;
use crate::api::error::ApiError;
use crate::backup::{FORMAT, Head, Writer};

/// Bytes that are gathered before they are sent.
const CHUNK: usize = 64 * 1024;

/// The backup, piece by piece. What it holds is what this node held when it was called.
pub(super) fn backup(node: &Node) -> Result<Chunks, ApiError> {
    let objects: Vec<(Label, Siblings)> = node.membership.read(|replica| {
        let domains = replica.scopes().filter_map(|scope| match scope {
            Scope::System => None,
            Scope::Domain(domain) => Some((scope, domain)),
        });
        let objects = domains.flat_map(|(scope, domain)| {
            let objects = replica.intents(scope).map(|(_, versions)| versions);
            let there = objects.filter(|versions| versions.all().any(|version| version.body.is_some()));
            there.map(|versions| (domain.clone(), versions.clone()))
        });
        objects.collect()
    });
    let cluster = node.membership.cluster();
    let head = Head {
        format: FORMAT,
        cluster: cluster.id.to_string(),
        cluster_name: cluster.name.to_string(),
        node_name: node.name(),
        taken: rfc3339(node.membership.stamp()),
        software: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mut writer = Writer::default();
    let first = writer
        .head(&head)
        .map_err(|error| ApiError::internal(error.to_string()))?;
    tracing::info!(objects = objects.len(), "a backup is sent");
    Ok(Box::new(Lines {
        first: Some(first),
        objects: objects.into_iter(),
        writer: Some(writer),
    }))
}

/// The lines, some at a time. It ends early, and so without a last line, where an object cannot be written.
struct Lines {
    first: Option<Vec<u8>>,
    objects: std::vec::IntoIter<(Label, Siblings)>,
    writer: Option<Writer>,
}

impl Iterator for Lines {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut writer = self.writer.take()?;
        let mut chunk = self.first.take().unwrap_or_default();
        for (domain, versions) in self.objects.by_ref() {
            chunk.extend(writer.object(&domain, versions.all()).ok()?.unwrap_or_default());
            if chunk.len() >= CHUNK {
                self.writer = Some(writer);
                return Some(chunk);
            }
        }
        chunk.extend(writer.tail().ok()?);
        Some(chunk)
    }
}
