//! Writing a backup, line by line.

use membership::id::Label;
use membership::record::Intent;
use overlay::object::{Kind, Spec};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{Head, Line, Tail, Version};

/// Makes the lines of one backup.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    digest: Sha256,
    objects: u64,
}

impl Writer {
    /// The first line.
    pub fn head(&mut self, head: &Head) -> serde_json::Result<Vec<u8>> {
        self.line(head)
    }

    /// The line of an object: its versions, the shown one first. None if it is of no kind of object.
    pub fn object<'a>(
        &mut self,
        domain: &Label,
        versions: impl IntoIterator<Item = &'a Intent>,
    ) -> serde_json::Result<Option<Vec<u8>>> {
        let versions: Vec<&Intent> = versions.into_iter().collect();
        let Some(shown) = versions.first() else { return Ok(None) };
        let line = Line {
            domain: domain.to_string(),
            kind: shown.key.kind.to_string(),
            name: shown.key.name.to_string(),
            versions: versions.iter().map(|version| saved(version)).collect(),
        };
        self.objects += 1;
        self.line(&line).map(Some)
    }

    /// The last line.
    pub fn tail(self) -> serde_json::Result<Vec<u8>> {
        let tail = Tail {
            objects: self.objects,
            sha256: data_encoding::HEXLOWER.encode(&self.digest.finalize()),
        };
        let mut bytes = serde_json::to_vec(&tail)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn line(&mut self, value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(value)?;
        bytes.push(b'\n');
        self.digest.update(&bytes);
        Ok(bytes)
    }
}

fn saved(version: &Intent) -> Version {
    let spec = version.body.as_ref().and_then(|body| {
        let (kind, _) = Kind::of_key(&version.key)?;
        serde_json::to_value(Spec::decode(kind, body).ok()?).ok()
    });
    Version {
        millis: version.stamp.millis,
        logical: version.stamp.logical,
        author: version.author.to_string(),
        body: version.body.clone().filter(|_| spec.is_none()),
        spec,
    }
}
